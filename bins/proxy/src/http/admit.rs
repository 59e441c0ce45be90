//! Whether a request may be carried now: the listener's rates, and its turn where only so many are in flight.

use std::future::Future as _;
use std::pin::pin;
use std::time::Instant;

use prometheus::IntGauge;

use super::Connection;
use super::refusal::Refusal;
use crate::guard::{Permit, Shut};

/// Why a request is not carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    Away(Refusal),
    /// The client left while it waited for its turn.
    Left,
}

impl Connection {
    /// Returns when the request may be carried, with its place among those in flight.
    pub(super) async fn admit(&self, now: Instant) -> Result<Option<Permit>, Turned> {
        let guard = &self.service.listener.guard;
        let peer = self.peer.address.map(|address| address.ip());
        guard.admit(peer, now).map_err(|early| Turned::Away(early.into()))?;
        let Some(gate) = &guard.gate else { return Ok(None) };
        if let Some(permit) = gate.try_enter() {
            return Ok(Some(permit));
        }
        let watch = &self.seat.watch;
        let until = watch.after(self.service.listener.config.limits.queue_timeout);
        let mut left = pin!(self.client.broken());
        let mut queued = None;
        let turn = gate.wait(|cx| {
            queued.get_or_insert_with(|| Queued::new(&self.service.http().queued));
            match left.as_mut().poll(cx).is_ready() {
                true => Some(Turned::Left),
                false => watch.is_over(until, cx).then_some(Turned::Away(Refusal::QueueTimeout)),
            }
        });
        turn.await.map(Some).map_err(|shut| match shut {
            Shut::Full => Turned::Away(Refusal::QueueFull),
            Shut::GaveUp(why) => why,
        })
    }
}

/// Counts a request that waits, for as long as it does.
struct Queued<'a>(&'a IntGauge);

impl<'a> Queued<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
