//! The command line of all four binaries: one table of flags in, one parsed call out.
//!
//! Values stay text here; what they mean is decided where the config is read. Nothing is printed from here.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, StyledStr};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::failure::{Exit, Failure};

/// What a binary is called, what it takes, and which of the shared verbs it has.
#[derive(Debug)]
pub struct Tool {
    /// The name without `podkit-`: `ship`. Flags have environment twins named `PODKIT_SHIP_…`.
    pub name: &'static str,
    /// One sentence for `--help`.
    pub about: &'static str,
    /// Command lines with a word on each, for the end of `--help`.
    pub examples: &'static str,
    /// The binary's own flags; those that all binaries have are added.
    pub flags: &'static [Flag],
    /// The verbs beside `run` and `check`.
    pub verbs: &'static [Verb],
    /// Where the admin port listens unless told otherwise; `None` for a binary without one.
    pub admin: Option<&'static str>,
    /// Whether a failure is also left in `/dev/termination-log`: true where the container is our own.
    pub termination_message: bool,
}

/// A verb that only some binaries have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `status`: a running instance's state as a table.
    Status,
    /// `probe live|ready|startup`, for exec probes.
    Probe,
    /// `install DIR`: copy this binary there.
    Install,
}

/// One flag; its config key is the same name with underscores.
#[derive(Debug)]
pub struct Flag {
    name: &'static str,
    value: &'static str,
    help: &'static str,
    kind: FlagKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlagKind {
    Value,
    List,
    Switch,
}

impl Flag {
    /// A flag with one value: `Flag::value("state-dir", "DIR", "where checkpoints live")`.
    #[must_use]
    pub const fn value(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value, help, kind: FlagKind::Value }
    }

    /// A flag that may be given several times. In the environment the values are separated by commas.
    #[must_use]
    pub const fn list(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value, help, kind: FlagKind::List }
    }

    /// A flag that needs no value; `--once=false` turns it off where the environment or file turned it on.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { name, value: "BOOL", help, kind: FlagKind::Switch }
    }
}

const CONFIG: Flag = Flag::value("config", "FILE", "Read settings from this YAML file");
const LOG_LEVEL: Flag =
    Flag::value("log-level", "LEVEL", "error, warn, info, debug or trace [default: info]");
const LOG_FORMAT: Flag =
    Flag::value("log-format", "FORMAT", "text or json [default: json, or text where stderr is a terminal]");
const ADMIN: Flag = Flag::value("admin", "ADDRESS", "Where probes, metrics and status are served, or `off`");

/// What to do, with everything that was given for it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) task: Task,
    pub(crate) config: Option<PathBuf>,
    pub(crate) given: Given,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Run,
    Check,
    Status,
    Probe(String),
    Install(PathBuf),
}

pub(crate) enum Parsed {
    Call(Call),
    /// `--help` or `--version`: a text for stdout.
    Text(String),
}

/// The values of flags and their environment twins, by flag name.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: HashMap<&'static str, (Source, Vec<String>)>,
    /// All flags there are, given or not.
    known: Vec<&'static str>,
    prefix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Env,
}

impl Given {
    pub(crate) fn get(&self, flag: &str) -> Option<(Source, &[String])> {
        self.values.get(flag).map(|(source, values)| (*source, values.as_slice()))
    }

    pub(crate) fn knows(&self, flag: &str) -> bool {
        self.known.contains(&flag)
    }

    /// The environment twin of a flag: `PODKIT_SHIP_STATE_DIR`.
    pub(crate) fn env_name(&self, flag: &str) -> String {
        env_name(&self.prefix, flag)
    }
}

fn env_name(tool: &str, flag: &str) -> String {
    format!("PODKIT_{tool}_{flag}").to_uppercase().replace('-', "_")
}

fn all_flags(tool: &Tool) -> impl Iterator<Item = &'static Flag> {
    let admin = tool.admin.map(|_| &ADMIN);
    tool.flags.iter().chain(admin).chain([&CONFIG, &LOG_LEVEL, &LOG_FORMAT])
}

