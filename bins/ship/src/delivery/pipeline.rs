//! One destination's loop: fill a batch, have it delivered, move the positions, save them.
//!
//! Each destination has a pipeline of its own, so a slow one holds back nobody else. As many batches are on their way
//! as the backend keeps up with and the memory allows; positions move in the order of reading, however the answers
//! come. While all places are taken nothing is read: the file is the buffer.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::BatchLimits;
use crate::delivery::dead_letters::DeadLetter;
use crate::delivery::deliver::{Deliverer, Refused, Retry};
use crate::delivery::format::Why;
use crate::delivery::shared::Shared;
use crate::event::Time;
use crate::metrics::DestinationMetrics;
use crate::reading::{Batch, Limits, Reader, retell};

/// One destination's loop.
pub(crate) struct Pipeline {
    destination: usize,
    deliverer: Rc<Deliverer>,
    /// Whether the backend needs the lines of a file in their order: then each file has one batch on its way.
    in_order: bool,
    /// As many batches as the memory has room for.
    places: usize,
    limits: BatchLimits,
    shared: Rc<Shared>,
    metrics: Arc<DestinationMetrics>,
    reader: Reader,
    /// When the oldest of what can be read now was first seen.
    since: Option<Instant>,
    /// Batches on their way, in the order of reading.
    flights: VecDeque<Flight>,
    next_flight: u64,
    /// Batches to be filled again.
    spare: Vec<Batch>,
}

struct Flight {
    number: u64,
    generations: HashSet<u64>,
    landed: Option<Landed>,
}

/// A batch of which each event is delivered or in the dead letters.
struct Landed {
    number: u64,
    batch: Batch,
    /// The indexes of events that are dead letters.
    dead: Vec<usize>,
}

impl Pipeline {
    pub(crate) fn new(
        destination: usize,
        deliverer: Deliverer,
        in_order: bool,
        places: usize,
        limits: BatchLimits,
        shared: Rc<Shared>,
        metrics: Arc<DestinationMetrics>,
    ) -> Self {
        let reader = Reader::new(destination, shared.catalog.borrow().sources());
        Self {
            destination,
            deliverer: Rc::new(deliverer),
            in_order,
            places,
            limits,
            shared,
            metrics,
            reader,
            since: None,
            flights: VecDeque::new(),
            next_flight: 0,
            spare: Vec::new(),
        }
    }

