//! What is on disk at one moment: the files that the patterns cover, and their rotated neighbours.
//!
//! Reads directories and file metadata; opens nothing and remembers nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::Source;
use crate::files::generation::Identity;
use crate::files::pattern::is_rotation_of;

/// A file that was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The index of the source that it belongs to.
    pub(crate) source: usize,
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) modified: Option<SystemTime>,
    /// False for a rotated neighbour that no pattern covers.
    pub(crate) listed: bool,
}

/// All files that the patterns cover, each once whatever the number of its names, and the directories read.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) found: Vec<Found>,
    pub(crate) directories: BTreeSet<PathBuf>,
}

impl Listing {
    pub(crate) fn of(sources: &[Source]) -> Self {
        let mut listing = Self::default();
        let mut seen = HashSet::new();
        for (source, config) in sources.iter().enumerate() {
            for include in &config.include {
                let expansion = include.expand();
                listing.directories.extend(expansion.directories);
                for path in expansion.paths.into_iter().filter(|path| !config.excludes(path)) {
                    // A link's file is written to in another directory.
                    if expansion.links.contains(&path)
                        && let Ok(target) = path.canonicalize()
                    {
                        listing.directories.extend(target.parent().map(Path::to_owned));
                    }
                    listing.found.extend(look(source, path, true, &mut seen));
                }
            }
        }
        listing
    }

    /// Adds rotated neighbours of live names: `app.log.1` beside `app.log`, where no pattern covers it.
    pub(crate) fn add_neighbours(&mut self, sources: &[Source], live: &BTreeSet<(usize, PathBuf)>) {
        let mut seen: HashSet<Identity> = self.found.iter().map(|file| file.identity).collect();
        let mut by_directory: BTreeMap<&Path, HashMap<Cow<'_, str>, usize>> = BTreeMap::new();
        for (source, live) in live {
            let (Some(dir), Some(name)) = (live.parent(), live.file_name()) else { continue };
            by_directory.entry(dir).or_default().insert(name.to_string_lossy(), *source);
        }
        for (dir, live) in by_directory {
            let Ok(entries) = std::fs::read_dir(dir) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                // Each beginning that ends before a separator may be a live name: no comparing of all with all.
                let ends = name.match_indices(['.', '-', '_']).map(|(at, _)| at);
                let source = ends
                    .filter(|at| is_rotation_of(&name, &name[..*at]))
                    .find_map(|at| live.get(&name[..at]).copied());
                let Some(source) = source.filter(|source| !sources[*source].excludes(&entry.path())) else {
                    continue;
                };
                self.found.extend(look(source, entry.path(), false, &mut seen));
            }
        }
    }
}

/// Follows links. A name that vanished since it was listed is found again under its new one.
fn look(source: usize, path: PathBuf, listed: bool, seen: &mut HashSet<Identity>) -> Option<Found> {
    let meta: Metadata = std::fs::metadata(&path).ok()?;
    let identity = Identity::from(&meta);
    (meta.is_file() && seen.insert(identity)).then(|| Found {
        source,
        path,
        identity,
        modified: meta.modified().ok(),
        listed,
    })
}

/// Whether `path` is in the directory of `live` under a name that a rotation of it makes.
pub(crate) fn is_neighbour(path: &Path, live: &Path) -> bool {
    // What a rotation appends has no slash in it, so whole paths compare as names do; the bytes come first, since
    // a new file is compared with each that is followed.
    path.as_os_str().as_bytes().starts_with(live.as_os_str().as_bytes())
        && is_rotation_of(&path.to_string_lossy(), &live.to_string_lossy())
}

/// Whether a path is what a rotation makes of one of others in the same directory.
pub(crate) fn is_rotation_among(path: &Path, live: &HashSet<&Path>) -> bool {
    let Some(text) = path.to_str() else { return false };
    let from = text.rfind('/').map_or(0, |slash| slash + 1);
    let ends = text[from..].match_indices(['.', '-', '_']).map(|(at, _)| &text[..from + at]);
    ends.filter(|name| is_rotation_of(text, name)).any(|name| live.contains(Path::new(name)))
}
