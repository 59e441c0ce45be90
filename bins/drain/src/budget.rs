//! The time that the drain may take, and how the steps share it. Reads the clock; decides nothing about traffic.

use std::time::{Duration, Instant};

use podkit_lifecycle::Deadline;

/// Kept back for the report and the end of the process, so that the end is never later than promised: twice as long as a
/// container with a CPU limit of 100m can be stopped at a time (90 of each 100 ms, the kernel's `cfs_period_us`).
const LANDING: Duration = Duration::from_millis(200);

/// The grace period, less what is the app's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    started: Instant,
    grace: Duration,
    reserve: Duration,
}

impl Budget {
    /// `reserve` is shorter than `grace`.
    pub(crate) fn new(started: Instant, grace: Duration, reserve: Duration) -> Self {
        Self { started, grace, reserve }
    }

    /// The pod's grace period.
    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    /// All of it: when this much is spent, the process has ended.
    pub(crate) fn whole(&self) -> Duration {
        self.grace.saturating_sub(self.reserve)
    }

    fn landing(&self) -> Duration {
        LANDING.min(self.whole() / 10)
    }

    /// What the steps may spend together.
    pub(crate) fn usable(&self) -> Duration {
        self.whole().saturating_sub(self.landing())
    }

    /// Time until a step that has not ended is stuck, and the end goes on without it. The other half of the landing is
    /// then left.
    pub(crate) fn until_stuck(&self) -> Duration {
        self.whole().saturating_sub(self.landing() / 2 + self.spent())
    }

    /// Time that the report may still take. What is not told then is not told.
    pub(crate) fn until_told(&self) -> Duration {
        /// Longer than a volume takes that works.
        const MOST: Duration = Duration::from_secs(2);
        self.whole().saturating_sub(self.landing() / 4 + self.spent()).min(MOST)
    }

    /// Time since the drain began.
    pub(crate) fn spent(&self) -> Duration {
        self.started.elapsed()
    }

    /// What the steps still may spend.
    pub(crate) fn left(&self) -> Duration {
        self.usable().saturating_sub(self.spent())
    }

    /// Time until the kubelet would kill, if the grace period began when we did.
    pub(crate) fn until_kill(&self) -> Duration {
        self.grace.saturating_sub(self.spent())
    }

    /// A deadline after `patience`, or where less is left after keeping back `later`, after that.
    pub(crate) fn deadline(&self, patience: Duration, later: Duration) -> Deadline {
        Deadline::after(patience.min(self.left().saturating_sub(later)))
    }

    /// How long one question to a neighbour may take: local answers come at once, but a starved CPU makes them slow,
    /// and a stuck neighbour must not eat a small budget.
    pub(crate) fn patience(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(2);
        (self.whole() / 10).min(MOST)
    }

    /// When the watch must have ended, counted from the start, where so many steps and a flush of this share follow.
    pub(crate) fn watch_end(&self, steps: usize, flush: Duration) -> Duration {
        self.usable().saturating_sub(self.share_of_steps(steps)).saturating_sub(flush)
    }

    /// What is kept back for `steps` calls, signals and programs.
    pub(crate) fn share_of_steps(&self, steps: usize) -> Duration {
        const EACH: Duration = Duration::from_secs(1);
        (EACH * u32::try_from(steps).unwrap_or(u32::MAX)).min(self.whole() / 10)
    }

    /// What the watch leaves to the flush after it: a log that is nearly delivered needs no more.
    pub(crate) fn share_of_flush(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(5);
        (self.whole() / 5).min(MOST)
    }
}

/// A time as the log shows it: `2.5s`, `40ms`.
pub(crate) fn show(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1_000 => format!("{millis}ms"),
        millis => {
            let tenths = (millis + 50) / 100;
            format!("{}.{}s", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_capped_and_shrink_with_the_budget() {
        let of = |grace, reserve| {
            Budget::new(Instant::now(), Duration::from_secs(grace), Duration::from_secs(reserve))
        };
        let (large, small) = (of(65, 5), of(3, 1));
        assert_eq!(
            (large.share_of_flush(), small.share_of_flush()),
            (Duration::from_secs(5), Duration::from_millis(400))
        );
        assert_eq!(
            (large.share_of_steps(2), small.share_of_steps(2)),
            (Duration::from_secs(2), Duration::from_millis(200))
        );
        assert_eq!(
            (large.patience(), small.patience()),
            (Duration::from_secs(2), Duration::from_millis(200))
        );
        assert_eq!(large.usable(), Duration::from_millis(59_800));
        assert_eq!(large.share_of_steps(0), Duration::ZERO);
    }

    #[test]
    fn the_end_has_time_of_its_own() {
        let at = Instant::now() - Duration::from_millis(59_500);
        let budget = Budget::new(at, Duration::from_secs(65), Duration::from_secs(5));
        assert!(budget.left() < budget.until_stuck() && budget.until_stuck() < budget.until_told());
        assert!(budget.until_told() <= Duration::from_millis(450));
        let early = Budget::new(Instant::now(), Duration::from_secs(65), Duration::from_secs(5));
        assert_eq!(early.until_told(), Duration::from_secs(2));
    }

    #[test]
    fn the_watch_ends_before_the_shares_of_what_follows() {
        let budget = Budget::new(Instant::now(), Duration::from_secs(65), Duration::from_secs(5));
        let before = |steps, flush| budget.usable() - budget.watch_end(steps, flush);
        assert_eq!(before(2, Duration::from_secs(5)), Duration::from_secs(7));
        assert_eq!(before(0, Duration::ZERO), Duration::ZERO);
        assert_eq!(budget.watch_end(1, Duration::MAX), Duration::ZERO);
    }

    #[test]
    fn times_are_short_to_read() {
        assert_eq!(show(Duration::from_millis(40)), "40ms");
        assert_eq!(show(Duration::from_millis(2_540)), "2.5s");
        assert_eq!(show(Duration::from_millis(12_960)), "13.0s");
    }
}
