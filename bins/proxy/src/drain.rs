//! The drain as a pure state machine over time: a lease that can lapse, a stop that cannot, and when it is quiet.
//!
//! Never reads a clock, a socket or a signal: every call is told what time it is.

use std::time::{Duration, Instant};

use podkit_lifecycle::Phase;

/// What a call changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A drain began.
    Started,
    /// The lease was extended; it ran already.
    Renewed,
    /// The drain was undone by request.
    Undone,
    /// The lease ran out and no stop had come: a liveness kill of the app leads here (contract 3, point 3).
    Lapsed,
    /// Nothing changed.
    Nothing,
}

/// The lease and the stop.
#[derive(Debug)]
pub(crate) struct Drain {
    bound: bool,
    /// When the lease ends.
    lease: Option<Instant>,
    /// Since when clients and endpoints are told to go away, by lease or stop, without a break.
    unready_since: Option<Instant>,
    stopping: bool,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self { bound: false, lease: None, unready_since: None, stopping: false }
    }

    /// The listeners are bound.
    pub(crate) fn bound(&mut self) {
        self.bound = true;
    }

    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self { stopping: true, .. } => Phase::Stopping,
            Self { lease: Some(_), .. } => Phase::Draining,
            Self { bound: true, .. } => Phase::Running,
            _ => Phase::Starting,
        }
    }

    /// Starts or renews the lease: from now on it has this length.
    pub(crate) fn lease(&mut self, now: Instant, length: Duration) -> Change {
        let lapsed = self.tick(now) == Change::Lapsed;
        let change = if self.lease.is_some() && !lapsed { Change::Renewed } else { Change::Started };
        self.lease = Some(now + length);
        self.unready_since.get_or_insert(now);
        change
    }

    /// Ends the lease by request. A stop cannot be undone.
    pub(crate) fn undo(&mut self) -> Change {
        if self.lease.take().is_none() {
            return Change::Nothing;
        }
        self.back_to_ready();
        Change::Undone
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) -> Change {
        match self.lease {
            Some(end) if now >= end => {
                self.lease = None;
                self.back_to_ready();
                if self.stopping { Change::Nothing } else { Change::Lapsed }
            }
            _ => Change::Nothing,
        }
    }

    fn back_to_ready(&mut self) {
        if !self.stopping {
            self.unready_since = None;
        }
    }

    /// The stop has begun.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.stopping = true;
        self.unready_since.get_or_insert(now);
    }

    /// What is left of the lease.
    pub(crate) fn lease_left(&self, now: Instant) -> Option<Duration> {
        self.lease.map(|end| end.saturating_duration_since(now))
    }

    /// For how long it has been quiet: since we turned unready or, if later, since the last arrival.
    /// `None` while ready. A lease that was quiet before the stop counts, so that the stop need not wait again.
    pub(crate) fn quiet_for(&self, now: Instant, last_arrival: Option<Instant>) -> Option<Duration> {
        let since = self.unready_since?;
        let since = last_arrival.map_or(since, |arrival| arrival.max(since));
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ready() -> (Drain, Instant) {
        let mut drain = Drain::new();
        assert_eq!(drain.phase(), Phase::Starting);
        drain.bound();
        assert_eq!(drain.phase(), Phase::Running);
        (drain, Instant::now())
    }

    #[test]
    fn a_lease_starts_is_renewed_and_is_undone() {
        let (mut drain, t) = ready();
        assert_eq!(drain.lease(t, 60 * SECOND), Change::Started);
        assert_eq!(drain.phase(), Phase::Draining);
        assert_eq!(drain.lease_left(t + 10 * SECOND), Some(50 * SECOND));
        assert_eq!(drain.lease(t + 10 * SECOND, 60 * SECOND), Change::Renewed);
        assert_eq!(drain.lease_left(t + 10 * SECOND), Some(60 * SECOND));
        assert_eq!(drain.undo(), Change::Undone);
        assert_eq!((drain.phase(), drain.lease_left(t)), (Phase::Running, None));
        assert_eq!(drain.undo(), Change::Nothing);
    }

    #[test]
    fn a_lapsed_lease_goes_back_to_ready_once() {
        let (mut drain, t) = ready();
        drain.lease(t, SECOND);
        assert_eq!(drain.tick(t + SECOND / 2), Change::Nothing);
        assert_eq!(drain.tick(t + SECOND), Change::Lapsed);
        assert_eq!(drain.phase(), Phase::Running);
        assert_eq!(drain.tick(t + 2 * SECOND), Change::Nothing);
        assert_eq!(drain.quiet_for(t + 9 * SECOND, None), None);
    }

    #[test]
    fn a_renewal_behind_the_end_is_a_new_drain() {
        let (mut drain, t) = ready();
        drain.lease(t, SECOND);
        assert_eq!(drain.lease(t + 5 * SECOND, SECOND), Change::Started);
        assert_eq!(drain.quiet_for(t + 6 * SECOND, None), Some(SECOND), "the first drain's quiet is over");
    }

    #[test]
    fn a_stop_stays_whatever_becomes_of_the_lease() {
        let (mut drain, t) = ready();
        drain.lease(t, SECOND);
        drain.stop(t);
        assert_eq!(drain.tick(t + 2 * SECOND), Change::Nothing);
        assert_eq!(drain.phase(), Phase::Stopping);
        drain.lease(t + 2 * SECOND, SECOND);
        assert_eq!(drain.phase(), Phase::Stopping);
        drain.undo();
        assert_eq!(drain.phase(), Phase::Stopping);
        assert_eq!(drain.quiet_for(t + 3 * SECOND, None), Some(3 * SECOND));
    }

    #[test]
    fn quiet_counts_from_the_last_arrival() {
        let (mut drain, t) = ready();
        assert_eq!(drain.quiet_for(t, None), None, "a ready proxy is never quiet");
        drain.stop(t);
        assert_eq!(drain.quiet_for(t + SECOND, None), Some(SECOND));
        assert_eq!(drain.quiet_for(t + 5 * SECOND, Some(t + 2 * SECOND)), Some(3 * SECOND));
    }

    #[test]
    fn quiet_before_the_drain_does_not_count() {
        let (mut drain, t) = ready();
        drain.stop(t + 10 * SECOND);
        assert_eq!(drain.quiet_for(t + 10 * SECOND, Some(t)), Some(Duration::ZERO));
    }

    #[test]
    fn quiet_during_the_lease_counts_for_the_stop() {
        let (mut drain, t) = ready();
        drain.lease(t, 60 * SECOND);
        drain.stop(t + 10 * SECOND);
        assert_eq!(drain.quiet_for(t + 10 * SECOND, Some(t + 4 * SECOND)), Some(6 * SECOND));
    }
}
