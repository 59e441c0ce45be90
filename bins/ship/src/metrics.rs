//! The numbers of podkit-ship, `podkit_ship_…`. Handles are resolved once, so counting is one addition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use podkit_admin::metrics_text;
use prometheus::{
    Counter, CounterVec, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use crate::filter::Reason;
use crate::ledger::{Ledger, Sums};
use crate::reading::Filled;

/// Seconds of a request, from a backend next door to one that is about to time out.
const BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// How often the config changed; outlives each config.
#[derive(Clone)]
pub(crate) struct Reloads {
    pub(crate) taken: IntCounter,
    pub(crate) refused: IntCounter,
    all: IntCounterVec,
}

impl Reloads {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let help = "Changes of the config file, by whether they were taken.";
        let all = IntCounterVec::new(Opts::new("podkit_ship_config_reloads_total", help), &["result"])?;
        let (taken, refused) = (all.with_label_values(&["taken"]), all.with_label_values(&["refused"]));
        Ok(Self { taken, refused, all })
    }
}

/// All metrics of the process.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) destinations: Vec<Arc<DestinationMetrics>>,
    pub(crate) saves_failed: IntCounter,
    open_files: IntGauge,
    disk: [IntGauge; 2],
    reclaimed: [IntCounter; 4],
    bytes: IntGaugeVec,
    lag_bytes: IntGaugeVec,
    lag_seconds: GaugeVec,
    ledger: Arc<Ledger>,
}

/// The metrics of one destination, and what it last complained of.
pub(crate) struct DestinationMetrics {
    pub(crate) acknowledged_lines: IntCounter,
    pub(crate) sent_bytes: IntCounter,
    pub(crate) batches: IntCounter,
    pub(crate) buffered: IntGauge,
    pub(crate) in_flight: IntGauge,
    /// How many requests may be on their way at once.
    pub(crate) limit: IntGauge,
    /// Seconds in which nothing was read, since all places for requests were taken.
    pub(crate) paused: Counter,
    pub(crate) dead_letters: IntCounter,
    pub(crate) seconds: Histogram,
    read_lines: IntCounter,
    split_lines: IntCounter,
    invalid_lines: IntCounter,
    unparsed_lines: IntCounter,
    redactions: IntCounter,
    filtered: [IntCounter; Reason::ALL.len()],
    up: IntGauge,
    refusals: IntCounterVec,
    retries: AtomicU64,
    name: String,
    trouble: Mutex<Option<String>>,
}

impl DestinationMetrics {
    /// Counts what a reader did.
    pub(crate) fn count(&self, filled: &Filled) {
        let filtered: u64 = filled.filtered.iter().sum();
        self.read_lines.inc_by(filled.events + filtered);
        self.split_lines.inc_by(filled.split);
        self.invalid_lines.inc_by(filled.invalid_utf8);
        self.unparsed_lines.inc_by(filled.unparsed);
        self.redactions.inc_by(filled.redacted);
        for (counter, events) in self.filtered.iter().zip(filled.filtered) {
            counter.inc_by(events);
        }
    }

    /// Counts a refusal and keeps what was said.
    pub(crate) fn refused(&self, reason: &str, message: &str) {
        self.repeated(reason);
        self.troubled(message);
    }

    /// Counts a batch that is sent again.
    pub(crate) fn repeated(&self, reason: &str) {
        self.refusals.with_label_values(&[self.name.as_str(), reason]).inc();
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The destination takes no batches, and says why.
    pub(crate) fn troubled(&self, message: &str) {
        self.up.set(0);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.to_owned());
    }

