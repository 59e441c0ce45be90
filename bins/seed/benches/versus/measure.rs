//! What a program costs: the time from its start to its end, and its peak memory.
//!
//! The kernel keeps the books of the children of a process together. So each program is run by a child of its own, which
//! does nothing else and prints time and peak when its one child has ended.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

use crate::Result;

/// The first argument of the child that runs a program.
pub(crate) const ROLE: &str = "measured";

/// The costs of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Milliseconds from start to exit.
    pub(crate) wall: f64,
    /// Megabytes of memory in use at most.
    pub(crate) peak: f64,
}

/// Runs a program to its end, which must be a success.
pub(crate) fn of(words: &[&str]) -> Result<Cost> {
    let this = std::env::current_exe()?;
    let ran = Command::new(this).arg(ROLE).args(words).stdin(Stdio::null()).output()?;
    let books = String::from_utf8_lossy(&ran.stdout);
    let mut numbers = books.split_whitespace().map(str::parse::<f64>);
    let (true, Some(Ok(micros)), Some(Ok(peak))) = (ran.status.success(), numbers.next(), numbers.next())
    else {
        return Err(format!("{} failed: {}", words.join(" "), String::from_utf8_lossy(&ran.stderr)).into());
    };
    Ok(Cost { wall: micros / 1e3, peak: peak / 1e3 })
}

/// The runner: prints the microseconds that the program took, and its peak in kilobytes. What the program says goes
/// into a file, as a container's log does.
pub(crate) fn child(words: &[&str]) -> ExitCode {
    let Some((program, args)) = words.split_first() else { return ExitCode::FAILURE };
    let Ok(log) = tempfile::tempfile() else { return ExitCode::FAILURE };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let begun = Instant::now();
    let Ok(status) = command.status() else { return ExitCode::FAILURE };
    let took = begun.elapsed();
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return ExitCode::FAILURE };
    println!("{} {}", took.as_micros(), usage.max_rss() as f64 * 1.024);
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The middle one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
