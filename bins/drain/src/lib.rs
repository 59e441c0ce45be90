//! `podkit-drain`: the preStop hook that holds a pod's termination until traffic has left and the logs are delivered.
//!
//! ```text
//!   flags, env, YAML ─► Config ─► Budget (grace - reserve)
//!                                   │
//!        ┌──────────────────── steps, one after the other ─────────────────────┐
//!        │ lease ─────► watch ──────────────────► then, signal, ─► flush       │
//!        │ POST /drain  sources ─► quiet          run: tell        POST /flush │
//!        │ at proxies   proxies, INET_DIAG,       the app          at ships    │
//!        │              /proc/net, time                                        │
//!        └──────────────────────┬──────────────────────────────────────────────┘
//!   SIGTERM, SIGINT ─► first event ◄── the last deadline
//!                           └─► figures ─► report; Exit 0 | 1 | 75
//! ```
//!
//! Synchronous: the steps run in one thread, one renews the leases, one waits for signals, and the main thread takes
//! whichever ends first. So the process ends in time even if a step is stuck.

mod budget;
mod config;
mod dry_run;
mod error;
mod figures;
mod lease;
mod live;
mod log;
mod peers;
mod progress;
mod quiet;
mod sidecar;
mod source;
mod steps;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use podkit_cli::{Exit, Failure, Work};
use podkit_lifecycle::{Deadline, Signal, Signals};
use tracing::warn;

pub use config::TOOL;

use budget::{Budget, show};
use config::Config;
use error::Error;
use figures::Figures;
use lease::Leases;
use progress::Progress;
use steps::{Drain, Shared};

/// One call of the binary.
///
/// # Errors
/// Bad flags or config; work left at the deadline; a failed call; a cancelled drain.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Failure> {
    let started = Instant::now();
    podkit_cli::dispatch_work(&TOOL, args, Config::read, |work| match work {
        Work::Run(loaded) if loaded.flags.is_on("dry-run") => {
            podkit_cli::print(dry_run::plan(&loaded.config))
        }
        Work::Run(loaded) => Ok(serve(loaded.config, started)?),
        Work::Own(_, _, loaded) => live::show(&loaded.config, &loaded.flags),
        Work::Check(_) => unreachable!("`check` has no flags of its own"),
    })
}

/// What can end the drain.
enum Event {
    Ended(Result<(), Error>),
    Signal(Signal),
}

fn serve(config: Config, started: Instant) -> Result<Exit, Error> {
    let signals = Signals::install().map_err(Error::Setup)?;
    let (mut log, unusable) = log::redirect(config.log.as_deref());
    if let Some(error) = unusable {
        warn!("{}: going on with standard error", podkit_cli::chain(&error));
    }
    let budget = Budget::new(started, config.grace, config.reserve);
    let shared = Shared {
        leases: Arc::new(Leases::new(&config.proxies, &config.peers, budget)),
        progress: Arc::new(Progress::default()),
        figures: Arc::new(Figures::default()),
    };
    let report = config.report.clone();

    let (tell, events) = mpsc::channel();
    let drain = Drain::new(config, budget, shared.clone(), log.programs.take());
    start("steps", {
        let tell = tell.clone();
        move || tell.send(Event::Ended(drain.run()))
    })?;
    start("leases", {
        let leases = Arc::clone(&shared.leases);
        move || leases.keep()
    })?;
    start("signals", move || match signals.wait(Deadline::after(budget.until_kill())) {
        Ok(Some(signal)) => tell.send(Event::Signal(signal)),
        // Without signals the drain still ends by itself, or by the deadline.
        Ok(None) | Err(_) => Ok(()),
    })?;

    let event = events.recv_timeout(budget.until_stuck());
    // First of all, for what follows takes its time: a drain that is cancelled must not tell the app to stop any more.
    shared.progress.end();
    let outcome = match event {
        Ok(Event::Ended(result)) => result,
        Ok(Event::Signal(signal)) => Err(ended_by(signal, &budget, &shared)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let left = shared.progress.get();
            warn!("the deadline has passed; {left}");
            Err(Error::Deadline { after: show(budget.spent()), left })
        }
    };
    tell_all(shared.figures.report(&outcome, &budget).to_string(), report, &budget);
    // From here on standard error is the caller's again: the failure's line goes there.
    drop(log);
    outcome.map(|()| Exit::Done)
}

fn ended_by(signal: Signal, budget: &Budget, shared: &Shared) -> Error {
    let after = show(budget.spent());
    let left = shared.progress.get();
    warn!("{signal}: ending the drain; {left}");
    match signal {
        // Whoever interrupts wants the pod back.
        Signal::Interrupt => Error::Cancelled { after, lease: shared.leases.give_back() },
        // The pod goes on ending: the proxy has to stay unready.
        Signal::Terminate => Error::Terminated { after, left },
    }
}

/// The report: a line in the log, and the file, if one was asked for.
fn tell_all(report: String, file: Option<PathBuf>, budget: &Budget) {
    /// For a log that nobody reads there is always less than this.
    const LOG: Duration = Duration::from_millis(100);
    log::tell(&mut io::stderr(), &report, budget.until_told().min(LOG));
    let Some(file) = file else { return };
    let (tell, written) = mpsc::channel();
    let path = file.clone();
    // A volume may be stuck, and the drain must not be with it.
    let started = start("report", move || tell.send(figures::leave(&report, &path)));
    let why = match started.map(|()| written.recv_timeout(budget.until_told())) {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => podkit_cli::chain(&error),
        Ok(Err(_)) => "it was not written in time".to_owned(),
        Err(error) => podkit_cli::chain(&error),
    };
    warn!("cannot leave the report at {file:?}: {why}");
}

/// A thread that may be left behind: the process ends with the main thread.
fn start<T>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<(), Error> {
    let work = move || drop(work());
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(Error::Setup)
}
