//! One destination's loop: fill a batch, send it until it is acknowledged, move the positions, save them.
//!
//! Each destination has a pipeline of its own, so a slow one holds back nobody else. One batch is on its way at a
//! time; reading goes on when it is acknowledged, so memory is bounded and nothing is ever dropped.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use podkit_lifecycle::Backoff;
use tokio::sync::watch;

use crate::checkpoint::Store;
use crate::config::{BatchLimits, counted};
use crate::delivery::destination::{Refused, Sink};
use crate::files::Catalog;
use crate::metrics::DestinationMetrics;
use crate::reading::{Batch, Reader};

/// The first wait after a refusal is at most this.
const RETRY_BASE: Duration = Duration::from_millis(250);
/// No wait is longer, so that a backend that comes back is found soon.
const RETRY_CAP: Duration = Duration::from_secs(15);
/// At the end there is a deadline: no wait is longer than this.
const LAST_RETRY: Duration = Duration::from_secs(1);
/// A refusal that goes on is logged this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// What all pipelines and the main loop share.
pub(crate) struct Shared {
    pub(crate) catalog: RefCell<Catalog>,
    store: Store,
    pub(crate) control: Rc<Control>,
    saves_failed: prometheus::IntCounter,
    save_is_failing: Cell<bool>,
}

/// What the main loop tells the pipelines, and hears from them.
pub(crate) struct Control {
    /// The files have changed, or the rules have.
    news: watch::Sender<()>,
    /// A batch was acknowledged.
    progress: watch::Sender<()>,
    /// A reader saw that a file is not what it was.
    replaced: tokio::sync::Notify,
    /// The end: no waiting for a batch to fill, and partial lines are lines.
    finishing: Cell<bool>,
    /// The end has begun: who waits to try again tries now.
    ending: tokio::sync::Notify,
    /// How many flushes wait: no waiting for a batch to fill.
    flushing: Cell<usize>,
}

impl Control {
    fn new() -> Self {
        Self {
            news: watch::Sender::new(()),
            progress: watch::Sender::new(()),
            replaced: tokio::sync::Notify::new(),
            finishing: Cell::new(false),
            ending: tokio::sync::Notify::new(),
            flushing: Cell::new(0),
        }
    }

    /// Tells the pipelines to look at the catalog again.
    pub(crate) fn tell(&self) {
        self.news.send_replace(());
    }

    /// Begins the end.
    pub(crate) fn finish(&self) {
        self.finishing.set(true);
        self.ending.notify_waiters();
        self.tell();
    }

    /// Sends what there is without waiting for more, for as long as the guard lives.
    pub(crate) fn hurry(self: &Rc<Self>) -> Hurry {
        self.flushing.set(self.flushing.get() + 1);
        self.tell();
        Hurry(Rc::clone(self))
    }

    /// Hears of each acknowledgement from now on.
    pub(crate) fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// Returns when a reader has seen that a file is not what it was.
    pub(crate) async fn replaced(&self) {
        self.replaced.notified().await;
    }

    fn is_hurried(&self) -> bool {
        self.finishing.get() || self.flushing.get() > 0
    }
}

/// Keeps the pipelines from waiting for batches to fill.
pub(crate) struct Hurry(Rc<Control>);

impl Drop for Hurry {
    fn drop(&mut self) {
        self.0.flushing.set(self.0.flushing.get() - 1);
    }
}

impl Shared {
    pub(crate) fn new(catalog: Catalog, store: Store, saves_failed: prometheus::IntCounter) -> Self {
        Self {
            catalog: RefCell::new(catalog),
            store,
            control: Rc::new(Control::new()),
            saves_failed,
            save_is_failing: Cell::new(false),
        }
    }

    /// Saves all positions. A failure is told and counted, and delivery goes on: the price is duplicates after a
    /// crash, not losses.
    pub(crate) fn save(&self) {
        let catalog = self.catalog.borrow();
        let saved = self.store.save(catalog.last_look(), catalog.save());
        match saved {
            Ok(()) => self.save_is_failing.set(false),
            Err(error) => {
                self.saves_failed.inc();
                if !self.save_is_failing.replace(true) {
                    tracing::warn!(
                        "cannot save the positions: {}; delivering on, a crash now would send lines twice",
                        podkit_cli::chain(&error)
                    );
                }
            }
        }
    }
}

/// One destination's loop.
pub(crate) struct Pipeline {
    destination: usize,
    name: String,
    sink: Sink,
    limits: BatchLimits,
    shared: Rc<Shared>,
    metrics: Arc<DestinationMetrics>,
    reader: Reader,
}

