//! The plan for real files, each put in its place by a rename; and what of them goes when it is no longer listed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::{InTheWay, Name, Names, Plan, Seen, SeenTree, in_the_way, visible_link};
use crate::content::Tree;
use crate::path::RelPath;
use crate::state::State;

/// What stands at a path of the target, links not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    File(Seen),
    Directory {
        /// Whether all below it are files and directories of ours.
        only_ours: bool,
    },
    Link(PathBuf),
    Other,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(_) => f.write_str("a file"),
            Self::Directory { .. } => f.write_str("a directory"),
            Self::Link(to) => write!(f, "a link to {to:?}"),
            Self::Other => f.write_str("a special file"),
        }
    }
}

/// What was found of the paths that are wanted, the directories above them, and all that is ours.
pub(crate) type FoundTree = BTreeMap<RelPath, Found>;

/// The plan for the plain layout. `seen` are the files in force, in either layout.
///
/// A regular file that we did not make is replaced, as every program that writes config does it, and becomes ours.
///
/// # Errors
/// A name that must be ours is taken by something else.
pub(crate) fn plain(
    wanted: &Tree,
    names: &Names,
    seen: &SeenTree,
    found: &FoundTree,
    state: &State,
) -> Result<Plan, InTheWay> {
    let mut plan = Plan::begin(wanted, names, seen)?;
    let mut directories = BTreeSet::new();
    for path in wanted.keys() {
        directories.extend(path.parents());
        let is_there = match found.get(path) {
            None => false,
            Some(Found::File(seen)) => seen.same,
            Some(Found::Link(to)) if is_visible_link(path, to) => false,
            Some(Found::Directory { only_ours: true }) => {
                plan.clear.extend(all_of(path, found, state));
                false
            }
            Some(other) => return Err(in_the_way(path.as_path().as_os_str(), other)),
        };
        if !is_there {
            plan.stage.push(path.clone());
        }
    }
    for path in directories {
        match found.get(&path) {
            Some(Found::Directory { .. }) if !state.directories.contains(&path) => continue,
            None | Some(Found::Directory { .. }) => {}
            Some(Found::File(_)) if state.files.contains_key(&path) => plan.clear.push(path.clone()),
            Some(Found::Link(to)) if is_visible_link(&path, to) => plan.clear.push(path.clone()),
            Some(other) => return Err(in_the_way(path.as_path().as_os_str(), other)),
        }
        plan.directories.insert(path);
    }
    plan.remove = ours(found, state)
        .into_iter()
        .filter(|path| {
            !wanted.contains_key(path) && !plan.directories.contains(path) && !plan.clear.contains(path)
        })
        .collect();
    for (name, what) in names {
        match what {
            // One that is replaced by a rename, or cleared for a directory, is not unlinked here.
            Name::Link(to) if *to == visible_link(name) => {
                let is_needed =
                    |path: RelPath| wanted.contains_key(&path) || plan.directories.contains(&path);
                if !RelPath::parse(Path::new(name)).is_ok_and(is_needed) {
                    plan.unlink.push(name.clone());
                }
            }
            Name::Link(_) if name == super::DATA => plan.unlink_data = true,
            _ => {}
        }
    }
    plan.rewrite |= !plan.stage.is_empty();
    Ok(plan)
}

/// Whether it is a link that the other layout made.
fn is_visible_link(path: &RelPath, to: &PathBuf) -> bool {
    path.directories().next().is_none() && *to == visible_link(path.last())
}

/// Our files that are there, then our directories, deepest first.
pub(super) fn ours(found: &FoundTree, state: &State) -> Vec<RelPath> {
    let is_file = |path: &&RelPath| matches!(found.get(path), Some(Found::File(_)));
    let is_dir = |path: &&RelPath| matches!(found.get(path), Some(Found::Directory { .. }));
    let files = state.files.keys().map(|key| &key.0).filter(is_file);
    let directories = state.directories.iter().rev().map(|key| &key.0).filter(is_dir);
    files.chain(directories).cloned().collect()
}

