//! What is wanted, held against what is there: which names change, and what has to be written for it.
//!
//! Pure: never touches the disk. [`crate::target`] looks, [`crate::write`] acts.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::dir::Kind;
use crate::generation::{self, DATA, DATA_NEXT};
use crate::path::RelPath;

/// One file as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    /// The nine permission bits.
    pub(crate) mode: u32,
}

/// All files that are wanted, by path.
pub(crate) type Tree = BTreeMap<RelPath, Content>;

/// One file of the generation in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) size: u64,
    /// Whether bytes and mode are those that are wanted.
    pub(crate) same: bool,
}

/// The files of the generation in force, by path.
pub(crate) type SeenTree = BTreeMap<RelPath, Seen>;

/// A name at the top of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// A link, and where it points to.
    Link(PathBuf),
    /// Anything else.
    Entry(Kind),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(to) => write!(f, "a link to {to:?}"),
            Self::Entry(Kind::File) => f.write_str("a file"),
            Self::Entry(Kind::Directory) => f.write_str("a directory"),
            Self::Entry(_) => f.write_str("a special file"),
        }
    }
}

/// All names at the top of the target.
pub(crate) type Names = BTreeMap<OsString, Name>;

/// Something that we did not make stands at a name that must be ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InTheWay {
    pub(crate) name: OsString,
    pub(crate) what: String,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Created,
    Changed,
    Unchanged,
    Removed,
}

impl Change {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
        }
    }
}

/// What is to be done so that the target holds what is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Every file that is wanted or was there, with its size.
    pub(crate) files: BTreeMap<RelPath, (Change, u64)>,
    /// Whether a new generation has to be written.
    pub(crate) rewrite: bool,
    /// The generation in force before, if any.
    pub(crate) in_force: Option<OsString>,
    /// Visible names that need a link.
    pub(crate) link: Vec<OsString>,
    /// Our links to names that are no longer there.
    pub(crate) unlink: Vec<OsString>,
    /// Generations that a killed run left behind.
    pub(crate) debris: Vec<OsString>,
    /// Whether a killed run left its `..data_tmp` behind.
    pub(crate) stale_next: bool,
}

impl Plan {
    /// Whether the target already holds what is wanted, to the last link.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.rewrite
            && self.link.is_empty()
            && self.unlink.is_empty()
            && self.debris.is_empty()
            && !self.stale_next
    }

    /// How many files had a change of this kind.
    pub(crate) fn count(&self, change: Change) -> usize {
        self.files.values().filter(|(other, _)| *other == change).count()
    }
}

/// The generation that `..data` puts in force.
///
/// A link to a generation that is gone is no generation: a new one takes its place.
///
/// # Errors
/// `..data` is there and is not a link to one of our generations. Whoever made it, we neither follow nor replace it.
pub(crate) fn in_force(names: &Names) -> Result<Option<&OsStr>, InTheWay> {
    let in_the_way = |name: &OsStr, what: &Name| InTheWay { name: name.to_owned(), what: what.to_string() };
    match names.get(OsStr::new(DATA)) {
        None => Ok(None),
        Some(Name::Link(to)) if generation::is_name(to.as_os_str()) => match names.get(to.as_os_str()) {
            None => Ok(None),
            Some(Name::Entry(Kind::Directory)) => Ok(Some(to.as_os_str())),
            Some(other) => Err(in_the_way(to.as_os_str(), other)),
        },
        Some(other) => Err(in_the_way(OsStr::new(DATA), other)),
    }
}

/// Where the visible name points: `app.yaml -> ..data/app.yaml`.
pub(crate) fn visible_link(name: &OsStr) -> PathBuf {
    Path::new(DATA).join(name)
}

/// Makes the plan. `seen` are the files of the generation in force; empty if there is none.
///
/// # Errors
/// A name that must be ours is taken.
pub(crate) fn plan(wanted: &Tree, names: &Names, seen: &SeenTree) -> Result<Plan, InTheWay> {
    let current = in_force(names)?;
    let mut plan = Plan { in_force: current.map(OsStr::to_owned), ..Plan::default() };

    for (path, content) in wanted {
        let change = match seen.get(path) {
            None => Change::Created,
            Some(seen) if seen.same => Change::Unchanged,
            Some(_) => Change::Changed,
        };
        plan.files.insert(path.clone(), (change, content.bytes.len() as u64));
        let name = path.first();
        match names.get(name) {
            None if plan.link.last().is_some_and(|last| last == name) => {}
            None => plan.link.push(name.to_owned()),
            Some(Name::Link(to)) if *to == visible_link(name) => {}
            Some(other) => return Err(InTheWay { name: name.to_owned(), what: other.to_string() }),
        }
    }
    for (path, seen) in seen {
        plan.files.entry(path.clone()).or_insert((Change::Removed, seen.size));
    }
    plan.rewrite = plan.files.values().any(|(change, _)| *change != Change::Unchanged);

    for (name, what) in names {
        match what {
            Name::Entry(Kind::Directory)
                if generation::is_name(name) && current != Some(name.as_os_str()) =>
            {
                plan.debris.push(name.clone());
            }
            Name::Link(to) if *to == visible_link(name) && !is_wanted(wanted, name) => {
                plan.unlink.push(name.clone());
            }
            Name::Link(_) if name == DATA_NEXT => plan.stale_next = true,
            other if name == DATA_NEXT => {
                return Err(InTheWay { name: name.clone(), what: other.to_string() });
            }
            _ => {}
        }
    }
    Ok(plan)
}

