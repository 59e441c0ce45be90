//! The numbers of podkit-seed, `podkit_seed_…`, with `--watch`. Handles are resolved once.

use std::time::{SystemTime, UNIX_EPOCH};

use podkit_admin::metrics_text;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::plan::Change;
use crate::seed::Outcome;

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    changed: IntCounter,
    unchanged: IntCounter,
    failed: IntCounter,
    pub(crate) delivered: IntCounter,
    pub(crate) undelivered: IntCounter,
    pub(crate) configs_taken: IntCounter,
    pub(crate) configs_refused: IntCounter,
    file_changes: [(Change, IntCounter); 3],
    files: IntGauge,
    bytes: IntGauge,
    failing: IntGauge,
    pub(crate) polling: IntGauge,
    last_success: Gauge,
    last_seconds: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let number = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let seconds = |name: &str, help: &str| {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let passes = counters("podkit_seed_passes_total", "Seedings, by result.", "result")?;
        let changes = counters("podkit_seed_file_changes_total", "Changes of files, by kind.", "change")?;
        let help = "Tries to tell the app of a change, by result.";
        let notifications = counters("podkit_seed_notifications_total", help, "result")?;
        let help = "Changes of the config file, by whether they were taken.";
        let configs = counters("podkit_seed_config_reloads_total", help, "result")?;
        Ok(Self {
            changed: passes.with_label_values(&["changed"]),
            unchanged: passes.with_label_values(&["unchanged"]),
            failed: passes.with_label_values(&["failed"]),
            delivered: notifications.with_label_values(&["delivered"]),
            undelivered: notifications.with_label_values(&["failed"]),
            configs_taken: configs.with_label_values(&["taken"]),
            configs_refused: configs.with_label_values(&["refused"]),
            file_changes: [Change::Created, Change::Changed, Change::Removed]
                .map(|change| (change, changes.with_label_values(&[change.as_str()]))),
            files: number("podkit_seed_files", "Files in force.")?,
            bytes: number("podkit_seed_bytes", "Size of the files in force.")?,
            failing: number(
                "podkit_seed_failing",
                "1 while the last seeding failed and old files stay, else 0.",
            )?,
            polling: number(
                "podkit_seed_polling",
                "1 while inputs are polled, since inotify does not serve, else 0.",
            )?,
            last_success: seconds(
                "podkit_seed_last_success_timestamp_seconds",
                "When files were last found or made to be as the config says.",
            )?,
            last_seconds: seconds(
                "podkit_seed_last_duration_seconds",
                "Time that the last good seeding took.",
            )?,
            registry,
        })
    }

    /// A pass went well.
    pub(crate) fn passed(&self, outcome: &Outcome) {
        if outcome.has_changes() { &self.changed } else { &self.unchanged }.inc();
        for (change, counter) in &self.file_changes {
            counter.inc_by(outcome.count(*change) as u64);
        }
        let files = outcome.files.len() - outcome.count(Change::Removed);
        self.files.set(i64::try_from(files).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(outcome.bytes()).unwrap_or(i64::MAX));
        self.failing.set(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.set(now.as_secs_f64());
        self.last_seconds.set(outcome.took().as_secs_f64());
    }

    /// A pass failed.
    pub(crate) fn pass_failed(&self) {
        self.failed.inc();
        self.failing.set(1);
    }

    /// All metrics in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        metrics_text(&self.registry)
    }
}
