//! Contract 1 for all four binaries: from what was typed to a checked config, and from an outcome to an exit code.
//!
//! ```text
//!   arguments ──┐
//!   environment ┼─► command ─► Call ─► settings ─► Section ─► the binary's Config ─► run | check
//!   YAML file ──┘   (clap)             (layers)    (faults)
//!
//!   Result<Exit, Failure> ─► report ─► stderr, /dev/termination-log, exit code
//! ```
//!
//! A value given by flag wins over the environment, which wins over the file, which wins over the default.
//! Every fault of a config is collected before anything is said.

mod ask;
mod command;
mod effective;
mod expand;
mod failure;
mod fault;
mod install;
mod logging;
mod section;
mod settings;
mod yaml;

pub mod units;

use std::ffi::OsString;
use std::io::Write as _;

pub use command::{Flag, Tool, Verb};
pub use effective::{Effective, mask_url};
pub use failure::{Exit, Failure, Report, chain, report};
pub use fault::Invalid;
pub use section::{Item, Section};

use command::{Call, Parsed, Task};

/// Runs one call of a binary: parses the command line, reads the config through `read`, and then does what was
/// asked for: `run` the binary's work, or one of the verbs that all binaries share.
///
/// `read` collects its faults in the section and may return `None` where it could not build a config; it must not
/// return `None` without a fault.
///
/// # Errors
/// A [`Failure`] with the exit code and the lines to print; faults of the command line or config have
/// [`Exit::Usage`].
pub fn dispatch<C: Effective>(
    tool: &'static Tool,
    args: impl IntoIterator<Item = OsString>,
    read: impl FnOnce(&Section<'_>) -> Option<C>,
    run: impl FnOnce(C) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let call = match command::parse(tool, args)? {
        Parsed::Call(call) => call,
        Parsed::Text(text) => {
            return print(&text);
        }
    };
    match &call.task {
        Task::Run => {
            let (config, log) = load(tool, &call, read)?;
            logging::init(log);
            run(config)
        }
        Task::Check => {
            let (config, log) = load(tool, &call, read)?;
            let mut settings = config.effective();
            if let serde_json::Value::Object(settings) = &mut settings {
                settings.extend(log.effective());
            }
            print(&effective::to_yaml(&settings))
        }
        Task::Status => {
            let status = settings::admin_only(tool, &call).and_then(ask::status);
            print(&status.map_err(Failure::of_question)?)
        }
        Task::Probe(probe) => {
            let answer = settings::admin_only(tool, &call).and_then(|admin| ask::probe(admin, probe));
            answer.map_err(Failure::of_question)
        }
        Task::Install(dir) => {
            let path = install::install(tool, dir)?;
            print(&format!("installed {}\n", path.display()))
        }
    }
}

fn load<C>(
    tool: &'static Tool,
    call: &Call,
    read: impl FnOnce(&Section<'_>) -> Option<C>,
) -> Result<(C, logging::Settings), Failure> {
    settings::load(tool, call, |root| {
        let log = logging::Settings::read(root);
        read(root).map(|config| (config, log))
    })
}

/// One YAML (or JSON) document as a value, plain scalars typed as in a config file; nothing is expanded.
///
/// # Errors
/// Line and reason where the text is not one document.
pub fn parse_yaml(text: &str) -> Result<serde_json::Value, Invalid> {
    let document =
        yaml::parse(text).map_err(|bad| Invalid::new(format!("line {}: {}", bad.line, bad.message)))?;
    Ok(document.to_json())
}

/// Prints an answer on stdout. A reader that went away is not a failure of ours.
fn print(text: &str) -> Result<Exit, Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("cannot write to stdout: {}", chain(&error)))
                .of_question())
        }
        _ => Ok(Exit::Done),
    }
}
