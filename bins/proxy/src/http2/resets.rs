//! How often a client opens a stream and resets it at once ("rapid reset", CVE-2023-44487). Such a stream costs the
//! client two small frames and the upstream a request, and never counts against the limit of streams.
//!
//! `h2` bounds those that were reset before we saw them; this bounds the rest, by a budget that fills up again.

use std::cell::Cell;
use std::time::Duration;

use crate::worker::{Clock, Tick};

/// A stream that was open longer was no trick: clients do give up waiting. The same as Envoy's.
const YOUNG: Duration = Duration::from_secs(1);

/// Young streams that may be reset at once: a client with many calls under one deadline does so.
const BURST: u32 = 500;

/// And then so many in each [`REFILL`].
const REFILLED: u32 = 50;
const REFILL: Duration = Duration::from_millis(500);

/// One connection's budget.
#[derive(Debug)]
pub(crate) struct Resets {
    left: Cell<u32>,
    refill_at: Cell<Tick>,
}

impl Resets {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self { left: Cell::new(BURST), refill_at: Cell::new(clock.after(REFILL)) }
    }

    /// The moment from which a stream that opens now is no longer young.
    pub(crate) fn young_until(clock: &Clock) -> Tick {
        clock.after(YOUNG)
    }

    /// A stream was reset before its answer was whole.
    pub(crate) fn count(&self, young_until: Tick, clock: &Clock) {
        let now = clock.now();
        if self.refill_at.get() <= now {
            self.refill_at.set(clock.after(REFILL));
            self.left.set((self.left.get() + REFILLED).min(BURST));
        }
        if now < young_until {
            self.left.set(self.left.get().saturating_sub(1));
        }
    }

    /// Whether the client is no client.
    pub(crate) fn is_spent(&self) -> bool {
        self.left.get() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_resets_spends_the_budget_and_patience_does_not() {
        let clock = Clock::new();
        let resets = Resets::new(&clock);
        for _ in 0..10_000 {
            resets.count(clock.now(), &clock);
        }
        assert!(!resets.is_spent(), "streams that were open for long are no flood");
        for _ in 1..BURST {
            resets.count(Resets::young_until(&clock), &clock);
        }
        assert!(!resets.is_spent());
        resets.count(Resets::young_until(&clock), &clock);
        assert!(resets.is_spent());
    }
}
