//! The command line of all four binaries: one table of flags in, one parsed call out.
//!
//! Values stay text here; what they mean is decided where the config is read. Nothing is printed from here.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::failure::{Exit, Failure};
use crate::flag::{Flag, Given, VerbFlags, env_name};

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
    /// One that a single binary has: `resend FILE`.
    Own {
        /// `resend`
        name: &'static str,
        /// One sentence for `--help`.
        about: &'static str,
        /// What must follow it, as `--help` calls it: `FILE`. `None` for a verb that stands alone.
        argument: Option<&'static str>,
    },
}

const CONFIG: Flag = Flag::value("config", "FILE", "Read settings from this YAML file");
const LOG_LEVEL: Flag =
    Flag::value("log-level", "LEVEL", "error, warn, info, debug or trace [default: info]");
const LOG_FORMAT: Flag =
    Flag::value("log-format", "FORMAT", "text or json [default: json, or text where stderr is a terminal]");
const ADMIN: Flag = Flag::value("admin", "ADDRESS", "Where probes, metrics and status are served, or `off`");

/// The verb of a call that names none.
const RUN: &str = "run";

/// What to do, with everything that was given for it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) task: Task,
    pub(crate) config: Option<PathBuf>,
    pub(crate) given: Given,
    /// The flags of the task's verb alone.
    pub(crate) flags: VerbFlags,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    Run,
    Check,
    Status,
    Probe(String),
    Install(PathBuf),
    /// A verb of the binary's own, by name, and what follows it; empty for a verb that stands alone.
    Own(&'static str, OsString),
}

pub(crate) enum Parsed {
    Call(Call),
    /// `--help` or `--version`: a text for stdout.
    Text(String),
}

/// The flags with a config key: all verbs take them.
fn config_flags(tool: &Tool) -> impl Iterator<Item = &'static Flag> {
    let admin = tool.admin.map(|_| &ADMIN);
    let own = tool.flags.iter().filter(|flag| flag.verb.is_none());
    own.chain(admin).chain([&CONFIG, &LOG_LEVEL, &LOG_FORMAT])
}

/// The flags of one verb alone.
fn flags_of(tool: &Tool, verb: &str) -> impl Iterator<Item = &'static Flag> {
    tool.flags.iter().filter(move |flag| flag.verb == Some(verb))
}

fn argument(tool: &Tool, flag: &'static Flag) -> Arg {
    let help = match tool.admin {
        Some(address) if flag.name == ADMIN.name => format!("{} [default: {address}]", flag.help),
        _ => flag.help.to_owned(),
    };
    flag.argument(tool.name, help)
}

/// The whole command, but for the flags of verbs that are not among the `words` of the command line: nobody gets there,
/// and to set them up takes a good part of a short program's start.
fn command(tool: &Tool, words: &[OsString]) -> Command {
    let after = format!(
        "{}Each flag can be set in the environment: --log-level is {}; several values are separated by commas, or\n\
         by line ends where they have commas in them.\n\
         Exit codes: 0 done, 1 failed, 64 bad flags or config, 75 a deadline passed with work left.\n\n\
         Examples:\n{}",
        flags_of_verbs(tool),
        env_name(tool.name, "log-level"),
        tool.examples.trim_end(),
    );
    // Each verb takes all flags with a config key, so that they may stand before or after it.
    let arguments = |verb: &str| {
        let flags = config_flags(tool).chain(flags_of(tool, verb));
        flags.map(|flag| argument(tool, flag)).collect::<Vec<_>>()
    };
    let verb = |name: &'static str, about: &'static str| {
        let command = Command::new(name).about(about);
        if words.iter().any(|word| word == name) { command.args(arguments(name)) } else { command }
    };
    let mut command = Command::new(format!("podkit-{}", tool.name))
        .version(env!("CARGO_PKG_VERSION"))
        .about(tool.about)
        .after_help(StyledStr::from(after))
        .disable_help_subcommand(true)
        .args(arguments(RUN))
        .subcommand(verb(RUN, "Do the work (this is what happens without a command)"))
        .subcommand(verb("check", "Check the settings: print every fault, or the settings in force"));
    for kind in tool.verbs {
        command = command.subcommand(match *kind {
            Verb::Status => verb("status", "Show the state of the instance that runs here"),
            Verb::Probe => verb("probe", "Ask the instance that runs here, for exec probes").arg(
                Arg::new("PROBE")
                    .required(true)
                    .value_parser(PossibleValuesParser::new(["live", "ready", "startup"])),
            ),
            Verb::Install => {
                verb("install", "Copy this binary into a directory, for use in another container")
                    .arg(Arg::new("DIR").required(true).value_parser(clap::value_parser!(PathBuf)))
            }
            Verb::Own { name, about, argument } => {
                let argument = argument.map(|argument| {
                    Arg::new(argument).required(true).value_parser(clap::value_parser!(OsString))
                });
                verb(name, about).args(argument)
            }
        });
    }
    command
}

