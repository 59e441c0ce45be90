//! The layouts of times, each read by hand from the first byte on, and which of them are tried where.

use super::Found;
use super::cursor::{Cursor, in_day};
use crate::event::time::{Date, Time, Zone};

/// Whether a line begins with a time in the layout of nearly all lines, to the second or millisecond. For most lines
/// this is all that is asked, and working out the time is most of the price.
pub(super) fn begins_dated(line: &[u8]) -> bool {
    let Some((date, _)) = line.first_chunk().and_then(|text| dated(text, b'-')) else { return false };
    let after = match &line[DATED..] {
        [b'.' | b',', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', after @ ..] => after,
        after => after,
    };
    // A time that `Time` reaches, wherever on earth.
    (1700..2200).contains(&date.year) && date.exists() && matches!(after.first(), None | Some(b'Z' | b' '))
}

/// What a layout reads before zone and year are known.
#[derive(Debug, Clone, Copy)]
struct Civil {
    date: Date,
    /// Of the day; 86400 in a leap second.
    second: i64,
    nanos: i64,
}

impl Civil {
    fn at(self, offset: i64) -> Option<Time> {
        if !self.date.exists() {
            return None;
        }
        Time::new(self.date.days() * 86_400 + self.second - offset, self.nanos)
    }
}

pub(super) fn find(bytes: &[u8], context: &Context) -> Option<Found> {
    let mut cursor = Cursor::new(bytes);
    cursor.colours();
    match cursor.peek()? {
        b'0'..=b'9' => {
            let found = cursor.numeric(context);
            if found.is_some() {
                return found;
            }
        }
        b'<' => {
            cursor.priority()?;
            return cursor.numeric(context).or_else(|| cursor.worded(context));
        }
        b'A'..=b'Z' => {
            let found = cursor.worded(context);
            if found.is_some() {
                return found;
            }
        }
        b'[' => {
            if let Some(found) = cursor.bracketed(context) {
                return Some(found);
            }
        }
        b'@' | b'd' | b't' => {
            if let Some(found) = cursor.keyed(context) {
                return Some(found);
            }
        }
        _ => {}
    }
    cursor.after_words(context)
}

/// What a layout does not tell.
pub(super) struct Context {
    pub(super) zone: Zone,
    pub(super) now: Time,
}

impl Context {
    /// A time without a year: the last such that is not more than a day after now.
    fn without_year(&self, civil: Civil) -> Option<Time> {
        /// A clock that is ahead, and zones.
        const AHEAD: i64 = 86_400 * 1_000_000_000;
        /// Between two leap days there may be eight years.
        const YEARS: i64 = 9;
        const YEAR: i64 = 365 * AHEAD;
        let limit = self.now.0.saturating_add(AHEAD);
        let this = self.now.year();
        let of = |year| {
            let date = Date { year, ..civil.date };
            Civil { date, ..civil }.at(self.zone.0.into()).filter(|time| time.0 <= limit)
        };
        // Nearly always this year's, which is the last if a year later is past the limit.
        of(this)
            .filter(|time| time.0 > limit.saturating_sub(YEAR))
            .or_else(|| (0..=YEARS).find_map(|back| of(this + 1 - back)))
    }
}

impl Cursor<'_> {
    fn found(&self, time: Option<Time>) -> Option<Found> {
        Some(Found { time: time?, end: self.at })
    }

    /// Layouts that begin with a digit. Works on a copy: nothing is taken where none fits.
    fn numeric(mut self, context: &Context) -> Option<Found> {
        let head = &self.bytes[self.at..];
        match (head.get(2)?, head.get(4)?) {
            // 2026-11-22T05:00:00, 2026/11/22 05:00:00
            (b'0'..=b'9', separator @ (b'-' | b'/')) => {
                let (date, second) = dated(head.first_chunk()?, *separator)?;
                self.at += DATED;
                let nanos = self.fraction()?;
                let offset = self.offset(context.zone);
                self.found(Civil { date, second, nanos }.at(offset))
            }
            // 22/Nov/2026:05:00:00 +0000, 22-Nov-2026 05:00:00.123, 22 Nov 2026 05:00:00.123
            (separator @ (b'/' | b'-' | b' '), b'a' | b'c' | b'e' | b'o' | b'p' | b'u') => {
                let day = self.pair()?;
                self.at += 1;
                let month = self.month()?;
                self.expect(*separator)?;
                let year = self.year()?;
                self.one_of(b": ")?;
                let (second, nanos) = self.clock()?;
                let offset = self.offset(context.zone);
                self.found(Civil { date: Date { year, month, day }, second, nanos }.at(offset))
            }
            // 26/11/22 05:00:00
            (b'/', b'0'..=b'9') => {
                let year = 2000 + self.pair()?;
                self.at += 1;
                let month = self.pair()?;
                self.expect(b'/')?;
                let day = self.pair()?;
                self.expect(b' ')?;
                let (second, nanos) = self.clock()?;
                self.found(
                    Civil { date: Date { year, month, day }, second, nanos }.at(i64::from(context.zone.0)),
                )
            }
            // 081109 203615, 261122 05:00:00
            (b'0'..=b'9', b'0'..=b'9') => {
                let (year, month, day) = (2000 + self.pair()?, self.pair()?, self.pair()?);
                self.expect(b' ')?;
                let (second, nanos) = if head.get(9) == Some(&b':') {
                    self.clock()?
                } else {
                    let (hour, minute, second) = (self.pair()?, self.pair()?, self.pair()?);
                    self.peek().is_none_or(|byte| byte == b' ').then_some(())?;
                    (in_day(hour, minute, second)?, 0)
                };
                self.found(
                    Civil { date: Date { year, month, day }, second, nanos }.at(i64::from(context.zone.0)),
                )
            }
            _ => None,
        }
    }

    /// Layouts that begin with a word: `Sun Nov 22 05:00:00 2026`, `Nov 22 05:00:00`, `Nov 22, 2026 5:00:00 AM`,
    /// `I1122 05:00:00.123456`.
    fn worded(mut self, context: &Context) -> Option<Found> {
        const WEEKDAYS: [&[u8; 4]; 7] = [b"Mon ", b"Tue ", b"Wed ", b"Thu ", b"Fri ", b"Sat ", b"Sun "];
        let word = self.bytes.get(self.at..self.at + 4)?;
        if word[1].is_ascii_digit() {
            return self.klog(context);
        }
        let weekday = WEEKDAYS.iter().any(|weekday| word == *weekday);
        if weekday {
            self.at += 4;
        }
        let month = self.month()?;
        self.expect(b' ')?;
        let day = self.day()?;
        if self.next_is(b',') {
            return self.twelve_hours(month, day, context);
        }
        self.expect(b' ')?;
        let (second, nanos) = self.clock()?;
        if weekday {
            let offset = self.offset(context.zone);
            self.expect(b' ')?;
            let year = self.year()?;
            return self.found(Civil { date: Date { year, month, day }, second, nanos }.at(offset));
        }
        let civil = Civil { date: Date { year: 0, month, day }, second, nanos };
        let time = context.without_year(civil);
        self.found(time)
    }

    /// What java.util.logging writes after `Nov 22,`.
    fn twelve_hours(&mut self, month: i64, day: i64, context: &Context) -> Option<Found> {
        self.expect(b' ')?;
        let year = self.year()?;
        self.expect(b' ')?;
        let hour = self.day().filter(|hour| (1..=12).contains(hour))? % 12;
        self.expect(b':')?;
        let minute = self.pair()?;
        self.expect(b':')?;
        let second = self.pair()?;
        self.expect(b' ')?;
        let afternoon = self.one_of(b"AP")? == b'P';
        self.expect(b'M')?;
        let second = in_day(hour + if afternoon { 12 } else { 0 }, minute, second)?;
        self.found(Civil { date: Date { year, month, day }, second, nanos: 0 }.at(i64::from(context.zone.0)))
    }

    /// `I1122 05:00:00.123456`, after which the thread follows.
    fn klog(&mut self, context: &Context) -> Option<Found> {
        self.one_of(b"IWEFD")?;
        let (month, day) = (self.pair()?, self.pair()?);
        self.expect(b' ')?;
        let (second, nanos) = self.clock()?;
        let time = context.without_year(Civil { date: Date { year: 0, month, day }, second, nanos });
        self.found(time)
    }

    /// Any of the layouts in brackets, where a word may be before it (`[I 261122 05:00:00 app:1]`) or after it
    /// (`[2026-11-22T05:00:00Z INFO app]`).
    fn bracketed(mut self, context: &Context) -> Option<Found> {
        self.expect(b'[')?;
        if self.bytes.get(self.at + 1) == Some(&b' ') {
            self.at += 2;
        }
        let mut found = match self.peek()? {
            b'0'..=b'9' => self.numeric(context),
            b'A'..=b'Z' => self.worded(context),
            _ => None,
        }?;
        found.end += usize::from(self.bytes.get(found.end) == Some(&b']'));
        Some(found)
    }

    /// `time=2026-11-22T05:00:00Z`, quoted or not.
    fn keyed(mut self, context: &Context) -> Option<Found> {
        const KEYS: [&[u8]; 7] =
            [b"time=", b"ts=", b"t=", b"timestamp=", b"@timestamp=", b"date=", b"datetime="];
        let key = KEYS.iter().find(|key| self.bytes[self.at..].starts_with(key))?;
        self.at += key.len();
        self.next_is(b'"');
        let mut found = self.numeric(context)?;
        found.end += usize::from(self.bytes.get(found.end) == Some(&b'"'));
        Some(found)
    }

    /// A time after a word (a file's name, a level), or after the host, ident and user of an access log.
    fn after_words(mut self, context: &Context) -> Option<Found> {
        self.word()?;
        let found = match self.peek()? {
            b'0'..=b'9' => self.numeric(context),
            b'[' => self.bracketed(context),
            b'@' | b'd' | b't' => self.keyed(context),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
        for _ in 0..3 {
            self.word()?;
            if self.peek() == Some(b'[') {
                // Further on only an access log's layout counts.
                return if self.bytes.get(self.at + 3) == Some(&b'/') {
                    self.bracketed(context)
                } else {
                    None
                };
            }
        }
        None
    }
}

/// The length of `2026-11-22T05:00:00`.
const DATED: usize = 19;

/// The layout that nearly all programs use, looked at as a whole: its date, and the second of the day.
#[inline]
fn dated(text: &[u8; DATED], separator: u8) -> Option<(Date, i64)> {
    const DIGITS: [usize; 14] = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    let digit = |at: usize| text[at].wrapping_sub(b'0');
    // Without an early exit: a line that is looked at here nearly always has such a time.
    let digits = DIGITS.iter().fold(true, |all, at| all & (digit(*at) < 10));
    let marks = text[4] == separator && text[7] == separator && text[13] == b':' && text[16] == b':';
    if !digits || !marks || !matches!(text[10], b'T' | b' ' | b't') {
        return None;
    }
    let pair = |at: usize| i64::from(digit(at)) * 10 + i64::from(digit(at + 1));
    let date = Date { year: pair(0) * 100 + pair(2), month: pair(5), day: pair(8) };
    Some((date, in_day(pair(11), pair(14), pair(17))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `dated` reads, part by part.
    fn dated_slowly(bytes: &[u8], separator: u8) -> Option<(Date, i64)> {
        let mut cursor = Cursor::new(bytes);
        let year = cursor.year()?;
        cursor.expect(separator)?;
        let month = cursor.pair()?;
        cursor.expect(separator)?;
        let day = cursor.pair()?;
        cursor.one_of(b"T t")?;
        let hour = cursor.pair()?;
        cursor.expect(b':')?;
        let minute = cursor.pair()?;
        cursor.expect(b':')?;
        Some((Date { year, month, day }, in_day(hour, minute, cursor.pair()?)?))
    }

    proptest! {
        #[test]
        fn a_date_and_time_is_read_as_a_whole_as_part_by_part(
            time in "[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]",
            place in 0_usize..19,
            byte in prop_oneof![Just(None), any::<u8>().prop_map(Some)],
        ) {
            let mut text: [u8; DATED] = time.as_bytes().try_into().unwrap();
            text[place] = byte.unwrap_or(text[place]);
            for separator in *b"-/" {
                prop_assert_eq!(dated(&text, separator), dated_slowly(&text, separator));
            }
        }
    }
}
