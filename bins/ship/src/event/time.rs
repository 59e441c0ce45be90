//! Moments in time, and how they are written: RFC 3339, and the date in an index's name. Civil dates (proleptic
//! Gregorian) are worked out here, by the algorithms of Howard Hinnant; no time zone database is needed, since logs
//! carry offsets. Never asks a clock.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use podkit_cli::Invalid;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;
/// 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const SINCE_YEAR_0: i64 = 719_468;

/// Nanoseconds since 1970-01-01T00:00:00Z. Reaches from 1677 to 2262, so a year has four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Time(pub(crate) i64);

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let nanos = |span: std::time::Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => nanos(after),
            Err(before) => -nanos(before.duration()),
        })
    }
}

impl Time {
    /// A moment by its seconds since 1970 and the nanoseconds after them; `None` where it is out of reach.
    pub(crate) fn new(seconds: i64, nanos: i64) -> Option<Self> {
        seconds.checked_mul(NANOS)?.checked_add(nanos).map(Self)
    }

    /// Appends the time in RFC 3339, in UTC: with milliseconds, and with 6 or 9 digits only where it has them.
    pub(crate) fn write_rfc3339(self, out: &mut Vec<u8>) {
        let (seconds, nanos) = self.split();
        write_rfc3339(&up_to_second(seconds), nanos, out);
    }

    /// The text of [`write_rfc3339`](Self::write_rfc3339).
    pub(crate) fn rfc3339(self) -> String {
        let mut out = Vec::new();
        self.write_rfc3339(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The year, in UTC.
    pub(crate) fn year(self) -> i64 {
        Date::of_days(self.split().0.div_euclid(DAY)).year
    }

    fn split(self) -> (i64, i64) {
        (self.0.div_euclid(NANOS), self.0.rem_euclid(NANOS))
    }
}

/// Writes times one after the other, of which most are of the same second as the one before.
#[derive(Debug)]
pub(crate) struct Rfc3339 {
    /// Seconds since 1970, and what times of this second begin with.
    last: Cell<(i64, UpToSecond)>,
}

impl Default for Rfc3339 {
    fn default() -> Self {
        Self { last: Cell::new((0, up_to_second(0))) }
    }
}

impl Rfc3339 {
    /// Appends what [`Time::write_rfc3339`] does.
    pub(crate) fn write(&self, time: Time, out: &mut Vec<u8>) {
        let (seconds, nanos) = time.split();
        let (mut last, mut text) = self.last.get();
        if last != seconds {
            (last, text) = (seconds, up_to_second(seconds));
            self.last.set((last, text));
        }
        write_rfc3339(&text, nanos, out);
    }
}

/// `2026-11-22T05:00:00.`
type UpToSecond = [u8; 20];

fn up_to_second(seconds: i64) -> UpToSecond {
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY) as u32);
    let Date { year, month, day } = Date::of_days(days);
    let mut text = *b"0000-00-00T00:00:00.";
    write_pair(&mut text, 0, year as u32 / 100);
    write_pair(&mut text, 2, year as u32 % 100);
    write_pair(&mut text, 5, month as u32);
    write_pair(&mut text, 8, day as u32);
    write_pair(&mut text, 11, second / 3600);
    write_pair(&mut text, 14, second / 60 % 60);
    write_pair(&mut text, 17, second % 60);
    text
}

fn write_rfc3339(second: &UpToSecond, nanos: i64, out: &mut Vec<u8>) {
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    text[..second.len()].copy_from_slice(second);
    let (millis, rest) = (nanos as u32 / 1_000_000, nanos as u32 % 1_000_000);
    write_triple(&mut text, 20, millis);
    let end = if rest == 0 {
        23
    } else {
        write_triple(&mut text, 23, rest / 1_000);
        write_triple(&mut text, 26, rest % 1_000);
        if rest % 1_000 == 0 { 26 } else { 29 }
    };
    text[end] = b'Z';
    out.extend_from_slice(&text[..=end]);
}

/// A value below 100.
#[inline]
fn write_pair<const N: usize>(text: &mut [u8; N], at: usize, value: u32) {
    text[at] = b'0' + (value / 10) as u8;
    text[at + 1] = b'0' + (value % 10) as u8;
}

/// A value below 1000.
#[inline]
fn write_triple(text: &mut [u8; 30], at: usize, value: u32) {
    text[at] = b'0' + (value / 100) as u8;
    write_pair(text, at + 1, value % 100);
}

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    /// From 1.
    pub(crate) month: i64,
    /// From 1.
    pub(crate) day: i64,
}

impl Date {
    /// The date that is `days` after 1970-01-01, of those that a [`Time`] reaches.
    fn of_days(days: i64) -> Self {
        // Years begin in March here, so that a leap day is the last of its year. Days since the year 0 are positive
        // for all times there are, and 32 bits are faster.
        let shifted = (days + SINCE_YEAR_0) as u32;
        let (era, of_era) = (shifted / ERA_DAYS as u32, shifted % ERA_DAYS as u32);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u32::from(month <= 2);
        Self { year: year.into(), month: month.into(), day: day.into() }
    }

