//! The figures of a drain, gathered step by step, and the report that they make at its end: one JSON line for the log,
//! and for whoever reads the file later.
//!
//! Never a reason for a drain to fail or to be late: what cannot be written is a warning.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use podkit_cli::{Exit, Report as _};
use serde_json::{Value, json};

use crate::budget::Budget;
use crate::error::Error;
use crate::quiet::Sample;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Done,
    /// There was nobody to ask.
    Skipped,
    Failed,
}

/// One step that has ended.
#[derive(Debug)]
pub(crate) struct StepFigures {
    pub(crate) step: &'static str,
    pub(crate) how: How,
    pub(crate) spent: Duration,
    /// The budget's rest at its end.
    pub(crate) left: Duration,
    pub(crate) detail: String,
}

#[derive(Debug, Default)]
struct Gathered {
    steps: Vec<StepFigures>,
    source: Option<String>,
    first: Option<Sample>,
    /// When that was taken, counted from the start.
    first_after: Option<Duration>,
    last: Option<Sample>,
    looks: u64,
}

/// Written by the steps, read by the main thread at the end, also where a step is stuck.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<Gathered>);

impl Figures {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn step(&self, step: StepFigures) {
        self.gathered().steps.push(step);
    }

    /// What the watch sees `after` so long; the first and the last sample stay.
    pub(crate) fn sample(&self, sample: Sample, after: Duration) {
        let mut gathered = self.gathered();
        gathered.looks += 1;
        gathered.first.get_or_insert(sample);
        gathered.first_after.get_or_insert(after);
        gathered.last = Some(sample);
    }

    /// Where the last sample came from.
    pub(crate) fn source(&self, name: String) {
        self.gathered().source = Some(name);
    }

    /// The whole report.
    pub(crate) fn report(&self, ended: &Result<(), Error>, budget: &Budget) -> Value {
        let gathered = self.gathered();
        let error = ended.as_ref().err();
        let steps: Vec<Value> = gathered.steps.iter().map(shown).collect();
        let count = |sample: Option<Sample>, what: fn(Sample) -> u64| sample.map(what);
        json!({
            "report": "podkit-drain",
            "version": env!("CARGO_PKG_VERSION"),
            "outcome": error.map_or("drained", Error::outcome),
            "exit_code": error.map_or(Exit::Done, |error| error.exit()) as u8,
            "message": error.map_or_else(|| "drained".to_owned(), ToString::to_string),
            "left": error.and_then(Error::left),
            "grace_seconds": seconds(budget.grace()),
            "budget_seconds": seconds(budget.whole()),
            "spent_seconds": seconds(budget.spent()),
            "source": gathered.source,
            "looks": gathered.looks,
            "first_look_seconds": gathered.first_after.map(|after| after.as_secs_f64()),
            "connections_at_start": count(gathered.first, |sample| sample.open),
            "connections_at_end": count(gathered.last, |sample| sample.open),
            "in_flight_at_start": count(gathered.first, |sample| sample.active),
            "in_flight_at_end": count(gathered.last, |sample| sample.active),
            "steps": steps,
        })
    }
}

fn shown(step: &StepFigures) -> Value {
    json!({
        "step": step.step,
        "result": match step.how {
            How::Done => "done",
            How::Skipped => "skipped",
            How::Failed => "failed",
        },
        "seconds": seconds(step.spent),
        "left_seconds": seconds(step.left),
        "detail": step.detail,
    })
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// Puts the report in place, whole or not at all, so that all may read it. Hooks of several containers may leave theirs in
/// one place: the last one stays.
///
/// # Errors
/// The directory is not there or not ours to write, or the volume is full.
pub(crate) fn leave(report: &str, path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    // Not the process's number: another container's hook may have the same one.
    let own = RandomState::new().hash_one(std::process::id());
    let temp = path.with_file_name(format!(".{}.{own:016x}.tmp", name.display()));
    let write = || {
        // Never one that is there, so that nothing is written through a link that somebody planted.
        let mut file: File = OpenOptions::new().write(true).create_new(true).open(&temp)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(report.as_bytes())?;
        file.write_all(b"\n")?;
        fs::rename(&temp, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temp)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Instant;

    fn budget() -> Budget {
        Budget::new(Instant::now(), Duration::from_secs(30), Duration::from_secs(5))
    }

    #[test]
    fn the_first_and_the_last_look_are_in_the_report() {
        let figures = Figures::default();
        for (active, open) in [(2, 5), (7, 9), (1, 3)] {
            figures.sample(Sample { active, open, since_new: None }, Duration::from_millis(active));
        }
        figures.source("the proxy".to_owned());
        figures.step(StepFigures {
            step: "then",
            how: How::Failed,
            spent: Duration::from_micros(1_234_567),
            left: Duration::from_secs(20),
            detail: "x".to_owned(),
        });
        let error = Error::Deadline { after: "25s".to_owned(), left: "3 connections".to_owned() };
        let report = figures.report(&Err(error), &budget());
        for (key, want) in [
            ("outcome", json!("deadline")),
            ("exit_code", json!(75)),
            ("left", json!("3 connections")),
            ("budget_seconds", json!(25.0)),
            ("source", json!("the proxy")),
            ("looks", json!(3)),
            ("first_look_seconds", json!(0.002)),
            ("connections_at_start", json!(5)),
            ("connections_at_end", json!(3)),
            ("in_flight_at_end", json!(1)),
        ] {
            assert_eq!(report[key], want, "{key}");
        }
        assert_eq!(
            report["steps"][0],
            json!({"step": "then", "result": "failed", "seconds": 1.234, "left_seconds": 20.0, "detail": "x"})
        );
    }

    #[test]
    fn without_a_look_the_figures_are_null() {
        let report = Figures::default().report(&Ok(()), &budget());
        assert_eq!((&report["outcome"], &report["exit_code"]), (&json!("drained"), &json!(0)));
        assert!(report["connections_at_end"].is_null() && report["source"].is_null());
    }

    #[test]
    fn a_report_replaces_the_last_one_and_leaves_no_debris() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("drain.json");
        for text in ["{\"a\":1}", "{}"] {
            leave(text, &path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{text}\n"));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        thread::scope(|scope| {
            let leave_some = || (0..50).for_each(|_| leave("{}", &path).unwrap());
            (0..4).for_each(|_| drop(scope.spawn(leave_some)));
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nor do several at once");
        for bad in ["/nowhere/at/all", "/", dir.path().to_str().unwrap()] {
            assert!(leave("{}", Path::new(bad)).is_err(), "{bad}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
