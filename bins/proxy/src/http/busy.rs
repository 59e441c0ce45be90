//! A request in flight: counted for as long as it lives, also through a panic.

use std::rc::Rc;
use std::time::Instant;

use crate::guard::Permit;
use crate::listener::Service;
use crate::turn;

#[derive(Debug)]
pub(super) struct Busy {
    service: Rc<Service>,
    started: Instant,
    /// A probe holds the drain only while it is served.
    is_traffic: bool,
    /// Its place among those in flight, where they are limited.
    _permit: Option<Permit>,
}

impl Busy {
    /// A request whose head had arrived at `started`.
    pub(super) fn new(
        service: &Rc<Service>,
        started: Instant,
        is_traffic: bool,
        permit: Option<Permit>,
    ) -> Self {
        service.http().in_flight.inc();
        if is_traffic {
            service.listener.numbers.last_request.set(&service.worker.state, started);
        }
        Self { service: Rc::clone(service), started, is_traffic, _permit: permit }
    }

    /// Counts the time that the answer took.
    pub(super) fn ended(&self) {
        self.service
            .http()
            .duration
            .observe(turn::now().saturating_duration_since(self.started).as_secs_f64());
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.service.http().in_flight.dec();
        if self.is_traffic {
            self.service.listener.numbers.last_end.set(&self.service.worker.state, turn::now());
        }
    }
}
