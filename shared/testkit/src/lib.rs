//! Drives the real binaries in tests: starts them, talks to them, and explains a failure by itself.
//!
//! ```text
//!   pod("drain").args([...]) ─► Run ─► start() ─► Process ─► wait() ─► Finished.expect_exit(75)
//!   eventually("the port is open", || ...)        events, awaited with a deadline
//! ```
//!
//! For tests only: everything here panics where a test should fail.

#![cfg_attr(
    feature = "tls",
    expect(clippy::unwrap_used, reason = "certificates that cannot be made fail the test")
)]

mod http;
mod neighbour;
mod port;
mod possible;
mod process;
mod recorder;
#[cfg(feature = "tls")]
mod tls;

use std::time::{Duration, Instant};

pub use http::{Reply, http};
pub use neighbour::neighbour;
pub use port::free_port;
pub use possible::is_possible;
pub use process::{Finished, Process, Run, Signal, pod, program};
pub use recorder::Recorder;
#[cfg(feature = "tls")]
pub use tls::{Authority, Identity};

/// How long a test waits for something that should happen: far longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns what `look` finds, asking again until it finds something.
///
/// # Panics
/// When nothing is found for [`PATIENCE`]; the message names `what`.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    /// Short enough not to slow a test, long enough to leave the processor to what it waits for.
    const PAUSE: Duration = Duration::from_millis(10);
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}
