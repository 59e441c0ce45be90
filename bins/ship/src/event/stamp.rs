//! The time that a line begins with, in the layouts that programs are seen to use. Never looks past the line's first
//! few words: a time further on is what the line speaks about, not when it was written.
//!
//! The first byte decides which layouts are tried, so a line without a time costs a few comparisons.

use super::time::{Time, Zone};

mod cursor;
mod layouts;

pub(super) use cursor::{offset, priority};
use layouts::{Context, begins_dated, find};

/// Finds times, read in a source's time zone where they tell none.
#[derive(Debug, Clone)]
pub(crate) struct Finder {
    zone: Zone,
}

/// A time at the beginning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) time: Time,
    /// Where the time ends, in bytes, a closing bracket or quote included.
    pub(crate) end: usize,
}

impl Finder {
    pub(crate) fn new(zone: Zone) -> Self {
        Self { zone }
    }

    /// The time that `text` begins with. Times without a year are taken as the last such before a day after `now`.
    pub(crate) fn find(&self, text: &str, now: Time) -> Option<Found> {
        find(text.as_bytes(), &Context { zone: self.zone, now })
    }

    /// The time that a member or a pair tells: one of the layouts, or digits since 1970.
    pub(crate) fn of_value(&self, text: &str, now: Time) -> Option<Time> {
        epoch(text).or_else(|| self.find(text, now).map(|found| found.time))
    }
}

/// Whether a line begins with a time.
pub(crate) fn begins_with_time(line: &[u8]) -> bool {
    // Which time it is does not matter.
    begins_dated(line) || find(line, &Context { zone: Zone(0), now: Time(0) }).is_some()
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by the number of digits before the
/// point: 10, 13, 16 or 19. So it reaches from 2001 to 2286, and durations and counters are no times.
pub(crate) fn epoch(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    let whole = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let unit: i64 = match whole {
        10 => 1_000_000_000,
        13 => 1_000_000,
        16 => 1_000,
        19 => 1,
        _ => return None,
    };
    let mut nanos = text[..whole].parse::<i64>().ok()?.checked_mul(unit)?;
    match &bytes[whole..] {
        [] => {}
        [b'.', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let mut weight = unit;
            for digit in digits.iter().take(9) {
                weight /= 10;
                nanos = nanos.checked_add(i64::from(digit - b'0') * weight)?;
            }
        }
        _ => return None,
    }
    Some(Time(nanos))
}

#[cfg(test)]
mod tests;