/// The same, at or below `path` only.
pub(super) fn all_of(path: &RelPath, found: &FoundTree, state: &State) -> Vec<RelPath> {
    ours(found, state).into_iter().filter(|ours| ours.is_within(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    use crate::dir::Kind;
    use crate::generation::DATA;
    use crate::plan::plan_tests::{CURRENT, link, names, path, seen, told, wanted};
    use crate::state::{Key, Sealer};

    const SAME: Found = Found::File(Seen { size: 5, same: true });
    const OTHER: Found = Found::File(Seen { size: 3, same: false });
    const OURS: Found = Found::Directory { only_ours: true };
    const THEIRS: Found = Found::Directory { only_ours: false };

    fn found(entries: &[(&str, Found)]) -> FoundTree {
        entries.iter().map(|(at, what)| (path(at), what.clone())).collect()
    }

    fn state(files: &[&str], directories: &[&str]) -> State {
        State {
            files: files.iter().map(|at| (Key(path(at)), Sealer::default().seal())).collect(),
            directories: directories.iter().map(|at| Key(path(at))).collect(),
            ..State::default()
        }
    }

    fn shown<'a>(paths: impl IntoIterator<Item = &'a RelPath>) -> Vec<String> {
        paths.into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_ours_and_not_listed_goes() {
        let found = found(&[
            ("a", SAME),
            ("b", OTHER),
            ("d", OURS),
            ("d/x", SAME),
            ("e", THEIRS),
            ("e/old", OTHER),
            ("f", OURS),
            ("f/g", OURS),
            ("f/g/old", OTHER),
        ]);
        let state = state(&["a", "b", "d/x", "e/old", "f/g/old", "lost"], &["d", "f", "f/g"]);
        let seen = seen(&[("a", true), ("b", false), ("d/x", true), ("e/old", false), ("f/g/old", false)]);
        let wanted = wanted(&["a", "b", "d/x", "e/new", "n/o/new"]);
        let plan = plain(&wanted, &names(&[]), &seen, &found, &state).unwrap();
        assert_eq!(shown(&plan.stage), ["b", "e/new", "n/o/new"]);
        assert_eq!(shown(&plan.remove), ["e/old", "f/g/old", "f/g", "f"]);
        assert_eq!(shown(&plan.directories), ["d", "n", "n/o"]);
        assert!(plan.clear.is_empty());
    }

    #[test]
    fn the_same_again_is_nothing() {
        let found = found(&[("a", SAME), ("d", OURS), ("d/x", SAME)]);
        let names = names(&[("a", Name::Entry(Kind::File)), ("d", Name::Entry(Kind::Directory))]);
        let seen = seen(&[("a", true), ("d/x", true)]);
        let state = state(&["a", "d/x"], &["d"]);
        let plan = plain(&wanted(&["a", "d/x"]), &names, &seen, &found, &state).unwrap();
        assert!(plan.is_nothing());
        assert_eq!(told(&plan), ["a unchanged 5", "d/x unchanged 5"]);
    }

    #[test]
    fn our_file_gives_way_to_a_directory_and_our_directory_to_a_file() {
        let found = found(&[("a", OTHER), ("d", OURS), ("d/e", OURS), ("d/e/x", OTHER)]);
        let state = state(&["a", "d/e/x"], &["d", "d/e"]);
        let plan = plain(&wanted(&["a/b", "d"]), &names(&[]), &seen(&[]), &found, &state).unwrap();
        assert_eq!(shown(&plan.clear), ["d/e/x", "d/e", "d", "a"]);
        assert_eq!(shown(&plan.stage), ["a/b", "d"]);
        assert_eq!(shown(&plan.directories), ["a"]);
        assert!(plan.remove.is_empty());
    }

    #[test]
    fn links_of_the_other_layout_give_way() {
        let names = names(&[
            ("a", link("..data/a")),
            ("d", link("..data/d")),
            ("old", link("..data/old")),
            (DATA, link(CURRENT)),
            (CURRENT, Name::Entry(Kind::Directory)),
        ]);
        let found = found(&[("a", Found::Link("..data/a".into())), ("d", Found::Link("..data/d".into()))]);
        let seen = seen(&[("a", true), ("d/x", true), ("old", false)]);
        let plan = plain(&wanted(&["a", "d/x"]), &names, &seen, &found, &State::default()).unwrap();
        assert_eq!(shown(&plan.stage), ["a", "d/x"]);
        assert_eq!(shown(&plan.clear), ["d"]);
        assert_eq!(plan.unlink, ["old"]);
        assert!(plan.unlink_data && plan.rewrite);
        assert_eq!(told(&plan), ["a unchanged 5", "d/x unchanged 5", "old removed 3"]);
    }

    #[test]
    fn files_of_the_plain_layout_give_way_to_links() {
        let names = names(&[
            ("a", Name::Entry(Kind::File)),
            ("d", Name::Entry(Kind::Directory)),
            ("old", Name::Entry(Kind::File)),
        ]);
        let found =
            found(&[("a", SAME), ("d", OURS), ("d/e", OURS), ("d/e/x", SAME), ("d/y", SAME), ("old", OTHER)]);
        let state = state(&["a", "d/e/x", "d/y", "old"], &["d", "d/e"]);
        let seen = seen(&[("a", true), ("d/e/x", true), ("d/y", true), ("old", false)]);
        let wanted = wanted(&["a", "d/e/x"]);
        let plan = crate::plan::links(&wanted, &names, &seen, &found, &state).unwrap();
        assert_eq!(plan.convert, ["a", "d"]);
        assert_eq!(shown(&plan.clear), ["d/e/x", "d/y", "d/e"]);
        assert_eq!(shown(&plan.remove), ["old"]);
        assert!(plan.link.is_empty() && plan.rewrite);

        let theirs = FoundTree::from([(path("d"), THEIRS), (path("a"), SAME)]);
        let refused = crate::plan::links(&wanted, &names, &seen, &theirs, &state).unwrap_err();
        assert_eq!(refused.name, "d");
    }

    #[test]
    fn what_is_not_ours_and_no_regular_file_is_in_the_way() {
        for (at, what, who) in [
            ("d/x", THEIRS, "d/x"),
            ("d/x", Found::Link("/etc/passwd".into()), "d/x"),
            ("d/x", Found::Link("..data/x".into()), "d/x"),
            ("d/x", Found::Other, "d/x"),
            ("d", OTHER, "d"),
            ("d", Found::Link("..data/e".into()), "d"),
            ("d", Found::Link("/etc".into()), "d"),
        ] {
            let found = found(&[(at, what)]);
            let refused = plain(&wanted(&["d/x"]), &names(&[]), &seen(&[]), &found, &State::default());
            assert_eq!(refused.unwrap_err().name, OsStr::new(who), "{found:?}");
        }
    }
}
