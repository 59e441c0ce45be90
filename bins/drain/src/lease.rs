//! The drain lease at the proxy: taken, renewed while the drain works, given back when it is cancelled.
//!
//! Never reads the traffic. One lock holds for each question, so that a renewal on its way can not undo a giving
//! back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use podkit_cli::chain;
use tracing::debug;

use crate::budget::Budget;
use crate::sidecar::Sidecar;

/// How much longer than the grace period the lease is: the proxy must not turn ready while the kubelet is a little
/// late, and should soon if the pod lives on (a liveness restart, contract 3 point 3).
const MARGIN: Duration = Duration::from_secs(5);

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

#[derive(Debug, Default)]
struct State {
    asked: Option<Instant>,
    held: bool,
    /// Given back, or never wanted: no more is asked.
    over: bool,
}

/// The lease; shared with the thread that watches signals.
#[derive(Debug)]
pub(crate) struct Lease {
    proxy: Sidecar,
    budget: Budget,
    state: Mutex<State>,
}

impl Lease {
    pub(crate) fn new(proxy: Sidecar, budget: Budget) -> Self {
        Self { proxy, budget, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the lease the first time.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state();
        let taken = self.ask(&mut state);
        // At the default address nobody need be, so what is not a proxy at first is left alone.
        state.over = state.over || (!state.held && !self.proxy.given);
        taken
    }

    /// Asks again if it is time to, also where the proxy was not there before: it may have been restarted, and then
    /// it knows of no lease. True if the proxy agreed.
    pub(crate) fn renew(&self) -> bool {
        let mut state = self.state();
        let due = state.asked.is_none_or(|asked| asked.elapsed() >= self.interval());
        if state.over || !due {
            return false;
        }
        let taken = self.ask(&mut state);
        debug!(?taken, "lease renewed");
        matches!(taken, Taken::Held(_))
    }

    /// Ends the drain at the proxy, if it was held. Says what came of it.
    pub(crate) fn give_back(&self) -> String {
        let mut state = self.state();
        state.over = true;
        if !state.held {
            return "no lease was held".to_owned();
        }
        match self.proxy.ask("DELETE", "/drain", self.budget.deadline(self.budget.patience(), Duration::ZERO))
        {
            Ok(answer) if (200..300).contains(&answer.status) => "the lease was given back".to_owned(),
            Ok(answer) => format!("the lease could not be given back (DELETE /drain: {})", answer.status),
            Err(error) => format!("the lease could not be given back ({})", chain(&error)),
        }
    }

    fn ask(&self, state: &mut State) -> Taken {
        if state.over {
            return Taken::Absent;
        }
        state.asked = Some(Instant::now());
        let length = self.budget.until_kill() + MARGIN;
        let path = format!("/drain?lease={}s", length.as_secs() + 1);
        match self.proxy.ask("POST", &path, self.budget.deadline(self.budget.patience(), Duration::ZERO)) {
            Ok(answer) if (200..300).contains(&answer.status) => {
                state.held = true;
                Taken::Held(length)
            }
            Ok(answer) => Taken::Refused(format!(
                "POST {}{path} was answered with {}",
                self.proxy.target, answer.status
            )),
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
