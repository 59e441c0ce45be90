//! What the admin port tells of an upstream. Only reads.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::Upstream;
use super::balance::Member as _;
use super::endpoint::Endpoint;
use super::health::Verdict;
use crate::tls::Origination;

impl Upstream {
    /// Why inbound traffic should not come for it now, if so: it does not answer, as far as it is checked.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.config.health.is_none() || self.retired.load(Ordering::Relaxed) {
            return None;
        }
        let (name, set) = (&self.config.name, self.current());
        let error =
            |endpoint: &Endpoint| endpoint.last_error().unwrap_or_else(|| "it was not asked yet".to_owned());
        match set.all() {
            all if all.iter().any(|endpoint| endpoint.verdict.get() == Verdict::Healthy) => None,
            [] => {
                let why = self.dns_error().unwrap_or_else(|| "there is no answer yet".to_owned());
                Some(format!("upstream {name:?}: cannot resolve {}: {why}", self.config.address))
            }
            [only] => Some(format!("upstream {name:?} at {} does not answer: {}", only.address, error(only))),
            [first, ..] => {
                let (count, at) = (set.all().len(), &first.address);
                Some(format!("upstream {name:?}: none of {count} addresses answers, {at}: {}", error(first)))
            }
        }
    }

    /// For `/status`.
    pub(crate) fn status(&self) -> Value {
        let (set, now) = (self.current(), self.now());
        let endpoint = |endpoint: &Endpoint| {
            let health = match endpoint.verdict.get() {
                Verdict::Unknown => "unknown",
                Verdict::Healthy => "healthy",
                Verdict::Unhealthy => "unhealthy",
            };
            json!({
                "address": endpoint.address.to_string(),
                "health": health,
                "ejected": endpoint.accrual.is_ejected(now),
                "in_flight": endpoint.in_flight(),
                "ewma_ms": f64::from((endpoint.latency_ms(now) * 1e3).round()) / 1e3,
                "last_error": endpoint.last_error(),
            })
        };
        json!({
            "name": self.config.name,
            "address": self.config.address.to_string(),
            "certificate_ends": self.tls.as_ref().and_then(Origination::end),
            "dns_error": self.dns_error(),
            "panic": self.doubting.load(Ordering::Relaxed),
            "endpoints": set.all().iter().map(|one| endpoint(one)).collect::<Vec<_>>(),
        })
    }

    /// Sets the gauges that are not kept up to date, before they are read.
    pub(crate) fn gauge(&self) {
        let (set, now) = (self.current(), self.now());
        let count = |is: &dyn Fn(&Endpoint) -> bool| {
            i64::try_from(set.all().iter().filter(|endpoint| is(endpoint)).count()).unwrap_or(i64::MAX)
        };
        let metrics = &self.metrics;
        metrics.healthy.set(count(&|endpoint| endpoint.is_well(now)));
        metrics.unhealthy.set(count(&|endpoint| endpoint.verdict.get() == Verdict::Unhealthy));
        metrics.ejected.set(count(&|endpoint| endpoint.accrual.is_ejected(now)));
        metrics.in_flight.set(set.all().iter().map(|endpoint| i64::from(endpoint.in_flight())).sum());
    }
}
