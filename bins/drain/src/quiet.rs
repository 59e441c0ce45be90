//! The quiet rule: has traffic left, going by what the sources saw?
//!
//! A state machine over (time, sample). It never reads a clock, a socket or a file: time is a `Duration` since the
//! drain began, given with each sample.

use std::time::Duration;

/// When traffic counts as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// No new connection for this long.
    pub(crate) quiet: Duration,
    /// Never before this, counted from the start: the endpoints' change needs time to reach the clients' nodes.
    pub(crate) min_delay: Duration,
}

/// What a source saw at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Requests or connections being served now; any holds the drain.
    pub(crate) active: u64,
    /// Open connections now, idle ones too; for the message.
    pub(crate) open: u64,
    /// How long ago the newest connection came; `None` if the source saw none come yet.
    pub(crate) since_new: Option<Duration>,
}

impl Sample {
    /// No traffic at all, ever.
    pub(crate) const NOTHING: Self = Self { active: 0, open: 0, since_new: None };
}

/// What a sample means for the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Traffic has left.
    Quiet,
    /// Something is active: only the next samples can tell.
    Active,
    /// Nothing is active: quiet at this time, counted from the start, unless something comes.
    At(Duration),
}

/// What to say of a watch that its deadline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// Nothing was active and nothing had come while we watched: only the delays were longer than the budget.
    Nothing {
        /// Those at rest.
        open: u64,
    },
    /// This many connections were open, of which so many were active.
    Open {
        /// All open connections.
        open: u64,
        /// Those being served.
        active: u64,
    },
    /// None was active, but the newest connection came a short while ago.
    Arriving {
        /// Those at rest.
        open: u64,
        /// So long ago.
        ago: Duration,
    },
}

/// The state of the rule between samples.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    rule: Rule,
    /// Since when the present source has been looking; what it has not seen come may have come before.
    since: Duration,
    /// The newest connection that any source saw come while we watched.
    newest: Option<Duration>,
    last: Option<Sample>,
}

impl Watch {
    /// A watch that begins at `now`.
    #[must_use]
    pub(crate) fn new(rule: Rule, now: Duration) -> Self {
        Self { rule, since: now, newest: None, last: None }
    }

    /// Another source looks from now on. Between the two nobody did, so the quiet time counts anew for a source that
    /// has no memory of its own.
    pub(crate) fn change_source(&mut self, now: Duration) {
        self.since = now;
    }

    /// Takes in one sample.
    pub(crate) fn observe(&mut self, now: Duration, sample: Sample) -> Decision {
        self.last = Some(sample);
        // A connection from before the start has no place on this clock, and needs none: `since_new` is asked for it.
        let came = sample.since_new.and_then(|ago| now.checked_sub(ago));
        self.newest = self.newest.max(came);
        if sample.active > 0 {
            return Decision::Active;
        }
        let in_source =
            self.rule.quiet.saturating_sub(sample.since_new.unwrap_or(now.saturating_sub(self.since)));
        let remembered = self.newest.map_or(Duration::ZERO, |at| at.saturating_add(self.rule.quiet));
        let quiet_at = now.saturating_add(in_source).max(remembered).max(self.rule.min_delay);
        if quiet_at <= now { Decision::Quiet } else { Decision::At(quiet_at) }
    }

    /// The newest sample.
    #[must_use]
    pub(crate) fn last(&self) -> Option<Sample> {
        self.last
    }

    /// What was left when the deadline passed at `now`.
    #[must_use]
    pub(crate) fn leftover(&self, now: Duration) -> Leftover {
        let Sample { active, open, .. } = self.last.unwrap_or(Sample::NOTHING);
        match self.newest {
            _ if active > 0 => Leftover::Open { open: open.max(1), active },
            Some(at) if at.saturating_add(self.rule.quiet) > now => {
                Leftover::Arriving { open, ago: now.saturating_sub(at) }
            }
            _ => Leftover::Nothing { open },
        }
    }
}