    /// How often a batch was not acknowledged and is sent again, whatever the reason.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// A request is on its way for as long as the guard lives.
    pub(crate) fn sending(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
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

/// A request on its way.
pub(crate) struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new(ledger: Arc<Ledger>, reloads: &Reloads) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(reloads.all.clone()))?;
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
        let unparsed = by_destination(
            "podkit_ship_unparsed_lines_total",
            "Lines that were not of the source's format and were taken as text.",
        )?;
        let redactions =
            by_destination("podkit_ship_redactions_total", "Secrets that were replaced before sending.")?;
        let dead_letters = by_destination(
            "podkit_ship_dead_letters_total",
            "Events that the destination refused for good, kept in the dead-letter file.",
        )?;
        let filtered = IntCounterVec::new(
            Opts::new("podkit_ship_filtered_lines_total", "Events held back by the source's rules, by rule."),
            &["destination", "reason"],
        )?;
        registry.register(Box::new(filtered.clone()))?;
        let paused = CounterVec::new(
            Opts::new(
                "podkit_ship_paused_seconds_total",
                "Time in which nothing was read for the destination, since as much was on its way as may be.",
            ),
            &["destination"],
        )?;
        registry.register(Box::new(paused.clone()))?;
        let limit = gauge_by(
            "podkit_ship_requests_limit",
            "Requests that may be in flight at once, as the backend keeps up.",
            &["destination"],
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
        let in_flight = gauge_by(
            "podkit_ship_requests_in_flight",
            "Requests that are sent and not answered.",
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
        let lag_bytes = gauge_by(
            "podkit_ship_lag_bytes",
            "Bytes that the files hold and the destination has not settled.",
            &["destination"],
        )?;
        let lag_seconds = GaugeVec::new(
            Opts::new("podkit_ship_lag_seconds", "Age of the oldest of these bytes; 0 while there are none."),
            &["destination"],
        )?;
        registry.register(Box::new(lag_seconds.clone()))?;
        let saves_failed = IntCounter::new(
            "podkit_ship_checkpoint_failures_total",
            "Checkpoints that could not be written.",
        )?;
        let open_files = IntGauge::new("podkit_ship_open_files", "Files that are followed.")?;
        registry.register(Box::new(saves_failed.clone()))?;
        registry.register(Box::new(open_files.clone()))?;
        let number = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let disk = [
            number("podkit_ship_deleted_files", "Deleted files that are open still.")?,
            number("podkit_ship_deleted_bytes", "What deleted files that are open still hold on disk.")?,
        ];
        let reclaimed = [
            counter("podkit_ship_punched_bytes_total", "Bytes on disk that were freed of live files.")?,
            counter("podkit_ship_removed_files_total", "Rotated files that were removed once acknowledged.")?,
            counter("podkit_ship_removed_bytes_total", "What the removed files held on disk.")?,
            counter("podkit_ship_lost_bytes_total", "Bytes of files that went before they were delivered.")?,
        ];
        let destinations = ledger.destinations().iter().map(|name| {
            let labels = [name.as_str()];
            let up = up.with_label_values(&labels);
            up.set(1);
            Arc::new(DestinationMetrics {
                acknowledged_lines: acknowledged.with_label_values(&labels),
                sent_bytes: sent.with_label_values(&labels),
                batches: batches.with_label_values(&labels),
                buffered: buffered.with_label_values(&labels),
                in_flight: in_flight.with_label_values(&labels),
                limit: limit.with_label_values(&labels),
                paused: paused.with_label_values(&labels),
                dead_letters: dead_letters.with_label_values(&labels),
                seconds: seconds.with_label_values(&labels),
                read_lines: read.with_label_values(&labels),
                split_lines: split.with_label_values(&labels),
                invalid_lines: invalid.with_label_values(&labels),
                unparsed_lines: unparsed.with_label_values(&labels),
                redactions: redactions.with_label_values(&labels),
                filtered: Reason::ALL
                    .map(|reason| filtered.with_label_values(&[name.as_str(), reason.name()])),
                up,
                refusals: refusals.clone(),
                retries: AtomicU64::new(0),
                name: name.clone(),
                trouble: Mutex::default(),
            })
        });
        let destinations = destinations.collect();
        Ok(Self {
            registry,
            destinations,
            saves_failed,
            open_files,
            disk,
            reclaimed,
            bytes,
            lag_bytes,
            lag_seconds,
            ledger,
        })
    }

    /// All metrics in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        self.open_files.set(i64::try_from(self.ledger.followed()).unwrap_or(i64::MAX));
        let disk = &self.ledger.disk;
        for (gauge, number) in self.disk.iter().zip([&disk.held_files, &disk.held_bytes]) {
            gauge.set(i64::try_from(number.get()).unwrap_or(i64::MAX));
        }
        let numbers = [&disk.punched, &disk.removed_files, &disk.removed_bytes, &disk.lost];
        for (counter, number) in self.reclaimed.iter().zip(numbers) {
            counter.inc_by(number.get().saturating_sub(counter.get()));
        }
        let now = Instant::now();
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
            self.lag_bytes.with_label_values(&[name]).set(i64::try_from(pending).unwrap_or(i64::MAX));
            self.lag_seconds.with_label_values(&[name]).set(self.ledger.lag(index, now).as_secs_f64());
        }
        metrics_text(&self.registry)
    }
}
