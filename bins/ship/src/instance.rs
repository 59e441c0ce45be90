//! What podkit-ship tells on its admin port. Reads shared numbers; asks the main loop only for a flush.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use podkit_admin::{Answer, Flushed, Instance, Reasons};
use podkit_lifecycle::{Phase, SharedPhase, Stop};
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::ledger::{Ledger, seconds};
use crate::metrics::Metrics;

/// The main loop turns every few seconds; a disk that hangs for longer than this has stopped it.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// Over the wait of a flush, for an answer from a main loop that is busy.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// A flush that the main loop is to do.
pub(crate) struct FlushRequest {
    pub(crate) wait: Duration,
    pub(crate) answer: oneshot::Sender<Flushed>,
}

/// When the main loop last turned.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeat {
    start: Instant,
    beat: Arc<AtomicU64>,
}

impl Heartbeat {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), beat: Arc::default() }
    }

    /// The loop turns.
    pub(crate) fn beat(&self) {
        self.beat.store(self.elapsed(), Ordering::Release);
    }

    fn since_last(&self) -> Duration {
        Duration::from_millis(self.elapsed().saturating_sub(self.beat.load(Ordering::Acquire)))
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The books and numbers of the config in force.
pub(crate) struct View(Mutex<(Arc<Ledger>, Arc<Metrics>)>);

impl View {
    pub(crate) fn new(ledger: &Arc<Ledger>, metrics: &Arc<Metrics>) -> Self {
        Self(Mutex::new((Arc::clone(ledger), Arc::clone(metrics))))
    }

    /// Another config is in force.
    pub(crate) fn show(&self, ledger: &Arc<Ledger>, metrics: &Arc<Metrics>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Arc::clone(ledger), Arc::clone(metrics));
    }

    fn now(&self) -> (Arc<Ledger>, Arc<Metrics>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running shipper, as the admin thread sees it.
pub(crate) struct Shipper {
    pub(crate) phase: SharedPhase,
    pub(crate) stop: Stop,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) view: Arc<View>,
    pub(crate) flushes: mpsc::Sender<FlushRequest>,
}

impl Instance for Shipper {
    fn live(&self) -> Reasons {
        let silence = self.heartbeat.since_last();
        if silence < STUCK_AFTER {
            Vec::new()
        } else {
            vec![format!(
                "the main loop has not turned for {} s; is the volume's disk stuck?",
                silence.as_secs()
            )]
        }
    }

    /// A backend that is down is no reason: the files keep the lines until it is back.
    fn ready(&self) -> Reasons {
        match self.phase.get() {
            Phase::Starting => vec!["starting".to_owned()],
            _ => Vec::new(),
        }
    }

    fn startup(&self) -> Reasons {
        self.ready()
    }

    fn metrics(&self) -> String {
        self.view.now().1.text()
    }

    fn status(&self) -> Value {
        let (ledger, metrics) = self.view.now();
        // One moment for all, so that no file is later than its destination.
        let now = Instant::now();
        let destinations = metrics.destinations.iter().zip(ledger.destinations()).enumerate();
        let destinations = destinations.map(|(index, (metrics, name))| {
            let trouble = metrics.trouble();
            json!({
                "destination": name,
                "up": trouble.is_none(),
                "pending": ledger.total(index).pending,
                "lag_seconds": seconds(ledger.lag(index, now)),
                "in_flight": metrics.in_flight.get(),
                "retries": metrics.retries(),
                "last_error": trouble,
            })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "phase": self.phase.get().to_string(),
            "uptime": seconds(Duration::from_millis(self.heartbeat.elapsed())),
            "destinations": destinations.collect::<Vec<_>>(),
            "ledger": ledger.json()["total"].take(),
            "generations": ledger.lags(now),
        })
    }

    fn flush(&self, wait: Duration) -> Option<Answer<Flushed>> {
        let (answer, answered) = oneshot::channel();
        let asked = self.flushes.try_send(FlushRequest { wait, answer });
        let (ledger, _) = self.view.now();
        Some(Box::pin(async move {
            let failed =
                |why: &str| Flushed::Pending(json!({"pending_bytes": ledger.pending(), "error": why}));
            match asked {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return failed("too many flushes at once"),
                // What the last look found in the files is delivered, and nobody looks again.
                Err(TrySendError::Closed(_)) if ledger.pending() == 0 => {
                    let files = ledger.followed();
                    return Flushed::Done(json!({"pending_bytes": 0, "partial_bytes": 0, "files": files}));
                }
                Err(TrySendError::Closed(_)) => return failed("the shipper is ending"),
            }
            match tokio::time::timeout(wait + ANSWER_MARGIN, answered).await {
                Ok(Ok(flushed)) => flushed,
                Ok(Err(_)) => failed("the shipper ended"),
                Err(_) => failed("the main loop is stuck"),
            }
        }))
    }

    fn quit(&self) {
        tracing::info!("asked to quit: stopping");
        self.stop.begin();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Reloads;

    /// A shipper whose main loop does not turn, the other end of its flushes, and its books.
    fn shipper() -> (Shipper, mpsc::Receiver<FlushRequest>, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::new(vec!["backend".to_owned()]));
        let metrics = Arc::new(Metrics::new(Arc::clone(&ledger), &Reloads::new().unwrap()).unwrap());
        let (flushes, requests) = mpsc::channel(1);
        let shipper = Shipper {
            phase: SharedPhase::default(),
            stop: Stop::default(),
            heartbeat: Heartbeat::new(),
            view: Arc::new(View::new(&ledger, &metrics)),
            flushes,
        };
        (shipper, requests, ledger)
    }

    /// The answer to a flush, and whether it says that all is delivered.
    fn flush(shipper: &Shipper) -> (bool, Value) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match runtime.block_on(shipper.flush(Duration::ZERO).unwrap()) {
            Flushed::Done(body) => (true, body),
            Flushed::Pending(body) => (false, body),
        }
    }

    #[test]
    fn a_flush_after_the_end_tells_what_the_end_has_left() {
        let (shipper, mut requests, ledger) = shipper();
        let account = ledger.open("app.log".to_owned(), "1".to_owned());
        account.set_read(5);
        requests.close();
        let left = json!({"pending_bytes": 5, "error": "the shipper is ending"});
        assert_eq!(flush(&shipper), (false, left));
        account.acknowledge(0, 5);
        let done = json!({"pending_bytes": 0, "partial_bytes": 0, "files": 1});
        assert_eq!(flush(&shipper), (true, done));
    }

    #[test]
    fn flushes_beyond_those_that_may_wait_are_refused() {
        let (shipper, _requests, _ledger) = shipper();
        let _waits = shipper.flush(Duration::ZERO);
        assert_eq!(
            flush(&shipper),
            (false, json!({"pending_bytes": 0, "error": "too many flushes at once"}))
        );
    }
}
