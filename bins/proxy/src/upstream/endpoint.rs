//! One address of an upstream, and what is known of it: shared by all threads, in atomics.
//!
//! An endpoint outlives the answer of the DNS that brought it: one that a new answer still has keeps all it knows, and
//! one that is gone lives on in the connections to it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Stamp;
use super::balance::Member;
use super::eject::Accrual;
use super::health::{SharedVerdict, Verdict};
use super::latency::{FAILURE, Latency};

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum EndpointAddress {
    Tcp(SocketAddr),
    /// This port of 127.0.0.1 or, where nobody listens there, of ::1: one app, whichever it listens on.
    Localhost(u16),
    Unix(PathBuf),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(to, "{address}"),
            Self::Localhost(port) => write!(to, "localhost:{port}"),
            Self::Unix(path) => write!(to, "unix:{}", path.display()),
        }
    }
}

/// One address of an upstream.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: EndpointAddress,
    pub(super) verdict: SharedVerdict,
    pub(super) accrual: Accrual,
    latency: Latency,
    in_flight: AtomicU32,
    /// The last good answer, as a stamp and one more; zero is none.
    last_success: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Endpoint {
    pub(super) fn new(address: EndpointAddress) -> Self {
        Self {
            address,
            verdict: SharedVerdict::default(),
            accrual: Accrual::default(),
            latency: Latency::default(),
            in_flight: AtomicU32::new(0),
            last_success: AtomicU64::new(0),
            last_error: Mutex::default(),
        }
    }

    /// Whether it is to be given requests.
    pub(super) fn is_well(&self, now: Stamp) -> bool {
        self.verdict.get() != Verdict::Unhealthy && !self.accrual.is_ejected(now)
    }

    /// It works on one more.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// It works on one less.
    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// It has answered well.
    pub(super) fn succeeded(&self, took: Duration, now: Stamp) {
        self.latency.observe(took, now);
        self.accrual.succeeded();
        self.last_success.store(now.0 + 1, Ordering::Relaxed);
    }

    /// It has failed.
    pub(super) fn failed(&self, why: String, now: Stamp) {
        self.latency.observe(FAILURE, now);
        self.set_last_error(why);
    }

    pub(super) fn set_last_error(&self, why: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// What went wrong last, if ever.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has answered a request since then.
    pub(super) fn has_succeeded_since(&self, then: Stamp) -> bool {
        self.last_success.load(Ordering::Relaxed) > then.0
    }

    /// The average time of its answers, in milliseconds.
    pub(super) fn latency_ms(&self, now: Stamp) -> f32 {
        self.latency.micros(now) / 1e3
    }
}

impl Member for Endpoint {
    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn latency(&self, now: Stamp) -> f32 {
        self.latency.micros(now)
    }
}
