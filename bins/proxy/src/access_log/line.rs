//! One line of the access log, as it grows: a JSON object whose members are appended as they become known.
//!
//! Whatever a client sends, it stays inside its string: no byte of it can end the line, the string or the terminal's
//! patience. Pure functions over bytes.

use std::fmt::{self, Display, Write};
use std::time::{Duration, SystemTime};

/// The most bytes of one string, escapes included: a line must stay below the 16 KiB at which container runtimes break
/// it up. What is cut ends in an ellipsis.
const TEXT_LIMIT: usize = 2048;

const ELLIPSIS: &str = "…";

/// A line without its end.
#[derive(Debug)]
pub(crate) struct Line(Vec<u8>);

impl Line {
    /// Begins a line in an empty buffer.
    pub(super) fn begin(mut buffer: Vec<u8>) -> Self {
        buffer.push(b'{');
        Self(buffer)
    }

    /// Ends the line.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }

    /// Appends a string, of any bytes.
    pub(crate) fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        self.0.push(b'"');
        escape(value, &mut self.0);
        self.0.push(b'"');
    }

    /// Appends an address of the config or the kernel.
    pub(super) fn address(&mut self, key: &str, address: &dyn Display) {
        self.key(key);
        self.0.push(b'"');
        let mut quoted = Quoted(&mut self.0);
        // A vector takes all.
        let _ = write!(quoted, "{address}");
        self.0.push(b'"');
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        decimal(value, 1, &mut self.0);
    }

    /// Appends milliseconds, to the microsecond.
    pub(crate) fn millis(&mut self, key: &str, span: Duration) {
        self.key(key);
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        decimal(micros / 1000, 1, &mut self.0);
        self.0.push(b'.');
        decimal(micros % 1000, 3, &mut self.0);
    }

    /// Appends a time in UTC as RFC 3339 has it, to the millisecond.
    pub(crate) fn time(&mut self, key: &str, time: SystemTime) {
        self.key(key);
        self.0.push(b'"');
        rfc3339(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(), &mut self.0);
        self.0.push(b'"');
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// Appends what is formatted to the inside of a string.
struct Quoted<'a>(&'a mut Vec<u8>);

impl Write for Quoted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(text.as_bytes(), self.0);
        Ok(())
    }
}

/// Appends the inside of a JSON string: what is no UTF-8 becomes U+FFFD, and every control character an escape, those
/// that only a terminal obeys (DEL, C1) as well.
fn escape(value: &[u8], out: &mut Vec<u8>) {
    let limit = out.len() + TEXT_LIMIT - ELLIPSIS.len();
    // Nearly all that clients send is plain.
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if value.len() <= TEXT_LIMIT - ELLIPSIS.len() && value.iter().all(plain) {
        return out.extend_from_slice(value);
    }
    for chunk in value.utf8_chunks() {
        let replaced = if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
        for letter in chunk.valid().chars().chain(replaced.chars()) {
            let before = out.len();
            push_letter(letter, out);
            if out.len() > limit {
                out.truncate(before);
                return out.extend_from_slice(ELLIPSIS.as_bytes());
            }
        }
    }
}

fn push_letter(letter: char, out: &mut Vec<u8>) {
    match letter {
        '"' | '\\' => out.extend_from_slice(&[b'\\', letter as u8]),
        _ if letter.is_control() => {
            out.extend_from_slice(b"\\u00");
            let code = letter as usize;
            out.extend([code >> 4, code & 0xf].map(|digit| b"0123456789abcdef"[digit]));
        }
        _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Appends a number with at least so many digits.
fn decimal(mut value: u64, digits: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; 20];
    let mut at = text.len();
    while value > 0 {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text[at.min(text.len() - digits)..]);
}

/// Appends `2026-11-22T11:14:19.123Z` for the time since 1970.
fn rfc3339(since: Duration, out: &mut Vec<u8>) {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let millis = u64::from(since.subsec_millis());
    for (value, digits, behind) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
        (millis, 3, b'Z'),
    ] {
        decimal(value, digits, out);
        out.push(behind);
    }
}

/// The Gregorian date so many days after 1970-01-01, by eras of 400 years that begin in March (Hinnant's
/// `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn line(write: impl FnOnce(&mut Line)) -> String {
        let mut line = Line::begin(Vec::new());
        write(&mut line);
        String::from_utf8(line.end()).unwrap()
    }

    #[test]
    fn members_follow_one_another() {
        let text = line(|line| {
            line.text("a", b"b");
            line.number("n", 0);
            line.number("max", u64::MAX);
            line.millis("ms", Duration::from_micros(1_002_003));
            line.millis("short", Duration::from_nanos(999));
        });
        assert_eq!(
            text,
            "{\"a\":\"b\",\"n\":0,\"max\":18446744073709551615,\"ms\":1002.003,\"short\":0.000}\n"
        );
    }

    #[test]
    fn times_are_rfc_3339() {
        for (secs, millis, want) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, 999, "2000-02-28T23:59:59.999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.001Z"),
            (1_709_251_199, 20, "2024-02-29T23:59:59.020Z"),
            (1_795_346_059, 123, "2026-11-22T11:14:19.123Z"),
            (4_102_444_799, 0, "2099-12-31T23:59:59.000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs) + Duration::from_millis(millis);
            assert_eq!(line(|line| line.time("t", time)), format!("{{\"t\":\"{want}\"}}\n"));
        }
    }

    #[test]
    fn what_a_client_sends_stays_inside_its_string() {
        for (value, want) in [
            (&b"/a\"},{\"status\":200}"[..], r#"/a\"},{\"status\":200}"#),
            (b"a\nb\rc\td\0", r"a\u000ab\u000dc\u0009d\u0000"),
            (b"\\", r"\\"),
            (b"\x1b[31m\x7f", r"\u001b[31m\u007f"),
            ("\u{9b}31m".as_bytes(), r"\u009b31m"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"\xff\xfea\xc3", "\u{fffd}\u{fffd}a\u{fffd}"),
        ] {
            assert_eq!(line(|line| line.text("p", value)), format!("{{\"p\":\"{want}\"}}\n"));
        }
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        for value in ["x".repeat(9000), "\"".repeat(9000), "\u{fc}".repeat(9000), "\0".repeat(9000)] {
            let text = line(|line| line.text("p", value.as_bytes()));
            assert!(text.len() <= TEXT_LIMIT + 16, "{}", text.len());
            let parsed: Value = serde_json::from_str(&text).unwrap();
            let kept = parsed["p"].as_str().unwrap().strip_suffix('…').expect("it is marked");
            assert!(value.starts_with(kept) && kept.len() > 300);
        }
        let fits = "x".repeat(TEXT_LIMIT - ELLIPSIS.len());
        assert!(line(|line| line.text("p", fits.as_bytes())).contains(&fits));
    }

    proptest! {
        #[test]
        fn any_bytes_make_one_line_that_reads_back(value in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = line(|line| line.text("p", &value));
            prop_assert!(text.ends_with('\n') && !text[..text.len() - 1].contains(char::is_control));
            let parsed: Value = serde_json::from_str(&text).unwrap();
            let lossy = String::from_utf8_lossy(&value);
            prop_assert_eq!(parsed["p"].as_str().unwrap(), lossy.as_ref());
        }
    }
}
