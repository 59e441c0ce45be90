//! `--watch`: stays, and seeds again when an input changes, when URLs are to be asked again, or when the config is
//! another. One thread does all of it; others only wake it.
//!
//! ```text
//!   inotify (eyes) ──┐
//!   signals ─────────┼─► wake ─► schedule: what is due? ─► look: is an input another? ─► pass ─► tell the app
//!   the time ────────┘                                                                    │
//!   admin port ◄───────────────────────────────── state ◄─────────────────────────────────┘
//! ```

mod eyes;
mod schedule;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use podkit_cli::{Exit, Failure, Loaded, Reload, Report as _, chain};
use podkit_lifecycle::{Deadline, Phase, Signals};

use crate::config::{Config, Location, Source};
use crate::error::Error;
use crate::inputs::Inputs;
use crate::instance::Seeder;
use crate::limits::Limits;
use crate::on_change::Teller;
use crate::seed::{self, Outcome};
use eyes::Eyes;
use schedule::{Due, Schedule};

/// Between looks at the config file, which also shows that the loop turns.
const TICK: Duration = Duration::from_secs(1);
/// By then a config file that was written is read, or has the content that it had.
const SETTLING: Duration = Duration::from_secs(2);
/// Waiting for a signal has no end of its own.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// Seeds, and again on each change, until it is told to end.
///
/// # Errors
/// The first seeding failed. Later ones that fail leave what is in force.
pub(crate) fn run(loaded: Loaded<Config>) -> Result<Exit, Failure> {
    let Loaded { config, reload, .. } = loaded;
    let limits = Arc::new(Limits::begin(config.deadline)?);
    let state = Arc::new(Seeder::new(limits.signals()));
    state.expect_turn_within(config.deadline);
    let serve = |address| podkit_admin::serve(address, Arc::clone(&state) as _);
    let admin = config.admin.map(serve).transpose()?;
    let outcome = until_told(config, reload, limits, state);
    if let Some(admin) = admin {
        admin.rest(podkit_admin::LAST_ANSWERS);
    }
    outcome
}

fn until_told(
    config: Config,
    reload: Reload<Config>,
    limits: Arc<Limits>,
    state: Arc<Seeder>,
) -> Result<Exit, Failure> {
    let Some(target) = config.target.clone() else { return Ok(Exit::Done) };
    let inputs = Inputs::default();
    let first = seed::wait(&config, &limits).and_then(|()| pass(&config, &target, &limits, &inputs));
    let outcome = match first {
        // It was told to end, and that is what it does: with nothing half done.
        Err(error @ Error::Stopped { .. }) => {
            tracing::info!("{}", chain(&error));
            state.finish();
            return Ok(Exit::Done);
        }
        first => first?,
    };
    outcome.report(true);

    let (wake, wakes) = mpsc::sync_channel(1);
    wake_on_signal(limits.signals(), wake.clone())?;
    let teller = Teller::start(Arc::clone(&state))?;
    let eyes = Eyes::open(wake);
    let schedule = Schedule::new(Instant::now());
    let config_file = ConfigFile::new(reload);
    let mut watch =
        Watch { config, target, config_file, limits, inputs, eyes, wakes, schedule, teller, state };
    // The app may have been running for long where only this container was started again.
    let is_known = outcome.had_files();
    watch.passed(&outcome, is_known);
    watch.state.phase.set(Phase::Running);
    watch.follow();
    watch.state.finish();
    Ok(Exit::Done)
}

fn wake_on_signal(signals: &Arc<Signals>, wake: SyncSender<()>) -> Result<(), Error> {
    let signals = Arc::clone(signals);
    let wait = move || {
        while let Ok(None) = signals.wait(Deadline::after(LONG)) {}
        let _ = wake.try_send(());
    };
    let started = thread::Builder::new().name("signals".to_owned()).spawn(wait);
    started.map(drop).map_err(|source| Error::System { operation: "start a thread", source })
}

/// A pass that also notes what is read by others than the workshop.
fn pass(config: &Config, target: &Path, limits: &Limits, inputs: &Inputs) -> Result<Outcome, Error> {
    let others = Inputs::default();
    access_files(config).iter().for_each(|path| others.note(path));
    let outcome = seed::pass(config, target, limits, inputs);
    inputs.add(&others);
    outcome
}

/// The files with the secrets and certificates that downloads are made with.
fn access_files(config: &Config) -> Vec<PathBuf> {
    remotes(config).flat_map(|remote| remote.access_files()).collect()
}

fn remotes(config: &Config) -> impl Iterator<Item = &crate::config::Remote> {
    config.files.iter().filter_map(|file| match &file.source {
        Source::Url(remote) => Some(remote),
        Source::Archive(archive) => match &archive.from {
            Location::Url(remote) => Some(&**remote),
            Location::File { .. } => None,
        },
        _ => None,
    })
}

/// All that the loop has.
struct Watch {
    config: Config,
    target: PathBuf,
    config_file: ConfigFile,
    /// Of the first pass; later ones have their own, with the same signals.
    limits: Arc<Limits>,
    /// Of the last pass.
    inputs: Inputs,
    eyes: Eyes,
    wakes: Receiver<()>,
    schedule: Schedule,
    teller: Teller,
    state: Arc<Seeder>,
}

