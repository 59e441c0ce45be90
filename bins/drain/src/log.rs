//! Where the log goes: the output of an exec hook is shown nowhere, so the lines go to the standard output of the
//! container's first process, where `kubectl logs` finds them.
//!
//! Decides only the target of our standard error; what is written, and how, is the business of `podkit_cli`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::{dup, dup2_stderr};

use crate::error::Error;

/// The standard output of the container's first process.
const FIRST_PROCESS: &str = "/proc/1/fd/1";

/// Standard error leads to the log while this lives, and back to where it led when it is dropped: a failure's line
/// belongs to the caller of the hook too.
#[derive(Debug)]
pub(crate) struct Redirected(OwnedFd);

impl Redirected {
    fn to(file: &File) -> nix::Result<Self> {
        let before = dup(io::stderr().as_fd())?;
        dup2_stderr(file)?;
        Ok(Self(before))
    }
}

impl Drop for Redirected {
    fn drop(&mut self) {
        // Nothing is left to tell it to if this fails.
        let _ = dup2_stderr(&self.0);
    }
}

/// Leads standard error to `asked`, or where nothing was asked for, to the first process. `None` if it stays.
///
/// # Errors
/// What was asked for cannot be opened. Never for the default: then standard error is the log, without a word.
pub(crate) fn redirect(asked: Option<&Path>) -> Result<Option<Redirected>, Error> {
    let (path, file) = match asked {
        Some(path) => {
            (path.to_owned(), open(path).map_err(|source| Error::Log { path: path.to_owned(), source })?)
        }
        None => match open(Path::new(FIRST_PROCESS)) {
            Ok(file) if is_shown(&file) => (PathBuf::from(FIRST_PROCESS), file),
            _ => return Ok(None),
        },
    };
    Redirected::to(&file).map(Some).map_err(|errno| Error::Log { path, source: errno.into() })
}

/// Without blocking: nobody may read the first process's pipe any more, and a full pipe must not hold a termination.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// `pause`, the first process of a shared process namespace, writes to `/dev/null`; so do many init systems.
fn is_shown(file: &File) -> bool {
    let device = |meta: fs::Metadata| meta.file_type().is_char_device().then(|| meta.rdev());
    let nowhere = fs::metadata("/dev/null").ok().and_then(device);
    file.metadata().is_ok_and(|meta| device(meta).is_none_or(|own| nowhere != Some(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_process_that_writes_to_nowhere_is_not_a_log() {
        assert!(!is_shown(&open(Path::new("/dev/null")).unwrap()));
        assert!(is_shown(&tempfile::tempfile().unwrap()));
    }

    #[test]
    fn what_was_asked_for_and_cannot_be_opened_is_named() {
        let error = redirect(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert_eq!(
            podkit_cli::chain(&error),
            "cannot open the log \"/nowhere/at/all\": no such file or directory"
        );
    }
}
