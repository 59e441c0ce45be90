//! Contract 1 for all four binaries: from what was typed to a checked config, and from an outcome to an exit code.
//!
//! ```text
//!   arguments ──┐
//!   environment ┼─► command ─► Call ─► settings ─► Section ─► the binary's Config ─► run | check | its own verbs
//!   YAML file ──┘   (clap)             (layers)    (faults)          │
//!        └──────────────────────────────── reload ◄──────────────────┘
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
mod flag;
mod install;
mod logging;
mod reload;
mod section;
mod settings;
mod whole;
mod yaml;

pub mod units;

use std::ffi::OsString;
use std::io::Write as _;

pub use command::{Tool, Verb};
pub use effective::{Effective, mask_url};
pub use failure::{Exit, Failure, Report, chain, report};
pub use fault::{Invalid, nearest};
pub use flag::{Flag, VerbFlags};
pub use reload::Reload;
pub use section::{Item, Section};
pub use whole::{MAX_WHOLE, read_whole, read_whole_of};
pub use yaml::Malformed as MalformedYaml;

use command::{Call, Parsed, Task};

/// What a binary is asked to do. The verbs that all binaries share never get here, and neither does `check`, unless
/// one of its own flags is given: it prints the settings in force.
pub enum Work<C> {
    /// `run`
    Run(Loaded<C>),
    /// `check` with a [flag of the binary](Flag::of): the config has no fault, and what the binary prints takes the
    /// place of the settings.
    Check(Loaded<C>),
    /// A [verb of the binary's own](Verb::Own), by its name, and what followed it; empty for one that stands alone.
    Own(&'static str, OsString, Loaded<C>),
}

/// A config without a fault, and what belongs to it.
pub struct Loaded<C> {
    /// The config.
    pub config: C,
    /// The flags of the verb alone.
    pub flags: VerbFlags,
    /// Reads the config again.
    pub reload: Reload<C>,
}

/// Runs one call of a binary that has neither verbs nor [flags of a verb](Flag::of) of its own and reads its config
/// once: as [`dispatch_work`], with the config alone.
///
/// # Errors
/// As [`dispatch_work`].
pub fn dispatch<C: Effective>(
    tool: &'static Tool,
    args: impl IntoIterator<Item = OsString>,
    read: impl Fn(&Section<'_>) -> Option<C> + Send + 'static,
    run: impl FnOnce(C) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    dispatch_work(tool, args, read, |work| match work {
        Work::Run(loaded) => run(loaded.config),
        Work::Check(_) | Work::Own(..) => {
            unreachable!("a tool with flags or verbs like this takes all its work")
        }
    })
}

/// Runs one call of a binary: parses the command line, reads the config through `read`, and then does what was
/// asked for: the binary's own `work`, or one of the verbs that all binaries share.
///
/// `read` collects its faults in the section and may return `None` where it could not build a config; it must not
/// return `None` without a fault.
///
/// # Errors
/// A [`Failure`] with the exit code and the lines to print; faults of the command line or config have
/// [`Exit::Usage`].
pub fn dispatch_work<C: Effective>(
    tool: &'static Tool,
    args: impl IntoIterator<Item = OsString>,
    read: impl Fn(&Section<'_>) -> Option<C> + Send + 'static,
    work: impl FnOnce(Work<C>) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let mut call = match command::parse(tool, args)? {
        Parsed::Call(call) => call,
        Parsed::Text(text) => return print(text),
    };
    let flags = std::mem::take(&mut call.flags);
    match call.task.clone() {
        Task::Run => {
            let (loaded, log) = load(tool, call, flags, read)?;
            logging::init(log);
            work(Work::Run(loaded))
        }
        Task::Check if flags.is_empty() => {
            let (loaded, log) = load(tool, call, flags, read)?;
            let mut settings = loaded.config.effective();
            if let serde_json::Value::Object(settings) = &mut settings {
                settings.extend(log.effective());
            }
            print(effective::to_yaml(&settings))
        }
        Task::Check => {
            let (loaded, log) = load(tool, call, flags, read)?;
            logging::init(log);
            work(Work::Check(loaded))
        }
        Task::Own(verb, argument) => {
            // May be called in a container that goes on when this fails.
            let (loaded, log) = load(tool, call, flags, read).map_err(Failure::of_question)?;
            logging::init(log);
            work(Work::Own(verb, argument, loaded)).map_err(Failure::of_question)
        }
        Task::Status => {
            let status = settings::admin_only(tool, &call).and_then(ask::status);
            print(status.map_err(Failure::of_question)?)
        }
        Task::Probe(probe) => {
            let answer = settings::admin_only(tool, &call).and_then(|admin| ask::probe(admin, &probe));
            answer.map_err(Failure::of_question)
        }
        Task::Install(dir) => {
            let path = install::install(tool, &dir)?;
            print(format!("installed {}\n", path.display()))
        }
    }
}

fn load<C>(
    tool: &'static Tool,
    call: Call,
    flags: VerbFlags,
    read: impl Fn(&Section<'_>) -> Option<C> + Send + 'static,
) -> Result<(Loaded<C>, logging::Settings), Failure> {
    let mut reload = Reload::new(tool, call, read);
    let (config, log) = reload.first()?;
    Ok((Loaded { config, flags, reload }, log))
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

/// All YAML documents of a text, as data: nothing is expanded.
///
/// # Errors
/// Where and why it is not YAML, or more than 100,000 values.
pub fn parse_yaml_documents(text: &str) -> Result<Vec<serde_json::Value>, MalformedYaml> {
    Ok(yaml::parse_all(text)?.iter().map(yaml::Node::to_json).collect())
}

/// Whether a text is YAML, of any number of documents and any size, whose keys stand once.
///
/// # Errors
/// Where and why it is not.
pub fn check_yaml(text: &str) -> Result<(), MalformedYaml> {
    yaml::check(text)
}

/// Prints an answer on stdout. A reader that went away is not a failure of ours.
///
/// # Errors
/// Stdout cannot be written.
pub fn print(answer: impl AsRef<[u8]>) -> Result<Exit, Failure> {
    match std::io::stdout().write_all(answer.as_ref()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("cannot write to stdout: {}", chain(&error)))
                .of_question())
        }
        _ => Ok(Exit::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::TOOL;

    struct Dir(String);

    impl Effective for Dir {
        fn effective(&self) -> serde_json::Value {
            serde_json::json!({"state_dir": self.0})
        }
    }

    /// What the binary is asked to do, in a word and its arguments.
    fn asked(line: &str) -> Result<String, Failure> {
        let read = |root: &Section<'_>| root.required("state_dir", units::text).map(Dir);
        let args = std::iter::once("podkit-test").chain(line.split_whitespace()).map(OsString::from);
        let mut asked = String::new();
        dispatch_work(&TOOL, args, read, |work| {
            asked = match work {
                Work::Run(loaded) => format!("run {} {}", loaded.config.0, loaded.flags.is_on("dry-run")),
                Work::Check(loaded) => format!("check {} {:?}", loaded.config.0, loaded.flags.get("file")),
                Work::Own(verb, argument, loaded) => {
                    format!(
                        "{verb} {} {} {:?}",
                        argument.display(),
                        loaded.config.0,
                        loaded.flags.all("only")
                    )
                }
            };
            Ok(Exit::Done)
        })?;
        Ok(asked)
    }

    #[test]
    fn each_verb_comes_with_its_config_and_flags() {
        for (line, want) in [
            ("--state-dir /x", "run /x false"),
            ("run --dry-run --state-dir /x", "run /x true"),
            ("check --file a.log --state-dir /x", "check /x Some(\"a.log\")"),
            ("--state-dir /x resend dead.ndjson --only a", "resend dead.ndjson /x [\"a\"]"),
            ("--state-dir /x forget", "forget  /x []"),
            // Without a flag of its own, `check` shows the settings and asks nothing of the binary.
            ("check --state-dir /x", ""),
        ] {
            assert_eq!(asked(line).unwrap(), want, "{line}");
        }
    }

    #[test]
    fn faults_of_the_config_come_before_any_work() {
        for line in ["", "check", "check --file a.log", "resend x", "forget"] {
            let failure = asked(line).unwrap_err();
            assert!(failure.to_string().starts_with("--state-dir: is required (give "), "{line}: {failure}");
        }
    }
}
