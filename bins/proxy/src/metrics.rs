//! What is counted, and the handles that the hot path counts with: no label is looked up per request.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::config::Direction;

/// From half of a local round trip to a long poll.
const DURATION_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The status classes, in the order of [`HttpMetrics::requests`].
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// All metric families.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    /// 1 while clients are sent away.
    pub(crate) draining: IntGauge,
    pub(crate) upstream_retries: IntCounter,
    connections: IntCounterVec,
    open: IntGaugeVec,
    requests: IntCounterVec,
    in_flight: IntGaugeVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    duration: HistogramVec,
    refused: IntCounterVec,
    upstream_errors: IntCounterVec,
}

/// One listener's share that both protocols have.
#[derive(Debug)]
pub(crate) struct ConnectionMetrics {
    pub(crate) accepted: IntCounter,
    pub(crate) open: IntGauge,
    /// Bytes from clients.
    pub(crate) received: IntCounter,
    /// Bytes to clients.
    pub(crate) sent: IntCounter,
    pub(crate) upstream_errors: ByReason,
}

/// One HTTP listener's share.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    pub(crate) in_flight: IntGauge,
    pub(crate) duration: Histogram,
    requests: [IntCounter; CLASSES.len()],
    pub(crate) refused: ByReason,
}

/// One listener's share of a family that is counted by reason.
#[derive(Debug)]
pub(crate) struct ByReason {
    listener: String,
    family: IntCounterVec,
}

impl ByReason {
    fn new(listener: &str, family: &IntCounterVec) -> Self {
        Self { listener: listener.to_owned(), family: family.clone() }
    }

    /// Counts one; what has a reason is rare, so the label may be looked up.
    pub(crate) fn count(&self, reason: &str) {
        self.family.with_label_values(&[self.listener.as_str(), reason]).inc();
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let opts = |name: &str, help: &str| Opts::new(format!("podkit_proxy_{name}"), help);
        let counter = |name: &str, help: &str, labels: &[&str]| {
            add(&registry, IntCounterVec::new(opts(name, help), labels))
        };
        let gauge =
            |name: &str, help: &str| add(&registry, IntGaugeVec::new(opts(name, help), &["listener"]));
        let by_listener: &[&str] = &["listener"];
        let by_reason: &[&str] = &["listener", "reason"];
        let duration = HistogramOpts::from(opts(
            "request_duration_seconds",
            "Time from a request's head to the end of its answer.",
        ))
        .buckets(DURATION_BUCKETS.to_vec());
        Self {
            draining: add(
                &registry,
                IntGauge::with_opts(opts("draining", "1 while clients are told to go away.")),
            ),
            upstream_retries: add(
                &registry,
                IntCounter::with_opts(opts(
                    "upstream_retries_total",
                    "Requests sent again because a pooled connection had ended.",
                )),
            ),
            connections: counter("connections_total", "Connections accepted.", &["listener", "direction"]),
            open: gauge("open_connections", "Client connections open now."),
            requests: counter("requests_total", "Requests answered, by status class.", &["listener", "code"]),
            in_flight: gauge(
                "in_flight_requests",
                "Requests being served now, upgraded connections included.",
            ),
            received: counter("received_bytes_total", "Bytes received from clients.", by_listener),
            sent: counter("sent_bytes_total", "Bytes sent to clients.", by_listener),
            duration: add(&registry, HistogramVec::new(duration, by_listener)),
            refused: counter(
                "refused_requests_total",
                "Requests refused, by the rule they broke.",
                by_reason,
            ),
            upstream_errors: counter(
                "upstream_errors_total",
                "Failures of the upstream, by kind.",
                by_reason,
            ),
            registry,
        }
    }

    /// The handles of one listener.
    pub(crate) fn connections_of(&self, listener: &str, direction: Direction) -> ConnectionMetrics {
        ConnectionMetrics {
            accepted: self.connections.with_label_values(&[listener, direction.as_str()]),
            open: self.open.with_label_values(&[listener]),
            received: self.received.with_label_values(&[listener]),
            sent: self.sent.with_label_values(&[listener]),
            upstream_errors: ByReason::new(listener, &self.upstream_errors),
        }
    }

    /// The further handles of an HTTP listener.
    pub(crate) fn http_of(&self, listener: &str) -> HttpMetrics {
        HttpMetrics {
            in_flight: self.in_flight.with_label_values(&[listener]),
            duration: self.duration.with_label_values(&[listener]),
            requests: CLASSES.map(|class| self.requests.with_label_values(&[listener, class])),
            refused: ByReason::new(listener, &self.refused),
        }
    }
}

/// Registers a family.
fn add<C: Collector + Clone + 'static>(registry: &Registry, family: prometheus::Result<C>) -> C {
    let family = family.expect("the names above are valid");
    registry.register(Box::new(family.clone())).expect("the names above differ");
    family
}

impl HttpMetrics {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[class].inc();
    }

    /// Requests answered so far.
    pub(crate) fn total(&self) -> u64 {
        self.requests.iter().map(IntCounter::get).sum()
    }
}
