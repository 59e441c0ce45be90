//! Carries traffic between the network and the app's localhost, both ways, and drains without dropping a request.
//!
//! ```text
//!   clients ─► listener ─► http ─► pool ─► upstream        one worker, one thread:
//!                     └──► tcp ──► tunnel ─► upstream      worker (clock, buffers, connections)
//!
//!   signals, /quit ─► stop ─► drain (pure) ◄─ /drain ─ admin (its own thread)
//!                      │                         │
//!                      └───────► state ◄─────────┘  phase, lease, numbers: all that threads share
//! ```
//!
//! Inbound ends first and outbound last (`stop`); what is safe to forward is decided in `http::request` and
//! `http::body`, which never do I/O.

mod admin;
mod buffer;
mod config;
mod descriptors;
mod drain;
mod error;
mod http;
mod io;
mod listener;
mod metrics;
mod state;
mod stop;
mod tcp;
mod tunnel;
mod upstream;
mod worker;

use std::ffi::OsString;
use std::sync::Arc;

use podkit_cli::{Exit, Failure, Flag, Tool, Verb};
use podkit_lifecycle::{Signals, Stop};
use tokio::runtime::{Builder, LocalOptions};

use admin::AdminView;
use config::Config;
use error::Error;
use state::State;
use worker::Worker;

/// The command line of `podkit-proxy`.
pub static TOOL: Tool = Tool {
    name: "proxy",
    about: "Carries traffic between the network and the app's localhost, and drains without dropping a request",
    examples: "  podkit-proxy --forward 'http://0.0.0.0:8080=http://127.0.0.1:8081'     in front of the app
  podkit-proxy --forward 'http://0.0.0.0:8080=http://127.0.0.1:8081' \\
               --forward 'tcp://127.0.0.1:5432=tcp://db:5432'            and its way to the database
  podkit-proxy check --config proxy.yaml                                 every fault, or the settings in force
  podkit-proxy status                                                    what the running proxy does
",
    flags: &[
        Flag::list(
            "forward",
            "LISTENER=UPSTREAM",
            "Carry what arrives at LISTENER to UPSTREAM; repeatable: `http://0.0.0.0:8080=http://127.0.0.1:8081` or `tcp://…=tcp://…`",
        ),
        Flag::value(
            "shutdown-deadline",
            "DURATION",
            "The longest a stop may take; what is open then is cut [default: 20s]",
        ),
        Flag::value(
            "shutdown-quiet",
            "DURATION",
            "How long no connection must have come before a stop closes the listeners [default: 1s]",
        ),
    ],
    verbs: &[Verb::Status, Verb::Probe],
    admin: Some("0.0.0.0:9802"),
    termination_message: true,
};

/// Runs one call of `podkit-proxy`.
///
/// # Errors
/// Bad flags or config, a listener that cannot be bound, or a stop whose deadline passed with work left.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Failure> {
    podkit_cli::dispatch(&TOOL, args, Config::read, |config| Ok(serve(config)?))
}

fn serve(config: Config) -> Result<Exit, Error> {
    log_panics();
    let signals = Signals::install().map_err(Error::Signals)?;
    // One thread: a sidecar has a part of one CPU, and nothing here needs a lock then (contract 3, point 10).
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).map_err(Error::Runtime)?;
    let outcome = runtime.block_on(async {
        let stop = Stop::on_signal(signals).map_err(Error::Signals)?;
        let state = Arc::new(State::new(&config.listeners, stop.clone()));
        let worker = Worker::new(Arc::clone(&state), descriptors::room());
        let bound = listener::bind(&config, &worker)?;
        let _admin = match config.admin {
            Some(address) => Some(podkit_admin::serve(address, Arc::new(AdminView(Arc::clone(&state))))?),
            None => None,
        };
        tokio::task::spawn_local(worker.clone().keep_time());
        state.bound();
        stop.begun().await;
        stop::run(&worker, bound, config.shutdown).await
    });
    // A name that is being resolved has a thread of its own; the end does not wait for it.
    runtime.shutdown_background();
    outcome.map(|()| Exit::Done)
}

/// A panic ends one connection's task, and is a log line like any other.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        tracing::error!("a connection was dropped by a bug in podkit-proxy, at {place}: {message}");
    }));
}
