//! One config at work: the pipelines, the loop that looks at the files, and flushes. How it ends is in `ending`.
//!
//! What outlives a config (signals, the admin port, the state directory) is in `ship`.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use podkit_admin::Flushed;
use podkit_cli::{Exit, Failure, units};
use podkit_lifecycle::Stop;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::checkpoint::{Checkpoint, Store};
use crate::config::{Config, counted};
use crate::delivery::{DeadLetters, Deliverer, Pipeline, Shared, format, open};
use crate::done::DoneMarker;
use crate::error::Error;
use crate::files::{Catalog, Held, Wake, Watch};
use crate::instance::{FlushRequest, Heartbeat};
use crate::ledger::Ledger;
use crate::metrics::{Metrics, Reloads};

mod ending;

/// A new config waits no longer for what is on its way: nothing is read meanwhile, and the main loop does not turn.
const MAX_REST: Duration = Duration::from_secs(10);

/// What all configs of a process share.
pub(crate) struct Process {
    pub(crate) store: Rc<Store>,
    pub(crate) stop: Stop,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) max_files: usize,
    pub(crate) reloads: Reloads,
}

/// A config at work.
pub(crate) struct Session {
    config: Config,
    process: Rc<Process>,
    shared: Rc<Shared>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Arc<Metrics>,
    pipelines: JoinSet<()>,
    /// Flushes that wait; one that a new config interrupts comes back.
    flushes: JoinSet<Option<FlushRequest>>,
    done: Option<Rc<DoneMarker>>,
}

/// What one config leaves to the next.
#[derive(Clone)]
pub(crate) struct Estate {
    pub(crate) checkpoint: Checkpoint,
    /// Open files that may have no name any more.
    pub(crate) held: Vec<Held>,
}

/// Why following ended.
pub(crate) enum Turn {
    /// The stop has begun.
    Stop,
    /// There is a new config.
    Reload(Box<Config>),
}

impl Session {
    /// Takes up the files where the checkpoint says; nothing is read yet.
    pub(crate) fn new(config: Config, process: &Rc<Process>, Estate { checkpoint, held }: Estate) -> Self {
        let names = config.destinations.iter().map(|destination| destination.name.clone()).collect();
        let ledger = Arc::new(Ledger::new(names));
        let metrics = Metrics::new(Arc::clone(&ledger), &process.reloads);
        let metrics = Arc::new(metrics.expect("each metric has a valid name of its own"));
        let (sources, boot) = (config.sources.clone(), process.store.boot());
        let (max_files, deleted) = (process.max_files, config.deleted);
        let mut catalog = Catalog::new(sources, Arc::clone(&ledger), checkpoint, boot, max_files, deleted);
        catalog.take_over(held);
        let dead_letters = DeadLetters::new(&config.state_dir, config.dead_letters);
        let saves_failed = metrics.saves_failed.clone();
        let shared = Rc::new(Shared::new(catalog, Rc::clone(&process.store), dead_letters, saves_failed));
        let done = config.done_file.clone().map(DoneMarker::new);
        let (process, pipelines, flushes) = (Rc::clone(process), JoinSet::new(), JoinSet::new());
        Self { config, process, shared, ledger, metrics, pipelines, flushes, done }
    }

    /// Looks at the files for the first time, and starts a pipeline for each destination.
    pub(crate) fn start(&mut self) -> Result<(), Error> {
        self.shared.catalog.borrow_mut().scan();
        self.shared.save();
        for index in 0..self.config.destinations.len() {
            self.start_pipeline(index)?;
        }
        let batch = self.config.batch.size as u64;
        if batch < self.config.batch_size_wanted {
            tracing::info!(
                "{} of memory for {} have room for batches of {}, not of {}",
                units::show_size(self.config.memory),
                counted(self.config.destinations.len(), "destination"),
                units::show_size(batch),
                units::show_size(self.config.batch_size_wanted)
            );
        }
        for name in self.shared.catalog.borrow().absent() {
            tracing::info!(
                "the positions of {name}, which is not in the config, are kept: put in again, it goes on where it was"
            );
        }
        tracing::info!(
            "shipping {} to {}",
            counted(self.ledger.followed(), "file"),
            self.ledger.destinations().join(", ")
        );
        Ok(())
    }

    fn start_pipeline(&mut self, index: usize) -> Result<(), Error> {
        let (config, shared) = (&self.config, &self.shared);
        let destination = &config.destinations[index];
        let metrics = Arc::clone(&self.metrics.destinations[index]);
        let format = format(destination);
        let outlet = open(destination, &format)?;
        let deliverer = Deliverer::new(
            destination.name.clone(),
            format,
            outlet,
            destination.concurrency.get().min(config.places),
            config.batch.lines,
            Arc::clone(&metrics),
            Rc::clone(&shared.control),
        );
        let in_order = destination.needs_order();
        let (places, batch, shared) = (config.places, config.batch, Rc::clone(shared));
        let pipeline = Pipeline::new(index, deliverer, in_order, places, batch, shared, metrics);
        self.pipelines.spawn_local(pipeline.run());
        Ok(())
    }

    /// Reads to the end and delivers, unless the stop begins before.
    pub(crate) async fn once(
        &mut self,
        requests: &mut mpsc::Receiver<FlushRequest>,
    ) -> Result<Exit, Failure> {
        self.shared.control.finish();
        let stop = self.process.stop.clone();
        tokio::select! {
            () = self.until_delivered(requests) => {
                self.answer_flushes(requests).await;
                self.close()
            }
            () = stop.begun() => self.end(requests).await,
        }
    }