fn argument(tool: &Tool, flag: &'static Flag) -> Arg {
    let help = match tool.admin {
        Some(address) if flag.name == ADMIN.name => format!("{} [default: {address}]", flag.help),
        _ => flag.help.to_owned(),
    };
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .value_name(flag.value)
        .help(help)
        .env(env_name(tool.name, flag.name))
        .hide_env(true);
    match flag.kind {
        FlagKind::Value => arg.action(ArgAction::Set),
        FlagKind::List => arg.action(ArgAction::Append),
        FlagKind::Switch => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true),
    }
}

fn command(tool: &Tool) -> Command {
    let after = format!(
        "Each flag can be set in the environment: --log-level is {}; several values are separated by commas, or\n\
         by line ends where they have commas in them.\n\
         Exit codes: 0 done, 1 failed, 64 bad flags or config, 75 a deadline passed with work left.\n\n\
         Examples:\n{}",
        env_name(tool.name, "log-level"),
        tool.examples.trim_end(),
    );
    let arguments = || all_flags(tool).map(|flag| argument(tool, flag));
    // Each verb takes all flags, so that they may stand before or after it.
    let verb = |name: &'static str, about: &'static str| Command::new(name).about(about).args(arguments());
    let mut command = Command::new(format!("podkit-{}", tool.name))
        .version(env!("CARGO_PKG_VERSION"))
        .about(tool.about)
        .after_help(StyledStr::from(after))
        .disable_help_subcommand(true)
        .args(arguments())
        .subcommand(verb("run", "Do the work (this is what happens without a command)"))
        .subcommand(verb("check", "Check the settings: print every fault, or the settings in force"));
    for kind in tool.verbs {
        command = command.subcommand(match kind {
            Verb::Status => verb("status", "Show the state of the instance that runs here"),
            Verb::Probe => verb("probe", "Ask the instance that runs here, for exec probes").arg(
                Arg::new("probe")
                    .required(true)
                    .value_parser(PossibleValuesParser::new(["live", "ready", "startup"])),
            ),
            Verb::Install => verb(
                "install",
                "Copy this binary into a directory, for use in another container",
            )
            .arg(Arg::new("dir").value_name("DIR").required(true).value_parser(clap::value_parser!(PathBuf))),
        });
    }
    command
}

/// Parses a command line, its program name included.
pub(crate) fn parse(
    tool: &'static Tool,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, Failure> {
    let matches = match command(tool).try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Parsed::Text(error.render().to_string()));
        }
        Err(error) => return Err(one_line(tool, &error)),
    };
    let (task, verb) = match matches.subcommand() {
        Some(("check", sub)) => (Task::Check, Some(sub)),
        Some(("status", sub)) => (Task::Status, Some(sub)),
        Some(("probe", sub)) => {
            (Task::Probe(sub.get_one::<String>("probe").cloned().unwrap_or_default()), Some(sub))
        }
        Some(("install", sub)) => {
            (Task::Install(sub.get_one::<PathBuf>("dir").cloned().unwrap_or_default()), Some(sub))
        }
        Some((_, sub)) => (Task::Run, Some(sub)),
        None => (Task::Run, None),
    };
    let given = collect(tool, &matches, verb);
    let config = given.get(CONFIG.name).and_then(|(_, values)| values.last()).map(PathBuf::from);
    Ok(Parsed::Call(Call { task, config, given }))
}

/// The values given before the verb and after it. Those of a list are joined; else the later wins.
fn collect(tool: &'static Tool, before: &ArgMatches, after: Option<&ArgMatches>) -> Given {
    let mut given = Given { prefix: tool.name.to_owned(), ..Given::default() };
    for flag in all_flags(tool) {
        given.known.push(flag.name);
        let mut typed: Vec<String> = Vec::new();
        let mut in_environment: Vec<String> = Vec::new();
        for matches in std::iter::once(before).chain(after) {
            let values = matches.get_many::<String>(flag.name).into_iter().flatten().cloned();
            match matches.value_source(flag.name) {
                Some(ValueSource::CommandLine) => typed.extend(values),
                Some(_) => in_environment = values.flat_map(|text| split(flag.kind, &text)).collect(),
                None => {}
            }
        }
        if !typed.is_empty() {
            given.values.insert(flag.name, (Source::Flag, typed));
        } else if !in_environment.is_empty() {
            given.values.insert(flag.name, (Source::Env, in_environment));
        }
    }
    given
}

