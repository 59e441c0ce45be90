//! The families of upstreams: what goes to them, what comes back, and who of them is well.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::listener::{CLASSES, class};
use super::{ByReason, Labelled, Registrar};

#[derive(Debug)]
pub(super) struct Families {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGaugeVec,
    connections: IntCounterVec,
    open: IntGaugeVec,
    connect_failures: IntCounterVec,
    handshakes: IntCounterVec,
    retries: IntCounterVec,
    retries_denied: IntCounterVec,
    endpoints: IntGaugeVec,
    ejections: IntCounterVec,
    health_checks: IntCounterVec,
    resolutions: IntCounterVec,
}

/// One upstream's share.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    requests: [IntCounter; CLASSES.len()],
    /// Time from a try's beginning to the first byte of its answer.
    pub(crate) duration: Histogram,
    pub(crate) in_flight: IntGauge,
    /// Connections made.
    pub(crate) connections: IntCounter,
    /// Connections open now, idle ones included.
    pub(crate) open: IntGauge,
    /// Tries to connect that failed.
    pub(crate) connect_failures: ByReason,
    /// TLS handshakes: `ok`, or why they failed.
    pub(crate) handshakes: ByReason,
    /// Requests sent once more, by why the last try counts for nothing.
    pub(crate) retries: ByReason,
    /// Retries that the budget forbade.
    pub(crate) retries_denied: IntCounter,
    /// Known addresses that are well.
    pub(crate) healthy: IntGauge,
    /// Known addresses whose health checks fail.
    pub(crate) unhealthy: IntGauge,
    /// Known addresses that are left out for a while.
    pub(crate) ejected: IntGauge,
    pub(crate) ejections: IntCounter,
    /// Active checks: `ok`, or why they failed.
    pub(crate) health_checks: ByReason,
    /// Queries for the name: `ok`, or why they failed.
    pub(crate) resolutions: ByReason,
}

impl Families {
    pub(super) fn new(families: &Registrar) -> Self {
        let by_upstream: &[&str] = &["upstream"];
        let by_result: &[&str] = &["upstream", "result"];
        let by_reason: &[&str] = &["upstream", "reason"];
        Self {
            requests: families.counter(
                "upstream_requests_total",
                "Answers of the upstream, by status class, those that a retry replaced included.",
                &["upstream", "code"],
            ),
            duration: families.duration(
                "upstream_request_duration_seconds",
                "Time from a request's head to the first byte of the upstream's answer.",
                by_upstream,
            ),
            in_flight: families.gauge(
                "upstream_in_flight_requests",
                "Requests that the upstream is serving now.",
                by_upstream,
            ),
            connections: families.counter(
                "upstream_connections_total",
                "Connections made to the upstream.",
                by_upstream,
            ),
            open: families.gauge(
                "upstream_open_connections",
                "Connections to the upstream open now, idle ones included.",
                by_upstream,
            ),
            connect_failures: families.counter(
                "upstream_connect_failures_total",
                "Tries to connect to the upstream that failed.",
                by_reason,
            ),
            handshakes: families.counter(
                "upstream_tls_handshakes_total",
                "TLS handshakes with the upstream: ok, or why they failed.",
                by_result,
            ),
            retries: families.counter(
                "upstream_retries_total",
                "Requests sent to the upstream once more.",
                by_reason,
            ),
            retries_denied: families.counter(
                "upstream_retries_denied_total",
                "Requests that were not sent once more because the retry budget was spent.",
                by_upstream,
            ),
            endpoints: families.gauge(
                "upstream_endpoints",
                "Known addresses of the upstream, by state.",
                &["upstream", "state"],
            ),
            ejections: families.counter(
                "upstream_ejections_total",
                "Addresses left out for a while because they failed too often.",
                by_upstream,
            ),
            health_checks: families.counter(
                "upstream_health_checks_total",
                "Active health checks: ok, or why they failed.",
                by_result,
            ),
            resolutions: families.counter(
                "dns_resolutions_total",
                "Queries for the upstream's name: ok, or why they failed.",
                by_result,
            ),
        }
    }

    pub(super) fn of(&self, upstream: &str) -> UpstreamMetrics {
        let counter = |family: &IntCounterVec| family.with_label_values(&[upstream]);
        let gauge = |family: &IntGaugeVec| family.with_label_values(&[upstream]);
        let endpoints = |state: &str| self.endpoints.with_label_values(&[upstream, state]);
        let labelled = |family: &IntCounterVec| Labelled::new([upstream], family);
        UpstreamMetrics {
            requests: CLASSES.map(|class| self.requests.with_label_values(&[upstream, class])),
            duration: self.duration.with_label_values(&[upstream]),
            in_flight: gauge(&self.in_flight),
            connections: counter(&self.connections),
            open: gauge(&self.open),
            connect_failures: labelled(&self.connect_failures),
            handshakes: labelled(&self.handshakes),
            retries: labelled(&self.retries),
            retries_denied: counter(&self.retries_denied),
            healthy: endpoints("healthy"),
            unhealthy: endpoints("unhealthy"),
            ejected: endpoints("ejected"),
            ejections: counter(&self.ejections),
            health_checks: labelled(&self.health_checks),
            resolutions: labelled(&self.resolutions),
        }
    }
}

impl Drop for UpstreamMetrics {
    /// Nobody sets them any more: an alert on an upstream that is gone would never end. Those of another one of this name
    /// are set again before they are read.
    fn drop(&mut self) {
        for gauge in [&self.healthy, &self.unhealthy, &self.ejected, &self.in_flight] {
            gauge.set(0);
        }
    }
}

impl UpstreamMetrics {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: u16) {
        self.requests[class(status)].inc();
    }
}
