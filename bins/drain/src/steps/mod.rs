//! The steps of a drain, one after the other, in one thread.
//!
//! Owns their order and how their results become one outcome. Signals and the last deadline are watched from outside:
//! a step never needs to look for them.

mod flush;
mod then;
mod watch;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use podkit_lifecycle::Deadline;
use tracing::{info, warn};

use crate::budget::{Budget, show};
use crate::config::Config;
use crate::error::Error;
use crate::lease::{Lease, Taken};
use crate::progress::Progress;
use crate::source::{ProcNet, ProxyDrain, Source, Sources};

/// What all steps share.
pub(crate) struct Drain {
    pub(crate) config: Config,
    pub(crate) budget: Budget,
    pub(crate) lease: Arc<Lease>,
    pub(crate) progress: Arc<Progress>,
    ship_is_there: OnceCell<bool>,
}

impl Drain {
    pub(crate) fn new(config: Config, budget: Budget, lease: Arc<Lease>, progress: Arc<Progress>) -> Self {
        Self { config, budget, lease, progress, ship_is_there: OnceCell::new() }
    }

    /// The whole drain.
    ///
    /// # Errors
    /// Traffic or logs were left at the deadline, or else a call failed.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let sources = self.begin();
        let traffic = self.watch(sources);
        let failed = self.then();
        let logs = self.flush();

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

    /// The first step: the lease. The sources that there are then.
    fn begin(&self) -> Sources {
        self.progress.set("asking the proxy to drain");
        let started = self.budget.spent();
        let taken = self.lease.take();
        let spent = show(self.budget.spent().saturating_sub(started));
        let left = show(self.budget.left());
        let proxy = &self.config.proxy;
        match &taken {
            Taken::Held(length) => {
                info!(
                    step = "lease",
                    spent,
                    left,
                    "{} drains, for {} unless renewed",
                    proxy.target,
                    show(*length)
                );
            }
            Taken::Absent => info!(step = "lease", spent, left, "no proxy at {}", proxy.target),
            Taken::Refused(why) | Taken::Failed(why) if proxy.given => {
                warn!(step = "lease", spent, left, "{why}")
            }
            Taken::Refused(why) | Taken::Failed(why) => {
                info!(step = "lease", spent, left, "no proxy at {}: {why}", proxy.target);
            }
        }
        let mut figures = ProxyDrain::new(proxy.clone());
        let (asks_proxy, from_proxy) = match taken {
            Taken::Held(_) => (true, true),
            // A proxy that is stopping may refuse a lease and tell what it knows all the same. Something else at the
            // default address tells nothing.
            Taken::Refused(_) => (proxy.given || figures.poll(self.short_deadline()).is_ok(), true),
            // It may come back.
            Taken::Failed(_) => (proxy.given, false),
            Taken::Absent => (false, false),
        };
        let mut all: Vec<Box<dyn Source>> = Vec::new();
        if asks_proxy {
            all.push(Box::new(figures));
        }
        if !self.config.ports.is_empty() {
            all.push(Box::new(ProcNet::new("/proc/net", &self.config.ports, &self.config.peers)));
        }
        Sources::new(all, usize::from(asks_proxy && !from_proxy))
    }

    /// For one question to a neighbour.
    fn short_deadline(&self) -> Deadline {
        self.budget.deadline(self.budget.patience(), Duration::ZERO)
    }

    /// When the watch must have ended, counted from the start, so that the later steps have their share.
    fn watch_end(&self) -> Duration {
        let end = self.budget.usable().saturating_sub(self.budget.share_of_calls(self.config.then.len()));
        let with_flush = end.saturating_sub(self.budget.share_of_flush());
        // Whether ship is there is asked only once it matters.
        if self.budget.spent() < with_flush { with_flush } else { end.saturating_sub(self.flush_share()) }
    }

    /// What is kept back for the flush: nothing if there is no ship.
    fn flush_share(&self) -> Duration {
        let there = *self.ship_is_there.get_or_init(|| {
            let ship = &self.config.ship;
            ship.given || ship.is_listening(self.short_deadline())
        });
        if there { self.budget.share_of_flush() } else { Duration::ZERO }
    }
}
