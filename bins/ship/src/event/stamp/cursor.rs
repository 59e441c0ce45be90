//! Steps through a text that may begin with a time: its words and its digits, a clock, an offset. Knows the parts of
//! a time, and no layout.

use crate::event::time::Zone;

/// Leading words longer than this are text, not a file's or a host's name.
const MAX_WORD: usize = 64;

/// Reads a text from its beginning.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn next_is(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    pub(super) fn expect(&mut self, byte: u8) -> Option<()> {
        self.next_is(byte).then_some(())
    }

    pub(super) fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let byte = self.peek().filter(|byte| bytes.contains(byte))?;
        self.at += 1;
        Some(byte)
    }

    /// Two digits.
    #[inline]
    pub(super) fn pair(&mut self) -> Option<i64> {
        let digits = self.bytes.get(self.at..self.at + 2)?;
        let (tens, ones) = (digits[0].wrapping_sub(b'0'), digits[1].wrapping_sub(b'0'));
        if tens > 9 || ones > 9 {
            return None;
        }
        self.at += 2;
        Some(i64::from(tens * 10 + ones))
    }

    /// Two digits, or a space and a digit, or a digit.
    pub(super) fn day(&mut self) -> Option<i64> {
        self.next_is(b' ');
        self.pair().or_else(|| {
            let digit = self.peek().filter(u8::is_ascii_digit)?;
            self.at += 1;
            Some(i64::from(digit - b'0'))
        })
    }

    pub(super) fn year(&mut self) -> Option<i64> {
        Some(self.pair()? * 100 + self.pair()?)
    }

    /// `Nov`
    pub(super) fn month(&mut self) -> Option<i64> {
        const MONTHS: [&[u8; 3]; 12] =
            [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
        let word = self.bytes.get(self.at..self.at + 3)?;
        let index = MONTHS.iter().position(|month| word == *month)?;
        self.at += 3;
        Some(index as i64 + 1)
    }

    /// `05:00:00` and its fraction, if any: the second of the day, and nanoseconds.
    #[inline]
    pub(super) fn clock(&mut self) -> Option<(i64, i64)> {
        let hour = self.pair()?;
        self.expect(b':')?;
        let minute = self.pair()?;
        self.expect(b':')?;
        let second = self.pair()?;
        Some((in_day(hour, minute, second)?, self.fraction()?))
    }

    /// `.123`, `,123` and up to nine digits; nothing is zero. `None` where a digit follows that does not fit.
    #[inline]
    pub(super) fn fraction(&mut self) -> Option<i64> {
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
    pub(super) fn offset(&mut self, zone: Zone) -> i64 {
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

    /// Goes past a word and the space after it.
    pub(super) fn word(&mut self) -> Option<()> {
        let rest = &self.bytes[self.at..];
        let length = memchr::memchr(b' ', &rest[..rest.len().min(MAX_WORD)])?;
        self.at += length + 1;
        Some(())
    }

    /// `<34>`, and the version that RFC 5424 puts after it.
    pub(super) fn priority(&mut self) -> Option<()> {
        self.at = priority(self.bytes)?.1;
        if self.bytes[self.at..].starts_with(b"1 ") {
            self.at += 2;
        }
        Some(())
    }

    /// Goes past the escapes that colour a terminal.
    pub(super) fn colours(&mut self) {
        while self.peek() == Some(0x1b) {
            let rest = &self.bytes[self.at..];
            let end = rest.iter().take(MAX_WORD).position(|byte| *byte == b'm').unwrap_or(0);
            self.at += end + 1;
        }
    }
}

/// The second of the day.
pub(super) fn in_day(hour: i64, minute: i64, second: i64) -> Option<i64> {
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
