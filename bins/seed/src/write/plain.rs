//! Real files, each put in its place by a rename, for apps that cannot follow links. Each file is the old one or the
//! new one at every moment; the names change one after the other.
//!
//! Before the first rename the state tells of all files, old and new: so a run that is killed leaves none of which the
//! next does not know that it is ours.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use super::Job;
use super::remember::Memory;
use super::stage::Stage;
use super::sync;
use crate::before::none_if_gone;
use crate::descent::Descent;
use crate::dir::Dir;
use crate::error::Error;
use crate::generation::DATA;
use crate::path::RelPath;

pub(super) fn apply(job: &Job<'_>, memory: &mut Memory<'_>) -> Result<(), Error> {
    let plan = job.plan;
    if !plan.stage.is_empty() {
        let stage = Stage::make(job)?;
        sync::with(job, |syncer| stage.fill(syncer))?;
        job.limits.check(|| "before the first file was put in its place".to_owned())?;
        memory.announce();
        job.remove(&plan.clear)?;
        job.target.keep();
        place(job, &stage.dir)?;
    }
    job.remove(&plan.remove)?;
    for name in &plan.unlink {
        job.step("remove", name, job.target.dir.unlink(name))?;
    }
    if plan.unlink_data {
        job.step("remove", DATA, job.target.dir.unlink(OsStr::new(DATA)))?;
    }
    sync_directories(job)
}

fn place(job: &Job<'_>, staged: &Dir) -> Result<(), Error> {
    let (mut from, mut into) = (Descent::new(staged), Descent::new(&job.target.dir));
    for path in &job.plan.stage {
        job.step("rename", path.as_path(), place_one(&mut from, &mut into, path))?;
    }
    Ok(())
}

fn place_one(from: &mut Descent<'_>, into: &mut Descent<'_>, path: &RelPath) -> io::Result<()> {
    let name = path.last();
    from.above(path)?.rename_into(name, into.make_above(path)?, name)
}

/// Waits until all renames and removals are on the disk, each directory once.
fn sync_directories(job: &Job<'_>) -> Result<(), Error> {
    let plan = job.plan;
    let changed = plan.stage.iter().chain(&plan.remove).chain(&plan.clear);
    let directories: BTreeSet<RelPath> = changed.flat_map(RelPath::parents).collect();
    sync::with(job, |syncer| {
        let mut descent = Descent::new(&job.target.dir);
        for path in &directories {
            // One that was removed itself has nothing to wait for.
            if let Some(dir) = none_if_gone(descent.at(path)).transpose() {
                syncer.directory(path.as_path().to_owned(), dir)?;
            }
        }
        syncer.directory(PathBuf::new(), Ok(&job.target.dir))
    })
}