fn is_wanted(wanted: &Tree, name: &OsStr) -> bool {
    // The first path at or after the bare name is the name itself or the first file below it.
    RelPath::parse(Path::new(name))
        .is_ok_and(|name| wanted.range(&name..).next().is_some_and(|(path, _)| path.first() == name.first()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: &str = "..2026_11_22_05_10_00.123456789";
    const OLDER: &str = "..2026_11_21_00_00_00.000000000";

    fn wanted(paths: &[&str]) -> Tree {
        let content = Content { bytes: b"12345".to_vec(), mode: 0o644 };
        paths.iter().map(|path| (RelPath::parse(path).unwrap(), content.clone())).collect()
    }

    fn seen(paths: &[(&str, bool)]) -> SeenTree {
        paths
            .iter()
            .map(|(path, same)| (RelPath::parse(path).unwrap(), Seen { size: 3, same: *same }))
            .collect()
    }

    fn names(entries: &[(&str, Name)]) -> Names {
        entries.iter().map(|(name, what)| (OsString::from(name), what.clone())).collect()
    }

    fn link(to: &str) -> Name {
        Name::Link(PathBuf::from(to))
    }

    fn told(plan: &Plan) -> Vec<String> {
        plan.files.iter().map(|(path, (change, size))| format!("{path} {} {size}", change.as_str())).collect()
    }

    #[test]
    fn a_first_run_creates_all() {
        let plan = plan(&wanted(&["a", "d/x", "d/y"]), &names(&[]), &seen(&[])).unwrap();
        assert_eq!(told(&plan), ["a created 5", "d/x created 5", "d/y created 5"]);
        assert_eq!(plan.link, ["a", "d"]);
        assert!(plan.rewrite && plan.in_force.is_none());
    }

    #[test]
    fn the_same_again_is_nothing() {
        let names = names(&[
            ("a", link("..data/a")),
            (DATA, link(CURRENT)),
            (CURRENT, Name::Entry(Kind::Directory)),
            ("theirs", Name::Entry(Kind::File)),
            ("theirs-too", link("/somewhere")),
        ]);
        let plan = plan(&wanted(&["a"]), &names, &seen(&[("a", true)])).unwrap();
        assert!(plan.is_nothing());
        assert_eq!(told(&plan), ["a unchanged 5"]);
    }

    #[test]
    fn one_changed_file_rewrites_and_what_is_gone_is_unlinked() {
        let names = names(&[
            ("a", link("..data/a")),
            ("old", link("..data/old")),
            (DATA, link(CURRENT)),
            (CURRENT, Name::Entry(Kind::Directory)),
            (OLDER, Name::Entry(Kind::Directory)),
            (DATA_NEXT, link(OLDER)),
        ]);
        let plan = plan(&wanted(&["a", "b"]), &names, &seen(&[("a", false), ("old", false)])).unwrap();
        assert_eq!(told(&plan), ["a changed 5", "b created 5", "old removed 3"]);
        assert_eq!(
            (plan.link, plan.unlink, plan.debris),
            (vec!["b".into()], vec!["old".into()], vec![OLDER.into()])
        );
        assert!(plan.stale_next);
    }

    #[test]
    fn a_lost_link_is_mended_without_a_rewrite() {
        let names = names(&[(DATA, link(CURRENT)), (CURRENT, Name::Entry(Kind::Directory))]);
        let plan = plan(&wanted(&["d/x"]), &names, &seen(&[("d/x", true)])).unwrap();
        assert!(!plan.rewrite && !plan.is_nothing());
        assert_eq!(plan.link, ["d"]);
    }

    #[test]
    fn a_link_to_a_directory_of_ours_stays_while_a_file_in_it_is_wanted() {
        let names = names(&[
            ("d", link("..data/d")),
            ("d-e", link("..data/d-e")),
            (DATA, link(CURRENT)),
            (CURRENT, Name::Entry(Kind::Directory)),
        ]);
        let plan = plan(&wanted(&["d/x"]), &names, &seen(&[("d/x", true), ("d-e", true)])).unwrap();
        assert_eq!(plan.unlink, ["d-e"]);
    }

    #[test]
    fn a_generation_that_is_gone_is_written_anew() {
        let names = names(&[("a", link("..data/a")), (DATA, link(CURRENT))]);
        let plan = plan(&wanted(&["a"]), &names, &seen(&[])).unwrap();
        assert!(plan.rewrite && plan.in_force.is_none());
    }

    #[test]
    fn what_is_not_ours_is_in_the_way() {
        for (entries, who) in [
            (vec![("a", Name::Entry(Kind::File))], "a"),
            (vec![("a", Name::Entry(Kind::Directory))], "a"),
            (vec![("a", link("/etc/passwd"))], "a"),
            (vec![("a", link("..data/b"))], "a"),
            (vec![(DATA, link("/etc"))], DATA),
            (vec![(DATA, link("../elsewhere"))], DATA),
            (vec![(DATA, Name::Entry(Kind::Directory))], DATA),
            (vec![(DATA, link(CURRENT)), (CURRENT, link("/etc"))], CURRENT),
            (vec![(DATA_NEXT, Name::Entry(Kind::File))], DATA_NEXT),
        ] {
            let refused = plan(&wanted(&["a"]), &names(&entries), &seen(&[])).unwrap_err();
            assert_eq!(refused.name, who, "{entries:?}");
        }
    }
}
