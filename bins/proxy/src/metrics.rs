//! What is counted, and the handles that the hot path counts with: no label is looked up per request.
//!
//! This file has what the whole process counts; `metrics::listener` and `metrics::upstream` have the families whose
//! series belong to one of the config's listeners and upstreams. Nothing else registers a family.

mod listener;
mod upstream;

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::config::Direction;
pub(crate) use listener::{ConnectionMetrics, HttpMetrics};
pub(crate) use upstream::UpstreamMetrics;

/// From half of a local round trip to a long poll.
const DURATION_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// All metric families.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    /// 1 while clients are sent away.
    pub(crate) draining: IntGauge,
    /// Lines of the access log that nobody took in time.
    pub(crate) access_log_dropped: IntCounter,
    config_reloads: IntCounterVec,
    listeners: listener::Families,
    upstreams: upstream::Families,
    certificate_expiry: IntGaugeVec,
    certificate_reloads: IntCounterVec,
}

/// Whose certificate it is that a metric tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Listener,
    Upstream,
}

/// The certificate of one listener, or the one that an upstream is shown.
#[derive(Debug)]
pub(crate) struct CertificateMetrics {
    /// Reads of changed files: `ok`, or `refused` where the old certificate stays.
    pub(crate) reloads: Labelled<2>,
    expiry: IntGaugeVec,
}

impl CertificateMetrics {
    /// Tells when it ends.
    pub(crate) fn expires(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let gauge = self.expiry.with_label_values(&self.reloads.first);
        gauge.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}

impl Drop for CertificateMetrics {
    /// An alert on a certificate that is no longer used would never end.
    fn drop(&mut self) {
        // Fails where there was none.
        let _ = self.expiry.remove_label_values(&self.reloads.first);
    }
}

/// Counters that have all labels but the last one; the last one's values are rare enough to be looked up.
#[derive(Debug)]
pub(crate) struct Labelled<const N: usize> {
    first: [String; N],
    family: IntCounterVec,
}

impl<const N: usize> Labelled<N> {
    fn new(first: [&str; N], family: &IntCounterVec) -> Self {
        Self { first: first.map(str::to_owned), family: family.clone() }
    }

    /// Counts one with this last label.
    pub(crate) fn count(&self, last: &str) {
        let labels: Vec<&str> = self.first.iter().map(String::as_str).chain([last]).collect();
        self.family.with_label_values(&labels).inc();
    }
}

/// One listener's or upstream's share of a family that is counted by reason or result.
pub(crate) type ByReason = Labelled<1>;

impl Metrics {
    pub(crate) fn new() -> Self {
        let families = Registrar(Registry::new());
        Self {
            draining: families
                .gauge("draining", "1 while clients are told to go away.", &[])
                .with_label_values::<&str>(&[]),
            access_log_dropped: families
                .counter("access_log_dropped_total", "Access log lines lost: nobody took them in time.", &[])
                .with_label_values::<&str>(&[]),
            config_reloads: families.counter(
                "config_reloads_total",
                "Changes of the config file: applied, or refused where the old one stays.",
                &["result"],
            ),
            listeners: listener::Families::new(&families),
            upstreams: upstream::Families::new(&families),
            certificate_expiry: families.gauge(
                "certificate_expiry_timestamp_seconds",
                "When the certificate of a listener, or the one shown to an upstream, ends.",
                &["role", "name"],
            ),
            certificate_reloads: families.counter(
                "certificate_reloads_total",
                "Reads of changed certificate files: ok, or refused where the old ones stay.",
                &["role", "name", "result"],
            ),
            registry: families.0,
        }
    }

    /// The handles of one listener.
    pub(crate) fn connections_of(&self, listener: &str, direction: Direction) -> ConnectionMetrics {
        self.listeners.connections_of(listener, direction)
    }

    /// The further handles of an HTTP listener.
    pub(crate) fn http_of(&self, listener: &str) -> HttpMetrics {
        self.listeners.http_of(listener)
    }

    /// The handles of one upstream.
    pub(crate) fn upstream_of(&self, upstream: &str) -> UpstreamMetrics {
        self.upstreams.of(upstream)
    }

    /// The handles of one certificate.
    pub(crate) fn certificate_of(&self, role: Role, name: &str) -> CertificateMetrics {
        let role = match role {
            Role::Listener => "listener",
            Role::Upstream => "upstream",
        };
        CertificateMetrics {
            expiry: self.certificate_expiry.clone(),
            reloads: Labelled::new([role, name], &self.certificate_reloads),
        }
    }

    /// Counts a change of the config file.
    pub(crate) fn config_changed(&self, is_applied: bool) {
        self.config_reloads.with_label_values(&[if is_applied { "applied" } else { "refused" }]).inc();
    }
}

/// Makes families, each with its prefix, and registers them.
#[derive(Debug)]
struct Registrar(Registry);

impl Registrar {
    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    fn duration(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts::from(opts(name, help)).buckets(DURATION_BUCKETS.to_vec());
        self.add(HistogramVec::new(opts, labels))
    }

    fn add<C: Collector + Clone + 'static>(&self, family: prometheus::Result<C>) -> C {
        let family = family.expect("the names of the families are valid");
        self.0.register(Box::new(family.clone())).expect("the names of the families differ");
        family
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("podkit_proxy_{name}"), help)
}