impl Watch {
    /// Until a signal comes.
    fn follow(&mut self) {
        while self.limits.signals().received().is_none() {
            self.state.expect_turn_within(TICK);
            if let Some(config) = self.new_config() {
                self.config = config;
                self.pass();
                continue;
            }
            match self.schedule.due(Instant::now(), self.eyes.is_polling()) {
                Some(Due::Look) => match self.inputs.changed() {
                    // A volume may hold the config and templates for it.
                    Some(_) if self.config_file.may_be_new() => self.schedule.look_soon(Instant::now()),
                    Some(path) => {
                        tracing::info!(?path, "an input has changed");
                        self.pass();
                    }
                    None => {}
                },
                Some(Due::Download | Due::Retry) => self.pass(),
                None => self.rest(),
            }
        }
        tracing::info!("stopping; what is in force stays");
    }

    fn rest(&mut self) {
        let time = self.schedule.next().saturating_duration_since(Instant::now()).min(TICK);
        match self.wakes.recv_timeout(time) {
            Ok(()) => self.schedule.noticed(Instant::now()),
            Err(RecvTimeoutError::Timeout) => {}
            // Neither inotify nor signals can wake the loop; it looks for both by itself.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(time),
        }
    }

    fn pass(&mut self) {
        let limits = self.limits.again(self.config.deadline);
        self.state.expect_turn_within(self.config.deadline);
        let inputs = Inputs::default();
        let result = pass(&self.config, &self.target, &limits, &inputs);
        let before = std::mem::replace(&mut self.inputs, inputs);
        match result {
            Ok(outcome) => {
                outcome.report(false);
                self.passed(&outcome, true);
            }
            // Nothing failed; the loop is about to end.
            Err(Error::Stopped { .. }) => {}
            Err(error) => {
                // It may have failed before it came to some of the inputs that it was made of before.
                self.inputs.note_all(&before);
                self.failed(&error);
            }
        }
    }

    fn passed(&mut self, outcome: &Outcome, tells: bool) {
        self.look_at_inputs();
        let interval = remotes(&self.config).next().map(|_| self.config.interval);
        self.schedule.passed(Instant::now(), interval);
        self.state.passed(outcome);
        if tells && outcome.has_changes() {
            self.teller.tell(&self.config.on_change);
        }
    }

    fn failed(&mut self, error: &Error) {
        self.look_at_inputs();
        let retry = self.schedule.failed(Instant::now());
        let seconds = retry.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
        let (error, hint) = (chain(error), error.hint());
        tracing::error!(error, hint, retry_in_seconds = seconds, "cannot seed again; what is in force stays");
        self.state.failed(error, retry);
    }

    fn look_at_inputs(&mut self) {
        self.eyes.follow(self.inputs.directories());
        self.state.watches(self.eyes.is_polling());
    }

    /// The config, if its file was changed and has no fault.
    fn new_config(&mut self) -> Option<Config> {
        let refused = match self.config_file.poll()? {
            Err(failure) => failure.to_string(),
            Ok(config) => match fixed_key(&self.config, &config) {
                Some(key) => format!("`{key}` cannot change without a restart"),
                None => {
                    tracing::info!("taking the new config");
                    self.state.metrics.configs_taken.inc();
                    return Some(config);
                }
            },
        };
        self.state.metrics.configs_refused.inc();
        tracing::error!("the new config is refused, the old one stays in force: {refused}");
        None
    }
}

/// The config's own file.
struct ConfigFile {
    reload: Reload<Config>,
    /// What the file looked like when it was last read.
    looks: Inputs,
    /// Since when it looks different.
    unread: Option<Instant>,
}

impl ConfigFile {
    fn new(reload: Reload<Config>) -> Self {
        let mut file = Self { reload, looks: Inputs::default(), unread: None };
        file.is_read();
        file
    }

    fn is_read(&mut self) {
        self.unread = None;
        self.looks = Inputs::default();
        if let Some(path) = self.reload.path() {
            self.looks.note(path);
        }
    }

    /// What is new in the file, once it is written to its end.
    fn poll(&mut self) -> Option<Result<Config, Failure>> {
        let new = self.reload.poll()?;
        self.is_read();
        Some(new)
    }

    /// Whether the file was written and it is not known yet what is new in it.
    fn may_be_new(&mut self) -> bool {
        if self.looks.changed().is_none() {
            self.unread = None;
            return false;
        }
        let since = *self.unread.get_or_insert_with(Instant::now);
        if since.elapsed() < SETTLING {
            return true;
        }
        // The content is what it was.
        self.is_read();
        false
    }
}

/// What the new config has otherwise that only a start can take.
fn fixed_key(old: &Config, new: &Config) -> Option<&'static str> {
    if old.target != new.target {
        Some("target")
    } else if old.admin != new.admin {
        Some("admin")
    } else if old.watch != new.watch {
        Some("watch")
    } else {
        None
    }
}
