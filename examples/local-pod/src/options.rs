//! The demo's command line: what was typed becomes [`Command`], or one line and exit code 64.
//!
//! Owns the bounds of each number. It never looks at the machine: whether the kept directory can be used
//! is for `volumes` to say.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{
    Arg, ArgAction,
    builder::{PathBufValueParser, RangedU64ValueParser},
    error::ErrorKind,
    value_parser,
};

use crate::outside;

const EXAMPLES: &str = "\
Examples:
  cargo demo                        a pod's whole life in about 10 seconds
  cargo demo --chaos                the same with two kills of ship and a backend that is away for a while
  cargo demo --keep /tmp/pod        leave config, logs and the processes' own output in /tmp/pod
  cargo demo --rate 1000 --seconds 30
  cargo demo --drain                one termination as a timeline, and what `sleep 15` would have taken
  cargo demo --terminations 500     many of them, with native sidecars and with plain ones

Exit codes:
  0   nothing was lost and every process ended as it should
  1   a request failed, a line was lost or a process did not end well
  64  bad flags";

/// What this process is to be.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    /// The demo itself: kubelet, clients, database and log backend.
    Pod(Options),
    /// One termination as a timeline.
    Timeline(Timeline),
    /// Many terminations, and a table.
    Rehearsal(Rehearsal),
    /// The pod's app, started by the demo from this same file.
    App { config: PathBuf },
    /// What is outside of a pod that somebody else runs.
    Outside(outside::Options),
}

/// How the demo runs.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    /// How long the load runs before the pod's termination starts.
    pub(crate) seconds: Duration,
    /// Requests per second.
    pub(crate) rate: u32,
    /// Where the pod's files stay; a temporary directory otherwise.
    pub(crate) keep: Option<PathBuf>,
    /// Kill ship, take the backend away, rotate often.
    pub(crate) chaos: bool,
}

/// How the one termination runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// Of all that is drawn by lot.
    pub(crate) seed: Option<u64>,
}

/// How the many terminations run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rehearsal {
    /// How many pods end with podkit-drain; a few more do for comparison.
    pub(crate) terminations: usize,
    /// Of all that is drawn by lot; another one each time where it is not given.
    pub(crate) seed: Option<u64>,
    /// How many pods live at the same time.
    pub(crate) at_once: usize,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The text that `--help` or `--version` asked for.
    Asked(String),
    /// One line that says what is wrong with the flags.
    Usage(String),
}

/// Reads the command line, the program's name first.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Refusal> {
    let matches = grammar().try_get_matches_from(args).map_err(refusal)?;
    if let Some(("app", app)) = matches.subcommand() {
        let config = app.get_one::<PathBuf>("config").cloned().unwrap_or_default();
        return Ok(Command::App { config });
    }
    if let Some(("outside", outside)) = matches.subcommand() {
        return Ok(Command::Outside(outside_options(outside)));
    }
    let seed = matches.get_one::<u64>("seed").copied();
    if matches.get_flag("drain") {
        return Ok(Command::Timeline(Timeline { seed }));
    }
    if let Some(&terminations) = matches.get_one::<usize>("terminations") {
        let at_once = matches.get_one::<usize>("at-once").copied().unwrap_or(DEFAULT_AT_ONCE);
        return Ok(Command::Rehearsal(Rehearsal { terminations, seed, at_once }));
    }
    let seconds = matches.get_one::<u64>("seconds").copied().unwrap_or(DEFAULT_SECONDS);
    Ok(Command::Pod(Options {
        seconds: Duration::from_secs(seconds),
        rate: matches.get_one::<u32>("rate").copied().unwrap_or(DEFAULT_RATE),
        keep: matches.get_one::<PathBuf>("keep").cloned(),
        chaos: matches.get_flag("chaos"),
    }))
}

fn outside_options(matches: &clap::ArgMatches) -> outside::Options {
    let address = |name| *matches.get_one::<SocketAddr>(name).expect("the grammar requires it");
    outside::Options {
        target: address("target"),
        database: address("database"),
        backend: address("backend"),
        pod: matches.get_one::<PathBuf>("pod").cloned().unwrap_or_default(),
        rate: matches.get_one::<u32>("rate").copied().unwrap_or(DEFAULT_RATE),
    }
}

/// Long enough for a few log rotations, short enough for the whole life to stay under 15 seconds.
const DEFAULT_SECONDS: u64 = 6;

/// Requests per second: several batches a second, and still idle time on two small cores in a debug build.
const DEFAULT_RATE: u32 = 200;

/// Most of a pod's termination is waiting: so many keep two small cores busy.
const DEFAULT_AT_ONCE: usize = 16;

