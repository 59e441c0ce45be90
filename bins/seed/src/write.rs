//! Puts a new generation in force, as the kubelet's volume writer does (`pkg/volume/util/atomic_writer.go`), and
//! cleans up. The only module that changes the target.
//!
//! The one moment that counts is the rename of `..data`. All before it is invisible and is undone on failure; all
//! after it only removes what nobody sees any more. Unlike the kubelet, links to new names are made before the
//! rename, where they point nowhere yet: so new names appear, and old ones vanish, with that one rename.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::dir::Dir;
use crate::error::Error;
use crate::generation::{self, DATA, DATA_NEXT};
use crate::limits::Limits;
use crate::path::RelPath;
use crate::plan::{Content, Plan, Tree, visible_link};
use crate::target::Target;

/// How long the old generation stays after the rename. The kernel resolves `app.yaml -> ..data/app.yaml` name by
/// name, so a reader may have passed `..data` just before the rename and must still find its file; so must one that
/// holds the directory open to read several files of one generation.
const READERS_GRACE: Duration = Duration::from_millis(100);

/// Two runs may be given the same name only by a clock that stands still.
const NAME_ATTEMPTS: u32 = 100;

/// Carries out the plan.
///
/// # Errors
/// A step before the rename failed or was interrupted: it is undone. Or the disk could not confirm the rename.
pub(crate) fn apply(target: &Target, wanted: &Tree, plan: &Plan, limits: &Limits) -> Result<(), Error> {
    if plan.is_nothing() {
        return Ok(());
    }
    clean(target, plan, limits);
    if plan.rewrite || !plan.link.is_empty() {
        let mut undo = Undo { target, generation: None, next: false, links: Vec::new(), armed: true };
        prepare(target, wanted, plan, limits, &mut undo)?;
        undo.armed = false;
    }
    // From here on the new generation is in force.
    for name in &plan.unlink {
        step(target, "remove", name, target.dir.unlink(name))?;
    }
    step(target, "sync", "", target.dir.sync())?;
    if let (true, Some(old)) = (plan.rewrite, &plan.in_force) {
        limits.pause(READERS_GRACE);
        remove_generation(target, old);
    }
    Ok(())
}

/// All up to and including the rename.
fn prepare(
    target: &Target,
    wanted: &Tree,
    plan: &Plan,
    limits: &Limits,
    undo: &mut Undo<'_>,
) -> Result<(), Error> {
    if plan.rewrite {
        let (name, dir) = make_generation(target)?;
        undo.generation = Some(name);
        write_files(target, &dir, wanted, limits)?;
        sync_files(target, &dir, wanted, limits)?;
    }
    for name in &plan.link {
        step(target, "link", name, target.dir.make_link(name, visible_link(name).as_os_str()))?;
        undo.links.push(name.clone());
    }
    if let Some(generation) = &undo.generation {
        step(target, "link", DATA_NEXT, target.dir.make_link(OsStr::new(DATA_NEXT), generation))?;
        undo.next = true;
        // The generation and the links to it must be on the disk before the name that puts them in force.
        step(target, "sync", "", target.dir.sync())?;
        limits.check(|| "before the new generation was put in force".to_owned())?;
        let renamed = target.dir.rename(OsStr::new(DATA_NEXT), OsStr::new(DATA));
        step(target, "rename", DATA_NEXT, renamed)?;
    }
    Ok(())
}

fn make_generation(target: &Target) -> Result<(OsString, Dir), Error> {
    let mut now = SystemTime::now();
    for _ in 0..NAME_ATTEMPTS {
        let name = generation::name(now);
        match target.dir.make_dir(&name) {
            Ok(dir) => return Ok((name, dir)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => now += Duration::from_nanos(1),
            Err(error) => return step(target, "create", &name, Err(error)),
        }
    }
    step(target, "create", generation::name(now), Err(io::ErrorKind::AlreadyExists.into()))
}

fn write_files(target: &Target, generation: &Dir, wanted: &Tree, limits: &Limits) -> Result<(), Error> {
    for (path, content) in wanted {
        limits.check(|| format!("before \"{path}\" was written"))?;
        step(target, "write", path.as_path(), write_file(generation, path, content))?;
    }
    Ok(())
}

fn write_file(generation: &Dir, path: &RelPath, content: &Content) -> io::Result<()> {
    let mut above: Option<Dir> = None;
    for name in path.directories() {
        let dir = above.as_ref().unwrap_or(generation);
        above = Some(match dir.dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => dir.make_dir(name)?,
            opened => opened?,
        });
    }
    above.as_ref().unwrap_or(generation).make_file(path.last())?.write_all(&content.bytes)
}

