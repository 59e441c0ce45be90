//! Links into a generation, as the kubelet's volume writer makes them (`pkg/volume/util/atomic_writer.go`).
//!
//! The one moment that counts is the rename of `..data`. All before it is invisible and is undone on failure; all
//! after it only removes what nobody sees any more. Unlike the kubelet, links to new names are made before the
//! rename, where they point nowhere yet: so new names appear, and old ones vanish, with that one rename.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use super::Job;
use super::stage::Stage;
use super::sync;
use crate::dir::Kind;
use crate::error::Error;
use crate::generation::{DATA, DATA_NEXT, LINK_NEXT};
use crate::plan::visible_link;

pub(super) fn apply(job: &Job<'_>) -> Result<(), Error> {
    let mut undo = Undo { job, next: false, links: Vec::new(), armed: true };
    prepare(job, &mut undo)?;
    undo.armed = false;
    // From here on the new generation is in force.
    job.remove(&job.plan.clear)?;
    for name in &job.plan.convert {
        job.step("link", name, convert(job, name))?;
    }
    job.remove(&job.plan.remove)?;
    for name in &job.plan.unlink {
        job.step("remove", name, job.target.dir.unlink(name))?;
    }
    job.sync_target()
}

/// All up to and including the rename.
fn prepare(job: &Job<'_>, undo: &mut Undo<'_>) -> Result<(), Error> {
    let dir = &job.target.dir;
    // All of it must be on the disk before the name that puts it in force.
    let stage = sync::with(job, |syncer| {
        let stage = if job.plan.rewrite {
            let stage = Stage::make(job)?;
            stage.fill(syncer)?;
            stage.sync_directories(syncer)?;
            Some(stage)
        } else {
            None
        };
        for name in &job.plan.link {
            job.step("link", name, dir.make_link(name, visible_link(name).as_os_str()))?;
            undo.links.push(name.clone());
        }
        if let Some(stage) = &stage {
            job.step("link", DATA_NEXT, dir.make_link(OsStr::new(DATA_NEXT), &stage.name))?;
            undo.next = true;
        }
        syncer.directory(PathBuf::new(), Ok(dir))?;
        Ok(stage)
    })?;
    let Some(stage) = stage else { return Ok(()) };
    job.limits.check(|| "before the new generation was put in force".to_owned())?;
    job.step("rename", DATA_NEXT, dir.rename(OsStr::new(DATA_NEXT), OsStr::new(DATA)))?;
    stage.keep();
    Ok(())
}

/// Puts the link in the place of what the plain layout had there: of a file by one rename, so that there always is one.
fn convert(job: &Job<'_>, name: &OsStr) -> io::Result<()> {
    let dir = &job.target.dir;
    let to = visible_link(name);
    if dir.kind(name)? == Some(Kind::Directory) {
        dir.remove_empty_dir(name)?;
        return dir.make_link(name, to.as_os_str());
    }
    dir.make_link(OsStr::new(LINK_NEXT), to.as_os_str())?;
    dir.rename(OsStr::new(LINK_NEXT), name)
}

/// Takes back the links that were made before the rename, unless the rename came about.
struct Undo<'a> {
    job: &'a Job<'a>,
    next: bool,
    links: Vec<OsString>,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let dir = &self.job.target.dir;
        if self.next {
            let _ = dir.unlink(OsStr::new(DATA_NEXT));
        }
        for name in &self.links {
            let _ = dir.unlink(name);
        }
    }
}
