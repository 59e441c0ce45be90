//! What a program costs: CPU seconds of all its threads, user and system, and its peak memory.
//!
//! The kernel keeps these books for the children of a process together. So each program is run by a child of its own,
//! which does nothing else and prints the books when its one child has ended.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitCode, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::Result;

/// The first argument of the child that runs a program.
pub(crate) const ROLE: &str = "measured";

/// The costs of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Seconds.
    pub(crate) cpu: f64,
    /// Bytes.
    pub(crate) peak: u64,
}

/// Runs a program to its end, which must be a success.
pub(crate) fn of(words: &[&str]) -> Result<Cost> {
    start(words)?.finish(words[0])
}

/// Runs this program itself with other arguments.
pub(crate) fn of_this(words: &[&str]) -> Result<Cost> {
    let this = std::env::current_exe()?.display().to_string();
    let words: Vec<&str> = std::iter::once(this.as_str()).chain(words.iter().copied()).collect();
    of(&words)
}

/// A program that is being measured.
pub(crate) struct Measured {
    runner: Child,
    stdout: BufReader<std::process::ChildStdout>,
    /// The program's own process id.
    pub(crate) id: i32,
}

/// Starts a program.
pub(crate) fn start(words: &[&str]) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ROLE).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut runner = command.spawn()?;
    let mut stdout = BufReader::new(runner.stdout.take().ok_or("stdout is piped")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    let id = line.trim().parse().map_err(|_| format!("cannot run {}", words[0]))?;
    Ok(Measured { runner, stdout, id })
}

impl Measured {
    /// Waits for its end.
    pub(crate) fn finish(mut self, name: &str) -> Result<Cost> {
        let (mut books, mut stderr) = (String::new(), String::new());
        // Little is written there: the pipe holds it all.
        self.stdout.read_to_string(&mut books)?;
        if let Some(mut pipe) = self.runner.stderr.take() {
            pipe.read_to_string(&mut stderr)?;
        }
        let status = self.runner.wait()?;
        if !status.success() {
            let said = stderr.lines().rfind(|line| !line.starts_with("hint: ")).unwrap_or_default();
            return Err(format!("{name} ended with {status}: {said}").into());
        }
        let mut numbers = books.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(micros)), Some(Ok(peak))) = (numbers.next(), numbers.next()) else {
            return Err(format!("no books in {books:?}").into());
        };
        let cpu = micros as f64 / 1e6;
        Ok(Cost { cpu, peak })
    }
}

/// The runner: prints the process id of the program, and at its end the microseconds and the peak in bytes.
pub(crate) fn child(words: &[&str]) -> ExitCode {
    let Some((program, args)) = words.split_first() else { return ExitCode::FAILURE };
    let spawned = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let Ok(mut running) = spawned else { return ExitCode::FAILURE };
    println!("{}", running.id());
    let (Ok(status), Ok(usage)) = (running.wait(), getrusage(UsageWho::RUSAGE_CHILDREN)) else {
        return ExitCode::FAILURE;
    };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    println!("{micros} {}", usage.max_rss() * 1024);
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The middle one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