/// The values of an environment twin. As in sh, an empty variable is one that is not set.
fn split(kind: FlagKind, text: &str) -> Vec<String> {
    let separator = match kind {
        FlagKind::List if text.contains('\n') => '\n',
        FlagKind::List => ',',
        FlagKind::Value | FlagKind::Switch => {
            return Some(text.to_owned()).filter(|text| !text.is_empty()).into_iter().collect();
        }
    };
    text.split(separator).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Clap's paragraph as our one line and, if it has a tip, our hint.
fn one_line(tool: &Tool, error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let message =
        message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let tip = paragraphs.find_map(|p| p.trim_start().strip_prefix("tip: ").map(|tip| tip.trim().to_owned()));
    let failure = Failure::new(Exit::Usage, message);
    failure.hint(tip.unwrap_or_else(|| format!("see `podkit-{} --help`", tool.name)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) static TOOL: Tool = Tool {
        name: "test",
        about: "A tool for tests",
        examples: "  podkit-test --state-dir /x\n",
        flags: &[
            Flag::value("state-dir", "DIR", "state"),
            Flag::value("batch-age", "DURATION", "age"),
            Flag::list("include", "GLOB", "files"),
            Flag::switch("once", "once"),
        ],
        verbs: &[Verb::Status, Verb::Probe, Verb::Install],
        admin: Some("0.0.0.0:9899"),
        termination_message: false,
    };

    pub(crate) fn call(line: &str) -> Call {
        let args = std::iter::once("podkit-test").chain(line.split_whitespace()).map(OsString::from);
        match parse(&TOOL, args).unwrap() {
            Parsed::Call(call) => call,
            Parsed::Text(text) => panic!("{text}"),
        }
    }

    #[test]
    fn the_table_of_flags_is_a_valid_command() {
        command(&TOOL).debug_assert();
    }

    #[test]
    fn flags_stand_before_or_after_the_verb() {
        for line in ["--state-dir /x check", "check --state-dir /x"] {
            let call = call(line);
            assert_eq!(call.task, Task::Check);
            assert_eq!(call.given.get("state-dir"), Some((Source::Flag, &["/x".to_owned()][..])));
        }
    }

    #[test]
    fn a_list_goes_on_after_the_verb_and_a_value_is_replaced() {
        let call = call("--include a --state-dir /x check --include b --state-dir /y");
        assert_eq!(call.given.get("include").unwrap().1, ["a", "b"]);
        assert_eq!(call.given.get("state-dir").unwrap().1.last().unwrap(), "/y");
    }

    #[test]
    fn lists_in_the_environment_have_commas_or_line_ends() {
        assert_eq!(split(FlagKind::List, " a, b,,"), ["a", "b"]);
        assert_eq!(split(FlagKind::List, "a,b\nc\n"), ["a,b", "c"]);
        assert_eq!(split(FlagKind::Value, "a,b"), ["a,b"]);
        assert!(split(FlagKind::Value, "").is_empty() && split(FlagKind::List, " ").is_empty());
    }

    #[test]
    fn verbs_and_their_arguments() {
        assert_eq!(call("").task, Task::Run);
        assert_eq!(call("run --once").task, Task::Run);
        assert_eq!(call("probe ready").task, Task::Probe("ready".into()));
        assert_eq!(call("install /opt").task, Task::Install("/opt".into()));
    }

    #[test]
    fn a_switch_takes_a_value_only_after_an_equals_sign() {
        assert_eq!(call("--once check").given.get("once").unwrap().1, ["true"]);
        assert_eq!(call("--once=false").given.get("once").unwrap().1, ["false"]);
    }
}
