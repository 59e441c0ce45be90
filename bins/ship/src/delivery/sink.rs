//! Where bodies go: one body, one answer. What the answer means is the format's to say.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use podkit_cli::chain;

use crate::delivery::format::{Answer, Why};
use crate::delivery::transport::{Received, Transport};
use crate::error::Error;

/// A destination, ready to take bodies.
pub(crate) enum Sink {
    Http(Box<Transport>),
    Stdout,
    File(Arc<Mutex<Appender>>),
}

impl Sink {
    /// Opens a file to append to; a line that a crash left without its end gets one.
    pub(crate) fn file(path: &Path) -> Result<Self, Error> {
        let appender =
            Appender::open(path).map_err(|source| Error::Write { path: path.to_owned(), source })?;
        Ok(Self::File(Arc::new(Mutex::new(appender))))
    }

    /// Whether a body may be on its way twice. What is written to a file or pipe would be there twice, one in the other.
    pub(crate) fn may_send_twice(&self) -> bool {
        matches!(self, Self::Http(_))
    }

    /// Sends a body.
    ///
    /// # Errors
    /// There is no answer, so nothing is known.
    pub(crate) async fn send(&self, body: Bytes) -> Result<Received, Why> {
        match self {
            Self::Http(transport) => transport.post(body).await,
            Self::Stdout => blocking("stdout", move || write_stdout(&body)).await,
            Self::File(appender) => {
                let appender = Arc::clone(appender);
                blocking("the file", move || {
                    appender.lock().unwrap_or_else(PoisonError::into_inner).append(&body)
                })
                .await
            }
        }
    }
}

/// A write may block for as long as the reader or the disk likes.
async fn blocking(
    what: &'static str,
    write: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<Received, Why> {
    let written =
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    match written {
        Ok(()) => Ok(Received { answer: Answer { status: 200, body: Vec::new() }, retry_after: None }),
        Err(error) => {
            Err(Why { reason: "write", message: format!("cannot write to {what}: {}", chain(&error)) })
        }
    }
}

/// Writes all of it, also where stdout is a pipe that somebody has set to non-blocking.
fn write_stdout(mut rest: &[u8]) -> io::Result<()> {
    let stdout = io::stdout();
    let descriptor = stdout.as_fd();
    while !rest.is_empty() {
        match nix::unistd::write(descriptor, rest) {
            Ok(written) => rest = &rest[written..],
            Err(nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::EAGAIN) => {
                let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLOUT)];
                nix::poll::poll(&mut descriptors, PollTimeout::NONE)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// A file that bodies are appended to, whole or not at all.
pub(crate) struct Appender {
    path: PathBuf,
    file: File,
}

impl Appender {
    fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileExt as _;
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        if let Some(last) = length.checked_sub(1) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, last)?;
            if byte != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends and syncs. A file that was rotated away is left; one of its name is made anew.
    fn append(&mut self, body: &[u8]) -> io::Result<()> {
        let own = self.file.metadata()?;
        let is_there = std::fs::metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
        if !is_there {
            *self = Self::open(&self.path)?;
        }
        let length = self.file.metadata()?.len();
        let written = self.file.write_all(body).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // It is sent again as a whole, so nothing of it may stay.
            let _ = self.file.set_len(length);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_ended_and_a_rotated_file_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "torn").unwrap();
        let mut appender = Appender::open(&path).unwrap();
        appender.append(b"a\n").unwrap();
        let old = dir.path().join("old");
        std::fs::rename(&path, &old).unwrap();
        appender.append(b"b\n").unwrap();
        assert_eq!(std::fs::read_to_string(old).unwrap(), "torn\na\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "b\n");
    }
}
