//! One batch's way to one destination: sent until each of its events is delivered, or refused for good.
//!
//! What the backend does not take now is tried again for ever, with full jitter, alone; what is too large is halved;
//! what is refused is halved until it is known which events are meant. Nothing is ever given up here.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use podkit_lifecycle::Backoff;
use tokio::sync::Notify;

use crate::config::counted;
use crate::delivery::compress::Encoder;
use crate::delivery::concurrency::Concurrency;
use crate::delivery::control::Control;
use crate::delivery::format::{AnyFormat, Fate, Format, Verdict, Why};
use crate::delivery::open::Outlet;
use crate::delivery::sink::Sink;
use crate::delivery::transport::{LONG_ANSWER, Received};
use crate::metrics::DestinationMetrics;
use crate::reading::Batch;

/// The first wait after a refusal is at most this.
const RETRY_BASE: Duration = Duration::from_millis(250);
/// No wait is longer, so that a backend that comes back is found soon.
const RETRY_CAP: Duration = Duration::from_secs(15);
/// At the end, and of a flush, there is a deadline: no wait is longer than this.
const LAST_RETRY: Duration = Duration::from_secs(1);
/// A wait that the backend asked for is then no longer than this: it is the last chance, and not taken in a hurry.
const LAST_RETRY_AFTER: Duration = Duration::from_secs(5);
/// A request without an answer for so long gets another one beside it then, if not before: the first may be on its way
/// to nobody.
const LAST_PATIENCE: Duration = Duration::from_secs(3);
/// The reason of those among the retries.
const NO_ANSWER: &str = "no_answer";
/// Refusals of one destination are logged this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// One destination, ready to take batches, several at once.
pub(crate) struct Deliverer {
    pub(crate) name: String,
    pub(crate) format: RefCell<AnyFormat>,
    sink: Sink,
    encoder: RefCell<Encoder>,
    pub(crate) concurrency: RefCell<Concurrency>,
    /// A request was answered, so there may be room for another.
    landed: Notify,
    /// As many events as the backend is known to take in one request; at most those of the config.
    accepted: Cell<usize>,
    most: usize,
    metrics: Arc<DestinationMetrics>,
    control: Rc<Control>,
    outage: Cell<Outage>,
}

/// What was said of a destination that does not take its batches: of all of them, and over short recoveries too.
#[derive(Debug, Default, Clone, Copy)]
struct Outage {
    since: Option<Instant>,
    /// When its refusals were last logged.
    told: Option<Instant>,
    /// Whether this outage was.
    is_told: bool,
}

/// An event of a batch that the backend will never take.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its index in the batch.
    pub(crate) item: usize,
    pub(crate) why: Why,
}

/// Events of a batch that are sent in one request, by their indexes.
type Part = Vec<usize>;

impl Deliverer {
    pub(crate) fn new(
        name: String,
        format: AnyFormat,
        outlet: Outlet,
        concurrency: usize,
        most: usize,
        metrics: Arc<DestinationMetrics>,
        control: Rc<Control>,
    ) -> Self {
        Self {
            name,
            format: RefCell::new(format),
            sink: outlet.sink,
            encoder: RefCell::new(outlet.encoder),
            concurrency: RefCell::new(Concurrency::new(concurrency)),
            landed: Notify::new(),
            accepted: Cell::new(most),
            most,
            metrics,
            control,
            outage: Cell::default(),
        }
    }

