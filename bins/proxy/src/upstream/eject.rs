//! Passive ejection: an endpoint that fails again and again is left out for a while.
//!
//! Counts and decides, as pure functions over atomics and moments; never asks the endpoint, and never logs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::Stamp;
use crate::config::Eject;

/// An endpoint that was ejected so many times in a row is out for so many times the configured time, and no longer.
const LONGEST: u32 = 10;

/// One endpoint's record.
#[derive(Debug, Default)]
pub(super) struct Accrual {
    /// Failures in a row.
    failures: AtomicU32,
    /// Ejected until this moment; zero is never.
    until: AtomicU64,
    /// Ejections that are not yet forgiven.
    times: AtomicU32,
}

impl Accrual {
    /// Takes in a good answer.
    pub(super) fn succeeded(&self) {
        // Nearly always zero, and a load costs less than a store that other threads must hear of.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Takes in a failure; true when it is one too many.
    pub(super) fn failed(&self, rules: &Eject) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= rules.failures.get()
    }

    pub(super) fn is_ejected(&self, now: Stamp) -> bool {
        self.until.load(Ordering::Relaxed) > now.0
    }

    /// Ejects, and gives for how long. Its first failure after that ejects it again: it has not recovered.
    pub(super) fn eject(&self, rules: &Eject, now: Stamp) -> Duration {
        let until = self.until.load(Ordering::Relaxed);
        let each = millis(rules.for_time).max(1);
        // Each time that it served in peace for as long as an ejection takes forgives one.
        let forgiven = if until == 0 { 0 } else { now.0.saturating_sub(until) / each };
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        let times =
            self.times.load(Ordering::Relaxed).saturating_sub(forgiven).saturating_add(1).min(LONGEST);
        let span = each.saturating_mul(u64::from(times));
        self.times.store(times, Ordering::Relaxed);
        self.failures.store(rules.failures.get() - 1, Ordering::Relaxed);
        self.until.store(now.0.saturating_add(span), Ordering::Relaxed);
        Duration::from_millis(span)
    }

    /// Whether an ejection has ended since `before`.
    pub(super) fn has_returned(&self, before: Stamp, now: Stamp) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until > before.0 && until <= now.0
    }
}

/// Whether one more of `total` endpoints may be ejected: at most half of them, so that a fault of the network, or of
/// something that all of them need, does not leave the load to a few.
pub(super) fn may_eject(ejected: usize, total: usize) -> bool {
    ejected < total / 2
}

/// Whether an answer with this status counts as a failure of the endpoint: a gateway's word that there was no answer.
pub(super) fn is_failure(status: u16) -> bool {
    (502..=504).contains(&status)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const RULES: Eject =
        Eject { failures: NonZeroU32::new(3).expect("not zero"), for_time: Duration::from_secs(10) };

    #[test]
    fn only_failures_in_a_row_count() {
        let accrual = Accrual::default();
        assert!(!accrual.failed(&RULES) && !accrual.failed(&RULES));
        accrual.succeeded();
        assert!(!accrual.failed(&RULES) && !accrual.failed(&RULES) && accrual.failed(&RULES));
    }

    #[test]
    fn an_ejection_ends_by_itself_and_the_next_failure_begins_a_longer_one() {
        let accrual = Accrual::default();
        assert!(!accrual.is_ejected(Stamp(0)));
        assert_eq!(accrual.eject(&RULES, Stamp(1_000)), Duration::from_secs(10));
        assert!(accrual.is_ejected(Stamp(10_999)) && !accrual.is_ejected(Stamp(11_000)));
        assert!(accrual.has_returned(Stamp(10_999), Stamp(11_000)));
        assert!(!accrual.has_returned(Stamp(11_000), Stamp(11_100)));
        assert!(accrual.failed(&RULES), "it has not recovered");
        assert_eq!(accrual.eject(&RULES, Stamp(11_000)), Duration::from_secs(20));
    }

    #[test]
    fn the_time_out_grows_tenfold_at_most_and_peace_forgives() {
        let accrual = Accrual::default();
        let mut now = 0;
        for times in 1..=15 {
            let span = accrual.eject(&RULES, Stamp(now));
            assert_eq!(span, Duration::from_secs(10 * times.min(10)));
            now += millis(span);
        }
        assert_eq!(accrual.eject(&RULES, Stamp(now + 85_000)), Duration::from_secs(30), "eight are forgiven");
        assert_eq!(accrual.eject(&RULES, Stamp(now + 999_000)), Duration::from_secs(10));
    }

    #[test]
    fn at_most_half_are_ejected_and_never_the_only_one() {
        let most = |total: usize| (0..=total).find(|ejected| !may_eject(*ejected, total)).unwrap();
        assert_eq!([0, 1, 2, 3, 4, 5, 10].map(most), [0, 0, 1, 1, 2, 2, 5]);
    }

    #[test]
    fn what_a_gateway_says_of_a_dead_app_is_a_failure_and_the_apps_own_errors_are_not() {
        assert!([502, 503, 504].into_iter().all(is_failure));
        assert!(![200, 404, 429, 500, 501, 505].into_iter().any(is_failure));
    }
}
