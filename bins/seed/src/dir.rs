//! A directory held open, and single names in it: the only way this crate touches the target.
//!
//! Every call works on one name relative to an open directory and never follows a symlink, so nothing that another
//! process plants in the target can lead a read or a write out of it. Chosen over `openat2(RESOLVE_BENEATH)` because
//! it works the same on every kernel and under every seccomp profile.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::unistd::UnlinkatFlags;

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

    /// Makes the directory `name`, which must not exist, and opens it.
    pub(crate) fn make_dir(&self, name: &OsStr) -> io::Result<Self> {
        nix::sys::stat::mkdirat(&self.fd, name, DIRECTORY_MODE)?;
        let opened = self.dir(name).and_then(|dir| {
            // The umask has cut the mode.
            nix::sys::stat::fchmod(&dir.fd, DIRECTORY_MODE)?;
            Ok(dir)
        });
        if opened.is_err() {
            // What the caller does not get, the caller cannot remove.
            let _ = nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir);
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

    /// Opens a file that [`make_file`](Self::make_file) made in this run, to give it its mode and sync it.
    pub(crate) fn file_to_finish(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(nix::fcntl::openat(&self.fd, name, flags, Mode::empty())?.into())
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
        Ok(nix::fcntl::renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Removes the file or link `name`.
    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes the directory `name` with all that is in it; links are removed, not followed.
    pub(crate) fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        let inside = self.dir(name)?;
        for (entry, kind) in inside.entries()? {
            match kind {
                Kind::Directory => inside.remove_dir(&entry)?,
                Kind::File | Kind::Link | Kind::Other => inside.unlink(&entry)?,
            }
        }
        Ok(nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)?)
    }

    /// What the name stands for, if there is anything.
    pub(crate) fn kind(&self, name: &OsStr) -> io::Result<Option<Kind>> {
        match nix::sys::stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(kind(&stat))),
            Err(nix::errno::Errno::ENOENT) => Ok(None),
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

fn kind(stat: &FileStat) -> Kind {
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFLNK => Kind::Link,
        _ => Kind::Other,
    }
}
