//! The families of listeners: what comes from clients and goes back to them.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{ByReason, Labelled, Registrar};
use crate::config::Direction;

/// The status classes, in the order of [`HttpMetrics::requests`].
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a status in [`CLASSES`].
pub(super) fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, CLASSES.len()) - 1
}

#[derive(Debug)]
pub(super) struct Families {
    connections: IntCounterVec,
    open: IntGaugeVec,
    refused_connections: IntCounterVec,
    handshakes: IntCounterVec,
    requests: IntCounterVec,
    in_flight: IntGaugeVec,
    queued: IntGaugeVec,
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
    /// Connections closed before anything of them was carried.
    pub(crate) refused: ByReason,
    /// TLS handshakes: `ok`, or why they failed.
    pub(crate) handshakes: ByReason,
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
    /// Requests that wait for one in flight to end.
    pub(crate) queued: IntGauge,
    pub(crate) duration: Histogram,
    requests: [IntCounter; CLASSES.len()],
    pub(crate) refused: ByReason,
}

impl Families {
    pub(super) fn new(families: &Registrar) -> Self {
        let by_listener: &[&str] = &["listener"];
        let by_reason: &[&str] = &["listener", "reason"];
        Self {
            connections: families.counter(
                "connections_total",
                "Connections accepted.",
                &["listener", "direction"],
            ),
            open: families.gauge("open_connections", "Client connections open now.", by_listener),
            refused_connections: families.counter(
                "refused_connections_total",
                "Connections closed before anything of them was carried, by the rule they broke.",
                by_reason,
            ),
            handshakes: families.counter(
                "tls_handshakes_total",
                "TLS handshakes of clients: ok, or why they failed.",
                &["listener", "result"],
            ),
            requests: families.counter(
                "requests_total",
                "Requests answered, by status class.",
                &["listener", "code"],
            ),
            in_flight: families.gauge(
                "in_flight_requests",
                "Requests being served now, upgraded connections included.",
                by_listener,
            ),
            queued: families.gauge(
                "queued_requests",
                "Requests that wait for one in flight to end.",
                by_listener,
            ),
            received: families.counter("received_bytes_total", "Bytes received from clients.", by_listener),
            sent: families.counter("sent_bytes_total", "Bytes sent to clients.", by_listener),
            duration: families.duration(
                "request_duration_seconds",
                "Time from a request's head to the end of its answer.",
                by_listener,
            ),
            refused: families.counter(
                "refused_requests_total",
                "Requests refused, by the rule they broke.",
                by_reason,
            ),
            upstream_errors: families.counter(
                "upstream_errors_total",
                "Failures of the upstream, by kind.",
                by_reason,
            ),
        }
    }

    pub(super) fn connections_of(&self, listener: &str, direction: Direction) -> ConnectionMetrics {
        ConnectionMetrics {
            accepted: self.connections.with_label_values(&[listener, direction.as_str()]),
            open: self.open.with_label_values(&[listener]),
            refused: Labelled::new([listener], &self.refused_connections),
            handshakes: Labelled::new([listener], &self.handshakes),
            received: self.received.with_label_values(&[listener]),
            sent: self.sent.with_label_values(&[listener]),
            upstream_errors: Labelled::new([listener], &self.upstream_errors),
        }
    }

    pub(super) fn http_of(&self, listener: &str) -> HttpMetrics {
        HttpMetrics {
            in_flight: self.in_flight.with_label_values(&[listener]),
            queued: self.queued.with_label_values(&[listener]),
            duration: self.duration.with_label_values(&[listener]),
            requests: CLASSES.map(|class| self.requests.with_label_values(&[listener, class])),
            refused: Labelled::new([listener], &self.refused),
        }
    }
}

impl HttpMetrics {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: u16) {
        self.requests[class(status)].inc();
    }

    /// Requests answered so far.
    pub(crate) fn total(&self) -> u64 {
        self.requests.iter().map(IntCounter::get).sum()
    }
}
