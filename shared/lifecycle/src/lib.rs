//! The life of a process in a pod: signals that start the ordered stop, deadlines, and the waits between retries.
//!
//! ```text
//!   SIGTERM, SIGINT ─► Signals ─► Stop ─► everything that must end
//!   a second one ────► the process ends at once
//! ```
//!
//! Works as PID 1, where the kernel drops signals without a handler. Nothing is done inside a signal handler but
//! setting a flag and waking a pipe.

mod backoff;
mod deadline;
mod files;
mod phase;
mod processes;
mod signals;
#[cfg(feature = "async")]
mod stop;

pub use backoff::Backoff;
pub use deadline::Deadline;
pub use files::raise_file_limit;
pub use phase::{Phase, SharedPhase};
pub use processes::Process;
pub use signals::{Signal, Signals};
#[cfg(feature = "async")]
pub use stop::Stop;
