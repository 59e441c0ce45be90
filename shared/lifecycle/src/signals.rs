//! SIGTERM and SIGINT: the first starts the ordered stop, a second one ends the process at once.

use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use crate::Deadline;

/// The exit code of a process that a second signal ended: its work failed.
const ENDED_AT_ONCE: i32 = 1;

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// From the kubelet.
    Terminate,
    /// From a person's Ctrl-C.
    Interrupt,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// The handlers, and the pipe that they wake. Make one a process, before any other work.
#[derive(Debug)]
pub struct Signals {
    pub(crate) wake: UnixStream,
    woken: UnixStream,
    first: Arc<AtomicUsize>,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The kernel refuses a socket pair or a handler.
    pub fn install() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        // Tokio's streams must be.
        wake.set_nonblocking(true)?;
        let seen = Arc::new(AtomicBool::new(false));
        let first = Arc::new(AtomicUsize::new(0));
        for signal in [SIGTERM, SIGINT] {
            // Handlers run in the order they were registered: this one sees the flag of an earlier signal only.
            flag::register_conditional_shutdown(signal, ENDED_AT_ONCE, Arc::clone(&seen))?;
            flag::register(signal, Arc::clone(&seen))?;
            flag::register_usize(signal, Arc::clone(&first), usize::try_from(signal).unwrap_or_default())?;
            pipe::register(signal, woken.try_clone()?)?;
        }
        Ok(Self { wake, woken, first })
    }

    /// Begins the stop as SIGTERM would, for one that was asked for in another way. A signal after it is still the
    /// first, and so does not end the process at once.
    pub fn begin_stop(&self) {
        let none = self.first.compare_exchange(
            0,
            usize::try_from(SIGTERM).unwrap_or_default(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if none.is_ok() {
            // A pipe that is full has woken everyone already.
            let _ = (&self.woken).write_all(&[0]);
        }
    }

    /// The signal that came, if one has.
    #[must_use]
    pub fn received(&self) -> Option<Signal> {
        match self.first.load(Ordering::Acquire) {
            0 => None,
            number if i32::try_from(number) == Ok(SIGINT) => Some(Signal::Interrupt),
            _ => Some(Signal::Terminate),
        }
    }

    /// Waits for a signal, at most until the deadline. Any number of threads may wait, and all of them wake: nobody
    /// reads the pipe.
    ///
    /// # Errors
    /// The pipe cannot be watched; the signal, if any, is then still told by [`received`](Self::received).
    pub fn wait(&self, deadline: Deadline) -> io::Result<Option<Signal>> {
        while self.received().is_none() && !deadline.expired() {
            // Rounded up, or the last millisecond would be spent in a busy loop.
            let left = deadline.remaining().as_millis().saturating_add(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.received())
    }

    /// Returns when a signal has come. Needs a running tokio runtime with I/O; any number of tasks may wait, beside
    /// threads that [`wait`](Self::wait).
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    #[cfg(feature = "async")]
    pub async fn come(&self) -> io::Result<Signal> {
        let wake = tokio::net::UnixStream::from_std(self.wake.try_clone()?)?;
        wake.readable().await?;
        self.received().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;
    use std::time::Duration;

    /// One test for all: the handlers are the process's.
    #[test]
    fn one_signal_wakes_all_that_wait() {
        let signals = Arc::new(Signals::install().unwrap());
        assert_eq!(signals.wait(Deadline::after(Duration::from_millis(5))).unwrap(), None);
        let waits: Vec<_> = (0..2)
            .map(|_| {
                let signals = Arc::clone(&signals);
                std::thread::spawn(move || signals.wait(Deadline::after(Duration::from_secs(30))).unwrap())
            })
            .collect();
        raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        for wait in waits {
            assert_eq!(wait.join().unwrap(), Some(Signal::Terminate));
        }
        #[cfg(feature = "async")]
        {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            assert_eq!(runtime.block_on(signals.come()).unwrap(), Signal::Terminate);
        }
    }
}
