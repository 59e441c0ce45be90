//! podkit-ship: follows the log files of an app on a shared volume and delivers every line.
//!
//! ```text
//!            watch ──► session: the main loop ──► catalog: which files, which generations      (files)
//!                         │              │
//!   signals, flush, ──────┘              ▼ one pipeline for each destination
//!   new config (ship)                 reader ─► lines ─► groups ─► events ─► filter ─► batch    (reading, event, filter)
//!                                        ▲                                               │
//!                                        │                                               ▼
//!   checkpoint ◄── position moves ◄── acknowledged, or a dead letter ◄── format ─► send, retry  (delivery)
//! ```
//!
//! The file is the buffer: a position moves only when the backend has acknowledged, and what is not acknowledged
//! is read again. Everything but the admin port runs on one thread.

mod checkpoint;
mod config;
mod delivery;
mod done;
mod error;
mod event;
mod files;
mod filter;
mod instance;
mod ledger;
mod metrics;
mod reading;
mod resend;
mod sample;
mod session;
mod ship;

use std::ffi::OsString;

use podkit_cli::{Exit, Failure, Tool, Verb, Work};

use config::Config;

/// The command line of podkit-ship.
pub static TOOL: Tool = Tool {
    name: "ship",
    about: "Follows the log files that an app writes on a shared volume, and delivers every line",
    examples: "  Follow all logs of the app and send them as NDJSON:
    podkit-ship --include '/var/log/app/*.log' --to http://sink:8080/logs
  Print them on stdout, for the node's log collector:
    podkit-ship --include '/var/log/app/**/*.log' --to stdout:
  Read to the end, deliver, exit (for Jobs):
    podkit-ship --once --include '/work/*.log' --to http://sink:8080/logs
  Check a config file and print the settings in force:
    podkit-ship check --config ship.yaml
  Print the requests that the lines of a sample would make:
    podkit-ship check --config ship.yaml --file sample.log
  What is delivered and what is not:
    podkit-ship status
",
    flags: config::FLAGS,
    verbs: &[
        Verb::Status,
        Verb::Probe,
        Verb::Own { name: "resend", about: "Send the dead letters of a file again", argument: Some("FILE") },
    ],
    admin: Some("0.0.0.0:9801"),
    termination_message: true,
};

/// Runs one call of podkit-ship.
///
/// # Errors
/// What ended it, with its exit code: bad settings, a state directory that cannot be written, an admin port in use,
/// or lines that were not acknowledged before the stop's deadline.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Failure> {
    podkit_cli::dispatch_work(&TOOL, args, Config::read, |work| match work {
        Work::Run(loaded) => ship::run(loaded),
        Work::Check(loaded) => {
            sample::run(&loaded.config, loaded.flags.get(config::SAMPLE).unwrap_or_default())
        }
        Work::Own(_, file, loaded) => resend::run(&loaded.config, file),
    })
}