    /// Delivers until it is dropped or told to rest.
    pub(crate) async fn run(mut self) {
        let control = Rc::clone(&self.shared.control);
        let mut news = control.news();
        let mut flying = JoinSet::new();
        let mut batch = Batch::default();
        while !control.is_resting() || !flying.is_empty() {
            // A batch that is delivered keeps its place while one before it is not: no position moves past that.
            let has_room = !control.is_resting()
                && flying.len() < self.deliverer.concurrency.borrow().limit()
                && self.flights.len() < self.places;
            let begun = Instant::now();
            tokio::select! {
                biased;
                Some(landed) = flying.join_next(), if !flying.is_empty() => {
                    if !has_room {
                        self.metrics.paused.inc_by(begun.elapsed().as_secs_f64());
                    }
                    match landed {
                        Ok(landed) => self.land(landed),
                        // A bug of ours; what it carried is read again by the next process.
                        Err(error) => std::panic::resume_unwind(error.into_panic()),
                    }
                }
                () = control.resting(), if !control.is_resting() => {}
                () = until(self.shared.save_due()), if self.shared.save_due().is_some() => self.shared.save_moved(),
                () = self.fill(&mut batch, &mut news), if has_room => {
                    let next = self.spare.pop().unwrap_or_default();
                    let flight = self.take_off(std::mem::replace(&mut batch, next));
                    flying.spawn_local(flight);
                    // It is compressed while it is in the processor's cache, and sent before the next one is read.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Reads until there is a batch to send: full, old enough, or all there is when there is no time to wait.
    /// Nothing is read before: bytes in the file cost no memory, and many lines cost less than one by one.
    async fn fill(&mut self, batch: &mut Batch, news: &mut watch::Receiver<()>) {
        let busy: HashSet<u64> = match self.in_order {
            true => self.flights.iter().flat_map(|flight| &flight.generations).copied().collect(),
            false => HashSet::new(),
        };
        loop {
            // Before the look, so that a change during it is not missed.
            news.mark_unchanged();
            let control = Rc::clone(&self.shared.control);
            let now = Instant::now();
            let unread = self.reader.unread(&self.shared.catalog.borrow(), &busy, control.is_finishing());
            self.since = if unread == 0 { None } else { self.since.or(Some(now)) };
            let due = self.since.map(|since| since + self.limits.age);
            let is_due = unread >= self.limits.size as u64 || control.is_hurried();
            if self.since.is_some() && (is_due || due.is_some_and(|due| due <= now)) {
                let limits = Limits { bytes: self.limits.size, events: self.deliverer.accepted() };
                let filled = self.reader.fill(
                    &self.shared.catalog.borrow(),
                    &mut self.deliverer.format.borrow_mut(),
                    batch,
                    limits,
                    &busy,
                    control.is_hurried(),
                    control.is_finishing(),
                );
                self.metrics.count(&filled);
                if filled.replaced {
                    control.suspect();
                }
                if !batch.is_empty() {
                    self.since = None;
                    self.metrics.buffered.add(size_of_batch(batch));
                    return;
                }
                // Only now it is known what is held back, and until when.
                let left = self.reader.unread(&self.shared.catalog.borrow(), &busy, control.is_finishing());
                self.since = self.since.filter(|_| left > 0);
            }
            let wake = [due.filter(|due| *due > now), self.reader.held_until()].into_iter().flatten().min();
            tokio::select! {
                // The sender lives in `shared`, which this holds.
                _ = news.changed() => {}
                () = until(wake) => {}
            }
        }
    }

    /// A batch's whole way, up to where the positions may move.
    fn take_off(&mut self, batch: Batch) -> impl Future<Output = Landed> + use<> {
        let number = self.next_flight;
        self.next_flight += 1;
        let generations = batch.spans.iter().map(|span| span.generation).collect();
        self.flights.push_back(Flight { number, generations, landed: None });
        let (deliverer, shared, metrics) =
            (Rc::clone(&self.deliverer), Rc::clone(&self.shared), Arc::clone(&self.metrics));
        async move {
            let refused = if batch.items.is_empty() { Vec::new() } else { deliverer.deliver(&batch).await };
            if !refused.is_empty() {
                bury(&deliverer, &shared, &batch, &refused).await;
                metrics.dead_letters.inc_by(refused.len() as u64);
            }
            let dead = refused.into_iter().map(|refused| refused.item).collect();
            Landed { number, batch, dead }
        }
    }

    /// Moves the positions over all batches that have nothing before them on its way any more.
    fn land(&mut self, landed: Landed) {
        let number = landed.number;
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.number == number) {
            flight.landed = Some(landed);
        }
        let mut moved = false;
        while let Some(landed) = self.flights.front_mut().and_then(|flight| flight.landed.take()) {
            self.flights.pop_front();
            self.acknowledge(landed);
            moved = true;
        }
        if moved {
            self.shared.moved();
            self.shared.control.progressed();
        }
    }

    fn acknowledge(&mut self, landed: Landed) {
        let Landed { mut batch, dead, .. } = landed;
        let mut catalog = self.shared.catalog.borrow_mut();
        for span in &batch.spans {
            let of_span = dead.iter().map(|item| &batch.items[*item]);
            let of_span = of_span.filter(|item| item.generation == span.generation);
            let dead_lettered = of_span.map(|item| u64::from(item.length)).sum();
            catalog.acknowledge(span.generation, self.destination, span.to, span.filtered, dead_lettered);
        }
        self.metrics.acknowledged_lines.inc_by((batch.items.len() - dead.len()) as u64);
        self.metrics.buffered.sub(size_of_batch(&batch));
        batch.clear();
        self.spare.push(batch);
    }
}

fn size_of_batch(batch: &Batch) -> i64 {
    i64::try_from(batch.chunks.len()).unwrap_or(i64::MAX)
}

/// Puts refused events where they can be read. Until that is done their positions do not move.
async fn bury(deliverer: &Deliverer, shared: &Shared, batch: &Batch, refused: &[Refused]) {
    let time = Time::from(SystemTime::now()).rfc3339();
    let letter = |refused: &Refused| {
        let item = &batch.items[refused.item];
        let told = retell(&shared.catalog.borrow(), item, batch.chunk(refused.item).1);
        DeadLetter {
            time: time.clone(),
            destination: deliverer.name.clone(),
            reason: refused.why.message.clone(),
            file: told.file,
            generation: format!("{:016x}", batch.key(refused.item)),
            offset: item.offset,
            event_time: told.time.rfc3339(),
            object: told.object,
            added: told.added,
            fields: told.fields,
            record: told.record,
        }
    };
    let letters: Vec<DeadLetter> = refused.iter().map(letter).collect();
    let path = shared.dead_letters.path();
    if let Some(first) = letters.first() {
        tracing::warn!(
            "{} refused {} for good, such as byte {} of {:?}: {}; kept in {path:?}",
            deliverer.name,
            crate::config::counted(letters.len(), "event"),
            first.offset,
            first.file,
            first.reason
        );
    }
    let mut retry = Retry::new(deliverer);
    let mut rest = letters.as_slice();
    loop {
        let why = match shared.dead_letters.append(rest) {
            Ok(kept) => {
                rest = &rest[kept..];
                shared.dead_letters.full()
            }
            Err(error) => error,
        };
        if rest.is_empty() {
            break;
        }
        let message = format!(
            "cannot keep refused events: {}; send them again with `podkit-ship resend {}`, or move that file away",
            podkit_cli::chain(&why),
            path.display()
        );
        retry.complain(&Why { reason: "dead_letters_full", message }, rest.len());
        retry.wait(None).await;
    }
    retry.settle();
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
