//! The drain leases at the proxies: taken, renewed while the drain works, given back when it is cancelled.
//!
//! Never reads the traffic: a look at the figures tells only a proxy from something else. One lock holds for each
//! question, so that a renewal on its way can not undo a giving back.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
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
use crate::source::{SourceError, figures};

/// How much longer than the grace period the lease is: the proxy must not turn ready while the kubelet is a little
/// late, and should soon if the pod lives on (a liveness restart, contract 3 point 3).
const MARGIN: Duration = Duration::from_secs(5);
/// Between looks at whether a renewal is due.
const TURN: Duration = Duration::from_millis(100);

/// What became of a question for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The proxy drains, for this long unless renewed.
    Held(Duration),
    /// There is no proxy in this pod; why what answered is none.
    Absent(Option<String>),
    /// The proxy answered, but not with a lease.
    Refused(String),
    /// No answer that tells anything: a proxy may be there, or come back.
    Failed(String),
}

impl Taken {
    /// Whether it is a proxy's answer.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Held(_) | Self::Refused(_))
    }
}

/// All leases; shared with the threads that renew them and that watch signals.
#[derive(Debug)]
pub(crate) struct Leases {
    all: Vec<Lease>,
    /// How many renewals a proxy answered.
    answers: AtomicUsize,
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
        Self { all: all.collect(), answers: AtomicUsize::new(0) }
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
                self.answers.fetch_add(usize::from(lease.renew()), Ordering::Relaxed);
            }
        });
    }

    /// How many renewals a proxy has answered so far: when it grows, one that was lost may be back.
    pub(crate) fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    /// Asks once more, out of turn: those that have never answered, or all. True if one does.
    pub(crate) fn retry(&self, all: bool, patience: Duration) -> bool {
        each(&self.all, |lease| (all || !lease.is_known()) && lease.retry(patience)).contains(&true)
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

#[derive(Debug)]
struct State {
    /// When the last question ended, and how.
    asked: Option<Instant>,
    last: Taken,
    /// The proxy drains for us, or may: it agreed, or took a question and its answer was lost.
    is_owed: bool,
    /// Given back, or never wanted: no more is asked.
    over: bool,
    /// The proxy takes only a length: it may be an older one.
    plain: bool,
}

impl Default for State {
    fn default() -> Self {
        Self { asked: None, last: Taken::Absent(None), is_owed: false, over: false, plain: false }
    }
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
        self.ask(&mut state, self.budget.patience());
        // At the default address nobody need be, so what is no proxy at first is left alone.
        state.over |= matches!(state.last, Taken::Absent(_));
        state.last.clone()
    }

    /// Asks again if it is time to. True if the proxy answered.
    fn renew(&self) -> bool {
        let mut state = self.state();
        let interval = self.interval(&state.last);
        if state.over || state.asked.is_none_or(|asked| asked.elapsed() < interval) {
            return false;
        }
        self.ask(&mut state, self.budget.patience());
        debug!(taken = ?state.last, "lease renewed");
        state.last.is_answer()
    }

    /// Asks now, or waits for the end of a question that is on its way. True if the proxy answers.
    fn retry(&self, patience: Duration) -> bool {
        const PAUSE: Duration = Duration::from_millis(10);
        let (began, deadline) = (Instant::now(), Deadline::after(patience));
        let mut state = loop {
            match self.state.try_lock() {
                Ok(state) => break state,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if deadline.expired() => return false,
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            }
        };
        if state.over {
            return false;
        }
        if state.asked.is_none_or(|asked| asked < began) {
            self.ask(&mut state, deadline.remaining());
        }
        state.last.is_answer()
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
        Some(match self.proxy.ask("DELETE", &path, self.deadline(self.budget.patience())) {
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
    fn deadline(&self, patience: Duration) -> Deadline {
        self.budget.deadline(patience, Duration::ZERO)
    }

    fn ask(&self, state: &mut State, patience: Duration) {
        state.last = self.asked(state, patience);
        state.asked = Some(Instant::now());
        self.is_known.fetch_or(state.last.is_answer(), Ordering::Relaxed);
    }

    fn asked(&self, state: &mut State, patience: Duration) -> Taken {
        if state.over {
            return Taken::Absent(None);
        }
        let length = self.budget.until_kill() + MARGIN;
        let plain = format!("/drain?lease={}s", length.as_secs() + 1);
        let post = |path: &str| self.proxy.ask("POST", path, self.deadline(patience));
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
            Ok(answer) if is_good(&answer) => Taken::Held(length),
            Ok(answer) => {
                let refusal = format!("POST {}{path} was answered with {}", self.proxy.target, said(&answer));
                self.refused(answer.status, refusal, patience)
            }
            Err(error) if self.proxy.is_absent(&error) => Taken::Absent(None),
            Err(error) => Taken::Failed(chain(&error)),
        }
    }

    /// One that is stopping may refuse a lease and tell what it knows all the same. At the default address something else
    /// may be, which tells nothing: by its refusals it is known, while a failure may be that of a proxy.
    fn refused(&self, status: u16, refusal: String, patience: Duration) -> Taken {
        if self.proxy.given {
            return Taken::Refused(refusal);
        }
        match figures(&self.proxy, self.deadline(patience)) {
            Ok(_) => Taken::Refused(refusal),
            Err(_) if status < 500 => Taken::Absent(Some(refusal)),
            Err(SourceError::Status { status: ..500, .. }) => Taken::Absent(Some(refusal)),
            Err(error) => Taken::Failed(chain(&error)),
        }
    }

    /// Often enough that a proxy that was restarted is soon told; one that does not drain yet is sending no clients away.
    fn interval(&self, last: &Taken) -> Duration {
        const MOST: Duration = Duration::from_secs(5);
        const LEAST: Duration = Duration::from_millis(500);
        match last {
            Taken::Held(_) => (self.budget.whole() / 6).clamp(LEAST, MOST),
            _ => LEAST,
        }
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
