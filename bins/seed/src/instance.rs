//! What podkit-seed tells on its admin port with `--watch`. Reads shared state; never waits for the loop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use podkit_admin::{Instance, Reasons};
use podkit_lifecycle::{Phase, SharedPhase, Signals};
use serde_json::{Value, json};

use crate::metrics::Metrics;
use crate::plan::Change;
use crate::seed::Outcome;

/// How late the loop may be before it counts as stuck; a disk that hangs for this long has stopped it.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// An answer on loopback takes less than a millisecond, on a machine that has one to spare.
const ANSWER: Duration = Duration::from_millis(200);

/// A podkit-seed that stays, as the admin port sees it.
#[derive(Debug)]
pub(crate) struct Seeder {
    pub(crate) phase: SharedPhase,
    pub(crate) metrics: Metrics,
    signals: Arc<Signals>,
    /// Whether the end was asked for on the admin port.
    is_asked: AtomicBool,
    start: Instant,
    /// In milliseconds since the start: when the loop says at the latest that it still turns.
    due: AtomicU64,
    view: Mutex<View>,
}

#[derive(Debug, Default)]
struct View {
    generation: Option<String>,
    files: BTreeMap<String, FileView>,
    last_error: Option<String>,
    next_retry: Option<Instant>,
    polling: bool,
}

#[derive(Debug)]
struct FileView {
    size: u64,
    /// `None` for a file that was there before this process.
    changed: Option<Instant>,
}

impl Seeder {
    pub(crate) fn new(signals: &Arc<Signals>) -> Self {
        Self {
            phase: SharedPhase::default(),
            metrics: Metrics::new().expect("each metric has a valid name of its own"),
            signals: Arc::clone(signals),
            is_asked: AtomicBool::new(false),
            start: Instant::now(),
            due: AtomicU64::new(u64::MAX),
            view: Mutex::default(),
        }
    }

    /// The loop turns, and does so again within this time.
    pub(crate) fn expect_turn_within(&self, time: Duration) {
        let due = (self.start.elapsed() + time).as_millis();
        self.due.store(u64::try_from(due).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// A pass went well.
    pub(crate) fn passed(&self, outcome: &Outcome) {
        self.metrics.passed(outcome);
        let mut view = self.view();
        view.generation.clone_from(&outcome.generation);
        view.last_error = None;
        view.next_retry = None;
        let now = Instant::now();
        let mut old = std::mem::take(&mut view.files);
        for (path, (change, size)) in &outcome.files {
            let path = path.to_string();
            let changed = match change {
                Change::Removed => continue,
                Change::Unchanged => old.remove(&path).and_then(|file| file.changed),
                Change::Created | Change::Changed => Some(now),
            };
            view.files.insert(path, FileView { size: *size, changed });
        }
    }

    /// A pass failed and is tried again then.
    pub(crate) fn failed(&self, error: String, next_retry: Instant) {
        self.metrics.pass_failed();
        let mut view = self.view();
        view.last_error = Some(error);
        view.next_retry = Some(next_retry);
    }

    /// How changes are found.
    pub(crate) fn watches(&self, polling: bool) {
        self.metrics.polling.set(polling.into());
        self.view().polling = polling;
    }

    /// Leaves whoever asked for the end the time to get the answer.
    pub(crate) fn finish(&self) {
        self.phase.set(Phase::Stopping);
        if self.is_asked.load(Ordering::Acquire) {
            std::thread::sleep(ANSWER);
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instance for Seeder {
    fn live(&self) -> Reasons {
        let due = Duration::from_millis(self.due.load(Ordering::Acquire));
        let late = self.start.elapsed().saturating_sub(due);
        if late < STUCK_AFTER {
            Vec::new()
        } else {
            vec![format!("the main loop is late by {} s; is a disk stuck?", late.as_secs())]
        }
    }

    /// A pass that fails later is no reason: what was in force stays.
    fn ready(&self) -> Reasons {
        match self.phase.get() {
            Phase::Starting => vec!["nothing is seeded yet".to_owned()],
            _ => Vec::new(),
        }
    }

    fn startup(&self) -> Reasons {
        self.ready()
    }

    fn metrics(&self) -> String {
        self.metrics.text()
    }

    fn status(&self) -> Value {
        let view = self.view();
        let now = Instant::now();
        let files = view.files.iter().map(|(path, file)| {
            let changed = file.changed.map(|at| seconds(now.saturating_duration_since(at)));
            json!({ "path": path, "size": file.size, "changed_seconds_ago": changed })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "phase": self.phase.get().to_string(),
            "uptime": seconds(self.start.elapsed()),
            "generation": view.generation,
            "watching": if view.polling { "polling" } else { "inotify" },
            "last_error": view.last_error,
            "next_retry_seconds": view.next_retry.map(|at| seconds(at.saturating_duration_since(now))),
            "files": files.collect::<Vec<_>>(),
        })
    }

    fn quit(&self) {
        tracing::info!("asked to quit: stopping");
        self.is_asked.store(true, Ordering::Release);
        self.signals.begin_stop();
    }
}

/// In seconds, to the tenth.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_very_late_is_not_live() {
        let state = Seeder::new(&Arc::new(Signals::install().unwrap()));
        assert_eq!(state.live(), Reasons::new());
        state.expect_turn_within(Duration::ZERO);
        assert_eq!(state.live(), Reasons::new());
        let late = Seeder { start: Instant::now() - 2 * STUCK_AFTER, ..state };
        assert_eq!(late.live(), ["the main loop is late by 120 s; is a disk stuck?"]);
    }
}