fn grammar() -> clap::Command {
    clap::Command::new("local-pod")
        .bin_name("cargo demo")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs a whole pod as plain processes on this machine: seed, app, proxy, ship and drain, under load,\nfrom the first init step to the last delivered log line. No cluster, no root, loopback only.")
        .after_help(EXAMPLES)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .args([
            Arg::new("seconds")
                .long("seconds")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=600))
                .help("How long the load runs before the termination starts [default: 6]"),
            rate(),
            Arg::new("keep")
                .long("keep")
                .value_name("DIR")
                .value_parser(PathBufValueParser::new())
                .help("Put the pod's files there and leave them; DIR/log/<process>.log is each one's output"),
            Arg::new("chaos")
                .long("chaos")
                .action(ArgAction::SetTrue)
                .help("Kill ship twice, let the backend answer 503 for a while, rotate the log often"),
            Arg::new("drain")
                .long("drain")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["seconds", "rate", "keep", "chaos", "terminations"])
                .help("Show the termination of one pod as a timeline, beside a fixed `sleep 15`"),
            Arg::new("terminations")
                .long("terminations")
                .value_name("N")
                .value_parser(RangedU64ValueParser::<usize>::new().range(1..=100_000))
                .conflicts_with_all(["seconds", "rate", "keep", "chaos"])
                .help("End so many pods, each under a load and with an outage of its own, and compare with `sleep 15`"),
            Arg::new("at-once")
                .long("at-once")
                .value_name("N")
                .value_parser(RangedU64ValueParser::<usize>::new().range(1..=200))
                .requires("terminations")
                .help("How many of them live at the same time [default: 16]"),
            Arg::new("seed")
                .long("seed")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .conflicts_with_all(["seconds", "rate", "keep", "chaos"])
                .help("Draw the loads and outages of --drain and --terminations from this number [default: another each time]"),
        ])
        .subcommand(
            clap::Command::new("app")
                .hide(true)
                .about("The pod's app")
                .arg(Arg::new("config").long("config").required(true).value_parser(PathBufValueParser::new())),
        )
        .subcommand(
            clap::Command::new("outside")
                .hide(true)
                .about("The clients, the database and the log backend of a pod that somebody else runs")
                .args(["target", "database", "backend"].map(|name| {
                    Arg::new(name)
                        .long(name)
                        .value_name("ADDRESS")
                        .required(true)
                        .value_parser(value_parser!(SocketAddr))
                }))
                .arg(
                    Arg::new("pod")
                        .long("pod")
                        .value_name("DIR")
                        .required(true)
                        .value_parser(PathBufValueParser::new()),
                )
                .arg(rate()),
        )
}

fn rate() -> Arg {
    Arg::new("rate")
        .long("rate")
        .value_name("N")
        .value_parser(value_parser!(u32).range(1..=5000))
        .help("Requests per second [default: 200]")
}

fn refusal(error: clap::Error) -> Refusal {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refusal::Asked(error.to_string()),
        _ => Refusal::Usage(first_line(&error.to_string())),
    }
}

/// clap's message is a paragraph; its first line says what is wrong.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or("bad flags");
    format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, Refusal> {
        parse(std::iter::once("local-pod").chain(args.iter().copied()).map(OsString::from))
    }

    #[test]
    fn without_flags_the_demo_is_short_and_calm() {
        let expected = Options { seconds: Duration::from_secs(6), rate: 200, keep: None, chaos: false };
        assert_eq!(parsed(&[]).unwrap(), Command::Pod(expected));
    }

    #[test]
    fn every_flag_arrives() {
        let expected = Options {
            seconds: Duration::from_secs(2),
            rate: 50,
            keep: Some(PathBuf::from("/tmp/pod")),
            chaos: true,
        };
        let got = parsed(&["--seconds", "2", "--rate=50", "--keep", "/tmp/pod", "--chaos"]).unwrap();
        assert_eq!(got, Command::Pod(expected));
    }

    #[test]
    fn the_outside_is_told_where_the_pod_is() {
        let args = "outside --target 127.0.0.1:1 --database 0.0.0.0:2 --backend 0.0.0.0:3 --pod /p --rate 9";
        let address = |text: &str| text.parse().unwrap();
        let expected = outside::Options {
            target: address("127.0.0.1:1"),
            database: address("0.0.0.0:2"),
            backend: address("0.0.0.0:3"),
            pod: "/p".into(),
            rate: 9,
        };
        let words: Vec<_> = args.split(' ').collect();
        assert_eq!(parsed(&words).unwrap(), Command::Outside(expected));
        assert!(parsed(&words[..7]).is_err(), "no --pod");
    }

    #[test]
    fn terminations_are_many_or_one() {
        let many = Rehearsal { terminations: 9, seed: Some(4), at_once: 2 };
        let got = parsed(&["--terminations", "9", "--seed", "4", "--at-once", "2"]).unwrap();
        assert_eq!(got, Command::Rehearsal(many));
        assert_eq!(parsed(&["--drain"]).unwrap(), Command::Timeline(Timeline { seed: None }));
    }

    #[test]
    fn bad_flags_are_one_line() {
        assert!(parsed(&["--drain", "--chaos"]).is_err());
        assert!(parsed(&["--terminations", "0"]).is_err());
        assert!(parsed(&["--at-once", "3"]).is_err());
        for bad in [&["--rat", "3"][..], &["--rate", "0"], &["--seconds", "six"], &["extra"], &["--keep"]] {
            match parsed(bad) {
                Err(Refusal::Usage(line)) => {
                    assert!(!line.contains('\n') && line.contains("--help"), "{line}")
                }
                other => panic!("{bad:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn help_shows_examples_and_hides_the_app() {
        let Err(Refusal::Asked(help)) = parsed(&["--help"]) else { panic!("no help") };
        assert!(help.contains("cargo demo --chaos") && help.contains("--rate <N>"), "{help}");
        assert!(!help.contains("app "), "{help}");
    }
}