/// The flags that `--help` would not show otherwise: those of one verb. Those of `run` stand with the others.
fn flags_of_verbs(tool: &Tool) -> String {
    let lines = tool.flags.iter().filter_map(|flag| {
        let verb = flag.verb.filter(|verb| *verb != RUN)?;
        Some(format!("  {verb} --{} <{}>  {}\n", flag.name, flag.value, flag.help))
    });
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("Flags of one command:\n{lines}\n") }
}

/// Parses a command line, its program name included.
pub(crate) fn parse(
    tool: &'static Tool,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, Failure> {
    let words: Vec<OsString> = args.into_iter().collect();
    let matches = match command(tool, &words).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Parsed::Text(error.render().to_string()));
        }
        Err(error) => return Err(one_line(tool, &error)),
    };
    let (name, after) = matches.subcommand().map_or((RUN, None), |(name, after)| (name, Some(after)));
    if name != RUN {
        refuse_flags_of_run(tool, &matches, name)?;
    }
    let task = match (name, after) {
        (RUN, _) | (_, None) => Task::Run,
        ("check", _) => Task::Check,
        ("status", _) => Task::Status,
        ("probe", Some(after)) => Task::Probe(after.get_one::<String>("PROBE").cloned().unwrap_or_default()),
        ("install", Some(after)) => {
            Task::Install(after.get_one::<PathBuf>("DIR").cloned().unwrap_or_default())
        }
        (name, Some(after)) => own_task(tool, name, after),
    };
    let given = Given::collect(tool.name, config_flags(tool), std::iter::once(&matches).chain(after));
    // Only the flags of `run` may stand where no verb is named.
    let before = Some(&matches).filter(|_| name == RUN);
    let flags = VerbFlags::collect(flags_of(tool, name), before.into_iter().chain(after));
    let config = given.get(CONFIG.name).and_then(|(_, values)| values.last()).map(PathBuf::from);
    Ok(Parsed::Call(Call { task, config, given, flags }))
}

fn own_task(tool: &Tool, called: &str, after: &ArgMatches) -> Task {
    let own = tool.verbs.iter().find_map(|verb| match *verb {
        Verb::Own { name, argument, .. } if name == called => Some((name, argument)),
        _ => None,
    });
    let (name, argument) = own.expect("clap knows no verbs but those of the tool");
    let argument = argument.and_then(|argument| after.get_one::<OsString>(argument).cloned());
    Task::Own(name, argument.unwrap_or_default())
}

/// Before another verb a flag of `run` would do nothing, and whoever typed it meant something.
fn refuse_flags_of_run(tool: &Tool, before: &ArgMatches, verb: &str) -> Result<(), Failure> {
    let typed = |flag: &&Flag| before.value_source(flag.name) == Some(ValueSource::CommandLine);
    match flags_of(tool, RUN).find(typed) {
        Some(flag) => {
            let message = format!("`--{}` does not go with `{verb}`", flag.name);
            Err(Failure::new(Exit::Usage, message).hint("it is a flag of `run`"))
        }
        None => Ok(()),
    }
}

/// Clap's paragraph as our one line and, if it has a tip, our hint.
fn one_line(tool: &Tool, error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default().trim_start_matches("error: ");
    let message =
        message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let tip = paragraphs.find_map(|p| p.trim_start().strip_prefix("tip: ").map(|tip| tip.trim().to_owned()));
    let hint = misplaced(tool, error).or(tip);
    let failure = Failure::new(Exit::Usage, message);
    failure.hint(hint.unwrap_or_else(|| format!("see `podkit-{} --help`", tool.name)))
}