/// Gives each file its mode and brings all to the disk, after all is written: so one commit of the file system's
/// journal serves many files, and each directory is synced once.
fn sync_files(target: &Target, generation: &Dir, wanted: &Tree, limits: &Limits) -> Result<(), Error> {
    let mut directories = BTreeSet::new();
    for (path, content) in wanted {
        limits.check(|| format!("before \"{path}\" was on the disk"))?;
        step(target, "sync", path.as_path(), finish_file(generation, path, content.mode))?;
        directories.extend(path.parents());
    }
    for path in &directories {
        let sync = descend(generation, path.names()).and_then(|dir| dir.map_or(Ok(()), |dir| dir.sync()));
        step(target, "sync", path.as_path(), sync)?;
    }
    step(target, "sync", "", generation.sync())
}

fn finish_file(generation: &Dir, path: &RelPath, mode: u32) -> io::Result<()> {
    let above = descend(generation, path.directories())?;
    let file = above.as_ref().unwrap_or(generation).file_to_finish(path.last())?;
    // On the open file, and so without the umask's say.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// The directory that the names lead to; `None` if there are no names.
fn descend<'a>(generation: &Dir, names: impl Iterator<Item = &'a OsStr>) -> io::Result<Option<Dir>> {
    let mut inner: Option<Dir> = None;
    for name in names {
        inner = Some(inner.as_ref().unwrap_or(generation).dir(name)?);
    }
    Ok(inner)
}

/// Removes what a killed run left behind. It is in nobody's way, so a failure here is not one of the run.
fn clean(target: &Target, plan: &Plan, limits: &Limits) {
    if plan.stale_next
        && let Err(error) = target.dir.unlink(OsStr::new(DATA_NEXT))
    {
        warn_left(target, DATA_NEXT, &error);
    }
    if !plan.debris.is_empty() {
        // One of them was in force until a moment ago if that run was killed right after its rename.
        limits.pause(READERS_GRACE);
    }
    for name in &plan.debris {
        tracing::info!(path = ?target.show(name), "removing what an earlier run left behind");
        remove_generation(target, name);
    }
}

fn remove_generation(target: &Target, name: &OsStr) {
    if let Err(error) = target.dir.remove_dir(name) {
        warn_left(target, name, &error);
    }
}

fn warn_left(target: &Target, name: impl AsRef<Path>, error: &io::Error) {
    tracing::warn!(path = ?target.show(name), error = podkit_cli::chain(error), "cannot remove; it is no longer used");
}

/// Names the step and the object of a failure.
fn step<T>(
    target: &Target,
    operation: &'static str,
    name: impl AsRef<Path>,
    result: io::Result<T>,
) -> Result<T, Error> {
    result.map_err(|source| Error::Write { operation, path: target.show(name), source })
}

/// Takes back what was done before the rename, unless the rename came about. What cannot be taken back is invisible
/// debris, which the next run removes.
struct Undo<'a> {
    target: &'a Target,
    generation: Option<OsString>,
    next: bool,
    links: Vec<OsString>,
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let dir = &self.target.dir;
        if self.next {
            let _ = dir.unlink(OsStr::new(DATA_NEXT));
        }
        for name in &self.links {
            let _ = dir.unlink(name);
        }
        if let Some(generation) = &self.generation {
            let _ = dir.remove_dir(generation);
        }
        if self.target.created {
            let _ = fs::remove_dir(self.target.show(""));
        }
    }
}
