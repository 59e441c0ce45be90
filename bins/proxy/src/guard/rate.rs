//! A rate as GCRA (the leaky bucket of ITU-T I.371, as a meter): one number a client, no timer, no lock.
//!
//! The number is the moment at which the next event would be due if all were evenly spread. An event may come so much
//! earlier as makes one second's worth of events possible at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Rate;

/// How events are spread, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    /// Between two events.
    interval: u64,
    /// How early an event may come.
    tolerance: u64,
}

impl Spread {
    pub(super) fn of(rate: Rate) -> Self {
        let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (per / u64::from(rate.events.get())).max(1);
        let at_once = (Duration::from_secs(1).as_nanos() as u64 / interval).max(1);
        Self { interval, tolerance: (at_once - 1) * interval }
    }

    /// Takes an event at `now` into account, or says how long it would have to wait.
    pub(super) fn admit(self, due: &AtomicU64, now: u64) -> Result<(), Duration> {
        let mut seen = due.load(Ordering::Relaxed);
        loop {
            let early = seen.saturating_sub(now);
            if early > self.tolerance {
                return Err(Duration::from_nanos(early - self.tolerance));
            }
            let next = seen.max(now).saturating_add(self.interval);
            match due.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(changed) => seen = changed,
            }
        }
    }
}

/// The rate of all clients together.
#[derive(Debug)]
pub(super) struct Meter {
    spread: Spread,
    due: AtomicU64,
}

impl Meter {
    pub(super) fn new(spread: Spread) -> Self {
        Self { spread, due: AtomicU64::new(0) }
    }

    pub(super) fn admit(&self, now: u64) -> Result<(), Duration> {
        self.spread.admit(&self.due, now)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn spread(events: u32, per: Duration) -> Spread {
        Spread::of(Rate { events: NonZeroU32::new(events).unwrap(), per })
    }

    /// How many of so many events at one moment are let in.
    fn burst(meter: &Meter, now: u64, events: usize) -> usize {
        (0..events).filter(|_| meter.admit(now).is_ok()).count()
    }

    #[test]
    fn one_seconds_worth_may_come_at_once_and_then_the_rate_holds() {
        let meter = Meter::new(spread(500, Duration::from_secs(1)));
        assert_eq!(burst(&meter, SECOND, 2000), 500);
        assert_eq!(meter.admit(SECOND), Err(Duration::from_millis(2)));
        assert_eq!(burst(&meter, SECOND + SECOND / 10, 2000), 50);
        assert_eq!(burst(&meter, 10 * SECOND, 2000), 500, "what was not used is not saved up");
        let let_in: usize = (0..1000).map(|n| burst(&meter, 20 * SECOND + n * SECOND / 100, 100)).sum();
        assert_eq!(let_in, 500 + 500 * 999 / 100, "over ten seconds");
    }

    #[test]
    fn a_slow_rate_lets_in_one_at_a_time() {
        let meter = Meter::new(spread(10, Duration::from_secs(60)));
        assert_eq!(burst(&meter, SECOND, 5), 1);
        assert_eq!(meter.admit(2 * SECOND), Err(Duration::from_secs(5)));
        assert_eq!(burst(&meter, 7 * SECOND, 5), 1);
    }

    #[test]
    fn the_fastest_rate_there_is_has_an_interval() {
        let meter = Meter::new(spread(u32::MAX, Duration::from_secs(1)));
        assert_eq!(burst(&meter, SECOND, 100), 100);
    }

    #[test]
    fn threads_share_one_rate() {
        let meter = Meter::new(spread(1000, Duration::from_secs(1)));
        let let_in: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| burst(&meter, SECOND, 1000))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(let_in, 1000);
    }
}
