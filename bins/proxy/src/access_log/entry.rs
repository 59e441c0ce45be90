//! One request, or one TCP connection, on its way into the log.
//!
//! Written when it is dropped, so that nothing that began is missing: neither what a panic ends nor what the end of a
//! stop cuts off.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Line;
use crate::arrival::Peer;
use crate::listener::Service;
use crate::upstream::Endpoint;

/// The reason of what had no end of its own: the process ended, or a bug ended it.
const CUT_OFF: &str = "cut_off";

#[derive(Debug)]
pub(crate) struct Entry {
    service: Rc<Service>,
    /// Taken when it is written.
    line: Option<Line>,
    began: Instant,
    status: Cell<Option<u16>>,
    /// What went wrong.
    reason: Cell<Option<&'static str>>,
    pub(crate) bytes: Bytes,
    upstream: RefCell<Option<Arc<Endpoint>>>,
    latency: Cell<Option<Duration>>,
    retries: Cell<u32>,
}

/// What was carried.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    /// From the client.
    pub(crate) received: Cell<u64>,
    /// To the client.
    pub(crate) sent: Cell<u64>,
}

impl Entry {
    /// One that begins now, where the listener has a log.
    pub(crate) fn begin(service: &Rc<Service>, peer: &Peer) -> Option<Box<Self>> {
        let config = &service.listener.config;
        if config.access_log.per_10_000 == 0 {
            return None;
        }
        let mut line = service.worker.log.begin();
        line.time("time", SystemTime::now());
        line.text("listener", config.name.as_bytes());
        line.text("direction", config.direction.as_str().as_bytes());
        if let Some(address) = peer.address {
            line.address("peer", &address);
        }
        let subject = peer.certificate.as_ref().map(|certified| certified.subject.as_str());
        for (key, value) in [("tls", peer.tls_version), ("client_cert", subject)] {
            if let Some(value) = value {
                line.text(key, value.as_bytes());
            }
        }
        Some(Box::new(Self {
            service: Rc::clone(service),
            line: Some(line),
            began: Instant::now(),
            status: Cell::new(None),
            reason: Cell::new(Some(CUT_OFF)),
            bytes: Bytes::default(),
            upstream: RefCell::default(),
            latency: Cell::new(None),
            retries: Cell::new(0),
        }))
    }

    pub(crate) fn line(&mut self) -> &mut Line {
        self.line.as_mut().expect("it is written when it is dropped, and not before")
    }

    /// It goes to this address; the last one counts.
    pub(crate) fn goes_to(&self, endpoint: &Arc<Endpoint>) {
        *self.upstream.borrow_mut() = Some(Arc::clone(endpoint));
    }

    /// It is sent once more.
    pub(crate) fn is_retried(&self) {
        self.retries.set(self.retries.get() + 1);
    }

    /// The client is answered, at least in part; `latency` is how long an upstream took for the first byte of that.
    pub(crate) fn answered(&self, status: u16, latency: Option<Duration>) {
        self.status.set(Some(status));
        self.latency.set(latency);
    }

    /// It is over; `reason` is what went wrong, if anything did.
    pub(crate) fn ended(&self, reason: Option<&'static str>) {
        self.reason.set(reason);
    }

    /// Whether it is in the log also where that is a sample.
    fn is_failure(&self) -> bool {
        self.reason.get().is_some() || self.status.get().is_some_and(|status| status >= 500)
    }

    fn finish(&self, line: &mut Line) {
        if let Some(status) = self.status.get() {
            line.number("status", status.into());
        }
        if let Some(reason) = self.reason.get() {
            line.text("reason", reason.as_bytes());
        }
        line.number("request_bytes", self.bytes.received.get());
        line.number("response_bytes", self.bytes.sent.get());
        line.millis("duration_ms", self.began.elapsed());
        if let Some(endpoint) = &*self.upstream.borrow() {
            line.address("upstream", &endpoint.address);
        }
        if let Some(latency) = self.latency.get() {
            line.millis("upstream_ms", latency);
        }
        if self.retries.get() > 0 {
            line.number("retries", self.retries.get().into());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(mut line) = self.line.take() else { return };
        let (worker, share) = (&self.service.worker, self.service.listener.config.access_log.per_10_000);
        if self.is_failure() || fastrand::u16(..10_000) < share {
            self.finish(&mut line);
            worker.log.put(line, &worker.state.access_log);
        } else {
            worker.log.discard(line);
        }
    }
}
