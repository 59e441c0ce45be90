//! The files that a pass was made of, each with what it looked like before it was read: so a change is found, also one
//! that came while the pass was under way. Compares and never reads content.
//!
//! Links are followed. So a volume of Kubernetes that was swapped by its `..data` link looks different by its inodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What tells one version of a file from another, as far as looking tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    /// Also of the mode and the owner; cannot be set by hand.
    changed: (i64, i64),
}

impl Stamp {
    /// `None` while there is nothing, or nothing that may be looked at.
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self {
            file: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// All inputs, by path.
#[derive(Debug, Default)]
pub(crate) struct Inputs(Mutex<BTreeMap<PathBuf, Option<Stamp>>>);

impl Inputs {
    /// An input is about to be read, or looked for. Its first sight counts.
    pub(crate) fn note(&self, path: &Path) {
        // Fails only for an empty path, which is nobody's.
        let Ok(path) = std::path::absolute(path) else { return };
        self.lock().entry(path).or_insert_with_key(|path| Stamp::of(path));
    }

    /// Forgets its own and takes over what another has seen.
    pub(crate) fn replace(&self, other: &Self) {
        let seen = std::mem::take(&mut *other.lock());
        *self.lock() = seen;
    }

    /// Takes over what another has seen beside its own.
    pub(crate) fn add(&self, other: &Self) {
        let seen = std::mem::take(&mut *other.lock());
        self.lock().extend(seen);
    }

    /// Notes what another knows as it looks now.
    pub(crate) fn note_all(&self, other: &Self) {
        let paths: Vec<PathBuf> = other.lock().keys().cloned().collect();
        paths.iter().for_each(|path| self.note(path));
    }

    /// The first input that no longer looks as it did, if there is one.
    pub(crate) fn changed(&self) -> Option<PathBuf> {
        self.lock().iter().find(|(path, stamp)| Stamp::of(path) != **stamp).map(|(path, _)| path.clone())
    }

    /// The directories in which a change of an input shows: its own, and where its link leads. Where that is missing,
    /// the nearest above it.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let mut directories = BTreeSet::new();
        for path in self.lock().keys() {
            directories.extend(nearest(path.parent().unwrap_or(path)));
            if let Ok(real) = path.canonicalize() {
                let dir = if real.is_dir() { Some(real.as_path()) } else { real.parent() };
                directories.extend(dir.map(Path::to_owned));
            }
        }
        directories
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Option<Stamp>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nearest(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().find(|dir| dir.is_dir()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn noted(paths: &[&Path]) -> Inputs {
        let inputs = Inputs::default();
        paths.iter().for_each(|path| inputs.note(path));
        inputs
    }

    #[test]
    fn what_is_written_replaced_removed_or_made_is_a_change() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        type Change = fn(&Path);
        let changes: [(&str, Change); 5] = [
            ("written", |dir| fs::write(dir.join("written"), "longer").unwrap()),
            ("replaced", |dir| {
                fs::write(dir.join("new"), "x").unwrap();
                fs::rename(dir.join("new"), dir.join("replaced")).unwrap();
            }),
            ("removed", |dir| fs::remove_file(dir.join("removed")).unwrap()),
            ("missing", |dir| fs::write(dir.join("missing"), "").unwrap()),
            ("mode", |dir| {
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(dir.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
        ];
        for (name, change) in changes {
            if name != "missing" {
                fs::write(at(name), "x").unwrap();
            }
            let inputs = noted(&[&at(name)]);
            assert_eq!(inputs.changed(), None);
            change(root.path());
            assert_eq!(inputs.changed(), Some(at(name)));
        }
    }

    #[test]
    fn the_first_sight_counts_until_it_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        fs::write(&path, "x").unwrap();
        let old = noted(&[&path]);
        fs::write(&path, "longer").unwrap();
        old.note(&path);
        assert_eq!(old.changed(), Some(path.clone()));
        old.replace(&noted(&[&path]));
        assert_eq!(old.changed(), None);
    }

    #[test]
    fn a_swapped_volume_is_a_change_and_shows_in_the_directory_of_its_link() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().canonicalize().unwrap();
        for version in ["..1", "..2"] {
            fs::create_dir(volume.join(version)).unwrap();
            fs::write(volume.join(version).join("a"), "x").unwrap();
        }
        symlink("..1", volume.join("..data")).unwrap();
        symlink("..data/a", volume.join("a")).unwrap();
        let inputs = noted(&[&volume.join("a")]);
        assert!(inputs.directories().contains(&volume));
        symlink("..2", volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
        assert_eq!(inputs.changed(), Some(volume.join("a")));
    }

    #[test]
    fn what_is_missing_shows_in_the_nearest_directory_and_a_directory_in_itself() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("dir")).unwrap();
        assert_eq!(noted(&[&root.join("no/such/file")]).directories(), BTreeSet::from([root.clone()]));
        assert_eq!(
            noted(&[&root.join("dir")]).directories(),
            BTreeSet::from([root.clone(), root.join("dir")])
        );
    }
}
