//! SIGTERM and SIGINT: the first starts the ordered stop, a second one ends the process at once.

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    first: Arc<AtomicUsize>,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The kernel refuses a socket pair or a handler.
    pub fn install() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        let seen = Arc::new(AtomicBool::new(false));
        let first = Arc::new(AtomicUsize::new(0));
        for signal in [SIGTERM, SIGINT] {
            // Handlers run in the order they were registered: this one sees the flag of an earlier signal only.
            flag::register_conditional_shutdown(signal, ENDED_AT_ONCE, Arc::clone(&seen))?;
            flag::register(signal, Arc::clone(&seen))?;
            flag::register_usize(signal, Arc::clone(&first), usize::try_from(signal).unwrap_or_default())?;
            pipe::register(signal, woken.try_clone()?)?;
        }
        Ok(Self { wake, first })
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

    /// Waits for a signal, at most until the deadline.
    ///
    /// # Errors
    /// The pipe cannot be read; the signal, if any, is then still told by [`received`](Self::received).
    pub fn wait(&self, deadline: Deadline) -> io::Result<Option<Signal>> {
        while self.received().is_none() && !deadline.expired() {
            self.wake
                .set_read_timeout(Some(deadline.remaining().max(std::time::Duration::from_millis(1))))?;
            match (&self.wake).read(&mut [0; 8]) {
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.received())
    }
}