/// Where a flag belongs that stands with the wrong verb, or before its own.
fn misplaced(tool: &Tool, error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = tool.flags.iter().find(|flag| typed.strip_prefix("--") == Some(flag.name))?;
    Some(format!("`--{}` goes after `{}`", flag.name, flag.verb?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::flag::Source;

    pub(crate) static TOOL: Tool = Tool {
        name: "test",
        about: "A tool for tests",
        examples: "  podkit-test --state-dir /x\n",
        flags: &[
            Flag::value("state-dir", "DIR", "state"),
            Flag::value("batch-age", "DURATION", "age"),
            Flag::list("include", "GLOB", "files"),
            Flag::switch("once", "once"),
            Flag::value("file", "FILE", "what it does with this file").of("check"),
            Flag::switch("dry-run", "only say what would be done").of("run"),
            Flag::list("only", "NAME", "only these").of("resend"),
        ],
        verbs: &[
            Verb::Status,
            Verb::Probe,
            Verb::Install,
            Verb::Own { name: "resend", about: "send again", argument: Some("FILE") },
            Verb::Own { name: "forget", about: "forget all", argument: None },
        ],
        admin: Some("0.0.0.0:9899"),
        termination_message: false,
    };

    fn parsed(line: &str) -> Result<Parsed, Failure> {
        parse(&TOOL, std::iter::once("podkit-test").chain(line.split_whitespace()).map(OsString::from))
    }

    pub(crate) fn call(line: &str) -> Call {
        match parsed(line).unwrap() {
            Parsed::Call(call) => call,
            Parsed::Text(text) => panic!("{text}"),
        }
    }

    fn refusal(line: &str) -> String {
        match parsed(line) {
            Err(failure) => failure.to_string(),
            Ok(_) => panic!("{line} is taken"),
        }
    }

    #[test]
    fn the_table_of_flags_is_a_valid_command() {
        let none = command(&TOOL, &[]);
        // A verb has its flags only where it is named, and `debug_assert` looks at each of them.
        let verbs: Vec<OsString> = none.get_subcommands().map(|verb| verb.get_name().into()).collect();
        assert_eq!(verbs, ["run", "check", "status", "probe", "install", "resend", "forget"]);
        let all = command(&TOOL, &verbs);
        for verb in all.get_subcommands() {
            let flags = config_flags(&TOOL).chain(flags_of(&TOOL, verb.get_name()));
            let missing =
                flags.map(|flag| flag.name).find(|name| verb.get_arguments().all(|arg| arg.get_id() != name));
            assert_eq!(missing, None, "{}", verb.get_name());
        }
        all.debug_assert();
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
    fn verbs_and_their_arguments() {
        assert_eq!(call("").task, Task::Run);
        assert_eq!(call("run --once").task, Task::Run);
        assert_eq!(call("probe ready").task, Task::Probe("ready".into()));
        assert_eq!(call("install /opt").task, Task::Install("/opt".into()));
        assert_eq!(call("resend dead.ndjson --once").task, Task::Own("resend", "dead.ndjson".into()));
        assert_eq!(call("forget").task, Task::Own("forget", OsString::new()));
        assert!(refusal("resend").contains("<FILE>"), "{}", refusal("resend"));
    }

    #[test]
    fn a_switch_takes_a_value_only_after_an_equals_sign() {
        assert_eq!(call("--once check").given.get("once").unwrap().1, ["true"]);
        assert_eq!(call("--once=false").given.get("once").unwrap().1, ["false"]);
    }

    #[test]
    fn a_flag_of_one_verb_is_taken_there_and_has_no_config_key() {
        let call = call("--state-dir /x check --file sample.log");
        assert_eq!((call.flags.get("file"), call.flags.get("only")), (Some("sample.log"), None));
        assert!(!call.given.knows("file") && call.given.knows("state-dir"));
        let call = super::tests::call("resend x --only a --only b");
        assert_eq!(call.flags.all("only"), ["a", "b"]);
        assert!(super::tests::call("check").flags.is_empty());
    }

    #[test]
    fn flags_of_run_need_no_verb() {
        for (line, on) in
            [("--dry-run", true), ("run --dry-run", true), ("--dry-run=false", false), ("", false)]
        {
            assert_eq!(call(line).flags.is_on("dry-run"), on, "{line}");
        }
    }

    #[test]
    fn a_flag_at_the_wrong_verb_is_told_where_it_belongs() {
        for line in ["--file x", "--file=x", "--file x check", "run --file x", "resend x --file y"] {
            let refusal = refusal(line);
            assert!(
                refusal.contains("'--file' found") && refusal.contains("goes after `check`"),
                "{refusal}"
            );
        }
        assert!(refusal("--dry-run check").contains("`--dry-run` does not go with `check`"));
        assert!(refusal("check --dry-run").contains("goes after `run`"));
        assert!(refusal("--dry-run=maybe").contains("maybe"));
    }

    #[test]
    fn help_shows_the_flags_of_every_verb() {
        let help = command(&TOOL, &[]).render_help().to_string();
        for text in
            ["check --file <FILE>  what it does", "resend --only <NAME>", "--dry-run", "resend   send again"]
        {
            assert!(help.contains(text), "{text:?} is missing in {help}");
        }
    }
}
