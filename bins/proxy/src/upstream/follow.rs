//! What the control thread does for an upstream besides checks: asks the DNS again, and tells who is back.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use podkit_dns::Failure;

use super::refresh::{Believe, Refresh, Turn};
use super::resolve::{Answer, Resolver};
use super::{Upstream, fixed, resolve};

/// How often it is looked who is back.
const LOOK: Duration = Duration::from_secs(1);

/// Asks for the upstream's name again and again, where it has one.
pub(super) async fn names(upstream: &Upstream) {
    let config = &upstream.config;
    if fixed(&config.address).is_some() {
        return;
    }
    let resolver = Resolver::new(config.dns.servers.clone());
    let mut refresh = Refresh::new(&config.dns);
    loop {
        let outcome = resolver.resolve(&config.address).await;
        upstream.metrics.resolutions.count(resolve::result(&outcome));
        let (believe, wait, turn) = refresh.take(outcome.as_ref(), upstream.now());
        upstream.believe(believe, &outcome);
        upstream.tell_turn(turn, &outcome);
        tokio::time::sleep(wait).await;
    }
}

/// Tells when an ejected endpoint is given requests again.
pub(super) async fn returns(upstream: &Upstream) {
    if upstream.config.eject.is_none() {
        return;
    }
    let mut before = upstream.now();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = upstream.now();
        for endpoint in upstream.current().all().iter().filter(|one| one.accrual.has_returned(before, now)) {
            let address = &endpoint.address;
            tracing::info!(upstream = upstream.config.name, %address, "no longer ejected");
        }
        before = now;
    }
}

impl Upstream {
    fn tell_turn(&self, turn: Turn, outcome: &Result<Answer, Failure>) {
        let (name, address) = (&self.config.name, &self.config.address);
        match (turn, outcome) {
            (Turn::Failing, Err(why)) => {
                let count = self.current().all().len();
                let kept = if count > 0 { ": the last answer is kept" } else { "" };
                tracing::warn!(upstream = name, "cannot resolve {address}: {why}{kept}");
            }
            (Turn::Answered, Ok(_)) => tracing::info!(upstream = name, "{address} is resolved again"),
            _ => {}
        }
    }

    fn believe(&self, believe: Believe, outcome: &Result<Answer, Failure>) {
        let error = outcome.as_ref().err().map(ToString::to_string);
        *self.dns_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        let (name, old) = (&self.config.name, self.current());
        match (believe, outcome) {
            (Believe::New, Ok(answer)) if !old.is_of(&answer.places) => {
                let new = old.follow(&answer.places);
                let addresses: Vec<String> = new.all().iter().map(|one| one.address.to_string()).collect();
                self.endpoints.send_replace(Arc::new(new));
                tracing::debug!(upstream = name, "the addresses are {}", addresses.join(", "));
            }
            (Believe::Nothing, _) if !old.all().is_empty() => {
                self.endpoints.send_replace(Arc::default());
                let address = &self.config.address;
                tracing::warn!(upstream = name, "{address} has been gone for long: no address is left");
            }
            _ => {}
        }
    }

    /// Why the last question to the DNS had no answer.
    pub(super) fn dns_error(&self) -> Option<String> {
        self.dns_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
