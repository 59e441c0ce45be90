//! The target directory: opened once, locked, and looked at. [`crate::write`] changes it.
//!
//! The path to the target is the user's own and may go through links or be a mount; below it no link is followed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::dir::{Dir, Kind};
use crate::error::Error;
use crate::limits::Limits;
use crate::path::RelPath;
use crate::plan::{self, Content, InTheWay, Name, Names, Plan, Seen, SeenTree, Tree};

/// How often a lock that another run holds is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The target, open and ours alone.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    pub(crate) dir: Dir,
    /// Whether this run made the directory.
    pub(crate) created: bool,
    /// Held until the run ends; `None` on file systems without locks.
    _lock: Option<Flock<OwnedFd>>,
}

/// Whether the target can be used, so far as looking tells: before anything is waited for.
///
/// # Errors
/// It is no directory, or neither it nor its parent is there.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    let opened = match Dir::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Dir::open(parent(path)),
        opened => opened,
    };
    opened.map(drop).map_err(|source| Error::Target { path: path.to_owned(), source })
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

impl Target {
    /// Opens the target and makes it ours; creates it if only its last name is missing.
    ///
    /// # Errors
    /// It cannot be opened or created, or another run holds it until the deadline.
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self, Error> {
        let failed = |source| Error::Target { path: path.to_owned(), source };
        let created = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            // It may be there all the same, on a file system that refuses before it looks.
            Err(error) => {
                Dir::open(path).map_err(|_| failed(error))?;
                false
            }
        };
        let dir = Dir::open(path).map_err(failed)?;
        let lock = lock(&dir, path, limits)?;
        Ok(Self { path: path.to_owned(), dir, created, _lock: lock })
    }

    /// A path in the target, for messages.
    pub(crate) fn show(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Looks at what is there and plans how to get to what is wanted.
    ///
    /// # Errors
    /// The disk, or something that is not ours and in the way.
    pub(crate) fn plan(&self, wanted: &Tree) -> Result<Plan, Error> {
        let in_the_way = |found: InTheWay| Error::InTheWay { path: self.show(found.name), what: found.what };
        let cannot_read = |source| Error::Target { path: self.path.clone(), source };
        let names = self.names().map_err(cannot_read)?;
        let seen = match plan::in_force(&names).map_err(in_the_way)? {
            Some(generation) => self.seen(generation, wanted).map_err(cannot_read)?,
            None => SeenTree::new(),
        };
        plan::plan(wanted, &names, &seen).map_err(in_the_way)
    }

    fn names(&self) -> io::Result<Names> {
        let mut names = Names::new();
        for (name, kind) in self.dir.entries()? {
            let what = match kind {
                Kind::Link => Name::Link(self.dir.link(&name)?),
                other => Name::Entry(other),
            };
            names.insert(name, what);
        }
        Ok(names)
    }

    fn seen(&self, generation: &OsStr, wanted: &Tree) -> io::Result<SeenTree> {
        let mut seen = SeenTree::new();
        compare(&self.dir.dir(generation)?, None, wanted, &mut seen)?;
        Ok(seen)
    }
}

/// Compares the files below `dir` with what is wanted there.
fn compare(dir: &Dir, at: Option<&RelPath>, wanted: &Tree, seen: &mut SeenTree) -> io::Result<()> {
    for (name, kind) in dir.entries()? {
        let path = match at {
            Some(at) => at.join(&name),
            None => RelPath::parse(Path::new(&name)),
        };
        // A path that we would not have written: it goes with its generation, and is no file of ours to tell of.
        let Ok(path) = path else { continue };
        match kind {
            Kind::Directory => compare(&dir.dir(&name)?, Some(&path), wanted, seen)?,
            Kind::File => {
                let found = match dir.file(&name).and_then(|file| look(file, wanted.get(&path))) {
                    // A file that we may not read cannot be known to be the same.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        Seen { size: 0, same: false }
                    }
                    found => found?,
                };
                seen.insert(path, found);
            }
            Kind::Link | Kind::Other => {
                seen.insert(path, Seen { size: 0, same: false });
            }
        }
    }
    Ok(())
}

fn look(mut file: File, wanted: Option<&Content>) -> io::Result<Seen> {
    let metadata = file.metadata()?;
    let size = metadata.len();
    let same = match wanted {
        Some(wanted)
            if size == wanted.bytes.len() as u64 && metadata.permissions().mode() & 0o7777 == wanted.mode =>
        {
            same_bytes(&mut file, &wanted.bytes)?
        }
        _ => false,
    };
    Ok(Seen { size, same })
}

/// Compares piece by piece, so that a large file is not held in memory twice.
fn same_bytes(file: &mut File, mut wanted: &[u8]) -> io::Result<bool> {
    let mut piece = [0; 16 * 1024];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(wanted.is_empty()),
            Ok(read) => match wanted.strip_prefix(&piece[..read]) {
                Some(rest) => wanted = rest,
                None => return Ok(false),
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes the lock on the directory itself, so no lock file is left behind; the kernel frees it with the process.
/// With it, a generation that is not in force is known to be debris and not another run's work.
fn lock(dir: &Dir, path: &Path, limits: &Limits) -> Result<Option<Flock<OwnedFd>>, Error> {
    let mut fd = dir.duplicate().map_err(|source| Error::Target { path: path.to_owned(), source })?;
    let mut told = false;
    loop {
        match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((same, Errno::EWOULDBLOCK)) => {
                fd = same;
                if !told {
                    tracing::info!(target = ?path, "another podkit-seed is at work here; waiting for it");
                    told = true;
                }
                limits.check(|| format!("while another podkit-seed was at work in {path:?}"))?;
                limits.pause(LOCK_PAUSE);
            }
            Err((same, Errno::EINTR)) => fd = same,
            Err((_, error)) => {
                tracing::debug!(target = ?path, %error, "no lock on this file system; going on without");
                return Ok(None);
            }
        }
    }
}
