//! `podkit-drain`: the preStop hook that holds a pod's termination until traffic has left and the logs are delivered.
//!
//! ```text
//!   flags, env, YAML ─► Config ─► Budget (grace - reserve)
//!                                   │
//!        ┌──────────────── steps, one after the other ─────────────────┐
//!        │ lease ─────► watch ───────────────► then ─────► flush       │
//!        │ POST /drain  sources ─► quiet       calls to    POST /flush │
//!        │ at the proxy proxy, /proc/net, time the app     at ship     │
//!        └─────────────────────────┬───────────────────────────────────┘
//!   SIGTERM, SIGINT ─► first event ◄── the last deadline
//!                           └─► Exit 0 | 1 | 75
//! ```
//!
//! Synchronous: the steps run in one thread, a second one waits for signals, and the main thread takes whichever
//! ends first. So the process ends in time even if a step is stuck.

mod budget;
mod config;
mod error;
mod lease;
mod log;
mod peers;
mod progress;
mod quiet;
mod sidecar;
mod source;
mod steps;

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use podkit_cli::{Exit, Failure};
use podkit_lifecycle::{Deadline, Signal, Signals};
use tracing::warn;

pub use config::TOOL;

use budget::{Budget, show};
use config::Config;
use error::Error;
use lease::Lease;
use progress::Progress;
use steps::Drain;

/// One call of the binary.
///
/// # Errors
/// Bad flags or config; work left at the deadline; a failed call; a cancelled drain.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Failure> {
    let started = Instant::now();
    podkit_cli::dispatch(&TOOL, args, Config::read, |config| Ok(serve(config, started)?))
}

/// What can end the drain.
enum Event {
    Ended(Result<(), Error>),
    Signal(Signal),
}

fn serve(config: Config, started: Instant) -> Result<Exit, Error> {
    let signals = Signals::install().map_err(Error::Setup)?;
    let log = log::redirect(config.log.as_deref()).unwrap_or_else(|error| {
        warn!("{}: going on with standard error", podkit_cli::chain(&error));
        None
    });
    let budget = Budget::new(started, config.grace, config.reserve);
    let lease = Arc::new(Lease::new(config.proxy.clone(), budget));
    let progress = Arc::new(Progress::default());

    let (tell, events) = mpsc::channel();
    let drain = Drain::new(config, budget, Arc::clone(&lease), Arc::clone(&progress));
    start("steps", {
        let tell = tell.clone();
        move || tell.send(Event::Ended(drain.run()))
    })?;
    start("signals", move || match signals.wait(Deadline::after(budget.until_kill())) {
        Ok(Some(signal)) => tell.send(Event::Signal(signal)),
        // Without signals the drain still ends by itself, or by the deadline.
        Ok(None) | Err(_) => Ok(()),
    })?;

    let outcome = match events.recv_timeout(budget.whole().saturating_sub(budget.spent())) {
        Ok(Event::Ended(result)) => result,
        Ok(Event::Signal(signal)) => Err(ended_by(signal, &budget, &lease, &progress)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let left = progress.get();
            warn!("the deadline has passed; {left}");
            Err(Error::Deadline { after: show(budget.spent()), left })
        }
    };
    // From here on standard error is the caller's again: the failure's line goes there.
    drop(log);
    outcome.map(|()| Exit::Done)
}

fn ended_by(signal: Signal, budget: &Budget, lease: &Lease, progress: &Progress) -> Error {
    let after = show(budget.spent());
    let left = progress.get();
    warn!("{signal}: ending the drain; {left}");
    match signal {
        // Whoever interrupts wants the pod back.
        Signal::Interrupt => Error::Cancelled { after, lease: lease.give_back() },
        // The pod goes on ending: the proxy has to stay unready.
        Signal::Terminate => Error::Terminated { after, left },
    }
}

/// A thread that may be left behind: the process ends with the main thread.
fn start<T>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<(), Error> {
    let work = move || drop(work());
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(Error::Setup)
}
