//! Drives the real podkit-seed: each file here is one side of what it promises.

#![expect(clippy::unwrap_used, reason = "a test whose sandbox fails should fail there")]

mod atomic;
mod command;
mod disk;
mod faults;
mod killed;
mod kit;
mod safety;
mod sources;
mod waiting;
mod writing;
