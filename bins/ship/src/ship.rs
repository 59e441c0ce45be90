//! The main loop: looks at the files when something changed, answers flushes, and ends in order.

use std::collections::HashMap;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use podkit_admin::Flushed;
use podkit_cli::{Exit, Failure, units};
use podkit_lifecycle::{Deadline, Phase, SharedPhase, Signals, Stop, raise_file_limit};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::checkpoint::Store;
use crate::config::{Config, Destination, counted};
use crate::delivery::{Pipeline, Shared, Sink};
use crate::error::Error;
use crate::files::{Catalog, Wake, Watch};
use crate::instance::{FlushRequest, Heartbeat, Shipper};
use crate::ledger::Ledger;
use crate::metrics::Metrics;

/// Flushes that may wait at once: each container's preStop asks for one.
const MAX_FLUSHES: usize = 16;
/// At the end, how long after the last news the files are looked at again.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Ships until it is told to end, or with `once` until all is delivered.
pub(crate) fn run(config: Config) -> Result<Exit, Failure> {
    // Each followed file is kept open, and the soft limit of a container is often 1024 with far more allowed.
    let file_limit = raise_file_limit().map_err(Error::Runtime)?;
    let signals = Signals::install().map_err(Error::Runtime)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let outcome = LocalSet::new().block_on(&runtime, ship(config, signals, max_files(file_limit)));
    // A write to a stdout that nobody reads must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// The files that may be open at once: the limit less what the backends, the admin port and the runtime need, which
/// is half of a limit that is very small.
fn max_files(limit: u64) -> usize {
    const RESERVE: u64 = 320;
    usize::try_from(limit - RESERVE.min(limit / 2)).unwrap_or(usize::MAX)
}

async fn ship(config: Config, signals: Signals, max_files: usize) -> Result<Exit, Failure> {
    let stop = Stop::on_signal(signals).map_err(Error::Runtime)?;
    let store = Store::open(&config.state_dir)?;
    let checkpoint = store.load()?;
    let ledger = Arc::new(Ledger::new(config.destinations.iter().map(Destination::name).collect()));
    let metrics =
        Arc::new(Metrics::new(Arc::clone(&ledger)).expect("each metric has a valid name of its own"));
    let catalog = Catalog::new(config.sources, Arc::clone(&ledger), checkpoint, store.boot(), max_files);
    let sinks: Result<Vec<Sink>, Error> =
        config.destinations.iter().map(|destination| Sink::open(destination, config.compression)).collect();
    let (flushes, requests) = mpsc::channel(MAX_FLUSHES);
    let phase = SharedPhase::default();
    let heartbeat = Heartbeat::new();
    if let Some(address) = config.admin {
        let shipper = Shipper {
            phase: phase.clone(),
            stop: stop.clone(),
            heartbeat: heartbeat.clone(),
            ledger: Arc::clone(&ledger),
            metrics: Arc::clone(&metrics),
            flushes,
        };
        podkit_admin::serve(address, Arc::new(shipper))?;
    }
    let shared = Rc::new(Shared::new(catalog, store, metrics.saves_failed.clone()));
    shared.catalog.borrow_mut().scan();
    shared.save();
    for (index, sink) in sinks?.into_iter().enumerate() {
        let (name, metrics) =
            (ledger.destinations()[index].clone(), Arc::clone(&metrics.destinations[index]));
        let pipeline = Pipeline::new(index, name, sink, config.batch, Rc::clone(&shared), metrics);
        tokio::task::spawn_local(pipeline.run());
    }
    phase.set(Phase::Running);
    tracing::info!("shipping {} to {}", counted(ledger.followed(), "file"), ledger.destinations().join(", "));
    let mut shipping = Shipping { shared, ledger, heartbeat, stop, requests };
    if config.once {
        phase.set(Phase::Stopping);
        shipping.shared.control.finish();
        let stop = shipping.stop.clone();
        tokio::select! {
            () = shipping.until_delivered() => return shipping.close(),
            () = stop.begun() => {}
        }
    } else {
        shipping.follow().await;
        phase.set(Phase::Stopping);
        shipping.shared.control.finish();
    }
    let deadline = Deadline::after(config.deadline);
    match tokio::time::timeout_at(deadline.instant().into(), shipping.until_delivered()).await {
        // The last acknowledgement may have come with the deadline.
        Err(_) if shipping.ledger.pending() > 0 => {
            // Beside what is pending, files that could not be read are the lesser fault.
            let _ = shipping.close();
            Err(shipping.undelivered(config.deadline, &metrics))
        }
        _ => shipping.close(),
    }
}

/// What the main loop works with.
struct Shipping {
    shared: Rc<Shared>,
    ledger: Arc<Ledger>,
    heartbeat: Heartbeat,
    stop: Stop,
    requests: mpsc::Receiver<FlushRequest>,
}

impl Shipping {
    /// Follows the files until the stop begins.
    async fn follow(&mut self) {
        let mut watch = Watch::new();
        let stop = self.stop.clone();
        // The files may have changed between the first scan and the first watch.
        watch.follow(self.shared.catalog.borrow().directories());
        self.scan(&mut watch);
        let mut is_admin_there = true;
        while !stop.has_begun() {
            self.heartbeat.beat();
            let scan_soon = self.shared.catalog.borrow().needs_scans();
            tokio::select! {
                () = stop.begun() => {}
                wake = watch.next(scan_soon) => {
                    let is_enough = wake == Wake::Written && self.shared.catalog.borrow_mut().refresh();
                    if is_enough {
                        self.shared.control.tell();
                    } else {
                        self.scan(&mut watch);
                    }
                }
                () = self.shared.control.replaced() => self.scan(&mut watch),
                request = self.requests.recv(), if is_admin_there => match request {
                    Some(request) => {
                        self.scan(&mut watch);
                        self.flush(request);
                    }
                    None => is_admin_there = false,
                },
            }
        }
    }

    fn flush(&self, request: FlushRequest) {
        tokio::task::spawn_local(flush(Rc::clone(&self.shared), request));
    }

    fn scan(&self, watch: &mut Watch) {
        let mut catalog = self.shared.catalog.borrow_mut();
        catalog.scan();
        watch.follow(catalog.directories());
        drop(catalog);
        self.shared.control.tell();
    }

    /// Returns when all that the files hold is acknowledged, and a last look has found nothing more.
    async fn until_delivered(&mut self) {
        let mut progress = self.shared.control.progress();
        loop {
            self.heartbeat.beat();
            progress.mark_unchanged();
            self.shared.catalog.borrow_mut().scan();
            if self.ledger.pending() == 0 {
                return;
            }
            self.shared.control.tell();
            tokio::select! {
                _ = progress.changed() => {}
                () = tokio::time::sleep(LAST_LOOK) => {}
                Some(request) = self.requests.recv() => self.flush(request),
            }
        }
    }

    /// Saves the positions and closes the books. What could not be read is in no account, and so must be told.
    fn close(&self) -> Result<Exit, Failure> {
        self.shared.save();
        // Where nobody reads stderr any more there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{}", json!({"ledger": self.ledger.json()}));
        let catalog = self.shared.catalog.borrow();
        let mut unreadable = catalog.unreadable();
        let files = counted(unreadable.len(), "file");
        match unreadable.next() {
            Some(example) => Err(Error::Unread { files, example: example.clone() }.into()),
            None => Ok(Exit::Done),
        }
    }

    fn undelivered(&self, deadline: Duration, metrics: &Metrics) -> Failure {
        let files = self.shared.catalog.borrow().pending_files();
        let trouble = metrics.destinations.iter().find_map(|destination| destination.trouble());
        let error = Error::Undelivered {
            pending: self.ledger.pending(),
            files: counted(files, "file"),
            deadline: units::show_duration(deadline),
            last: trouble.unwrap_or_else(|| "no answer yet".to_owned()),
        };
        error.into()
    }
}

/// Waits until all whole lines that the files hold now are acknowledged everywhere.
async fn flush(shared: Rc<Shared>, request: FlushRequest) {
    let ends: HashMap<u64, u64> = shared.catalog.borrow().line_ends();
    let pending = || shared.catalog.borrow().pending_up_to(&ends);
    let mut progress = shared.control.progress();
    let hurry = shared.control.hurry();
    let delivered = async {
        while pending() > 0 {
            // The sender lives in `shared`, which this holds.
            let _ = progress.changed().await;
        }
    };
    let in_time = tokio::time::timeout(request.wait, delivered).await.is_ok();
    drop(hurry);
    // A line that has no end yet is not waited for, but not passed over either.
    let partial: u64 = shared.catalog.borrow().bytes_beyond(&ends);
    let body = json!({"pending_bytes": pending(), "partial_bytes": partial, "files": ends.len()});
    // Nobody waits for the answer any more when this fails.
    let _ = request.answer.send(if in_time { Flushed::Done(body) } else { Flushed::Pending(body) });
}
