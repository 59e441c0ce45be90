//! Which events of a source are delivered, and what of them is masked. Pure: no I/O; the clock is given.
//!
//! ```text
//!   the event's text ─► drop ─► keep ─► sample ─► rate limit ─► Pass ─► redact its body ─► the destination's format
//! ```
//!
//! Never decides by chance: whether an event is dropped, kept or sampled is the same at every destination and at
//! every reading. Only the rate limit depends on when a line is read.

mod json;
mod preset;
mod rate;
mod redact;
mod sample;
mod select;

use std::time::Instant;

use crate::event::Level;

pub(crate) use rate::{Excess, Rate, RateLimit};
pub(crate) use redact::{DEFAULT_WITH, RedactRule, Redactor};
pub(crate) use sample::{LEVELS, Sample, Share};
pub(crate) use select::{Patterns, compile};

use rate::Bucket;

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is delivered.
    Pass,
    /// It is not, and counts as filtered.
    Drop(Reason),
    /// It must not pass before then: judge it again at that time, and read no further.
    Wait(Instant),
}

/// Why an event is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A regex of `drop` matches.
    Dropped,
    /// No regex of `keep` matches.
    NotKept,
    /// It is not in its level's sample.
    Sampled,
    /// The source has more lines than its rate.
    RateLimited,
}

impl Reason {
    /// All reasons, in their order.
    pub(crate) const ALL: [Self; 4] = [Self::Dropped, Self::NotKept, Self::Sampled, Self::RateLimited];

    /// One word, for the metric.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::NotKept => "not_kept",
            Self::Sampled => "sampled",
            Self::RateLimited => "rate_limited",
        }
    }
}

/// What a source's `drop`, `keep`, `sample` and `rate_limit` say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) drop: Option<Patterns>,
    pub(crate) keep: Option<Patterns>,
    pub(crate) sample: Sample,
    pub(crate) rate_limit: Option<RateLimit>,
}

/// Judges the events of one source, in their order.
#[derive(Debug)]
pub(crate) struct Filter {
    drop: Option<Patterns>,
    keep: Option<Patterns>,
    sample: Option<Sample>,
    rate: Option<(Bucket, Excess)>,
}

impl Filter {
    /// `None` where everything passes.
    pub(crate) fn new(rules: &Rules) -> Option<Self> {
        let filter = Self {
            drop: rules.drop.clone(),
            keep: rules.keep.clone(),
            sample: Some(&rules.sample).filter(|sample| !sample.is_idle()).cloned(),
            rate: rules.rate_limit.as_ref().map(|limit| (Bucket::new(limit), limit.excess)),
        };
        let idle = filter.drop.is_none()
            && filter.keep.is_none()
            && filter.sample.is_none()
            && filter.rate.is_none();
        (!idle).then_some(filter)
    }

    /// Judges an event: its text as it stands in the file, its level, and where it stands: the generation's key and
    /// the offset there.
    pub(crate) fn judge(
        &mut self,
        text: &str,
        level: Option<Level>,
        key: u64,
        offset: u64,
        now: Instant,
    ) -> Judgement {
        if self.drop.as_ref().is_some_and(|drop| drop.match_any(text)) {
            return Judgement::Drop(Reason::Dropped);
        }
        if self.keep.as_ref().is_some_and(|keep| !keep.match_any(text)) {
            return Judgement::Drop(Reason::NotKept);
        }
        if self.sample.as_ref().is_some_and(|sample| !sample.keeps(level, key, offset)) {
            return Judgement::Drop(Reason::Sampled);
        }
        match &mut self.rate {
            None => Judgement::Pass,
            Some((bucket, excess)) => match (bucket.take(now), excess) {
                (Ok(()), _) => Judgement::Pass,
                (Err(_), Excess::Drop) => Judgement::Drop(Reason::RateLimited),
                (Err(next), Excess::Wait) => Judgement::Wait(next),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn patterns(regexes: &[&str]) -> Option<Patterns> {
        Patterns::new(regexes.iter().map(|regex| compile(regex).unwrap()).collect()).unwrap()
    }

    #[test]
    fn no_rules_no_filter() {
        assert!(Filter::new(&Rules::default()).is_none());
        let mut all = Rules::default();
        all.sample.unknown = Some(Share::parse("100%").unwrap());
        assert!(Filter::new(&all).is_none());
    }

    #[test]
    fn drop_wins_over_keep_over_sample_over_rate() {
        let mut rules = Rules {
            drop: patterns(&["healthz"]),
            keep: patterns(&["ERROR", "WARN"]),
            rate_limit: Some(RateLimit { rate: Rate::parse("1/s").unwrap(), burst: 1, excess: Excess::Drop }),
            ..Rules::default()
        };
        rules.sample.unknown = Some(Share::parse("0").unwrap());
        let mut filter = Filter::new(&rules).unwrap();
        let now = Instant::now();
        let error = Some(Level::Error);
        let mut judge = |text, level| filter.judge(text, level, 1, 2, now);
        assert_eq!(judge("ERROR GET /healthz", error), Judgement::Drop(Reason::Dropped));
        assert_eq!(judge("INFO", error), Judgement::Drop(Reason::NotKept));
        assert_eq!(judge("WARN", None), Judgement::Drop(Reason::Sampled));
        // What was dropped before took nothing from the rate.
        assert_eq!(judge("WARN", error), Judgement::Pass);
        assert_eq!(judge("WARN", error), Judgement::Drop(Reason::RateLimited));
    }

    #[test]
    fn who_waits_passes_at_the_time_told() {
        let rate_limit = RateLimit { rate: Rate::parse("10/s").unwrap(), burst: 1, excess: Excess::Wait };
        let mut filter = Filter::new(&Rules { rate_limit: Some(rate_limit), ..Rules::default() }).unwrap();
        let now = Instant::now();
        assert_eq!(filter.judge("a", None, 1, 0, now), Judgement::Pass);
        let next = now + Duration::from_millis(100);
        assert_eq!(filter.judge("b", None, 1, 2, now), Judgement::Wait(next));
        assert_eq!(filter.judge("b", None, 1, 2, now), Judgement::Wait(next));
        assert_eq!(filter.judge("b", None, 1, 2, next), Judgement::Pass);
    }
}