    /// How many events the next batch should have at most.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.get()
    }

    /// Delivers a batch; returns what is refused for good.
    pub(crate) async fn deliver(&self, batch: &Batch) -> Vec<Refused> {
        let mut refused = Vec::new();
        let mut retry = Retry::new(self);
        let mut parts: VecDeque<Part> = VecDeque::from([(0..batch.items.len()).collect()]);
        while let Some(part) = parts.pop_front() {
            let Some(body) = self.body(batch, &part) else {
                parts.push_front(part);
                retry.wait(None).await;
                continue;
            };
            let (verdict, after) = self.request(body, part.len()).await;
            match verdict {
                Verdict::Delivered => {
                    retry.settle();
                    self.accepted.set((self.accepted.get() + self.accepted.get().div_ceil(8)).min(self.most));
                }
                Verdict::Partly(fates) => {
                    if fates.len() < part.len() {
                        retry.begin_again();
                    }
                    let mut later = Part::new();
                    let mut last = None;
                    for (index, fate) in fates {
                        match fate {
                            Fate::Later(why) => {
                                later.push(part[index]);
                                last = Some(why);
                            }
                            Fate::Refused(why) => refused.push(Refused { item: part[index], why }),
                        }
                    }
                    if let Some(why) = last {
                        retry.complain(&why, later.len());
                        parts.push_front(later);
                        retry.wait(after).await;
                    }
                }
                Verdict::Later(why) => {
                    retry.complain(&why, part.len());
                    parts.push_front(part);
                    retry.wait(after).await;
                }
                Verdict::TooLarge(why) | Verdict::Refused(why) if part.len() == 1 => {
                    refused.push(Refused { item: part[0], why });
                }
                Verdict::TooLarge(why) => {
                    tracing::info!("{}; sending {} in halves", why.message, counted(part.len(), "event"));
                    self.accepted.set(part.len() / 2);
                    self.metrics.refused(why.reason, &why.message);
                    halve(part, &mut parts);
                }
                Verdict::Refused(why) => {
                    tracing::debug!("{}; looking for what it means in {} events", why.message, part.len());
                    self.metrics.refused(why.reason, &why.message);
                    halve(part, &mut parts);
                }
                Verdict::SomeRefused(why) => {
                    refused.extend(part.into_iter().map(|item| Refused { item, why: why.clone() }));
                }
            }
        }
        retry.settle();
        refused.sort_unstable_by_key(|refused| refused.item);
        refused
    }

    /// The encoded body of a part; `None` where memory is short.
    fn body(&self, batch: &Batch, part: &Part) -> Option<Bytes> {
        let format = self.format.borrow();
        let body = if format.is_joined() && part.len() == batch.items.len() {
            Cow::Borrowed(batch.chunks.as_slice())
        } else {
            let mut body = Vec::with_capacity(batch.chunks.len() + batch.chunks.len() / 8);
            format.body(part.iter().map(|item| batch.chunk(*item)), &mut body);
            Cow::Owned(body)
        };
        match self.encoder.borrow_mut().encode(body) {
            Ok(encoded) => Some(Bytes::from(encoded)),
            Err(error) => {
                tracing::warn!("cannot compress a batch for {}: {error}; trying again", self.name);
                None
            }
        }
    }

    fn in_flight(&self) -> usize {
        usize::try_from(self.metrics.in_flight.get()).unwrap_or_default()
    }

    /// One request, and what the answer says; with the wait that the backend asked for.
    async fn request(&self, body: Bytes, count: usize) -> (Verdict, Option<Duration>) {
        let bytes = body.len();
        // Batches that are tried again keep to the limit too, which may have become smaller.
        while self.in_flight() >= self.concurrency.borrow().limit() {
            self.landed.notified().await;
        }
        self.metrics.batches.inc();
        let sent = Instant::now();
        let sending = self.metrics.sending();
        let received = self.send(body).await;
        let latency = sent.elapsed();
        let in_flight = self.in_flight();
        drop(sending);
        self.landed.notify_one();
        self.metrics.seconds.observe(latency.as_secs_f64());
        let (verdict, after) = match received {
            // In parts its answer is shorter; a batch of which all is refused must come to an end, too.
            Err(why) if why.reason == LONG_ANSWER && count > 1 => (Verdict::TooLarge(why), None),
            Ok(received) => (self.format.borrow().judge(&received.answer, count), received.retry_after),
            Err(why) => (Verdict::Later(why), None),
        };
        let mut concurrency = self.concurrency.borrow_mut();
        match &verdict {
            Verdict::Later(_) => concurrency.overloaded(),
            Verdict::Partly(fates) if fates.iter().any(|(_, fate)| matches!(fate, Fate::Later(_))) => {
                concurrency.overloaded();
            }
            _ => concurrency.taken(latency, in_flight),
        }
        self.metrics.limit.set(i64::try_from(concurrency.limit()).unwrap_or(i64::MAX));
        if matches!(verdict, Verdict::Delivered | Verdict::Partly(_)) {
            self.metrics.sent_bytes.inc_by(bytes as u64);
        }
        (verdict, after)
    }

    /// How long a request may be without an answer before another is sent: a part of the time of whoever waits, so that
    /// there is some left for the other, and longer than answers take that are only slow.
    fn patience(&self) -> Duration {
        let slow = self.concurrency.borrow().usual_latency().saturating_mul(2);
        match self.control.least_budget() {
            Some(budget) => slow.clamp(budget / 4, budget / 2).min(LAST_PATIENCE),
            None => LAST_PATIENCE,
        }
    }

    /// Sends a body. While somebody waits with a deadline of their own, no answer is not waited for alone: a backend that
    /// was away and is back knows nothing of requests from before, and would answer a new one, which is given up after
    /// the same time, as it may have been sent too early. The first may still be answered, by a backend that is only
    /// slow.
    async fn send(&self, body: Bytes) -> Result<Received, Why> {
        let first = self.sink.send(Bytes::clone(&body));
        let mut asked = Instant::now();
        tokio::pin!(first);
        if !self.sink.may_send_twice() {
            return first.await;
        }
        loop {
            tokio::select! {
                biased;
                received = &mut first => return received,
                () = self.control.hurried() => {}
            }
            let late = asked + self.patience();
            if let Ok(received) = tokio::time::timeout_at(late.into(), &mut first).await {
                return received;
            }
            if !self.control.is_hurried() {
                continue;
            }
            self.metrics.batches.inc();
            self.metrics.repeated(NO_ANSWER);
            asked = Instant::now();
            let second = self.sink.send(Bytes::clone(&body));
            let received = tokio::select! {
                biased;
                received = &mut first => return received,
                received = tokio::time::timeout(self.patience(), second) => received,
            };
            match received {
                Ok(Err(why)) if why.reason != LONG_ANSWER => self.metrics.troubled(&why.message),
                Ok(answered) => return answered,
                Err(_) => {}
            }
        }
    }
}

