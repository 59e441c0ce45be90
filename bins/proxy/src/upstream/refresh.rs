//! What is believed of the DNS, and when it is asked again. Pure: asks nothing, waits for nothing.
//!
//! The last good answer is kept when the DNS is gone, for as long as that lasts. That the name does not exist is
//! believed once it was said for `max_ttl` on end: a cluster says so for a moment while it restarts, and for good when
//! the addresses may belong to somebody else already.

use std::time::Duration;

use podkit_dns::Failure;
use podkit_lifecycle::Backoff;

use super::Stamp;
use super::resolve::Answer;
use crate::config::Dns;

/// Between questions that found nothing, at most. A name that has just come to be is found so soon.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Never more often, whatever the dice say.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// The part of an answer's time after which it is asked for again: before its end, and not in step with other pods.
const AHEAD: std::ops::Range<f64> = 0.75..0.95;

/// What to do with an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Believe {
    /// Use the new answer.
    New,
    /// Go on with what there is.
    Old,
    /// There are no addresses.
    Nothing,
}

/// What became of the series of outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// This is the first failure since an answer, or since the start.
    Failing,
    /// This is the first answer since a failure.
    Answered,
    /// As before.
    Same,
}

#[derive(Debug)]
pub(super) struct Refresh {
    dns: Dns,
    backoff: Backoff,
    failing: bool,
    /// Since when all outcomes were that there is no such name.
    not_found_since: Option<Stamp>,
}

impl Refresh {
    pub(super) fn new(dns: &Dns) -> Self {
        let backoff = Backoff::new(dns.min_ttl.min(LONGEST_WAIT), LONGEST_WAIT.max(dns.min_ttl));
        Self { dns: dns.clone(), backoff, failing: false, not_found_since: None }
    }

    /// Takes in an outcome: what to believe, when to ask again, and whether there is something to tell.
    pub(super) fn take(
        &mut self,
        outcome: Result<&Answer, &Failure>,
        now: Stamp,
    ) -> (Believe, Duration, Turn) {
        let was_failing = std::mem::replace(&mut self.failing, outcome.is_err());
        let turn = match (was_failing, self.failing) {
            (false, true) => Turn::Failing,
            (true, false) => Turn::Answered,
            _ => Turn::Same,
        };
        match outcome {
            Ok(answer) => {
                self.backoff.reset();
                self.not_found_since = None;
                let ttl = answer.ttl.clamp(self.dns.min_ttl, self.dns.max_ttl);
                let part = AHEAD.start + fastrand::f64() * (AHEAD.end - AHEAD.start);
                (Believe::New, ttl.mul_f64(part), turn)
            }
            Err(failure) => {
                let believe = self.failed(failure, now);
                (believe, self.backoff.next_delay().max(SHORTEST_WAIT), turn)
            }
        }
    }

    fn failed(&mut self, failure: &Failure, now: Stamp) -> Believe {
        if *failure != Failure::NotFound {
            self.not_found_since = None;
            return Believe::Old;
        }
        let since = *self.not_found_since.get_or_insert(now);
        let said_for = Duration::from_millis(now.0.saturating_sub(since.0));
        if said_for >= self.dns.max_ttl { Believe::Nothing } else { Believe::Old }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNS: Dns =
        Dns { min_ttl: Duration::from_secs(2), max_ttl: Duration::from_secs(30), servers: Vec::new() };

    fn answer(ttl: u64) -> Answer {
        Answer { places: Vec::new(), ttl: Duration::from_secs(ttl) }
    }

    #[test]
    fn an_answer_is_asked_for_again_before_its_bounded_time_is_over() {
        for (ttl, bounded) in [(0, 2.0), (10, 10.0), (86_400, 30.0)] {
            for _ in 0..100 {
                let (believe, wait, turn) = Refresh::new(&DNS).take(Ok(&answer(ttl)), Stamp(0));
                assert_eq!((believe, turn), (Believe::New, Turn::Same));
                let part = wait.as_secs_f64() / bounded;
                assert!((0.74..0.96).contains(&part), "{wait:?} of {bounded} s");
            }
        }
    }

    #[test]
    fn without_dns_the_last_answer_stays_and_it_is_told_once() {
        let mut refresh = Refresh::new(&DNS);
        refresh.take(Ok(&answer(5)), Stamp(0));
        for n in 0..1000 {
            let failure = if n % 2 == 0 { Failure::Timeout } else { Failure::Failed("x".into()) };
            let (believe, wait, turn) = refresh.take(Err(&failure), Stamp(n * 5000));
            assert_eq!((believe, turn == Turn::Failing), (Believe::Old, n == 0));
            assert!(wait >= SHORTEST_WAIT && wait <= LONGEST_WAIT, "{wait:?}");
        }
        assert_eq!(refresh.take(Ok(&answer(5)), Stamp(0)).2, Turn::Answered);
    }

    #[test]
    fn that_there_is_no_such_name_is_believed_after_a_while() {
        let mut refresh = Refresh::new(&DNS);
        let mut said = |at| refresh.take(Err(&Failure::NotFound), Stamp(at)).0;
        assert_eq!([said(1_000), said(30_000), said(31_000)], [Believe::Old, Believe::Old, Believe::Nothing]);
        refresh.take(Err(&Failure::Timeout), Stamp(32_000));
        assert_eq!(refresh.take(Err(&Failure::NotFound), Stamp(40_000)).0, Believe::Old, "it begins anew");
    }
}
