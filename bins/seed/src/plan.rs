//! What is wanted, held against what is there: which names change, and what has to be written for it.
//!
//! Pure: never touches the disk. [`crate::target`] looks, [`crate::write`] acts.

mod plain;
#[cfg(test)]
mod plan_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::content::Tree;
use crate::dir::Kind;
use crate::generation::{self, DATA, DATA_NEXT, LINK_NEXT};
use crate::path::RelPath;
use crate::state::{STATE_NEXT, State};

pub(crate) use plain::{Found, FoundTree, plain};

/// One file in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) size: u64,
    /// Whether bytes, mode and owner are those that are wanted.
    pub(crate) same: bool,
}

/// The files in force, by path.
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
    /// Whether files are written or removed.
    pub(crate) rewrite: bool,
    /// The generation in force before, if any.
    pub(crate) in_force: Option<OsString>,
    /// The files that go into a new directory, from where they are put in force.
    pub(crate) stage: Vec<RelPath>,
    /// Visible names that need a link.
    pub(crate) link: Vec<OsString>,
    /// Visible names at which files of the plain layout give way to a link.
    pub(crate) convert: Vec<OsString>,
    /// Our links to names that are no longer there.
    pub(crate) unlink: Vec<OsString>,
    /// Whether `..data` goes, for the plain layout has none.
    pub(crate) unlink_data: bool,
    /// The directories that the plain layout needs and that we made or are to make.
    pub(crate) directories: BTreeSet<RelPath>,
    /// Files, links and directories of ours that stand where others of ours are to be, in the order of their removal.
    pub(crate) clear: Vec<RelPath>,
    /// Files and directories of ours that are no longer listed, in the order of their removal.
    pub(crate) remove: Vec<RelPath>,
    /// Generations that a killed run left behind.
    pub(crate) debris: Vec<OsString>,
    /// Names that a killed run was about to rename.
    pub(crate) stale: Vec<OsString>,
}

impl Plan {
    /// For a target that is not there.
    pub(crate) fn of_first(wanted: &Tree) -> Self {
        Self::begin(wanted, &Names::new(), &SeenTree::new()).unwrap_or_default()
    }

    /// Whether the target already holds what is wanted, to the last link.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.rewrite
            && !self.unlink_data
            && self.stage.is_empty()
            && [&self.link, &self.convert, &self.unlink, &self.debris, &self.stale]
                .iter()
                .all(|names| names.is_empty())
            && self.clear.is_empty()
            && self.remove.is_empty()
    }

    /// Whether names are linked, cleared or removed, though all files may be the same.
    pub(crate) fn moves_names(&self) -> bool {
        let names = [&self.link, &self.convert, &self.unlink];
        let paths = [&self.clear, &self.remove];
        self.unlink_data
            || names.iter().any(|names| !names.is_empty())
            || paths.iter().any(|paths| !paths.is_empty())
    }

    /// How many files had a change of this kind.
    pub(crate) fn count(&self, change: Change) -> usize {
        self.files.values().filter(|(other, _)| *other == change).count()
    }

    /// Whether the file is the same as the one in force.
    pub(crate) fn is_same(&self, path: &RelPath) -> bool {
        self.files.get(path).is_some_and(|(change, _)| *change == Change::Unchanged)
    }

    /// Begins with what both layouts share: how files change, and what killed runs left behind.
    fn begin(wanted: &Tree, names: &Names, seen: &SeenTree) -> Result<Self, InTheWay> {
        let current = in_force(names)?;
        let mut plan = Self { in_force: current.map(OsStr::to_owned), ..Self::default() };
        for (path, content) in wanted {
            let change = match seen.get(path) {
                None => Change::Created,
                Some(seen) if seen.same => Change::Unchanged,
                Some(_) => Change::Changed,
            };
            plan.files.insert(path.clone(), (change, content.body.len()));
        }
        for (path, seen) in seen {
            plan.files.entry(path.clone()).or_insert((Change::Removed, seen.size));
        }
        plan.rewrite = plan.files.values().any(|(change, _)| *change != Change::Unchanged);
        for (name, what) in names {
            match what {
                // A file is one that was to have no name, on a file system that cannot make it so.
                Name::Entry(Kind::Directory | Kind::File)
                    if generation::is_name(name) && current != Some(name.as_os_str()) =>
                {
                    plan.debris.push(name.clone());
                }
                Name::Link(_) if name == DATA_NEXT || name == LINK_NEXT => plan.stale.push(name.clone()),
                other if name == DATA_NEXT || name == LINK_NEXT => return Err(in_the_way(name, other)),
                Name::Link(_) | Name::Entry(Kind::File) if name == STATE_NEXT => {
                    plan.stale.push(name.clone())
                }
                _ => {}
            }
        }
        Ok(plan)
    }
}

fn in_the_way(name: &OsStr, what: &dyn fmt::Display) -> InTheWay {
    InTheWay { name: name.to_owned(), what: what.to_string() }
}

/// The generation that `..data` puts in force.
///
/// A link to a generation that is gone is no generation: a new one takes its place.
///
/// # Errors
/// `..data` is there and is not a link to one of our generations. Whoever made it, we neither follow nor replace it.
pub(crate) fn in_force(names: &Names) -> Result<Option<&OsStr>, InTheWay> {
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

/// The plan for links into a generation. `seen` are the files in force; `found` and `state` tell of the plain layout, if
/// that was before.
///
/// # Errors
/// A name that must be ours is taken.
pub(crate) fn links(
    wanted: &Tree,
    names: &Names,
    seen: &SeenTree,
    found: &FoundTree,
    state: &State,
) -> Result<Plan, InTheWay> {
    let mut plan = Plan::begin(wanted, names, seen)?;
    plan.rewrite |= plan.in_force.is_none() && !wanted.is_empty();
    if plan.rewrite {
        plan.stage = wanted.keys().cloned().collect();
    }
    let mut last = None;
    for path in wanted.keys() {
        let name = path.first();
        // All paths with the same first name come one after the other.
        if last.replace(name) == Some(name) {
            continue;
        }
        match names.get(name) {
            None => plan.link.push(name.to_owned()),
            Some(Name::Link(to)) if *to == visible_link(name) => {}
            Some(other) => {
                let ours = RelPath::parse(Path::new(name)).ok().filter(|path| match found.get(path) {
                    Some(Found::File(_)) => state.files.contains_key(path),
                    Some(Found::Directory { only_ours }) => *only_ours,
                    _ => false,
                });
                let Some(ours) = ours else { return Err(in_the_way(name, other)) };
                plan.clear
                    .extend(plain::all_of(&ours, found, state).into_iter().filter(|path| *path != ours));
                plan.convert.push(name.to_owned());
            }
        }
    }
    let is_converted = |path: &RelPath| plan.convert.iter().any(|name| name == path.first());
    plan.remove = plain::ours(found, state).into_iter().filter(|path| !is_converted(path)).collect();
    for (name, what) in names {
        match what {
            Name::Link(to) if *to == visible_link(name) && !is_wanted(wanted, name) => {
                plan.unlink.push(name.clone());
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
