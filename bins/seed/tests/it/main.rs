//! Drives the real podkit-seed: each file here is one side of what it promises.

#![expect(clippy::unwrap_used, reason = "a test whose sandbox fails should fail there")]

mod archive_faults;
mod archives;
mod atomic;
mod check_faults;
mod checks;
mod command;
mod disk;
mod downloads;
mod dry_run;
mod faults;
mod full;
mod killed;
mod killed_at_steps;
mod kit;
mod notifying;
mod owners;
mod packed;
mod plain;
mod reference;
mod safety;
mod server;
mod sources;
mod template_faults;
mod templates;
mod wait_faults;
mod waiting;
mod watcher;
mod watching;
mod writing;