    /// Follows the files until the stop begins or there is a new config.
    pub(crate) async fn follow(
        &mut self,
        requests: &mut mpsc::Receiver<FlushRequest>,
        configs: &mut mpsc::Receiver<Box<Config>>,
    ) -> Turn {
        let mut watch = Watch::new(self.config.batch.age);
        let stop = self.process.stop.clone();
        // The files may have changed between the first scan and the first watch.
        self.watch(&mut watch);
        self.scan(&mut watch);
        let mut looking = JoinSet::new();
        if let Some(done) = &self.done {
            looking.spawn_local(Rc::clone(done).keep_looking(stop.clone()));
        }
        let (mut is_admin_there, mut may_reload) = (true, true);
        while !stop.has_begun() {
            self.process.heartbeat.beat();
            if let Some(done) = &self.done {
                done.look(&stop);
            }
            let (scan_soon, look_soon) = {
                let catalog = self.shared.catalog.borrow();
                (catalog.needs_scans(), catalog.owes_look())
            };
            tokio::select! {
                () = stop.begun() => {}
                config = configs.recv(), if may_reload => match config {
                    Some(config) => return Turn::Reload(config),
                    None => may_reload = false,
                },
                wake = watch.next(scan_soon, look_soon) => {
                    let is_enough = wake == Wake::Written && self.shared.catalog.borrow_mut().refresh();
                    if is_enough {
                        self.shared.control.tell();
                    } else {
                        self.scan(&mut watch);
                    }
                }
                () = self.shared.control.replaced() => self.scan(&mut watch),
                Some(ended) = self.pipelines.join_next() => crash(ended),
                request = requests.recv(), if is_admin_there => match request {
                    Some(request) => {
                        self.scan(&mut watch);
                        self.flush(request);
                    }
                    None => is_admin_there = false,
                },
            }
        }
        Turn::Stop
    }

    /// The key of a setting that a new config has otherwise, and that belongs to the process.
    pub(crate) fn fixed_key(&self, new: &Config) -> Option<&'static str> {
        let (now, keys) = (&self.config, ["state_dir", "admin"]);
        let differs = [new.state_dir != now.state_dir, new.admin != now.admin];
        keys.into_iter().zip(differs).find_map(|(key, differs)| differs.then_some(key))
    }

    /// Waits for what is on its way, not longer than a stop would, and tells where everything stands. What is not
    /// acknowledged by then is sent again.
    pub(crate) async fn rest(mut self) -> (Config, Estate, Vec<FlushRequest>) {
        self.shared.control.rest();
        let stop = self.process.stop.clone();
        let landed = async { while self.pipelines.join_next().await.is_some() {} };
        tokio::select! {
            _ = tokio::time::timeout(self.config.shutdown.deadline.min(MAX_REST), landed) => {}
            // Its deadline has begun to run.
            () = stop.begun() => {}
        }
        self.pipelines.shutdown().await;
        let checkpoint = self.shared.checkpoint();
        let held = self.shared.catalog.borrow().held();
        let mut flushes = Vec::new();
        while let Some(ended) = self.flushes.join_next().await {
            flushes.extend(ended.ok().flatten());
        }
        (self.config, Estate { checkpoint, held }, flushes)
    }

    /// Answers once all that the files hold now is acknowledged.
    pub(crate) fn flush(&mut self, request: FlushRequest) {
        while self.flushes.try_join_next().is_some() {}
        self.flushes.spawn_local(flush(Rc::clone(&self.shared), request));
    }

    fn scan(&self, watch: &mut Watch) {
        self.shared.catalog.borrow_mut().scan();
        self.watch(watch);
        self.shared.save_new();
        self.shared.control.tell();
    }

    /// Watches the directories of the files, and that of the done marker.
    fn watch(&self, watch: &mut Watch) {
        let catalog = self.shared.catalog.borrow();
        match self.done.as_ref().and_then(|done| done.directory()) {
            Some(directory) if !catalog.directories().contains(directory) => {
                let mut directories = catalog.directories().clone();
                directories.insert(directory.to_owned());
                watch.follow(&directories, catalog.len());
            }
            _ => watch.follow(catalog.directories(), catalog.len()),
        }
    }
}

/// A pipeline ends by itself only through a bug of ours. To go on without its destination would be worse than to start
/// again where the positions are.
fn crash(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until all whole lines that the files hold now are acknowledged everywhere, or nothing more is tried. Gives the
/// request back where a new config comes first.
async fn flush(shared: Rc<Shared>, request: FlushRequest) -> Option<FlushRequest> {
    let ends: HashMap<u64, u64> = shared.catalog.borrow().line_ends();
    let pending = || shared.catalog.borrow().pending_up_to(&ends);
    let mut progress = shared.control.progress();
    let hurry = shared.control.hurry(request.wait);
    let delivered = async {
        while pending() > 0 {
            // The sender lives in `shared`, which this holds.
            let _ = progress.changed().await;
        }
    };
    let begun = Instant::now();
    let in_time = tokio::select! {
        biased;
        in_time = tokio::time::timeout(request.wait, delivered) => in_time.is_ok(),
        () = shared.control.closing() => pending() == 0,
        () = shared.control.resting() => {
            return Some(FlushRequest { wait: request.wait.saturating_sub(begun.elapsed()), ..request });
        }
    };
    drop(hurry);
    // Who has asked may be about to kill us, and nothing is to be sent again then.
    shared.save_moved();
    // A line that has no end yet is not waited for, but not passed over either.
    let partial: u64 = shared.catalog.borrow().bytes_beyond(&ends);
    let body = json!({"pending_bytes": pending(), "partial_bytes": partial, "files": ends.len()});
    // Nobody waits for the answer any more when this fails.
    let _ = request.answer.send(if in_time { Flushed::Done(body) } else { Flushed::Pending(body) });
    None
}
