//! The directories below a root, opened name by name, no link followed. Paths that come in order share what is open,
//! so each directory is opened once.

use std::ffi::{OsStr, OsString};
use std::io;

use crate::dir::Dir;
use crate::path::RelPath;

/// Where the last path led.
pub(crate) struct Descent<'a> {
    root: &'a Dir,
    open: Vec<(OsString, Dir)>,
}

impl<'a> Descent<'a> {
    pub(crate) fn new(root: &'a Dir) -> Self {
        Self { root, open: Vec::new() }
    }

    /// The directory that holds the last name of `path`.
    pub(crate) fn above(&mut self, path: &RelPath) -> io::Result<&Dir> {
        self.go(path.directories(), Dir::dir)
    }

    /// The same; what is missing is made.
    pub(crate) fn make_above(&mut self, path: &RelPath) -> io::Result<&Dir> {
        self.go(path.directories(), |dir, name| match dir.dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => dir.make_dir(name),
            opened => opened,
        })
    }

    /// The directory at `path` itself.
    pub(crate) fn at(&mut self, path: &RelPath) -> io::Result<&Dir> {
        self.go(path.names(), Dir::dir)
    }

    fn go<'p>(
        &mut self,
        names: impl Iterator<Item = &'p OsStr>,
        open: impl Fn(&Dir, &OsStr) -> io::Result<Dir>,
    ) -> io::Result<&Dir> {
        let mut depth = 0;
        for name in names {
            if self.open.get(depth).is_none_or(|(known, _)| known != name) {
                self.open.truncate(depth);
                let inner = open(self.here(), name)?;
                self.open.push((name.to_owned(), inner));
            }
            depth += 1;
        }
        self.open.truncate(depth);
        Ok(self.here())
    }

    fn here(&self) -> &Dir {
        self.open.last().map_or(self.root, |(_, dir)| dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    #[test]
    fn directories_are_made_and_left_again_in_any_order_of_paths() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let mut descent = Descent::new(&dir);
        for place in ["a/b/c/f", "a/b/f", "a/d/f", "f", "e/b/f", "a/b/c/g"] {
            let place = path(place);
            descent.make_above(&place).unwrap().make_file(place.last()).unwrap();
        }
        for place in ["a/b/c/f", "a/b/f", "a/d/f", "f", "e/b/f", "a/b/c/g"] {
            assert!(root.path().join(place).is_file(), "{place}");
        }
    }

    #[test]
    fn a_link_leads_nowhere_and_a_missing_directory_is_told() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("real/in")).unwrap();
        symlink("real", root.path().join("link")).unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let mut descent = Descent::new(&dir);
        assert!(descent.above(&path("real/in/f")).is_ok());
        for leads_out in ["link/in/f", "link/f"] {
            let error = descent.make_above(&path(leads_out)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{leads_out}");
        }
        let error = descent.above(&path("none/f")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
