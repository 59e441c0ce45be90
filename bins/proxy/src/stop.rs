//! The ordered stop (contract 3): inbound drains and closes first; the app keeps its way out until it has ended.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use podkit_lifecycle::Deadline;

use crate::config::{Direction, Shutdown};
use crate::control::Control;
use crate::error::Error;
use crate::state::{Listener, State};
use crate::upstream::{Upstream, answers};

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
pub(crate) async fn run(control: &mut Control, shutdown: Shutdown) -> Result<(), Error> {
    let deadline = Deadline::after(shutdown.deadline);
    let state = Arc::clone(&control.state);
    state.leave_for_good();
    let waiting_for = Cell::new(QUIET);
    tokio::time::timeout(deadline.remaining(), in_order(control, shutdown.quiet, &waiting_for))
        .await
        .map_err(|_| Error::Deadline { deadline: shutdown.deadline, left: left(&state, waiting_for.get()) })?
}

async fn in_order(control: &mut Control, quiet: Duration, waiting_for: &Cell<&str>) -> Result<(), Error> {
    let state = Arc::clone(&control.state);
    let inbound: Vec<_> = control
        .listeners()
        .filter(|listener| listener.config.direction == Direction::Inbound)
        .cloned()
        .collect();
    // Also those that a new config has closed, as long as they have connections.
    let has = |direction| state.of(direction).next().is_some();
    if has(Direction::Inbound) {
        until(|| state.in_flight(Direction::Inbound) == 0 && state.quiet_for(Direction::Inbound) >= quiet)
            .await;
        control.close_doors(|listener| listener.config.direction == Direction::Inbound).await?;
        tracing::info!("inbound is quiet: its listeners are closed");
        waiting_for.set(CLIENTS);
        for listener in state.of(Direction::Inbound) {
            control.close_idle(&listener).await?;
        }
        until(|| state.open_connections(Direction::Inbound) == 0).await;
    }
    if has(Direction::Outbound) {
        waiting_for.set(APP);
        let apps = apps(&inbound);
        for app in &apps {
            ended(app).await;
        }
        if !apps.is_empty() {
            tracing::info!("the app takes no more connections: outbound closes when it is quiet");
        }
        waiting_for.set(OUTBOUND);
        // An app that has closed its port, or that we do not know, may still flush, one connection after the other. One
        // that gets its SIGTERM with ours has only begun to: what was quiet before says nothing of that.
        let closed = Instant::now();
        until(|| {
            let quiet_for = state.quiet_for(Direction::Outbound).min(closed.elapsed());
            state.in_flight(Direction::Outbound) == 0 && quiet_for >= quiet
        })
        .await;
        control.close_doors(|_| true).await?;
        for listener in state.of(Direction::Outbound) {
            control.close_idle(&listener).await?;
        }
        // What the kernel had accepted before may just be asking.
        until(|| state.open_connections(Direction::Outbound) == 0).await;
    }
    tracing::info!("all work is done");
    Ok(())
}

/// The upstreams of the inbound listeners, each once: the app, as far as we know it.
fn apps(inbound: &[Arc<Listener>]) -> Vec<Arc<Upstream>> {
    let mut apps: Vec<Arc<Upstream>> = Vec::new();
    for Listener { upstream, .. } in inbound.iter().map(AsRef::as_ref) {
        if !apps.iter().any(|app| app.config.address == upstream.config.address) {
            apps.push(Arc::clone(upstream));
        }
    }
    apps
}

/// Returns once the app refuses connections.
async fn ended(app: &Upstream) {
    while tokio::time::timeout(ASK, answers(app)).await.unwrap_or(true) {
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
    let listeners = state.listeners();
    let open =
        listeners.iter().filter(|listener| listener.numbers.connections.open.get() > 0).map(|listener| {
            let (name, numbers) = (&listener.config.name, &listener.numbers);
            let connections = count(numbers.connections.open.get(), "open connection");
            match &numbers.http {
                Some(http) => {
                    let requests = count(http.in_flight.get(), "request");
                    format!("listener {name:?}: {requests} in flight, {connections}")
                }
                None => format!("listener {name:?}: {connections}"),
            }
        });
    std::iter::once(waiting_for.to_owned()).chain(open).collect::<Vec<_>>().join("; ")
}
