//! How many lines a source may pass in a time: a token bucket in whole numbers. The clock is given.

use std::time::{Duration, Instant};

use podkit_cli::Invalid;

/// A number of lines in a time: `500/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) lines: u32,
    /// The name of the time, and its length.
    unit: &'static str,
    per: Duration,
}

const UNITS: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("m", Duration::from_secs(60)), ("h", Duration::from_secs(3600))];

impl Rate {
    /// Reads `500/s`, `500/m` or `500/h`.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| {
            Invalid::new(format!("{text:?} {why}")).hint("write a rate like `500/s`, `3000/m` or `100/h`")
        };
        let (number, unit) = text.split_once('/').ok_or_else(|| bad("has no `/s`, `/m` or `/h`"))?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let lines = number.parse().ok().filter(|lines| digits && *lines > 0);
        let lines = lines.ok_or_else(|| bad("is not a whole number of at least 1 in a time"))?;
        let known = UNITS.iter().find(|(name, _)| *name == unit);
        let (unit, per) = *known.ok_or_else(|| bad("has an unknown unit"))?;
        Ok(Self { lines, unit, per })
    }

    /// As [`parse`](Self::parse) reads it.
    pub(crate) fn text(self) -> String {
        format!("{}/{}", self.lines, self.unit)
    }
}

/// What becomes of lines that are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excess {
    /// They are dropped, and counted.
    Drop,
    /// Reading pauses until they may pass; nothing is lost.
    Wait,
}

/// The limit of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RateLimit {
    pub(crate) rate: Rate,
    /// How many lines may pass at once after a quiet time.
    pub(crate) burst: u32,
    pub(crate) excess: Excess,
}

/// Counts in parts of a line: each nanosecond brings as many as the rate has lines, and a line takes as many as its
/// time has nanoseconds. So nothing is ever rounded.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// What one line takes.
    line: u128,
    /// What a nanosecond brings.
    lines: u128,
    full: u128,
    level: u128,
    /// When `level` was right; `None` before the first line.
    at: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(limit: &RateLimit) -> Self {
        let line = limit.rate.per.as_nanos();
        let full = line * u128::from(limit.burst);
        Self { line, lines: u128::from(limit.rate.lines), full, level: full, at: None }
    }

    /// Takes one line out.
    ///
    /// # Errors
    /// When the next one may pass, where none may now.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let past = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        // The product has room: Duration is below 2^94 nanoseconds, lines below 2^32.
        self.level = self.full.min(self.level + past.as_nanos() * self.lines);
        let now = self.at.map_or(now, |at| now.max(at));
        self.at = Some(now);
        match self.level.checked_sub(self.line) {
            Some(level) => {
                self.level = level;
                Ok(())
            }
            None => {
                // Below the nanoseconds of an hour.
                let nanos = (self.line - self.level).div_ceil(self.lines);
                Err(now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(rate: &str, burst: u32) -> RateLimit {
        RateLimit { rate: Rate::parse(rate).unwrap(), burst, excess: Excess::Drop }
    }

    #[test]
    fn rates_are_read_and_checked() {
        for text in ["500/s", "1/m", "4000000000/h"] {
            assert_eq!(Rate::parse(text).unwrap().text(), text);
        }
        for (text, want) in [
            ("500", "\"500\" has no `/s`, `/m` or `/h`"),
            ("500/d", "\"500/d\" has an unknown unit"),
            ("0/s", "\"0/s\" is not a whole number of at least 1 in a time"),
            ("-1/s", "\"-1/s\" is not a whole number of at least 1 in a time"),
            ("+1/s", "\"+1/s\" is not a whole number of at least 1 in a time"),
            ("1.5/s", "\"1.5/s\" is not a whole number of at least 1 in a time"),
            ("/s", "\"/s\" is not a whole number of at least 1 in a time"),
            ("9999999999/s", "\"9999999999/s\" is not a whole number of at least 1 in a time"),
        ] {
            assert_eq!(Rate::parse(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(&limit("3/s", 2));
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.take(start), Ok(()));
        let next = bucket.take(start).unwrap_err();
        assert_eq!(next - start, Duration::from_nanos(333_333_334));
        assert!(bucket.take(next - Duration::from_nanos(1)).is_err());
        assert_eq!(bucket.take(next), Ok(()));
        // A clock that stands or steps back brings nothing.
        assert!(bucket.take(start).is_err());
        // A quiet day fills the bucket, and no more.
        let later = start + Duration::from_secs(86_400);
        assert_eq!([(); 3].map(|()| bucket.take(later).is_ok()), [true, true, false]);
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            lines in 1_u32..2000,
            unit in 0_usize..3,
            burst in 1_u32..50,
            steps in proptest::collection::vec((0_u64..3_000_000_000, 1_usize..40), 1..60),
        ) {
            let rate = format!("{lines}/{}", UNITS[unit].0);
            let mut bucket = Bucket::new(&limit(&rate, burst));
            let start = Instant::now();
            let (mut now, mut passed) = (start, 0_u128);
            for (nanos, asked) in steps {
                now += Duration::from_nanos(nanos);
                for _ in 0..asked {
                    match bucket.take(now) {
                        Ok(()) => passed += 1,
                        // Who waits as long as told gets through, and no sooner.
                        Err(next) => {
                            prop_assert!(next > now);
                            prop_assert!(bucket.clone().take(next).is_ok());
                            prop_assert!(bucket.clone().take(next - Duration::from_nanos(1)).is_err());
                        }
                    }
                }
                let brought = (now - start).as_nanos() * u128::from(lines) / UNITS[unit].1.as_nanos();
                prop_assert!(passed <= u128::from(burst) + brought);
            }
        }
    }
}
