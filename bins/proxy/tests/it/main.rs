//! The real `podkit-proxy` between real sockets: what clients get, and what reaches a byte-recording origin.
#![expect(clippy::unwrap_used, reason = "a test's helper may fail the test")]

mod carrying;
mod command_line;
mod drain;
mod faults;
mod load;
mod safety;
mod stop;
mod support;
mod tcp;
mod telling;