/// Both halves come before what else there is, the first one first.
fn halve(mut part: Part, parts: &mut VecDeque<Part>) {
    let second = part.split_off(part.len() / 2);
    parts.push_front(second);
    parts.push_front(part);
}

/// The waits of one batch, and what is said about them: at the beginning, now and then, and at the end.
pub(crate) struct Retry<'a> {
    name: &'a str,
    metrics: &'a DestinationMetrics,
    control: &'a Control,
    outage: &'a Cell<Outage>,
    backoff: Backoff,
    tries: u64,
}

impl<'a> Retry<'a> {
    pub(crate) fn new(deliverer: &'a Deliverer) -> Self {
        Self {
            name: &deliverer.name,
            metrics: &deliverer.metrics,
            control: &deliverer.control,
            outage: &deliverer.outage,
            backoff: Backoff::new(RETRY_BASE, RETRY_CAP),
            tries: 0,
        }
    }

    /// Counts a refusal of so many events, and says so unless something like it was said a moment ago.
    pub(crate) fn complain(&mut self, why: &Why, events: usize) {
        self.metrics.refused(why.reason, &why.message);
        let now = Instant::now();
        let mut outage = self.outage.get();
        let since = *outage.since.get_or_insert(now);
        self.tries += 1;
        if outage.told.is_none_or(|told| now - told >= COMPLAIN_EVERY) {
            (outage.told, outage.is_told) = (Some(now), true);
            tracing::warn!(
                tries = self.tries,
                for_seconds = (now - since).as_secs(),
                "{}; the files keep {} of this batch and all after, trying again",
                why.message,
                counted(events, "line")
            );
        }
        self.outage.set(outage);
    }

    /// Waits for the next try: as long as the backend asked for, else with full jitter.
    pub(crate) async fn wait(&mut self, after: Option<Duration>) {
        let mut delay = self.backoff.next_delay();
        let last = after.unwrap_or_default().min(LAST_RETRY_AFTER);
        if self.control.is_hurried() {
            return tokio::time::sleep(delay.min(LAST_RETRY).max(last)).await;
        }
        delay = delay.max(after.unwrap_or_default());
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.control.hurried() => tokio::time::sleep(last).await,
        }
    }

    /// Some events were taken: the waits begin anew.
    fn begin_again(&mut self) {
        self.backoff = Backoff::new(RETRY_BASE, RETRY_CAP);
        self.tries = 0;
    }

    /// The destination takes events.
    pub(crate) fn settle(&mut self) {
        self.metrics.settled();
        self.begin_again();
        let mut outage = self.outage.get();
        if let (Some(since), true) = (outage.since.take(), std::mem::take(&mut outage.is_told)) {
            tracing::info!("{} takes lines again after {:?}", self.name, since.elapsed());
        }
        self.outage.set(outage);
    }
}