impl Pipeline {
    pub(crate) fn new(
        destination: usize,
        name: String,
        sink: Sink,
        limits: BatchLimits,
        shared: Rc<Shared>,
        metrics: Arc<DestinationMetrics>,
    ) -> Self {
        Self { destination, name, sink, limits, shared, metrics, reader: Reader::new(destination) }
    }

    /// Delivers until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut news = self.shared.control.news.subscribe();
        let mut batch = Batch::new(self.limits);
        loop {
            self.fill(&mut batch, &mut news).await;
            self.deliver(&mut batch).await;
            self.metrics.buffered.set(0);
        }
    }

    /// Reads until there is a batch to send: full, old enough, or all there is when there is no time to wait.
    async fn fill(&mut self, batch: &mut Batch, news: &mut watch::Receiver<()>) {
        batch.clear();
        loop {
            // Before the look, so that a change during it is not missed.
            news.mark_unchanged();
            let control = &self.shared.control;
            let filled = self.reader.fill(&self.shared.catalog.borrow(), batch, control.finishing.get());
            self.metrics.count(filled);
            self.metrics.buffered.set(i64::try_from(batch.body.len()).unwrap_or(i64::MAX));
            if filled.replaced {
                control.replaced.notify_one();
            }
            let due = batch.due();
            let is_due = due.is_some_and(|due| due <= Instant::now());
            if !batch.is_empty() && (batch.is_full() || is_due || control.is_hurried()) {
                return;
            }
            tokio::select! {
                // The sender lives in `shared`, which this holds.
                _ = news.changed() => {}
                () = until(due) => {}
            }
        }
    }

    /// Sends a batch until it is acknowledged, or until it must be read again in smaller parts.
    async fn deliver(&mut self, batch: &mut Batch) {
        let body = match self.sink.encode(&batch.body) {
            Ok(body) => body,
            // Only memory can be short here; what is not sent now is read again.
            Err(error) => {
                tracing::warn!("cannot compress a batch for {}: {error}", self.name);
                self.reader.rewind();
                tokio::time::sleep(RETRY_BASE).await;
                return;
            }
        };
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP);
        let mut complaint = Complaint::default();
        loop {
            self.metrics.batches.inc();
            let sent = Instant::now();
            let answer = self.sink.send(Bytes::clone(&body)).await;
            self.metrics.seconds.observe(sent.elapsed().as_secs_f64());
            match answer {
                Ok(()) => {
                    complaint.settle(&self.name);
                    self.metrics.settled();
                    self.acknowledge(batch, body.len());
                    batch.grow();
                    return;
                }
                Err(refused) => {
                    self.metrics.refused(refused.reason, &refused.message);
                    if refused.is_too_large() && batch.lines > 1 {
                        tracing::info!(
                            "{}; sending {} lines in smaller batches",
                            refused.message,
                            batch.lines
                        );
                        batch.shrink();
                        self.reader.rewind();
                        return;
                    }
                    complaint.tell(&refused, batch.lines);
                    let control = &self.shared.control;
                    let mut delay = backoff.next_delay();
                    if control.finishing.get() {
                        delay = delay.min(LAST_RETRY);
                    }
                    let delay = delay.max(refused.after.unwrap_or_default());
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = control.ending.notified(), if refused.after.is_none() => {}
                    }
                }
            }
        }
    }

    fn acknowledge(&self, batch: &Batch, sent_bytes: usize) {
        let mut catalog = self.shared.catalog.borrow_mut();
        for span in &batch.spans {
            catalog.acknowledge(span.generation, self.destination, span.to);
        }
        drop(catalog);
        self.metrics.acknowledged_lines.inc_by(batch.lines as u64);
        self.metrics.sent_bytes.inc_by(sent_bytes as u64);
        self.shared.save();
        self.shared.control.progress.send_replace(());
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// A refusal that goes on is told at its beginning, now and then, and at its end.
#[derive(Default)]
struct Complaint {
    since: Option<Instant>,
    last: Option<Instant>,
    tries: u64,
}

impl Complaint {
    fn tell(&mut self, refused: &Refused, lines: usize) {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        self.tries += 1;
        if self.last.is_none_or(|last| now - last >= COMPLAIN_EVERY) {
            self.last = Some(now);
            tracing::warn!(
                tries = self.tries,
                for_seconds = (now - since).as_secs(),
                "{}; the files keep {} of this batch and all after, trying again",
                refused.message,
                counted(lines, "line")
            );
        }
    }

    fn settle(&self, name: &str) {
        if let Some(since) = self.since {
            tracing::info!("{name} takes lines again after {:?}", since.elapsed());
        }
    }
}
