//! Whether a program takes a file. The file has no name yet, so the program gets one of its open descriptor.
//!
//! `{}` becomes `/tmp/…/app.yaml`, a link to `/proc/PID/fd/N`: by its name, because programs tell formats by it, and to
//! memory, because a secret must not be on a disk and a killed run must leave nothing behind. Where no link can be
//! made, as on a read-only root, it is `/proc/PID/fd/N` itself. Standard input is the file too.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use podkit_cli::chain;
use podkit_cli::units::show_duration;

use super::{Failed, cut};
use crate::content::{Body, Content};
use crate::limits::Limits;
use crate::path::RelPath;
use crate::program::{self, Ended};

/// Runs the program. What it says is only told of a file that is not secret.
///
/// # Errors
/// It cannot be run, does not end with 0 or not in time, or the run is over.
pub(super) fn run(
    command: &[String],
    timeout: Duration,
    path: &RelPath,
    content: &Content,
    limits: &Limits,
) -> Result<(), Failed> {
    let Some((name, args)) = command.split_first() else { return Ok(()) };
    let cannot = |error: io::Error| format!("cannot hand the file to {name:?}: {}", chain(&error));
    let file = open(&content.body).map_err(cannot)?;
    let before = stamp(&file).map_err(cannot)?;
    let by_descriptor = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let named = Named::new(path, &by_descriptor);
    let shown = named.as_ref().map_or(by_descriptor.clone(), |named| named.link.display().to_string());
    // Opened anew: an offset of its own, and only for reading.
    let input = File::open(&by_descriptor).map_err(cannot)?;

    let mut command = Command::new(name);
    command.args(args.iter().map(|arg| arg.replace("{}", &shown)));
    let is_over = || limits.signals().received().is_some();
    let by = limits.deadline().within(timeout);
    let said = |said: Option<String>| match said {
        Some(_) if content.is_secret => ", and what it says is not shown, for the file is secret".to_owned(),
        Some(said) => format!(": {}", cut(&said)),
        None => String::new(),
    };
    let outcome = program::run(command, Stdio::from(input), by, is_over);
    close(&file, &content.body).map_err(cannot)?;
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("this image has no {name:?}").into())
        }
        Err(error) => Err(format!("cannot run {name:?}: {}", chain(&error)).into()),
        Ok(Ended::Killed { .. }) if is_over() || limits.deadline().expired() => Err(Failed::Ended),
        Ok(Ended::Killed { said: last }) => {
            let timeout = show_duration(timeout);
            Err(format!("{name:?} did not end within {timeout}{}", said(last)).into())
        }
        Ok(Ended::Itself { status, .. }) if status.success() => {
            if stamp(&file).map_err(cannot)? == before {
                return Ok(());
            }
            Err(format!("{name:?} has changed the file, and a check must not").into())
        }
        Ok(Ended::Itself { status, said: last }) => {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit code {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => "failed".to_owned(),
            };
            Err(format!("{name:?} {how}{}", said(last)).into())
        }
    }
}

/// An open file with the content, which nobody but root can change. What is in force is copied, for the app uses it.
fn open(body: &Body) -> io::Result<Arc<File>> {
    if let Body::Disk(file, _) = body {
        file.set_permissions(Permissions::from_mode(0o400))?;
        return Ok(Arc::clone(file));
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("podkit-seed-check", flags)?);
    io::copy(&mut body.reader(), &mut file)?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(Arc::new(file))
}

/// Gives the file back as it was spooled, whose writer gives it its mode.
fn close(file: &File, body: &Body) -> io::Result<()> {
    match body {
        Body::Disk(..) => file.set_permissions(Permissions::from_mode(0o600)),
        _ => Ok(()),
    }
}

/// What changes with the content.
fn stamp(file: &File) -> io::Result<(u64, i64, i64)> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// A private directory with a link of the file's name, for as long as the program runs.
struct Named {
    dir: PathBuf,
    link: PathBuf,
}

impl Named {
    fn new(path: &RelPath, to: &str) -> Option<Self> {
        /// Entries may one day be checked side by side.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("podkit-seed-{}-{number}", std::process::id()));
        // What is there already is not ours: fails.
        DirBuilder::new().mode(0o700).create(&dir).ok()?;
        let link = dir.join(path.last());
        // Owned before the link is made, so that it goes if that fails.
        let named = Self { dir, link };
        symlink(to, &named.link).ok()?;
        Some(named)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
        let _ = fs::remove_dir(&self.dir);
    }
}
