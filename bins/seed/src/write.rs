//! Puts what is wanted in force and cleans up. The only module that changes the target.
//!
//! ```text
//!   debris removed ─► stage: new files in a directory that nobody looks into ─► links: one rename of `..data`
//!                                                                           └─► plain: one rename a file
//!                                    ─► what is no longer listed goes ─► state remembered ─► old generation removed
//! ```
//!
//! A failure before the first rename leaves what was there; a kill at any moment, old files or new ones, each whole,
//! and the next run completes it.

mod links;
mod plain;
mod remember;
mod stage;
mod sync;

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::before::Before;
use crate::config::Layout;
use crate::content::Tree;
use crate::descent::Descent;
use crate::dir::Kind;
use crate::error::Error;
use crate::limits::Limits;
use crate::path::RelPath;
use crate::plan::Plan;
use crate::state::Notes;
use crate::target::Target;
use remember::Memory;

/// How long the old generation stays after the rename. The kernel resolves `app.yaml -> ..data/app.yaml` name by
/// name, so a reader may have passed `..data` just before the rename and must still find its file; so must one that
/// holds the directory open to read several files of one generation.
const READERS_GRACE: Duration = Duration::from_millis(100);

/// All that a plan is carried out with.
pub(crate) struct Job<'a> {
    pub(crate) target: &'a Target,
    pub(crate) before: &'a Before,
    pub(crate) wanted: &'a Tree,
    pub(crate) notes: &'a Notes,
    pub(crate) plan: &'a Plan,
    pub(crate) layout: Layout,
    /// Whether all must be on the disk before it is in force.
    pub(crate) durable: bool,
    pub(crate) limits: &'a Limits,
}

/// Carries out the plan.
///
/// # Errors
/// A step before the first rename failed or was interrupted: it is undone. Or a later one failed: the next run
/// completes it.
pub(crate) fn apply(job: &Job<'_>) -> Result<(), Error> {
    let mut memory = Memory::of(job);
    if !job.plan.is_nothing() {
        job.clean();
        match job.layout {
            Layout::Links => links::apply(job)?,
            Layout::Plain => plain::apply(job, &mut memory)?,
        }
    }
    job.target.keep();
    memory.finish();
    if let (true, Some(old)) = (job.plan.rewrite, &job.plan.in_force) {
        job.limits.pause(READERS_GRACE);
        job.remove_debris(old);
    }
    Ok(())
}

impl Job<'_> {
    /// Removes what a killed run left behind. It is in nobody's way, so a failure here is not one of the run.
    fn clean(&self) {
        for name in &self.plan.stale {
            if let Err(error) = self.target.dir.unlink(name) {
                self.warn_left(name, &error);
            }
        }
        if !self.plan.debris.is_empty() {
            // One of them was in force until a moment ago if that run was killed right after its rename.
            self.limits.pause(READERS_GRACE);
        }
        for name in &self.plan.debris {
            tracing::info!(path = ?self.target.show(name), "removing what an earlier run left behind");
            self.remove_debris(name);
        }
    }

    fn remove_debris(&self, name: &OsStr) {
        let dir = &self.target.dir;
        let removed = match dir.kind(name) {
            Ok(Some(Kind::Directory)) => dir.remove_dir(name),
            Ok(Some(_)) => dir.unlink(name),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            self.warn_left(name, &error);
        }
    }

    fn warn_left(&self, name: impl AsRef<Path>, error: &io::Error) {
        let path = self.target.show(name);
        tracing::warn!(?path, error = podkit_cli::chain(error), "cannot remove; it is no longer used");
    }

    /// Removes files, links and directories of ours from their places, in the order given.
    fn remove(&self, paths: &[RelPath]) -> Result<(), Error> {
        let mut descent = Descent::new(&self.target.dir);
        for path in paths {
            self.step("remove", path.as_path(), remove_one(&mut descent, path))?;
        }
        Ok(())
    }

    /// Waits until the entries of the target's own directory are on the disk, where that is wanted.
    fn sync_target(&self) -> Result<(), Error> {
        if !self.durable {
            return Ok(());
        }
        self.step("sync", "", self.target.dir.sync())
    }

    /// Names the step and the object of a failure.
    fn step<T>(
        &self,
        operation: &'static str,
        name: impl AsRef<Path>,
        result: io::Result<T>,
    ) -> Result<T, Error> {
        result.map_err(|source| Error::Write { operation, path: self.target.show(name), source })
    }
}

fn remove_one(descent: &mut Descent<'_>, path: &RelPath) -> io::Result<()> {
    let (dir, name) = (descent.above(path)?, path.last());
    match dir.kind(name)? {
        None => Ok(()),
        Some(Kind::Directory) => match dir.remove_empty_dir(name) {
            // Others have put something into it: it is theirs now.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => removed,
        },
        Some(_) => dir.unlink(name),
    }
}
