//! The numbers of podkit-ship, `podkit_ship_…`. Handles are resolved once, so counting is one addition.

use std::sync::{Arc, Mutex, PoisonError};

use podkit_admin::metrics_text;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::ledger::{Ledger, Sums};
use crate::reading::Filled;

/// Seconds of a request, from a backend next door to one that is about to time out.
const BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// All metrics of the process.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) destinations: Vec<Arc<DestinationMetrics>>,
    pub(crate) saves_failed: IntCounter,
    open_files: IntGauge,
    bytes: IntGaugeVec,
    ledger: Arc<Ledger>,
}

/// The metrics of one destination, and what it last complained of.
pub(crate) struct DestinationMetrics {
    pub(crate) acknowledged_lines: IntCounter,
    pub(crate) sent_bytes: IntCounter,
    pub(crate) batches: IntCounter,
    pub(crate) buffered: IntGauge,
    pub(crate) seconds: Histogram,
    read_lines: IntCounter,
    split_lines: IntCounter,
    invalid_lines: IntCounter,
    up: IntGauge,
    refusals: IntCounterVec,
    name: String,
    trouble: Mutex<Option<String>>,
}

impl DestinationMetrics {
    /// Counts what a reader did.
    pub(crate) fn count(&self, filled: Filled) {
        self.read_lines.inc_by(filled.lines);
        self.split_lines.inc_by(filled.split);
        self.invalid_lines.inc_by(filled.invalid_utf8);
    }

    /// Counts a refusal and keeps what was said.
    pub(crate) fn refused(&self, reason: &str, message: &str) {
        self.refusals.with_label_values(&[self.name.as_str(), reason]).inc();
        self.up.set(0);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.to_owned());
    }

    /// The destination takes batches.
    pub(crate) fn settled(&self) {
        self.up.set(1);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the destination said last, while it takes no batches.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Metrics {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let by_destination = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["destination"])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge_by = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let read = by_destination("podkit_ship_read_lines_total", "Lines read from files.")?;
        let acknowledged = by_destination(
            "podkit_ship_acknowledged_lines_total",
            "Lines that the destination has acknowledged.",
        )?;
        let split = by_destination("podkit_ship_split_lines_total", "Pieces of lines longer than max_line.")?;
        let invalid = by_destination(
            "podkit_ship_invalid_utf8_lines_total",
            "Lines with bytes that were replaced for not being UTF-8.",
        )?;
        let sent = by_destination(
            "podkit_ship_sent_bytes_total",
            "Bytes of acknowledged batches as sent, compressed.",
        )?;
        let batches = by_destination("podkit_ship_requests_total", "Batches sent, each try counted.")?;
        let refusals = IntCounterVec::new(
            Opts::new(
                "podkit_ship_retries_total",
                "Batches that were not acknowledged and are sent again, by reason.",
            ),
            &["destination", "reason"],
        )?;
        registry.register(Box::new(refusals.clone()))?;
        let buffered = gauge_by(
            "podkit_ship_buffer_bytes",
            "Bytes of records read and not yet acknowledged.",
            &["destination"],
        )?;
        let up = gauge_by(
            "podkit_ship_destination_up",
            "1 while the destination takes batches, 0 while it refuses.",
            &["destination"],
        )?;
        let seconds = prometheus::HistogramVec::new(
            HistogramOpts::new(
                "podkit_ship_request_duration_seconds",
                "Time from sending a batch to its answer.",
            )
            .buckets(BUCKETS.to_vec()),
            &["destination"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let bytes = gauge_by(
            "podkit_ship_ledger_bytes",
            "The ledger: bytes read, and what became of them; read = acknowledged + filtered + dead_lettered + pending.",
            &["destination", "state"],
        )?;
        let saves_failed = IntCounter::new(
            "podkit_ship_checkpoint_failures_total",
            "Checkpoints that could not be written.",
        )?;
        let open_files = IntGauge::new("podkit_ship_open_files", "Files that are followed.")?;
        registry.register(Box::new(saves_failed.clone()))?;
        registry.register(Box::new(open_files.clone()))?;
        let destinations = ledger.destinations().iter().map(|name| {
            let labels = [name.as_str()];
            let up = up.with_label_values(&labels);
            up.set(1);
            Arc::new(DestinationMetrics {
                acknowledged_lines: acknowledged.with_label_values(&labels),
                sent_bytes: sent.with_label_values(&labels),
                batches: batches.with_label_values(&labels),
                buffered: buffered.with_label_values(&labels),
                seconds: seconds.with_label_values(&labels),
                read_lines: read.with_label_values(&labels),
                split_lines: split.with_label_values(&labels),
                invalid_lines: invalid.with_label_values(&labels),
                up,
                refusals: refusals.clone(),
                name: name.clone(),
                trouble: Mutex::default(),
            })
        });
        let destinations = destinations.collect();
        Ok(Self { registry, destinations, saves_failed, open_files, bytes, ledger })
    }

    /// All metrics in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        self.open_files.set(i64::try_from(self.ledger.followed()).unwrap_or(i64::MAX));
        for (index, name) in self.ledger.destinations().iter().enumerate() {
            let Sums { read, acknowledged, filtered, dead_lettered, pending } = self.ledger.total(index);
            for (state, bytes) in [
                ("read", read),
                ("acknowledged", acknowledged),
                ("filtered", filtered),
                ("dead_lettered", dead_lettered),
                ("pending", pending),
            ] {
                let gauge = self.bytes.with_label_values(&[name.as_str(), state]);
                gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
        }
        metrics_text(&self.registry)
    }
}
