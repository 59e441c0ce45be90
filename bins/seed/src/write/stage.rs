//! A new directory that nobody looks into, and the files in it: whole, with mode and owner, and on the disk, before
//! anyone sees them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Job;
use super::sync::Syncer;
use crate::config::Owner;
use crate::content::{Body, Content};
use crate::descent::Descent;
use crate::dir::Dir;
use crate::error::Error;
use crate::generation;
use crate::path::RelPath;

/// Two runs may be given the same name only by a clock that stands still.
const NAME_ATTEMPTS: u32 = 100;

/// The directory; removed with all in it unless it is [kept](Self::keep).
pub(super) struct Stage<'a> {
    job: &'a Job<'a>,
    pub(super) name: OsString,
    pub(super) dir: Dir,
    is_kept: Cell<bool>,
}

impl<'a> Stage<'a> {
    pub(super) fn make(job: &'a Job<'a>) -> Result<Self, Error> {
        let mut now = SystemTime::now();
        for _ in 0..NAME_ATTEMPTS {
            let name = generation::name(now);
            match job.target.dir.make_dir(&name) {
                Ok(dir) => return Ok(Self { job, name, dir, is_kept: Cell::new(false) }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => now += Duration::from_nanos(1),
                Err(error) => return job.step("create", &name, Err(error)),
            }
        }
        job.step("create", generation::name(now), Err(io::ErrorKind::AlreadyExists.into()))
    }

    /// Writes the files of the plan, and hands them over to be brought to the disk.
    pub(super) fn fill(&self, syncer: &mut Syncer<'_, '_>) -> Result<(), Error> {
        let mut descent = Descent::new(&self.dir);
        for path in &self.job.plan.stage {
            let Some(content) = self.job.wanted.get(path) else { continue };
            self.job.limits.check(|| format!("before \"{path}\" was written"))?;
            let dir = self.job.step("create", path.as_path(), descent.make_above(path))?;
            let is_same = self.job.plan.is_same(path);
            // The same file under a second name: nothing is written, and it keeps its inode and its time.
            if is_same && self.job.before.link_into(dir, path).is_ok() {
                continue;
            }
            let file = self.job.step("write", path.as_path(), write(dir, path, content))?;
            self.finish(path, content, &file)?;
            if is_same && let Some(modified) = self.job.before.modified(path) {
                // No second name is given here: the time alone is kept, where it can be.
                let _ = file.set_modified(modified);
            }
            syncer.file(path.as_path().to_owned(), file)?;
        }
        Ok(())
    }

    /// Hands the directories over, each once.
    pub(super) fn sync_directories(&self, syncer: &mut Syncer<'_, '_>) -> Result<(), Error> {
        let directories: BTreeSet<RelPath> = self.job.plan.stage.iter().flat_map(RelPath::parents).collect();
        let mut descent = Descent::new(&self.dir);
        for path in &directories {
            syncer.directory(path.as_path().to_owned(), descent.at(path))?;
        }
        syncer.directory(self.name.clone().into(), Ok(&self.dir))
    }

    /// Mode and owner, on the open file: without the umask's say, and whatever happens to its name.
    fn finish(&self, path: &RelPath, content: &Content, file: &File) -> Result<(), Error> {
        let mode = Permissions::from_mode(content.mode);
        self.job.step("set the mode of", path.as_path(), file.set_permissions(mode))?;
        let Some(owner) = content.owner else { return Ok(()) };
        give(file, owner).map_err(|source| Error::Owner {
            path: path.to_string(),
            user: owner.user,
            group: owner.group,
            source,
        })
    }

    /// It is in force.
    pub(super) fn keep(&self) {
        self.is_kept.set(true);
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if !self.is_kept.get() {
            // What cannot be removed is invisible debris, which the next run removes.
            let _ = self.job.target.dir.remove_dir(&self.name);
        }
    }
}

/// Writes a file that only its owner can read yet.
fn write(dir: &Dir, path: &RelPath, content: &Content) -> io::Result<Arc<File>> {
    if let Body::Disk(file, length) = &content.body
        // It has no name yet, and so is ours alone: it gets this one, and not a byte is copied.
        && file.metadata().is_ok_and(|is| is.nlink() == 0 && is.len() == *length)
        && dir.name_file(path.last(), file).is_ok()
    {
        return Ok(Arc::clone(file));
    }
    let mut file = dir.make_file(path.last())?;
    content.body.write_to(&mut file)?;
    Ok(Arc::new(file))
}

/// Gives the file to its owner; asks for nothing where that is so already.
fn give(file: &File, owner: Owner) -> io::Result<()> {
    let is = file.metadata()?;
    if (is.uid(), is.gid()) == (owner.user, owner.group) {
        return Ok(());
    }
    fchown(file, Some(owner.user), Some(owner.group))
}
