//! When the next pass is due, and why. Pure: the time is given.

use std::time::{Duration, Instant};

use podkit_lifecycle::Backoff;

/// A burst of changes is over when nothing has changed for this long.
const QUIET: Duration = Duration::from_millis(200);
/// A burst that does not end is looked at all the same.
const LONGEST_BURST: Duration = Duration::from_secs(2);
/// Between looks at all inputs, told of a change or not: network file systems do not tell, and the kernel's queue of
/// events may run over.
const LOOK: Duration = Duration::from_secs(10);
/// The same where the kernel does not tell of changes, and once after each pass for what came before its watches.
const SOON: Duration = Duration::from_secs(1);
/// The waits after a pass that failed: a mounted volume is mended within a minute or two.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A look at the inputs.
    Look,
    /// A pass, to ask the servers.
    Download,
    /// A pass, since the last one failed.
    Retry,
}

/// All that waits for its time.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The first and the last sign of a burst of changes.
    burst: Option<(Instant, Instant)>,
    look: Instant,
    download: Option<Instant>,
    retry: Option<Instant>,
    backoff: Backoff,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        Self { burst: None, look: now, download: None, retry: None, backoff }
    }

    /// Something changed somewhere.
    pub(super) fn noticed(&mut self, now: Instant) {
        let (first, _) = self.burst.unwrap_or((now, now));
        self.burst = Some((first, now));
    }

    /// It is too early to judge what was seen.
    pub(super) fn look_soon(&mut self, now: Instant) {
        self.look = now + QUIET;
    }

    /// A pass ended well. `interval` is that of downloads, where there are any.
    pub(super) fn passed(&mut self, now: Instant, interval: Option<Duration>) {
        self.retry = None;
        self.backoff.reset();
        self.look = now + SOON;
        self.download = interval.map(|interval| now + jittered(interval));
    }

    /// A pass failed; gives the time of the next.
    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        let retry = now + self.backoff.next_delay();
        self.look = now + SOON;
        self.retry = Some(retry);
        retry
    }

    /// What is due, if anything is. A look is done with that, a pass with its end.
    pub(super) fn due(&mut self, now: Instant, is_polling: bool) -> Option<Due> {
        let burst_is_over = |(first, last)| now >= last + QUIET || now >= first + LONGEST_BURST;
        if self.burst.is_some_and(burst_is_over) || now >= self.look {
            self.burst = None;
            self.look = now + if is_polling { SOON } else { LOOK };
            Some(Due::Look)
        } else if self.retry.is_some_and(|at| now >= at) {
            Some(Due::Retry)
        } else if self.retry.is_none() && self.download.is_some_and(|at| now >= at) {
            Some(Due::Download)
        } else {
            None
        }
    }

    /// When to ask next.
    pub(super) fn next(&self) -> Instant {
        let burst = self.burst.map(|(first, last)| (last + QUIET).min(first + LONGEST_BURST));
        let pass = self.retry.or(self.download);
        [burst, pass].into_iter().flatten().fold(self.look, Instant::min)
    }
}

/// A tenth more or less, so that many pods do not ask in step.
fn jittered(interval: Duration) -> Duration {
    let spread = interval / 5;
    interval - spread / 2 + Backoff::new(spread, spread).next_delay()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A schedule whose first look is done, and the time of that.
    fn started() -> (Schedule, Instant) {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        assert_eq!(schedule.due(now, false), Some(Due::Look));
        (schedule, now)
    }

    #[test]
    fn a_burst_is_one_look_when_it_is_over() {
        let (mut schedule, now) = started();
        let mut at = now;
        for _ in 0..5 {
            schedule.noticed(at);
            at += QUIET / 2;
            assert_eq!(schedule.due(at, false), None);
        }
        assert_eq!(schedule.next(), at + QUIET / 2);
        assert_eq!(schedule.due(at + QUIET / 2, false), Some(Due::Look));
        assert_eq!(schedule.due(at + QUIET, false), None);
    }

    #[test]
    fn a_burst_without_an_end_is_looked_at_now_and_then() {
        let (mut schedule, now) = started();
        let mut at = now;
        while schedule.due(at, false).is_none() {
            schedule.noticed(at);
            at += QUIET / 2;
        }
        assert!(at <= now + LONGEST_BURST + QUIET, "{:?}", at - now);
    }

    #[test]
    fn inputs_are_looked_at_untold_and_often_where_nobody_tells() {
        let (mut schedule, now) = started();
        assert_eq!(schedule.next(), now + LOOK);
        assert_eq!(schedule.due(now + LOOK, true), Some(Due::Look));
        assert_eq!(schedule.next(), now + LOOK + SOON);
        schedule.passed(now + LOOK, None);
        assert_eq!(schedule.next(), now + LOOK + SOON, "what came before the watches");
    }

    #[test]
    fn downloads_come_each_interval_and_retries_in_their_place_after_a_failure() {
        let (mut schedule, now) = started();
        schedule.passed(now, Some(MINUTE));
        assert_eq!(schedule.due(now + SOON, false), Some(Due::Look));
        let first = schedule.download.unwrap() - now;
        assert!(first >= MINUTE * 9 / 10 && first <= MINUTE * 11 / 10, "{first:?}");
        let later = now + 2 * MINUTE;
        assert_eq!(schedule.due(later, false), Some(Due::Look));
        assert_eq!(schedule.due(later, false), Some(Due::Download));
        let retry = schedule.failed(later);
        assert!(retry <= later + FIRST_RETRY);
        assert_eq!(schedule.due(later + LONGEST_RETRY, false), Some(Due::Look));
        assert_eq!(schedule.due(later + LONGEST_RETRY, false), Some(Due::Retry));
        schedule.passed(later, Some(MINUTE));
        assert_eq!(schedule.due(later, false), None);
    }
}
