//! podkit-ship as a process: real files, a real receiver, real signals.

#![expect(clippy::unwrap_used, reason = "a panic fails the test, as it should")]

mod config;
mod delivering;
mod following;
mod kills;
mod life;
mod receiver;
mod setup;
