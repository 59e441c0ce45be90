//! The target directory: opened once, locked, and looked at. [`crate::write`] changes it.
//!
//! The path to the target is the user's own and may go through links or be a mount; below it no link is followed.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::before::Before;
use crate::config::Layout;
use crate::content::Tree;
use crate::dir::{Dir, Kind};
use crate::error::Error;
use crate::limits::Limits;
use crate::look;
use crate::plan::{self, InTheWay, Name, Names, Plan};

/// How often a lock that another run holds is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The target, open and ours alone.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    pub(crate) dir: Arc<Dir>,
    /// Whether this run made the directory and nothing is in force in it yet.
    provisional: AtomicBool,
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
        Ok(Self { path: path.to_owned(), dir: Arc::new(dir), provisional: created.into(), _lock: lock })
    }

    /// Opens the target to look at it, without a lock; nothing where it is not there.
    ///
    /// # Errors
    /// It is no directory, or may not be read.
    pub(crate) fn look(path: &Path) -> Result<Option<Self>, Error> {
        match Dir::open(path) {
            Ok(dir) => {
                let provisional = AtomicBool::new(false);
                Ok(Some(Self { path: path.to_owned(), dir: Arc::new(dir), provisional, _lock: None }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Target { path: path.to_owned(), source }),
        }
    }

    /// The directory stays, also if this run made it.
    pub(crate) fn keep(&self) {
        self.provisional.store(false, Ordering::Relaxed);
    }

    /// As configured.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path in the target, for messages.
    pub(crate) fn show(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Looks at what is there and plans how to get to what is wanted.
    ///
    /// # Errors
    /// The disk, or something that is not ours and in the way.
    pub(crate) fn plan(&self, wanted: &Tree, before: &Before, layout: Layout) -> Result<Plan, Error> {
        let cannot_read = |source| Error::Target { path: self.path.clone(), source };
        let names = self.names().map_err(cannot_read)?;
        let found = look::found(&self.dir, wanted, &before.state, layout).map_err(cannot_read)?;
        let seen = match plan::in_force(&names).map_err(|found| self.in_the_way(found))? {
            Some(name) => look::generation(&self.dir, name, wanted).map_err(cannot_read)?,
            None => look::files(&found),
        };
        let plan = match layout {
            Layout::Links => plan::links(wanted, &names, &seen, &found, &before.state),
            Layout::Plain => plan::plain(wanted, &names, &seen, &found, &before.state),
        };
        plan.map_err(|found| self.in_the_way(found))
    }

    /// The generation in force, open, if there is one.
    ///
    /// # Errors
    /// The disk, or a `..data` that is not ours.
    pub(crate) fn generation(&self) -> Result<Option<Dir>, Error> {
        let cannot_read = |source| Error::Target { path: self.path.clone(), source };
        let names = self.names().map_err(cannot_read)?;
        let in_force = plan::in_force(&names).map_err(|found| self.in_the_way(found))?;
        in_force.map(|name| self.dir.dir(name)).transpose().map_err(cannot_read)
    }

    fn in_the_way(&self, found: InTheWay) -> Error {
        Error::InTheWay { path: self.show(found.name), what: found.what }
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
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.provisional.load(Ordering::Relaxed) {
            // Fails where there is something in it, and then it is of use to someone.
            let _ = fs::remove_dir(&self.path);
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
