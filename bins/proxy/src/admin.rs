//! What the admin port tells and takes (contract 2). Runs on the admin server's thread; only reads shared state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use podkit_admin::{Drain, Instance, Lease, Reasons};
use podkit_lifecycle::Phase;
use serde_json::{Value, json};

use crate::config::Direction;
use crate::state::{Listener, State, millis};
use crate::tls::Termination;

/// A worker loop that has not turned for so long is stuck: it turns ten times a second.
const STUCK: Duration = Duration::from_secs(10);

/// The proxy, as its admin port sees it.
#[derive(Debug)]
pub(crate) struct AdminView(pub(crate) Arc<State>);

impl Instance for AdminView {
    fn live(&self) -> Reasons {
        still(self.0.since_heartbeat())
    }

    fn ready(&self) -> Reasons {
        match self.0.phase() {
            Phase::Running => self.0.upstreams(is_inbound).iter().filter_map(|app| app.unready()).collect(),
            Phase::Starting => vec!["the listeners are not bound yet".to_owned()],
            Phase::Draining => {
                let left = self.0.lease_left().unwrap_or_default();
                vec![format!("draining: the lease ends in {} s", left.as_secs())]
            }
            Phase::Stopping => vec!["stopping".to_owned()],
        }
    }

    fn startup(&self) -> Reasons {
        match self.0.phase() {
            Phase::Starting => vec!["the listeners are not bound yet".to_owned()],
            _ => Reasons::new(),
        }
    }

    fn metrics(&self) -> String {
        self.0.upstreams(|_| true).iter().for_each(|upstream| upstream.gauge());
        podkit_admin::metrics_text(&self.0.metrics.registry)
    }

    fn status(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "phase": self.0.phase().to_string(),
            "uptime": self.0.uptime().as_secs_f64(),
            "lease_left_ms": self.0.lease_left().map(millis),
            "listeners": self.0.listeners().iter().map(|one| listener(one)).collect::<Vec<_>>(),
            "upstreams": self.0.upstreams(|_| true).iter().map(|one| one.status()).collect::<Vec<_>>(),
        })
    }

    fn drain(&self) -> Option<&dyn Drain> {
        Some(self)
    }

    fn quit(&self) {
        tracing::info!("asked to quit: stopping");
        self.0.stop.begin();
    }
}

/// Whether a listener's upstream is the app, which readiness follows.
fn is_inbound(listener: &Listener) -> bool {
    listener.config.direction == Direction::Inbound
}

/// Why the worker's loop is taken for stuck, if it is.
fn still(silent: Duration) -> Reasons {
    if silent < STUCK {
        return Reasons::new();
    }
    vec![format!("the worker's loop has not turned for {} s", silent.as_secs())]
}

fn listener(listener: &Listener) -> Value {
    let Listener { config, address, numbers, .. } = listener;
    let counts = &numbers.connections;
    let listen = address.get().map_or_else(|| config.listen.to_string(), ToString::to_string);
    json!({
        "name": config.name,
        "direction": config.direction.as_str(),
        "protocol": config.protocol.as_str(),
        "listen": listen,
        "upstream": config.upstream.address.to_string(),
        "certificate_ends": listener.tls.as_ref().and_then(Termination::end),
        "open_connections": counts.open.get(),
        "in_flight": numbers.in_flight(),
        "connections": counts.accepted.get(),
        "requests": numbers.http.as_ref().map(|http| http.total()),
        "received_bytes": counts.received.get(),
        "sent_bytes": counts.sent.get(),
    })
}

impl Drain for AdminView {
    fn start(&self, lease: Lease) {
        self.0.lease(lease);
    }

    /// Only inbound work counts: the app's own way out stays open for as long as the app lives.
    fn state(&self) -> Value {
        let now = Instant::now();
        let since =
            |moment: Option<Instant>| moment.map(|moment| millis(now.saturating_duration_since(moment)));
        let last_connection = self.0.last(Direction::Inbound, |numbers| &numbers.last_connection);
        let last_request = self.0.last(Direction::Inbound, |numbers| &numbers.last_request);
        json!({
            "phase": self.0.phase().to_string(),
            "in_flight": self.0.in_flight(Direction::Inbound),
            "open_connections": self.0.open_connections(Direction::Inbound),
            "ms_since_last_connection": since(last_connection),
            "ms_since_last_request": since(last_request),
            "lease_left_ms": self.0.lease_left().map(millis),
            "leases": self.0.leases(),
        })
    }

    fn undo(&self, holder: Option<&str>) {
        self.0.undo(holder);
    }
}

#[cfg(test)]
mod tests {
    use podkit_lifecycle::Stop;

    use super::*;

    #[test]
    fn a_loop_that_does_not_turn_is_not_live() {
        let view = AdminView(Arc::new(State::new(1, Stop::default())));
        assert_eq!(view.live(), Reasons::new());
        assert_eq!(still(Duration::from_secs(12)), ["the worker's loop has not turned for 12 s"]);
    }

    #[test]
    fn readiness_follows_the_phase() {
        let view = AdminView(Arc::new(State::new(1, Stop::default())));
        assert_eq!(view.startup(), ["the listeners are not bound yet"]);
        assert_eq!(view.ready(), ["the listeners are not bound yet"]);
        view.0.bound();
        assert_eq!((view.startup(), view.ready()), (Reasons::new(), Reasons::new()));
        view.0.leave_for_good();
        assert_eq!((view.startup(), view.ready()), (Reasons::new(), vec!["stopping".to_owned()]));
    }
}
