//! Where the log goes: the output of an exec hook is shown nowhere, so the lines go to the standard output of the
//! container's first process, where `kubectl logs` finds them.
//!
//! Decides only the target of our standard error; what is written, and how, is the business of `podkit_cli`. Wherever it
//! leads, we write without blocking: a pipe that is full must not hold a termination.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::dup2_stderr;
use podkit_lifecycle::Deadline;

/// The standard output of the container's first process.
const FIRST_PROCESS: &str = "/proc/1/fd/1";
/// What our standard error leads to.
const OWN: &str = "/proc/self/fd/2";

/// The log that was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log {path:?}")]
pub(crate) struct Unusable {
    path: PathBuf,
    source: io::Error,
}

/// Standard error leads to the log while this lives, and back to where it led when it is dropped: a failure's line
/// belongs to the caller of the hook too.
#[derive(Debug, Default)]
pub(crate) struct Log {
    before: Option<OwnedFd>,
    /// The log for programs: this one blocks, as they would take a pipe that is full for a failure.
    pub(crate) programs: Option<OwnedFd>,
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing is left to tell it to if this fails.
            let _ = dup2_stderr(before);
        }
    }
}

/// Leads standard error to `asked`, or where nothing was asked for, to the first process. Where that cannot be it stays,
/// and why it cannot is told for what was asked for; for the default that is nothing to speak of.
pub(crate) fn redirect(asked: Option<&Path>) -> (Log, Option<Unusable>) {
    let mut log = Log { before: None, programs: own().ok() };
    // Opened once more, for whoever else has this pipe has it as it is.
    if fs::metadata(OWN).is_ok_and(|own| own.file_type().is_fifo())
        && let Ok(again) = open(Path::new(OWN))
    {
        // It stays as it is if this fails.
        let _ = dup2_stderr(again);
    }
    let path = asked.unwrap_or(Path::new(FIRST_PROCESS));
    let led = open(path).and_then(|file| {
        if asked.is_none() && !is_shown(&file) {
            return Ok(());
        }
        let before = own()?;
        dup2_stderr(&file)?;
        log.before = Some(before);
        log.programs = Some(for_programs(path, file).into());
        Ok(())
    });
    let why = led.err().filter(|_| asked.is_some());
    (log, why.map(|source| Unusable { path: path.to_owned(), source }))
}

/// Standard error by another descriptor, one that no program gets besides its own.
fn own() -> io::Result<OwnedFd> {
    io::stderr().as_fd().try_clone_to_owned()
}

/// The same log, but one that blocks; not by changing `file`, which is ours.
fn for_programs(path: &Path, file: File) -> File {
    let opened = open(path).and_then(|again| {
        fcntl(&again, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
        Ok(again)
    });
    opened.unwrap_or(file)
}

/// Writes a line of its own to the log. A reader who is slow, or behind the output of a program, is waited for.
pub(crate) fn tell(log: &mut dyn Write, line: &str, patience: Duration) {
    const TURN: Duration = Duration::from_millis(5);
    let deadline = Deadline::after(patience);
    // One write if it may be: the log is the app's, too, and its lines are not to come between.
    let line = format!("{line}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match log.write(rest) {
            Ok(length) if length > 0 => rest = rest.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !deadline.expired() => {
                thread::sleep(TURN);
            }
            // A log that takes no more has nobody who could be told.
            _ => return,
        }
    }
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

    /// A pipe that has room for seven bytes at a time, and none every other time.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        is_full: bool,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.is_full = !self.is_full;
            if self.is_full {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = &bytes[..bytes.len().min(7)];
            self.taken.extend_from_slice(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_gets_the_whole_line_within_the_patience() {
        let mut slow = Slow::default();
        tell(&mut slow, "a line of the report", Duration::from_secs(20));
        assert_eq!(slow.taken, b"a line of the report\n");
        let mut slow = Slow::default();
        tell(&mut slow, "a line of the report", Duration::ZERO);
        assert_eq!(slow.taken, b"");
    }
}
