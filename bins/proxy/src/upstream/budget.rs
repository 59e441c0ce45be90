//! The retry budget: retries are a share of the requests, so that they cannot become the storm that they should mend.
//!
//! As in Finagle and linkerd: so many per hundred requests of the last ten seconds, and a few more, so that an upstream
//! with little traffic can be retried at all. Pure over moments; shared by threads without a lock.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Stamp;

/// The seconds that count.
const WINDOW: u32 = 10;

/// Retries a second that need no requests; linkerd's default.
const FREE: u32 = 10;

/// One second's numbers. `second` is one more than the second that they are of, so that zero is none.
#[derive(Debug, Default)]
struct Slot {
    second: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
}

/// What was sent and sent again in the last seconds. Two threads that start a second at the same time may lose a count:
/// it is a budget, not a ledger.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u32,
    slots: [Slot; WINDOW as usize],
}

impl Budget {
    pub(super) fn new(percent: u32) -> Self {
        Self { percent, slots: Default::default() }
    }

    /// Counts a request, not a retry of one.
    pub(super) fn request(&self, now: Stamp) {
        self.slot(now).requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a retry out of the budget; false where there is none left.
    pub(super) fn retry(&self, now: Stamp) -> bool {
        let current = self.slot(now);
        let second = second(now);
        let (mut requests, mut retries) = (0_u64, 0_u64);
        for slot in &self.slots {
            if second.wrapping_sub(slot.second.load(Ordering::Relaxed)) < WINDOW {
                requests += u64::from(slot.requests.load(Ordering::Relaxed));
                retries += u64::from(slot.retries.load(Ordering::Relaxed));
            }
        }
        let allowed = requests * u64::from(self.percent) / 100 + u64::from(FREE * WINDOW);
        if self.percent == 0 || retries >= allowed {
            return false;
        }
        current.retries.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn slot(&self, now: Stamp) -> &Slot {
        let second = second(now);
        let slot = &self.slots[(second % WINDOW) as usize];
        let seen = slot.second.load(Ordering::Relaxed);
        if seen != second
            && slot.second.compare_exchange(seen, second, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            slot.requests.store(0, Ordering::Relaxed);
            slot.retries.store(0, Ordering::Relaxed);
        }
        slot
    }
}

fn second(now: Stamp) -> u32 {
    (now.0 / 1000) as u32 + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(budget: &Budget, now: Stamp) -> usize {
        (0..100_000).take_while(|_| budget.retry(now)).count()
    }

    #[test]
    fn a_share_of_the_requests_may_be_retried_and_a_few_more() {
        let budget = Budget::new(20);
        assert_eq!(taken(&budget, Stamp(0)), 100, "ten a second, for ten seconds");
        for _ in 0..1000 {
            budget.request(Stamp(500));
        }
        assert_eq!(taken(&budget, Stamp(900)), 200);
        assert!(!budget.retry(Stamp(1_500)));
    }

    #[test]
    fn what_is_older_than_the_window_no_longer_counts() {
        let budget = Budget::new(50);
        for _ in 0..1000 {
            budget.request(Stamp(0));
        }
        assert_eq!(taken(&budget, Stamp(5_000)), 600);
        assert_eq!(taken(&budget, Stamp(9_999)), 0);
        // The requests are gone; the retries of the sixth second still count against the free ones.
        assert_eq!(taken(&budget, Stamp(10_000)), 0);
        assert_eq!(taken(&budget, Stamp(15_000)), 100);
        assert_eq!(taken(&budget, Stamp(500_000)), 100, "after a long silence too");
    }

    #[test]
    fn no_share_is_no_retries() {
        let budget = Budget::new(0);
        budget.request(Stamp(0));
        assert!(!budget.retry(Stamp(0)));
    }

    proptest! {
        #[test]
        fn retries_never_outgrow_the_budget(
            percent in 1_u32..100, steps in prop::collection::vec((0_u64..3_000, any::<bool>()), 1..400),
        ) {
            let budget = Budget::new(percent);
            let (mut now, mut requests, mut retries) = (0, Vec::new(), Vec::new());
            for (pause, is_request) in steps {
                now += pause;
                if is_request {
                    budget.request(Stamp(now));
                    requests.push(now);
                } else if budget.retry(Stamp(now)) {
                    retries.push(now);
                }
                // Whole seconds count, so a window may be a second longer.
                let recent = |all: &[u64]| all.iter().filter(|at| **at + 11_000 > now).count();
                let allowed = recent(&requests) * percent as usize / 100 + 100;
                let last_ten = retries.iter().filter(|at| **at + 9_000 > now).count();
                prop_assert!(last_ten <= allowed);
            }
        }
    }
}
