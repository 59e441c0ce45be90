//! Carries traffic between the network and the app's localhost, both ways, and drains without dropping a request.
//!
//! ```text
//!   clients ─► listener ─► arrival ─► http2 ┐                       each worker is one thread with listeners,
//!              (accept)    (PROXY,   ─► http ┴► guard ─► upstream     connections and pools of its own; a `Wire` is
//!                           TLS)     ─► tcp ──► tunnel ─► (pool)      any stream: socket, TLS, an HTTP/2 stream
//!
//!   config file ─► follow ─► control ─► crew (orders to the workers)   the control thread: which listeners are
//!   signals, /quit ─► stop ───┘                                        open; names, health and certificates too
//!
//!   state, upstream::Upstream, metrics: what threads share; admin (its own thread) only reads it,
//!   and starts, renews and undoes the drain (pure)
//! ```
//!
//! HTTP/1.1 is the language within: an HTTP/2 stream is a `Wire` that speaks it, so each rule is written once. What is
//! safe to forward is decided in `http::request` and `http::body`, which never do I/O. Inbound ends first and outbound
//! last (`stop`).

mod access_log;
mod admin;
mod arrival;
mod bind;
mod buffer;
mod config;
mod control;
mod crew;
mod descriptors;
mod drain;
mod error;
mod follow;
mod guard;
mod http;
mod http2;
mod io;
mod listener;
mod metrics;
mod proxy_protocol;
mod quota;
mod splice;
mod state;
mod stop;
mod tcp;
mod tls;
mod tunnel;
mod turn;
mod upstream;
mod wire;
mod worker;

/// What the targets in `fuzz/` call: each function panics where a property does not hold.
#[cfg(any(test, fuzzing))]
pub mod fuzzing {
    pub use crate::http::properties::{Asked, request, request_again, response};
    pub use crate::proxy_protocol::prefixes_agree as proxy_protocol;
}

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use podkit_cli::{Exit, Failure, Flag, Loaded, Tool, Verb, Work};
use podkit_lifecycle::{Deadline, Signals, Stop};
use tokio::runtime::{Builder, LocalOptions};

use admin::AdminView;
use config::Config;
use control::Control;
use crew::Crew;
use error::Error;
use state::State;

/// How long the end waits for whoever reads the access log.
const LAST_LINES: Duration = Duration::from_secs(1);

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
            "Carry what arrives at LISTENER to UPSTREAM; repeatable: `http://0.0.0.0:8080=http://127.0.0.1:8081`, `https://…`, `tcp://…=tcp://…`, `unix:/path` for a socket",
        ),
        Flag::value(
            "tls-cert",
            "FILE",
            "The certificate chain, as PEM, of `--forward 'https://…'`; taken up again when it changes",
        ),
        Flag::value("tls-key", "FILE", "Its key, as PEM"),
        Flag::value(
            "tls-client-ca",
            "FILE",
            "Take from clients of `--forward 'https://…'` only certificates that these have signed, as PEM",
        ),
        Flag::value(
            "workers",
            "COUNT",
            "Threads that carry traffic, at most 64 [default: auto, as the CPU quota says; without one 1]",
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
    podkit_cli::dispatch_work(&TOOL, args, Config::read, |work| match work {
        Work::Run(loaded) => Ok(serve(loaded)?),
        Work::Check(_) | Work::Own(..) => unreachable!("there are no such flags and verbs"),
    })
}

fn serve(loaded: Loaded<Config>) -> Result<Exit, Error> {
    log_panics();
    let signals = Signals::install().map_err(Error::Signals)?;
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default()).map_err(Error::Runtime)?;
    let outcome = runtime.block_on(until_stopped(loaded, signals));
    // A name that is being resolved has a thread of its own; the end does not wait for it.
    runtime.shutdown_background();
    outcome.map(|()| Exit::Done)
}

async fn until_stopped(loaded: Loaded<Config>, signals: Signals) -> Result<(), Error> {
    let Loaded { config, reload, .. } = loaded;
    let stop = Stop::on_signal(signals).map_err(Error::Signals)?;
    let workers = config.workers.unwrap_or_else(quota::workers).get();
    let state = Arc::new(State::new(workers, stop.clone()));
    let crew = Crew::start(workers, &state, descriptors::room())?;
    let mut control = Control::new(Arc::clone(&state), crew);
    control.apply(&config).await?;
    let admin = match config.admin {
        Some(address) => Some(podkit_admin::serve(address, Arc::new(AdminView(Arc::clone(&state))))?),
        None => None,
    };
    state.bound();
    let shutdown = follow::until_stop(&mut control, config, reload, &stop).await;
    let outcome = stop::run(&mut control, shutdown).await;
    control.crew.end().await;
    state.access_log.end(Deadline::after(LAST_LINES));
    if let Some(admin) = admin {
        admin.rest(podkit_admin::LAST_ANSWERS);
    }
    outcome
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
