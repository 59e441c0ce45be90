//! The drain leases at the proxies: taken, renewed while the drain works, given back when it is cancelled.
//!
//! Never reads the traffic. One lock holds for each question, so that a renewal on its way can not undo a giving
//! back.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use podkit_cli::chain;
use podkit_http_client::{Error, Response};
use podkit_lifecycle::Deadline;
use serde_json::Value;
use tracing::{debug, warn};

use crate::budget::Budget;
use crate::peers::Peers;
use crate::sidecar::{Sidecar, each};

/// How much longer than the grace period the lease is: the proxy must not turn ready while the kubelet is a little
/// late, and should soon if the pod lives on (a liveness restart, contract 3 point 3).
const MARGIN: Duration = Duration::from_secs(5);
/// Between looks at whether a renewal is due.
const TURN: Duration = Duration::from_millis(100);

/// What became of the first try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The proxy drains, for this long unless renewed.
    Held(Duration),
    /// There is no proxy in this pod.
    Absent,
    /// Something answered, but not with a lease.
    Refused(String),
    /// No answer.
    Failed(String),
}

/// All leases; shared with the threads that renew them and that watch signals.
#[derive(Debug)]
pub(crate) struct Leases {
    all: Vec<Lease>,
    /// How many renewals a proxy agreed to.
    renewed: AtomicUsize,
}

impl Leases {
    pub(crate) fn new(proxies: &[Sidecar], peers: &Peers, budget: Budget) -> Self {
        // Hooks of several containers may drain the same proxy, each for itself.
        let holder = format!("drain-{:016x}", RandomState::new().hash_one(std::process::id()));
        let all = proxies.iter().map(|proxy| Lease {
            proxy: proxy.clone(),
            holder: holder.clone(),
            query: format!("holder={holder}{}", peers.query()),
            budget,
            is_known: AtomicBool::new(false),
            state: Mutex::default(),
        });
        Self { all: all.collect(), renewed: AtomicUsize::new(0) }
    }

    /// Asks for each lease the first time.
    pub(crate) fn take(&self) -> Vec<(&Sidecar, Taken)> {
        let taken = each(&self.all, Lease::take);
        self.all.iter().map(|lease| &lease.proxy).zip(taken).collect()
    }

    /// Renews the leases for as long as they are wanted; also where the proxy was not there before: it may have been
    /// restarted, and then it knows of no lease. Each has a thread of its own, so that one that hangs delays no other.
    pub(crate) fn keep(&self) {
        each(&self.all, |lease| {
            while !lease.state().over {
                thread::sleep(TURN);
                self.renewed.fetch_add(usize::from(lease.renew()), Ordering::Relaxed);
            }
        });
    }

    /// How many renewals a proxy has agreed to so far: when it grows, one that was lost may be back.
    pub(crate) fn renewed(&self) -> usize {
        self.renewed.load(Ordering::Relaxed)
    }

    /// The proxies that have answered: theirs is the traffic that is known. All where none has.
    pub(crate) fn known(&self) -> Vec<&Sidecar> {
        let known: Vec<_> =
            self.all.iter().filter(|lease| lease.is_known()).map(|lease| &lease.proxy).collect();
        if known.is_empty() { self.all.iter().map(|lease| &lease.proxy).collect() } else { known }
    }

    /// Ends the drain at each proxy where it is or may be held. Says what came of it.
    pub(crate) fn give_back(&self) -> String {
        let said: Vec<String> = each(&self.all, Lease::give_back).into_iter().flatten().collect();
        if said.is_empty() { "no lease was held".to_owned() } else { said.join("; ") }
    }
}

#[derive(Debug, Default)]
struct State {
    asked: Option<Instant>,
    held: bool,
    /// The proxy drains for us, or may: it agreed, or took a question and its answer was lost.
    is_owed: bool,
    /// Given back, or never wanted: no more is asked.
    over: bool,
    /// The proxy takes only a length: it may be an older one.
    plain: bool,
}

#[derive(Debug)]
struct Lease {
    proxy: Sidecar,
    /// By what name we hold it.
    holder: String,
    /// Of the query: that name, and which peers are no clients.
    query: String,
    budget: Budget,
    /// A proxy is there, whether it drains or not. Beside the lock, which a question to one that hangs keeps for long.
    is_known: AtomicBool,
    state: Mutex<State>,
}

