//! The layouts of times, each read by hand from the first byte on.

use super::Found;
use crate::event::time::{Date, Time, Zone};

/// Leading words longer than this are text, not a file's or a host's name.
const MAX_WORD: usize = 64;

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

/// Reads a text from its beginning.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

pub(super) fn find(bytes: &[u8], context: &Context) -> Option<Found> {
    let mut cursor = Cursor { bytes, at: 0 };
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
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next_is(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.next_is(byte).then_some(())
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let byte = self.peek().filter(|byte| bytes.contains(byte))?;
        self.at += 1;
        Some(byte)
    }

    /// Two digits.
    #[inline]
    fn pair(&mut self) -> Option<i64> {
        let digits = self.bytes.get(self.at..self.at + 2)?;
        let (tens, ones) = (digits[0].wrapping_sub(b'0'), digits[1].wrapping_sub(b'0'));
        if tens > 9 || ones > 9 {
            return None;
        }
        self.at += 2;
        Some(i64::from(tens * 10 + ones))
    }

    /// Two digits, or a space and a digit, or a digit.
    fn day(&mut self) -> Option<i64> {
        self.next_is(b' ');
        self.pair().or_else(|| {
            let digit = self.peek().filter(u8::is_ascii_digit)?;
            self.at += 1;
            Some(i64::from(digit - b'0'))
        })
    }

    fn year(&mut self) -> Option<i64> {
        Some(self.pair()? * 100 + self.pair()?)
    }

    /// `Nov`
    fn month(&mut self) -> Option<i64> {
        const MONTHS: [&[u8; 3]; 12] =
            [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
        let word = self.bytes.get(self.at..self.at + 3)?;
        let index = MONTHS.iter().position(|month| word == *month)?;
        self.at += 3;
        Some(index as i64 + 1)
    }

    /// `05:00:00` and its fraction, if any: the second of the day, and nanoseconds.
    #[inline]
    fn clock(&mut self) -> Option<(i64, i64)> {
        let hour = self.pair()?;
        self.expect(b':')?;
        let minute = self.pair()?;
        self.expect(b':')?;
        let second = self.pair()?;
        Some((in_day(hour, minute, second)?, self.fraction()?))
    }

    /// `.123`, `,123` and up to nine digits; nothing is zero. `None` where a digit follows that does not fit.
    #[inline]
    fn fraction(&mut self) -> Option<i64> {
        let mut nanos = 0;
        let digit = |byte: Option<&u8>| byte.map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10);
        if matches!(self.peek(), Some(b'.' | b',')) && digit(self.bytes.get(self.at + 1)).is_some() {
            self.at += 1;
            let mut weight = 100_000_000;
            while let Some(value) = digit(self.bytes.get(self.at)) {
                if weight == 0 {
                    return None;
                }
                nanos += i64::from(value) * weight;
                weight /= 10;
                self.at += 1;
            }
        } else if digit(self.bytes.get(self.at)).is_some() {
            return None;
        }
        Some(nanos)
    }

    /// `Z`, `+02:00`, `+0200`, ` +0200`, ` UTC`; nothing is the source's own zone.
    fn offset(&mut self, zone: Zone) -> i64 {
        let rest = &self.bytes[self.at..];
        let (spaced, zoned) = match rest {
            [b'Z' | b'z', ..] => {
                self.at += 1;
                return 0;
            }
            [b' ', after @ ..] => (1, after),
            _ => (0, rest),
        };
        if zoned.starts_with(b"UTC") || zoned.starts_with(b"GMT") {
            if !zoned.get(3).is_some_and(u8::is_ascii_alphanumeric) {
                self.at += spaced + 3;
                return 0;
            }
        } else if let Some((seconds, end)) = offset(zoned) {
            // After a space, two digits may be anything.
            if spaced == 0 || end > 3 {
                self.at += spaced + end;
                return seconds;
            }
        }
        i64::from(zone.0)
    }

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

    /// Goes past a word and the space after it.
    fn word(&mut self) -> Option<()> {
        let rest = &self.bytes[self.at..];
        let length = memchr::memchr(b' ', &rest[..rest.len().min(MAX_WORD)])?;
        self.at += length + 1;
        Some(())
    }

    /// `<34>`, and the version that RFC 5424 puts after it.
    fn priority(&mut self) -> Option<()> {
        self.at = priority(self.bytes)?.1;
        if self.bytes[self.at..].starts_with(b"1 ") {
            self.at += 2;
        }
        Some(())
    }

    /// Goes past the escapes that colour a terminal.
    fn colours(&mut self) {
        while self.peek() == Some(0x1b) {
            let rest = &self.bytes[self.at..];
            let end = rest.iter().take(MAX_WORD).position(|byte| *byte == b'm').unwrap_or(0);
            self.at += end + 1;
        }
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

fn in_day(hour: i64, minute: i64, second: i64) -> Option<i64> {
    // A leap second is the last of a day in UTC, and of any hour elsewhere.
    let fits = hour < 24 && minute < 60 && (second < 60 || second == 60 && minute == 59);
    fits.then_some(hour * 3600 + minute * 60 + second)
}

/// `+02:00`, `-0330`, `+02`: seconds east of UTC, and the length.
pub(in crate::event) fn offset(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut cursor = Cursor { bytes, at: 1 };
    let sign = match bytes.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = cursor.pair()?;
    let colon = cursor.next_is(b':');
    let minutes = match cursor.pair() {
        Some(minutes) => minutes,
        None if colon => return None,
        None => 0,
    };
    let ends = !cursor.peek().is_some_and(|byte| byte.is_ascii_alphanumeric());
    (hours <= 14 && minutes < 60 && ends).then_some((sign * (hours * 3600 + minutes * 60), cursor.at))
}

/// The number in a leading `<34>`, and where it ends.
pub(in crate::event) fn priority(bytes: &[u8]) -> Option<(u8, usize)> {
    /// Facility 23, severity 7.
    const MAX: u32 = 191;
    let digits = bytes.strip_prefix(b"<")?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=3).contains(&digits) || bytes.get(digits + 1) != Some(&b'>') {
        return None;
    }
    let value = bytes[1..=digits].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    (value <= MAX).then_some((value as u8, digits + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `dated` reads, part by part.
    fn dated_slowly(bytes: &[u8], separator: u8) -> Option<(Date, i64)> {
        let mut cursor = Cursor { bytes, at: 0 };
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
