//! The steps of a drain, one after the other, in one thread.
//!
//! Owns their order and how their results become one outcome. Signals and the last deadline are watched from outside:
//! a step needs no more than to ask, before it begins, whether it still may.

mod flush;
mod run;
mod signal;
mod then;
mod watch;

use std::cell::OnceCell;
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use podkit_lifecycle::Deadline;
use tracing::{info, warn};

use crate::budget::{Budget, show};
use crate::config::Config;
use crate::error::Error;
use crate::figures::{Figures, How, StepFigures};
use crate::lease::{Leases, Taken};
use crate::progress::Progress;
use crate::sidecar::each;
use crate::source::{InetDiag, ProcNet, ProxyDrain, Source, Sources};

pub(crate) use signal::find;

/// What the steps share with those who watch them from outside.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) leases: Arc<Leases>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) figures: Arc<Figures>,
}

/// What all steps share.
pub(crate) struct Drain {
    config: Config,
    budget: Budget,
    shared: Shared,
    /// Where programs write.
    output: Option<OwnedFd>,
    ship_is_there: OnceCell<bool>,
}

/// A step under way.
struct Step<'a> {
    drain: &'a Drain,
    name: &'static str,
    started: Duration,
    source: Option<String>,
}

impl Step<'_> {
    /// The step's line in the log, and its figures.
    fn end(self, how: How, detail: String) {
        let spent = self.drain.budget.spent().saturating_sub(self.started);
        let left = self.drain.budget.left();
        let (step, source) = (self.name, self.source);
        let (shown_spent, shown_left) = (show(spent), show(left));
        match how {
            How::Failed => warn!(step, source, spent = shown_spent, left = shown_left, "{detail}"),
            How::Done | How::Skipped => {
                info!(step, source, spent = shown_spent, left = shown_left, "{detail}");
            }
        }
        self.drain.shared.figures.step(StepFigures { step, how, spent, left, detail });
    }
}

impl Drain {
    pub(crate) fn new(config: Config, budget: Budget, shared: Shared, output: Option<OwnedFd>) -> Self {
        Self { config, budget, shared, output, ship_is_there: OnceCell::new() }
    }

    /// The whole drain.
    ///
    /// # Errors
    /// Traffic or logs were left at the deadline, or else a call, signal or program failed.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let sources = self.begin();
        let traffic = self.watch(sources);
        let failed = self.after_quiet();
        let logs = self.flush();
        self.shared.progress.go_on();

        let left: Vec<String> = [traffic, logs].into_iter().flatten().collect();
        let after = show(self.budget.spent());
        match (left.is_empty(), failed) {
            (true, None) => {
                info!(spent = after, "drained");
                Ok(())
            }
            (true, Some(failed)) => Err(Error::Then(failed)),
            (false, failed) => {
                let left = left.into_iter().chain(failed).collect::<Vec<_>>().join("; ");
                Err(Error::Deadline { after, left })
            }
        }
    }

    fn step(&self, name: &'static str) -> Step<'_> {
        Step { drain: self, name, started: self.budget.spent(), source: None }
    }

    /// The first step: the leases. The sources that there are then.
    fn begin(&self) -> Sources {
        self.shared.progress.set("asking the proxy to drain");
        let started = self.budget.spent();
        let (mut asks_proxy, mut from_proxy) = (false, false);
        for (proxy, taken) in self.shared.leases.take() {
            asks_proxy |= !matches!(taken, Taken::Absent(_));
            // One that failed may come back: until then the next source tells.
            from_proxy |= matches!(taken, Taken::Held(_) | Taken::Refused(_));
            let (how, detail) = match taken {
                Taken::Held(length) => {
                    (How::Done, format!("{} drains, for {} unless renewed", proxy.target, show(length)))
                }
                Taken::Absent(None) => (How::Skipped, format!("no proxy at {}", proxy.target)),
                Taken::Absent(Some(why)) => (How::Skipped, format!("no proxy at {}: {why}", proxy.target)),
                Taken::Refused(why) | Taken::Failed(why) => (How::Failed, why),
            };
            Step { started, ..self.step("lease") }.end(how, detail);
        }
        let mut all: Vec<Box<dyn Source>> = Vec::new();
        if asks_proxy {
            all.push(Box::new(ProxyDrain::new(Arc::clone(&self.shared.leases))));
        }
        if !self.config.ports.is_empty() {
            let (ports, peers) = (&self.config.ports, &self.config.peers);
            all.push(Box::new(InetDiag::new(ports, peers, self.config.idle)));
            all.push(Box::new(ProcNet::new("/proc/net", ports, peers)));
        }
        Sources::new(all, usize::from(asks_proxy && !from_proxy))
    }

    /// The steps between quiet and the flush, in order: calls, signals, programs. A failed one stops neither the next
    /// nor the flush. The failures, as a part of a sentence.
    fn after_quiet(&self) -> Option<String> {
        let mut rest = u32::try_from(self.config.steps_after_quiet()).unwrap_or(u32::MAX);
        let each = self.budget.share_of_steps(self.config.steps_after_quiet()) / rest.max(1);
        let mut failures = Vec::new();
        let mut take =
            |name: &'static str, what: &dyn Display, act: &dyn Fn(Duration) -> Result<String, String>| {
                self.shared.progress.go_on();
                rest = rest.saturating_sub(1);
                self.shared.progress.set(format!("waiting for {what}"));
                let step = self.step(name);
                // Each step may take all that is left, but for the share of those that come after it.
                match act(each * rest + self.flush_share()) {
                    Ok(detail) => step.end(How::Done, detail),
                    Err(why) => {
                        step.end(How::Failed, why.clone());
                        failures.push(why);
                    }
                }
            };
        for call in &self.config.then {
            take("then", call, &|later| then::send(call, self.budget.deadline(call.timeout, later)));
        }
        for to in &self.config.signals {
            let patience = to.wait.unwrap_or(Duration::MAX);
            take("signal", to, &|later| signal::send(to, self.budget.deadline(patience, later)));
        }
        for program in &self.config.programs {
            let run = |later| {
                let deadline = self.budget.deadline(Duration::MAX, later);
                run::run(program, deadline, self.output.as_ref(), &self.shared.progress)
            };
            take("run", program, &run);
        }
        (!failures.is_empty()).then(|| failures.join("; "))
    }

    /// When the watch must have ended, counted from the start, so that the later steps have their share.
    fn watch_end(&self) -> Duration {
        let end = |flush| self.budget.watch_end(self.config.steps_after_quiet(), flush);
        let with_flush = end(self.budget.share_of_flush());
        // Whether ship is there is asked only once it matters.
        let is_early = self.budget.spent() < with_flush.saturating_sub(self.last_look());
        if is_early { with_flush } else { end(self.flush_share()) }
    }

    /// The last look of the watch begins so long before its end, or it would never be answered in time.
    fn last_look(&self) -> Duration {
        self.budget.patience() / 20
    }

    /// What is kept back for the flush: nothing if there is no ship.
    fn flush_share(&self) -> Duration {
        let there = *self.ship_is_there.get_or_init(|| {
            // A refusal comes at once. What is silent is there, and must not cost the other steps their share.
            let deadline = Deadline::after(self.budget.patience() / 8);
            each(&self.config.ships, |ship| ship.given || ship.is_listening(deadline)).contains(&true)
        });
        if there { self.budget.share_of_flush() } else { Duration::ZERO }
    }
}
