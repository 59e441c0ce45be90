//! The ordered stop (contract 3): inbound drains and closes first; the app keeps its way out until it has ended.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use podkit_lifecycle::Deadline;

use crate::config::{Direction, Listener, Shutdown, Upstream};
use crate::error::Error;
use crate::listener::Bound;
use crate::state::{ListenerState, State};
use crate::upstream::connect_once;
use crate::worker::Worker;

/// How often the drain's state is looked at: well below the shortest useful quiet period.
const LOOK: Duration = Duration::from_millis(20);

/// How often the app is asked whether it still listens: each time costs it a connection.
const ASK: Duration = Duration::from_millis(250);

/// What a stop waits for, in order; the message at the deadline says how far it came.
const QUIET: &str = "inbound traffic was not quiet";
const CLIENTS: &str = "inbound clients had not closed";
const APP: &str = "the app had not ended";
const OUTBOUND: &str = "outbound traffic was not over";

/// Ends all listeners in order. An error names what was still open at the deadline.
pub(crate) async fn run(worker: &Rc<Worker>, bound: Vec<Bound>, shutdown: Shutdown) -> Result<(), Error> {
    let deadline = Deadline::after(shutdown.deadline);
    let state = &worker.state;
    state.leave_for_good();
    let waiting_for = Cell::new(QUIET);
    tokio::time::timeout(deadline.remaining(), in_order(worker, bound, shutdown.quiet, &waiting_for))
        .await
        .map_err(|_| Error::Deadline { deadline: shutdown.deadline, left: left(state, waiting_for.get()) })
}

async fn in_order(worker: &Rc<Worker>, bound: Vec<Bound>, quiet: Duration, waiting_for: &Cell<&str>) {
    let state = &worker.state;
    let (inbound, outbound): (Vec<_>, Vec<_>) =
        bound.into_iter().partition(|one| one.direction() == Direction::Inbound);
    let apps = apps(&inbound);
    if !inbound.is_empty() {
        until(|| state.in_flight(Direction::Inbound) == 0 && state.quiet_for(Direction::Inbound) >= quiet)
            .await;
        for listener in inbound {
            listener.close().await;
        }
        tracing::info!("inbound is quiet: its listeners are closed");
        waiting_for.set(CLIENTS);
        worker.close_idle(Direction::Inbound);
        until(|| state.open_connections(Direction::Inbound) == 0).await;
    }
    if !outbound.is_empty() {
        waiting_for.set(APP);
        for app in apps {
            ended(&app).await;
        }
        waiting_for.set(OUTBOUND);
        // An app that has closed its port, or that we do not know, may still flush, one connection after the other.
        until(|| state.in_flight(Direction::Outbound) == 0 && state.quiet_for(Direction::Outbound) >= quiet)
            .await;
        for listener in outbound {
            listener.close().await;
        }
        worker.close_idle(Direction::Outbound);
        until(|| state.in_flight(Direction::Outbound) == 0).await;
    }
    tracing::info!("all work is done");
}

/// The upstreams of the inbound listeners, each once: the app, as far as we know it.
fn apps(inbound: &[Bound]) -> Vec<Arc<Upstream>> {
    let mut apps: Vec<Arc<Upstream>> = Vec::new();
    for Listener { upstream, .. } in inbound.iter().map(Bound::config) {
        if !apps.iter().any(|app| app.address() == upstream.address()) {
            apps.push(Arc::clone(upstream));
        }
    }
    apps
}

/// Returns once the app refuses connections.
async fn ended(app: &Upstream) {
    while let Ok(Ok(_)) | Err(_) = tokio::time::timeout(ASK, connect_once(app)).await {
        tokio::time::sleep(ASK).await;
    }
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(LOOK).await;
    }
}

/// What is open, for the last message: `inbound traffic was not quiet; listener "web": 1 request in flight, …`.
fn left(state: &State, waiting_for: &str) -> String {
    let count = |number: i64, thing: &str| format!("{number} {thing}{}", if number == 1 { "" } else { "s" });
    let open = |listener: &&ListenerState| listener.connections.open.get() > 0;
    let listeners = state.listeners.iter().filter(open).map(|listener| {
        let connections = count(listener.connections.open.get(), "open connection");
        match &listener.http {
            Some(http) => {
                let requests = count(http.in_flight.get(), "request");
                format!("listener {:?}: {requests} in flight, {connections}", listener.name)
            }
            None => format!("listener {:?}: {connections}", listener.name),
        }
    });
    std::iter::once(waiting_for.to_owned()).chain(listeners).collect::<Vec<_>>().join("; ")
}