    /// Whether the calendar has such a day.
    pub(crate) fn exists(self) -> bool {
        let days = match self.month {
            2 if leap(self.year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        (1..=days).contains(&self.day)
    }

    /// Days since 1970-01-01, of a date that exists.
    pub(crate) fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted_month = (self.month + 9) % 12;
        let of_year = (153 * shifted_month + 2) / 5 + self.day - 1;
        era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - SINCE_YEAR_0
    }

    /// 1 to 366.
    fn of_year(self) -> i64 {
        self.days() - Self { month: 1, day: 1, ..self }.days() + 1
    }

    /// The year and week of ISO 8601: week 1 is that of the year's first Thursday.
    fn week(self) -> (i64, i64) {
        let days = self.days();
        // 1970-01-01 was a Thursday: 0 is Monday.
        let weekday = (days + 3).rem_euclid(7);
        let thursday = Self::of_days(days - weekday + 3);
        (thursday.year, (thursday.of_year() - 1) / 7 + 1)
    }
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// An offset from UTC, in seconds; east is positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Zone(pub(crate) i32);

impl Zone {
    /// `UTC`, `Z`, `+02:00`, `-0330`.
    ///
    /// # Errors
    /// Anything else, names such as `Europe/Berlin` too: their offsets change over the year, and a log that is
    /// written in local time does not tell which of two hours it means.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let offset = match text.as_bytes() {
            b"UTC" | b"utc" | b"Z" => Some(0),
            bytes => super::stamp::offset(bytes).filter(|(_, end)| *end == bytes.len()).map(|found| found.0),
        };
        offset.map(|seconds| Self(seconds as i32)).ok_or_else(|| {
            Invalid::new(format!("{text:?} is not an offset from UTC"))
                .hint("write `UTC`, `+02:00` or `-05:30`; better, have the app write its times in UTC")
        })
    }

    /// As a config file has it.
    pub(crate) fn name(self) -> String {
        if self.0 == 0 {
            return "UTC".to_owned();
        }
        let minutes = self.0.abs() / 60;
        format!("{}{:02}:{:02}", if self.0 < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
    }
}

/// A name with the date in it: `logs-%Y.%m.%d`. Always in UTC, as the backends count their days.
#[derive(Debug, Clone)]
pub(crate) struct DatePattern {
    text: String,
    parts: Vec<Part>,
    /// The hour that `written` is of: hours since 1970.
    hour: Option<i64>,
    written: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(u8),
}

/// What may follow `%`; `%G` is the year that the week `%V` belongs to.
const FIELDS: &[u8] = b"YymdHjGV";

impl DatePattern {
    /// `%Y %y %m %d %H %j` as in strftime, `%G` and `%V` for ISO weeks, `%%` for a percent sign.
    ///
    /// # Errors
    /// Any other `%`, and the empty text.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                plain.push(char);
                continue;
            }
            match chars.next() {
                Some('%') => plain.push('%'),
                Some(field) if field.is_ascii() && FIELDS.contains(&(field as u8)) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Field(field as u8));
                }
                other => {
                    let found = other.map(String::from).unwrap_or_default();
                    return Err(Invalid::new(format!("`%{found}` in {text:?} is not a part of a date"))
                        .hint("use %Y %m %d, %y, %H, %j, or %G and %V; `%%` is a percent sign"));
                }
            }
        }
        if text.is_empty() {
            return Err(Invalid::new("the text is empty"));
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { text: text.to_owned(), parts, hour: None, written: Vec::new() })
    }

    /// As it was given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Appends the name for an event of this time. A copy where the last event was of the same hour.
    pub(crate) fn write(&mut self, time: Time, out: &mut Vec<u8>) {
        let hour = time.0.div_euclid(3_600 * NANOS);
        if self.hour != Some(hour) {
            self.hour = Some(hour);
            self.written.clear();
            let date = Date::of_days(hour.div_euclid(24));
            for part in &self.parts {
                match part {
                    Part::Text(text) => self.written.extend_from_slice(text.as_bytes()),
                    Part::Field(field) => write_field(*field, date, hour.rem_euclid(24), &mut self.written),
                }
            }
        }
        out.extend_from_slice(&self.written);
    }
}

fn write_field(field: u8, date: Date, hour: i64, out: &mut Vec<u8>) {
    let (value, width) = match field {
        b'Y' => (date.year, 4),
        b'y' => (date.year % 100, 2),
        b'm' => (date.month, 2),
        b'd' => (date.day, 2),
        b'H' => (hour, 2),
        b'j' => (date.of_year(), 3),
        b'G' => (date.week().0, 4),
        _ => (date.week().1, 2),
    };
    out.extend_from_slice(format!("{value:0width$}").as_bytes());
}

#[cfg(test)]
mod tests;
