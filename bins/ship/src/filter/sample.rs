//! The share of events that is kept of each level. Which ones is told by a hash of where an event stands, so every
//! destination and every reading decides alike.

use podkit_cli::Invalid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::event::Level;

/// All levels, as [`Sample`] counts them.
pub(crate) const LEVELS: [Level; 8] = [
    Level::Trace,
    Level::Debug,
    Level::Info,
    Level::Notice,
    Level::Warn,
    Level::Error,
    Level::Critical,
    Level::Fatal,
];

/// The bits of a hash that decide: those that a share, a fraction of 53 bits, can tell apart.
const BITS: u32 = 53;

/// A part of all, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(f64);

impl Share {
    /// Reads `10%` or `0.1`.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new(format!("{text:?} {why}")).hint("write `10%` or `0.1`");
        let (number, whole) = match text.strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        // What else a float may be written as (`inf`, `+1`) is more likely a mistake.
        let plain = number.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
        let number: f64 =
            number.parse().ok().filter(|_| plain).ok_or_else(|| bad("is not a share of all events"))?;
        let share = number / whole;
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err(bad("is not between 0% and 100%")) }
    }

    /// From 0 to 1.
    pub(crate) fn value(self) -> f64 {
        self.0
    }

    /// What the hash of an event that is kept is below.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within 0 to 2^53")]
    fn threshold(self) -> u64 {
        (self.0 * (1_u64 << BITS) as f64) as u64
    }
}

/// What is kept of each level, and of events without one. All, unless it is said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) levels: [Option<Share>; LEVELS.len()],
    pub(crate) unknown: Option<Share>,
}

impl Sample {
    /// Whether everything is kept.
    pub(crate) fn is_idle(&self) -> bool {
        self.levels.iter().chain([&self.unknown]).all(|share| share.is_none_or(|share| share.0 >= 1.0))
    }

    /// Whether the event at `offset` of the generation `key` is kept.
    pub(crate) fn keeps(&self, level: Option<Level>, key: u64, offset: u64) -> bool {
        let share = match level {
            None => self.unknown,
            Some(level) => LEVELS.iter().position(|known| *known == level).and_then(|at| self.levels[at]),
        };
        let hash = || xxh3_64_with_seed(&offset.to_le_bytes(), key) >> (u64::BITS - BITS);
        share.is_none_or(|share| hash() < share.threshold())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn debug(share: &str) -> Sample {
        let mut sample = Sample::default();
        sample.levels[1] = Some(Share::parse(share).unwrap());
        sample
    }

    #[test]
    fn shares_are_read_and_checked() {
        for (text, value) in
            [("10%", 0.1), ("0.5", 0.5), ("0", 0.0), ("100%", 1.0), ("1", 1.0), ("0.1%", 0.001)]
        {
            assert_eq!(Share::parse(text), Ok(Share(value)), "{text}");
            let shown = Share(value).value().to_string();
            assert_eq!(Share::parse(&shown), Ok(Share(value)), "{shown}");
        }
        for (text, want) in [
            ("10", "\"10\" is not between 0% and 100%"),
            ("101%", "\"101%\" is not between 0% and 100%"),
            ("-1%", "\"-1%\" is not between 0% and 100%"),
            ("NaN", "\"NaN\" is not a share of all events"),
            ("", "\"\" is not a share of all events"),
            ("%", "\"%\" is not a share of all events"),
            ("10 %", "\"10 %\" is not a share of all events"),
            ("half", "\"half\" is not a share of all events"),
        ] {
            assert_eq!(Share::parse(text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn nothing_said_keeps_all() {
        assert!(Sample::default().is_idle());
        assert!(debug("100%").is_idle());
        assert!(!debug("99%").is_idle());
        assert!((0..1000).all(|offset| debug("0").keeps(Some(Level::Info), 1, offset)));
        assert!((0..1000).all(|offset| debug("0").keeps(None, 1, offset)));
        assert!((0..1000).all(|offset| debug("100%").keeps(Some(Level::Debug), 1, offset)));
        assert!(!(0..1000).any(|offset| debug("0").keeps(Some(Level::Debug), 1, offset)));
    }

    #[test]
    fn the_decision_never_changes() {
        // A checkpoint of an older version is read on by a newer one: both must decide alike.
        let kept: Vec<u64> = (0..40)
            .map(|n| n * 170)
            .filter(|offset| debug("25%").keeps(Some(Level::Debug), 7, *offset))
            .collect();
        assert_eq!(kept, KEPT);
    }

    const KEPT: [u64; 10] = [510, 680, 1190, 1870, 2040, 2550, 2890, 3570, 4590, 4930];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_share_is_near_what_was_asked(key: u64, percent in 0_u32..=100, stride in 1_u64..1000) {
            let sample = debug(&format!("{percent}%"));
            let kept = (0..100_000).filter(|n| sample.keeps(Some(Level::Debug), key, n * stride)).count();
            // Seven standard deviations of the binomial distribution are below 1,110.
            prop_assert!(kept.abs_diff(percent as usize * 1000) < 1_110, "{kept} of {percent} %");
        }
    }
}