/// How long to wait for the next sample: short while things change, longer when they don't.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Duration,
    last: Option<(u64, u64)>,
}

impl Pace {
    /// Short enough to end soon after the last connection did.
    pub(crate) const FIRST: Duration = Duration::from_millis(100);
    /// Long enough to cost nothing at a tenth of a CPU, short enough that few connections come and go unseen.
    pub(crate) const LAST: Duration = Duration::from_millis(500);

    /// However slow looks are, the drain must not be blind for longer.
    pub(crate) const LONGEST: Duration = Duration::from_secs(2);
    /// A look costs the app's container at most this part of its time.
    const SHARE: u32 = 10;

    /// The pause after `sample`, which took `cost` to get: never past the time at which `decision` says it could be
    /// quiet, unless looks are so slow that they need longer pauses.
    pub(crate) fn after(
        &mut self,
        now: Duration,
        sample: Sample,
        decision: Decision,
        cost: Duration,
    ) -> Duration {
        let seen = Some((sample.active, sample.open));
        self.next = if seen == self.last { (self.next * 5 / 4).min(Self::LAST) } else { Self::FIRST };
        self.last = seen;
        let pause = match decision {
            Decision::At(at) => self.next.min(at.saturating_sub(now)),
            Decision::Active | Decision::Quiet => self.next,
        };
        pause.max(cost.saturating_mul(Self::SHARE).min(Self::LONGEST))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { next: Self::FIRST, last: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const RULE: Rule = Rule { quiet: ms(3_000), min_delay: ms(2_000) };

    fn sample(active: u64, since_new: Option<u64>) -> Sample {
        Sample { active, open: active, since_new: since_new.map(ms) }
    }

    #[test]
    fn a_source_that_saw_none_come_counts_from_our_start() {
        let mut watch = Watch::new(RULE, ms(0));
        assert_eq!(watch.observe(ms(2_500), sample(0, None)), Decision::At(ms(3_000)));
        assert_eq!(watch.observe(ms(3_000), sample(0, None)), Decision::Quiet);
    }

    #[test]
    fn a_connection_long_before_the_start_leaves_only_the_least_delay() {
        let mut watch = Watch::new(RULE, ms(0));
        assert_eq!(watch.observe(ms(10), sample(0, Some(60_000))), Decision::At(ms(2_000)));
        assert_eq!(watch.observe(ms(2_000), sample(0, Some(62_000))), Decision::Quiet);
    }

    #[test]
    fn an_active_one_holds_however_quiet_it_is() {
        let mut watch = Watch::new(RULE, ms(0));
        assert_eq!(watch.observe(ms(100_000), sample(1, Some(90_000))), Decision::Active);
        assert_eq!(watch.observe(ms(100_100), sample(0, Some(90_100))), Decision::Quiet);
    }

    #[test]
    fn a_source_that_takes_over_starts_the_quiet_time_anew() {
        let mut watch = Watch::new(RULE, ms(0));
        watch.observe(ms(5_000), sample(1, None));
        watch.change_source(ms(6_000));
        assert_eq!(watch.observe(ms(6_000), sample(0, None)), Decision::At(ms(9_000)));
    }

    #[test]
    fn what_one_source_saw_come_is_not_forgotten_by_the_next() {
        let mut watch = Watch::new(RULE, ms(0));
        watch.observe(ms(5_000), sample(0, Some(0)));
        watch.change_source(ms(5_000));
        assert_eq!(watch.observe(ms(5_100), sample(0, Some(90_000))), Decision::At(ms(8_000)));
    }

    #[test]
    fn the_leftover_says_why_it_was_not_quiet() {
        let mut watch = Watch::new(RULE, ms(0));
        assert_eq!(watch.leftover(ms(500)), Leftover::Nothing { open: 0 });
        watch.observe(ms(600), Sample { active: 1, open: 2, since_new: None });
        assert_eq!(watch.leftover(ms(1_000)), Leftover::Open { open: 2, active: 1 });
        watch.observe(ms(1_500), Sample { open: 7, ..sample(0, Some(200)) });
        assert_eq!(watch.leftover(ms(2_000)), Leftover::Arriving { open: 7, ago: ms(700) });
        watch.observe(ms(4_000), Sample { open: 7, ..sample(0, Some(2_700)) });
        assert_eq!(watch.leftover(ms(4_400)), Leftover::Nothing { open: 7 });
    }

    #[test]
    fn polls_slow_down_until_something_changes() {
        let mut pace = Pace::default();
        let mut waits: Vec<_> =
            (0..20).map(|_| pace.after(ms(0), sample(1, None), Decision::Active, ms(0))).collect();
        assert_eq!((waits.remove(0), waits.pop()), (Pace::FIRST, Some(Pace::LAST)));
        assert_eq!(pace.after(ms(0), sample(2, None), Decision::Active, ms(0)), Pace::FIRST);
        assert_eq!(pace.after(ms(10), sample(2, None), Decision::At(ms(17)), ms(0)), ms(7));
    }

    #[test]
    fn slow_looks_are_rare_looks() {
        let mut pace = Pace::default();
        let mut after = |cost| pace.after(ms(0), sample(1, None), Decision::At(ms(1)), cost);
        assert_eq!((after(ms(0)), after(ms(40)), after(ms(60_000))), (ms(1), ms(400), Pace::LONGEST));
    }

    /// One step of a made-up history: time passes, perhaps connections come, some are active.
    fn history() -> impl Strategy<Value = Vec<(u64, bool, u64)>> {
        prop::collection::vec((1_u64..2_000, any::<bool>(), prop_oneof![Just(0_u64), 0_u64..4]), 1..80)
    }

    proptest! {
        /// The rule, said once more in the plainest way, over sources with and without a memory.
        #[test]
        fn never_early(
            steps in history(), memory in any::<bool>(), before in prop::option::of(0_u64..10_000),
            quiet in 0_u64..5_000, min_delay in 0_u64..5_000,
        ) {
            let mut watch = Watch::new(Rule { quiet: ms(quiet), min_delay: ms(min_delay) }, ms(0));
            let (mut now, mut newest) = (0, None);
            for (passed, new, active) in steps {
                now += passed;
                if new { newest = Some(now) }
                // With a memory: what the source itself knows, also from before. Without: only "just now" or nothing.
                let since_new = match (memory, newest) {
                    (true, Some(at)) => Some(now - at),
                    (true, None) => before.map(|before| before + now),
                    (false, _) => new.then_some(0),
                };
                if watch.observe(ms(now), sample(active, since_new)) == Decision::Quiet {
                    prop_assert!(now >= min_delay, "quiet before the least delay");
                    prop_assert_eq!(active, 0, "quiet while something is active");
                    prop_assert!(newest.is_none_or(|at| now - at >= quiet), "quiet too soon after a new connection");
                }
            }
        }

        #[test]
        fn when_nothing_happens_it_is_quiet_just_when_it_said(
            steps in history(), quiet in 0_u64..5_000, min_delay in 0_u64..5_000,
        ) {
            let mut watch = Watch::new(Rule { quiet: ms(quiet), min_delay: ms(min_delay) }, ms(0));
            let mut now = ms(0);
            for (passed, new, active) in steps {
                now += ms(passed);
                watch.observe(now, sample(active, new.then_some(0)));
            }
            now += ms(1);
            let at = match watch.observe(now, sample(0, None)) {
                Decision::At(at) => at,
                decision => { prop_assert_eq!(decision, Decision::Quiet); now }
            };
            prop_assert!(at <= now + ms(quiet).max(ms(min_delay)));
            prop_assert_eq!(watch.observe(at, sample(0, None)), Decision::Quiet);
        }
    }
}