impl Lease {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    fn take(&self) -> Taken {
        let mut state = self.state();
        let taken = self.ask(&mut state);
        // At the default address nobody need be, so what is not a proxy at first is left alone.
        state.over = state.over || (!state.held && !self.proxy.given);
        taken
    }

    /// Asks again if it is time to. True if the proxy agreed.
    fn renew(&self) -> bool {
        let mut state = self.state();
        let due = state.asked.is_some_and(|asked| asked.elapsed() >= self.interval());
        if state.over || !due {
            return false;
        }
        let taken = self.ask(&mut state);
        debug!(?taken, "lease renewed");
        matches!(taken, Taken::Held(_))
    }

    /// What came of it, if it was or may have been held.
    fn give_back(&self) -> Option<String> {
        let mut state = self.state();
        state.over = true;
        if !state.is_owed {
            return None;
        }
        let path = if state.plain { "/drain".to_owned() } else { format!("/drain?holder={}", self.holder) };
        let proxy = &self.proxy.target;
        Some(match self.proxy.ask("DELETE", &path, self.deadline()) {
            Ok(answer) if is_good(&answer) && is_held_on(&answer) => {
                format!("the lease was given back to {proxy}, which another drain holds")
            }
            Ok(answer) if is_good(&answer) => {
                format!("the lease was given back to {proxy}")
            }
            Ok(answer) => {
                format!("the lease could not be given back (DELETE {proxy}/drain: {})", answer.status)
            }
            Err(error) => format!("the lease could not be given back ({})", chain(&error)),
        })
    }

    /// For one question.
    fn deadline(&self) -> Deadline {
        self.budget.deadline(self.budget.patience(), Duration::ZERO)
    }

    fn ask(&self, state: &mut State) -> Taken {
        if state.over {
            return Taken::Absent;
        }
        state.asked = Some(Instant::now());
        let length = self.budget.until_kill() + MARGIN;
        let plain = format!("/drain?lease={}s", length.as_secs() + 1);
        let post = |path: &str| self.proxy.ask("POST", path, self.deadline());
        let mut path = if state.plain { plain.clone() } else { format!("{plain}&{}", self.query) };
        let mut answer = post(&path);
        if let Some(refusal) = answer.as_ref().ok().filter(|answer| !state.plain && is_our_fault(answer)) {
            let why = said(refusal);
            path = plain;
            answer = post(&path);
            state.plain = answer.as_ref().is_ok_and(is_good);
            if state.plain {
                let proxy = &self.proxy.target;
                warn!("{proxy} takes only the length of a lease, so that probes are traffic to it: {why}");
            }
        }
        // What was sent may have been taken, whatever became of the answer, unless that is a refusal.
        state.is_owed |= match &answer {
            Ok(answer) => is_good(answer),
            Err(error) => !matches!(error, Error::Connect { .. }),
        };
        match answer {
            Ok(answer) if is_good(&answer) => {
                state.held = true;
                self.is_known.store(true, Ordering::Relaxed);
                Taken::Held(length)
            }
            Ok(answer) => {
                // One that is stopping may refuse a lease and tell what it knows all the same.
                self.is_known.store(self.proxy.given, Ordering::Relaxed);
                let proxy = &self.proxy.target;
                Taken::Refused(format!("POST {proxy}{path} was answered with {}", said(&answer)))
            }
            Err(error) if self.proxy.is_absent(&error) => Taken::Absent,
            Err(error) => Taken::Failed(chain(&error)),
        }
    }

    /// Often enough that a proxy that was restarted is soon told.
    fn interval(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(5);
        const LEAST: Duration = Duration::from_millis(500);
        (self.budget.whole() / 6).clamp(LEAST, MOST)
    }
}

fn is_good(answer: &Response) -> bool {
    (200..300).contains(&answer.status)
}

/// Whether it is what was asked that is refused: an older proxy knows fewer words, and another limits how long they are.
fn is_our_fault(answer: &Response) -> bool {
    (400..500).contains(&answer.status)
}

/// The status, and why, where contract 2's `error` says it.
fn said(answer: &Response) -> String {
    /// What comes after it says no more.
    const LONGEST: usize = 200;
    let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    match body["error"].as_str() {
        Some(why) => format!("{}: {}", answer.status, why.chars().take(LONGEST).collect::<String>()),
        None => answer.status.to_string(),
    }
}

/// Whether the proxy goes on draining, for somebody else.
fn is_held_on(answer: &Response) -> bool {
    serde_json::from_slice::<Value>(&answer.body).is_ok_and(|state| state["phase"] == "draining")
}
