//! A directory held open, and single names in it: the only way this crate touches the target.
//!
//! Every call works on one name relative to an open directory and never follows a symlink, so nothing that another
//! process plants in the target can lead a read or a write out of it. Chosen over `openat2(RESOLVE_BENEATH)` because
//! it works the same on every kernel and under every seccomp profile.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::unistd::UnlinkatFlags;

use crate::generation;
use crate::path::RelPath;

/// What a name stands for, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    /// A device, a pipe or a socket.
    Other,
}

/// Directories of a generation can be read by all, as in the kubelet's volumes: the files' own modes protect them.
const DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o755);
/// Until its content is complete a file is its owner's alone.
const NEW_FILE_MODE: Mode = Mode::from_bits_truncate(0o600);

/// No path that we write is deeper, and a tree that others planted must not use up stack and descriptors.
const MAX_DEPTH: usize = 1024;

const OPEN_DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// A directory that stays the same one whatever happens to its name.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Opens a directory by the path that the user chose; links in it are followed, for that is the user's choice.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: nix::fcntl::open(path, OPEN_DIRECTORY, Mode::empty())? })
    }

    /// Opens the directory `name`, not through a link.
    pub(crate) fn dir(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OPEN_DIRECTORY | OFlag::O_NOFOLLOW;
        Ok(Self { fd: nix::fcntl::openat(&self.fd, name, flags, Mode::empty())? })
    }

    /// Opens the directory at `path`, name by name.
    pub(crate) fn dir_at(&self, path: &RelPath) -> io::Result<Self> {
        let (dir, name) = self.above(path)?;
        dir.as_ref().unwrap_or(self).dir(name)
    }

    /// Opens the file at `path` for reading, as [`file`](Self::file).
    pub(crate) fn file_at(&self, path: &RelPath) -> io::Result<File> {
        let (dir, name) = self.above(path)?;
        dir.as_ref().unwrap_or(self).file(name)
    }

    /// What the kernel tells of the name at `path`, as [`stat`](Self::stat).
    pub(crate) fn stat_at(&self, path: &RelPath) -> io::Result<FileStat> {
        let (dir, name) = self.above(path)?;
        dir.as_ref().unwrap_or(self).stat(name)
    }

    /// The directory that holds `path`, or nothing if this one does, and the last name.
    pub(crate) fn above<'a>(&self, path: &'a RelPath) -> io::Result<(Option<Self>, &'a OsStr)> {
        let mut inner: Option<Self> = None;
        for name in path.directories() {
            inner = Some(inner.as_ref().unwrap_or(self).dir(name)?);
        }
        Ok((inner, path.last()))
    }

    /// What the kernel tells of the name, links not followed.
    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<FileStat> {
        Ok(nix::sys::stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Makes the directory `name`, which must not exist, and opens it. In a directory that hands its group down, as
    /// volumes with `fsGroup` do, so does the new one.
    pub(crate) fn make_dir(&self, name: &OsStr) -> io::Result<Self> {
        nix::sys::stat::mkdirat(&self.fd, name, DIRECTORY_MODE)?;
        let opened = self.dir(name).and_then(|dir| {
            let made = Mode::from_bits_truncate(nix::sys::stat::fstat(&dir.fd)?.st_mode);
            let wanted = DIRECTORY_MODE | (made & Mode::S_ISGID);
            // The umask may have cut the mode.
            if made != wanted {
                nix::sys::stat::fchmod(&dir.fd, wanted)?;
            }
            Ok(dir)
        });
        if opened.is_err() {
            // What the caller does not get, the caller cannot remove.
            let _ = self.remove_empty_dir(name);
        }
        opened
    }

    /// Opens the file `name` for reading, not through a link; a pipe without a writer does not block.
    pub(crate) fn file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(nix::fcntl::openat(&self.fd, name, flags, Mode::empty())?.into())
    }

    /// Creates the file `name`, which must not exist, for writing.
    pub(crate) fn make_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(nix::fcntl::openat(&self.fd, name, flags, NEW_FILE_MODE)?.into())
    }

    /// A file without a name on the directory's file system, which goes with its last descriptor.
    pub(crate) fn unnamed_file(&self) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        match nix::fcntl::openat(&self.fd, ".", flags, NEW_FILE_MODE) {
            Ok(file) => Ok(file.into()),
            // What file systems and kernels say that have no such files.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => {
                self.file_without_its_name()
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As [`unnamed_file`](Self::unnamed_file), on any file system. Should the run be killed in between, the name is
    /// one that the next run removes.
    fn file_without_its_name(&self) -> io::Result<File> {
        let name = generation::name(SystemTime::now());
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(&self.fd, &*name, flags, NEW_FILE_MODE)?;
        self.unlink(&name)?;
        Ok(file.into())
    }

    /// Gives the file `from` of another directory a second name here, which must not exist.
    pub(crate) fn link_file(&self, name: &OsStr, from: &Dir, from_name: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::linkat(&from.fd, from_name, &self.fd, name, AtFlags::empty())?)
    }

    /// Gives an [`unnamed_file`](Self::unnamed_file) the name `name`, which must not exist.
    ///
    /// # Errors
    /// Also where the file had a name once, and where there is no `/proc`.
    pub(crate) fn name_file(&self, name: &OsStr, file: &File) -> io::Result<()> {
        // `AT_EMPTY_PATH` would need a capability; open(2) gives this way for `O_TMPFILE`.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(nix::unistd::linkat(AT_FDCWD, &*path, &self.fd, name, AtFlags::AT_SYMLINK_FOLLOW)?)
    }

    /// Makes the link `name -> to`, which must not exist.
    pub(crate) fn make_link(&self, name: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::symlinkat(to, &self.fd, name)?)
    }

    /// Where the link `name` points to.
    pub(crate) fn link(&self, name: &OsStr) -> io::Result<PathBuf> {
        Ok(nix::fcntl::readlinkat(&self.fd, name)?.into())
    }

    /// Renames within the directory, over what is there.
    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.rename_into(from, self, to)
    }

    /// Renames into a directory of the same file system, over what is there.
    pub(crate) fn rename_into(&self, from: &OsStr, into: &Dir, to: &OsStr) -> io::Result<()> {
        Ok(nix::fcntl::renameat(&self.fd, from, &into.fd, to)?)
    }

    /// Removes the file or link `name`.
    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes the directory `name`, which must be empty.
    pub(crate) fn remove_empty_dir(&self, name: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)?)
    }

    /// Removes the directory `name` with all that is in it; links are removed, not followed.
    pub(crate) fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        self.remove_dir_within(name, MAX_DEPTH)
    }

    fn remove_dir_within(&self, name: &OsStr, depth: usize) -> io::Result<()> {
        let deeper =
            depth.checked_sub(1).ok_or_else(|| io::Error::other("directories are nested too deep"))?;
        let inside = self.dir(name)?;
        for (entry, kind) in inside.entries()? {
            match kind {
                Kind::Directory => inside.remove_dir_within(&entry, deeper)?,
                Kind::File | Kind::Link | Kind::Other => inside.unlink(&entry)?,
            }
        }
        self.remove_empty_dir(name)
    }

    /// What the name stands for, if there is anything.
    pub(crate) fn kind(&self, name: &OsStr) -> io::Result<Option<Kind>> {
        match nix::sys::stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(kind_of(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All names but `.` and `..`, in the order of their bytes.
    pub(crate) fn entries(&self) -> io::Result<Vec<(OsString, Kind)>> {
        // A descriptor of its own: reading a directory moves its offset.
        let mut reader = nix::dir::Dir::openat(&self.fd, ".", OPEN_DIRECTORY, Mode::empty())?;
        let mut entries = Vec::new();
        for entry in reader.iter() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            use nix::dir::Type;
            let kind = match entry.file_type() {
                Some(Type::File) => Some(Kind::File),
                Some(Type::Directory) => Some(Kind::Directory),
                Some(Type::Symlink) => Some(Kind::Link),
                Some(_) => Some(Kind::Other),
                // Some file systems do not tell in the listing.
                None => self.kind(name)?,
            };
            // A name that went away since the listing is no entry.
            entries.extend(kind.map(|kind| (name.to_owned(), kind)));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// Waits until the directory's own entries are on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(self.fd.as_fd())?)
    }

    /// A second descriptor of the same open directory: a lock on one is a lock on both.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

/// What the kernel says it is.
pub(crate) fn kind_of(stat: &FileStat) -> Kind {
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFLNK => Kind::Link,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_that_loses_its_name_at_once_serves_as_one_without_a_name() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        for mut file in [dir.unnamed_file().unwrap(), dir.file_without_its_name().unwrap()] {
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
            file.write_all(b"text").unwrap();
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "text");
        }
    }

    #[test]
    fn a_file_gets_its_first_name_only_where_it_never_had_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let file = dir.unnamed_file().unwrap();
        dir.name_file(OsStr::new("a"), &file).unwrap();
        assert!(root.path().join("a").is_file());
        let nameless = dir.file_without_its_name().unwrap();
        assert!(dir.name_file(OsStr::new("b"), &nameless).is_err());
    }

    #[test]
    fn a_directory_keeps_the_setgid_bit_that_it_inherits() {
        let root = tempfile::tempdir().unwrap();
        for (above, made) in [(0o755, 0o755), (0o2775, 0o2755)] {
            fs::set_permissions(root.path(), fs::Permissions::from_mode(above)).unwrap();
            let name = format!("{above:o}");
            Dir::open(root.path()).unwrap().make_dir(OsStr::new(&name)).unwrap();
            let mode = fs::metadata(root.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, made);
        }
    }

    #[test]
    fn a_tree_deeper_than_any_of_ours_is_refused_and_not_recursed_into() {
        let root = tempfile::tempdir().unwrap();
        let top = Dir::open(root.path()).unwrap();
        let name = OsStr::new("d");
        let mut inner = top.make_dir(name).unwrap();
        for _ in 0..20 {
            inner = inner.make_dir(name).unwrap();
        }
        assert!(top.remove_dir_within(name, 10).is_err());
        assert!(root.path().join("d/d").is_dir());
        top.remove_dir(name).unwrap();
        assert!(!root.path().join("d").exists());
    }
}
