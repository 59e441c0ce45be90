//! How old the oldest bytes are that a destination has not settled. Pure: told of each change, and of the time.
//!
//! Knows a file's growth only from the looks that were taken at it, and keeps one mark of it, not each: a lag is
//! never told too small, and too large by one mark at most.

use std::time::{Duration, Instant};

/// One file's lag at one destination.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lag(Option<Behind>);

/// There are unsettled bytes.
#[derive(Debug, Clone, Copy)]
struct Behind {
    /// The oldest of them were not there before this.
    since: Instant,
    /// The bytes that were known at the moment beside it: once they are settled, all others are younger. Without
    /// it the lag of a file that never rests would grow for ever.
    mark: u64,
    marked: Instant,
}

impl Lag {
    /// Takes note that `settled` of `known` bytes are settled.
    pub(crate) fn note(&mut self, settled: u64, known: u64, now: Instant) {
        self.0 = match self.0 {
            _ if settled >= known => None,
            None => Some(Behind { since: now, mark: known, marked: now }),
            Some(behind) if settled >= behind.mark => {
                Some(Behind { since: behind.marked, mark: known, marked: now })
            }
            behind => behind,
        };
    }

    /// The age of the oldest unsettled bytes; zero while there are none.
    pub(crate) fn age(self, now: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |behind| now.saturating_duration_since(behind.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_begins_with_the_first_unsettled_bytes_and_ends_with_the_last() {
        let (start, mut lag) = (Instant::now(), Lag::default());
        lag.note(0, 0, start);
        assert_eq!(lag.age(start + SECOND), Duration::ZERO);
        lag.note(0, 10, start + SECOND);
        lag.note(0, 20, start + 2 * SECOND);
        assert_eq!(lag.age(start + 5 * SECOND), 4 * SECOND);
        lag.note(20, 20, start + 6 * SECOND);
        assert_eq!(lag.age(start + 9 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_file_that_never_rests_does_not_look_late() {
        let (start, mut lag) = (Instant::now(), Lag::default());
        // Each second ten bytes more, and those of the second before are acknowledged.
        for second in 1..100 {
            let now = start + second * SECOND;
            lag.note(u64::from(second - 1) * 10, u64::from(second) * 10, now);
            assert!(lag.age(now) <= 2 * SECOND, "{:?}", lag.age(now));
        }
    }

    proptest! {
        /// Never less than the age of the oldest unsettled byte, and zero only where there is none.
        #[test]
        fn it_is_never_told_too_small(steps in prop::collection::vec((0_u64..50, 0_u64..50), 1..60)) {
            let (start, mut lag) = (Instant::now(), Lag::default());
            let (mut known, mut settled) = (0, 0);
            let mut grown: Vec<(u64, Instant)> = Vec::new();
            for (second, (more, done)) in (1..).zip(steps) {
                let now = start + second * SECOND;
                known += more;
                grown.push((known, now));
                settled = (settled + done).min(known);
                lag.note(settled, known, now);
                let oldest = grown.iter().find(|(bytes, _)| *bytes > settled).map(|(_, when)| now - *when);
                prop_assert!(lag.age(now) >= oldest.unwrap_or_default());
                prop_assert_eq!(settled == known, oldest.is_none());
            }
        }
    }
}
