//! How severe an event is, and how lines tell it.
//!
//! A level is a label, not a word of prose: it stands in the line's head, in upper case, in brackets, after a key
//! that says so, or as the line's first word with a colon. "error" in a sentence is none.

use super::stamp;

/// From least to most severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Notice,
    Warn,
    Error,
    Critical,
    Fatal,
}

/// A level stands within so many bytes after the time: past thread, process and class.
const HEAD: usize = 100;

/// The longest word that is a level: `informational`.
const LONGEST: usize = 13;

impl Level {
    /// As records tell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Fatal => "fatal",
        }
    }

    /// OTLP's `SeverityNumber`, as the log data model maps syslog's severities (its appendix B).
    pub(crate) fn severity_number(self) -> u8 {
        match self {
            Self::Trace => 1,
            Self::Debug => 5,
            Self::Info => 9,
            Self::Notice => 10,
            Self::Warn => 13,
            Self::Error => 17,
            Self::Critical => 18,
            Self::Fatal => 21,
        }
    }

    /// A word that is known to be a level, in any case and spelling: `WARNING`, `err`, `E`, `SEVERE`.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        parse(word.trim_ascii().as_bytes(), false)
    }

    /// The value of a member or pair that is called a level: a word, a number of pino and bunyan (10 to 60), or
    /// of Monolog (100 to 600).
    pub(crate) fn of_value(value: &str) -> Option<Self> {
        match value.as_bytes() {
            [b'1'..=b'6', b'0'] => match value.as_bytes()[0] {
                b'1' => Some(Self::Trace),
                b'2' => Some(Self::Debug),
                b'3' => Some(Self::Info),
                b'4' => Some(Self::Warn),
                b'5' => Some(Self::Error),
                _ => Some(Self::Fatal),
            },
            b"100" => Some(Self::Debug),
            b"200" => Some(Self::Info),
            b"250" => Some(Self::Notice),
            b"300" => Some(Self::Warn),
            b"400" => Some(Self::Error),
            b"500" | b"550" => Some(Self::Critical),
            b"600" => Some(Self::Fatal),
            _ => Self::parse(value),
        }
    }

    /// The value of a member that is called a priority: a word, or syslog's number (RFC 5424, 6.2.1).
    pub(crate) fn of_priority(value: &str) -> Option<Self> {
        match value.as_bytes() {
            [digit @ b'0'..=b'7'] => Some(Self::of_syslog(digit - b'0')),
            _ => Self::parse(value),
        }
    }

    fn of_syslog(severity: u8) -> Self {
        match severity & 7 {
            0 => Self::Fatal,
            1 | 2 => Self::Critical,
            3 => Self::Error,
            4 => Self::Warn,
            5 => Self::Notice,
            6 => Self::Info,
            _ => Self::Debug,
        }
    }

    /// The level that a line's head tells; its time ends at `time_end`, or 0.
    pub(crate) fn find(text: &str, time_end: usize) -> Option<Self> {
        let bytes = text.as_bytes();
        match bytes.first()? {
            b'<' => {
                if let Some((priority, _)) = stamp::priority(bytes) {
                    return Some(Self::of_syslog(priority));
                }
            }
            b'D' | b'E' | b'F' | b'I' | b'W' if klog(bytes) => return parse(&bytes[..1], false),
            _ => {}
        }
        let head = &bytes[..bytes.len().min(time_end + HEAD)];
        // What is before the time counts too: `[INFO] 2026-..`.
        let from = if bytes[0].is_ascii_digit() { time_end } else { 0 };
        label(head, from)
            .or_else(|| if from < time_end { label(head, time_end) } else { None })
            .or_else(|| marked(head, from))
    }
}

/// Whether a line begins with a level: in capitals, in brackets or not, or with a colon in small letters.
pub(super) fn begins_with_level(line: &[u8]) -> bool {
    let word = usize::from(line.first() == Some(&b'['));
    match line.get(word) {
        Some(b'A'..=b'Z') => whole_word(line, word).is_some(),
        Some(b'a'..=b'z') => label(line, 0).is_some(),
        _ => false,
    }
}

/// A word as the line's first, or the first after its time, with a colon: `fail: Shop.Cart[0]`, `Error: boom`.
fn label(head: &[u8], from: usize) -> Option<Level> {
    let rest = head[from..].trim_ascii_start();
    let length = rest.iter().take(LONGEST + 1).take_while(|byte| byte.is_ascii_alphabetic()).count();
    if length < 3 || rest.get(length) != Some(&b':') || rest.get(length + 1).is_some_and(|byte| *byte != b' ')
    {
        return None;
    }
    parse(&rest[..length], false)
}

/// `I1122 05:00:00`
fn klog(bytes: &[u8]) -> bool {
    bytes.len() > 8 && bytes[1..5].iter().all(u8::is_ascii_digit) && bytes[5] == b' ' && bytes[8] == b':'
}

/// The first level that its capitals, brackets or a key mark as one: `ERROR`, `[error]`, `[core:error]`,
/// `level=error`, `"level":"error"`. Eight bytes a step: only where a mark may be is looked at closely.
fn marked(head: &[u8], from: usize) -> Option<Level> {
    let mut before = 0;
    let mut at = from;
    while at < head.len() {
        let word = load(head, at);
        let upper = upper_bits(word);
        // Where a run of capitals begins whose second is in sight; one over the edge is looked at on its own.
        let starts = upper & !(upper << 8 | before) & (upper >> 8 | 1 << 63);
        let mut bits = starts | equal_bits(word, b'[') | equal_bits(word, b'=') | equal_bits(word, b':');
        while bits != 0 {
            let mark = at + bits.trailing_zeros() as usize / 8;
            let (key, value) = (&head[..mark], &head[mark + 1..]);
            let level = match head[mark] {
                b'[' => bracketed(value),
                b'=' => keyed(key, value),
                b':' => key.strip_suffix(b"\"").and_then(|key| keyed(key, value)),
                _ => whole_word(head, mark),
            };
            if level.is_some() {
                return level;
            }
            bits &= bits - 1;
        }
        before = upper >> 63 << 7;
        at += 8;
    }
    None
}

/// Eight bytes, the first lowest; zeros past the end.
#[inline]
fn load(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()) {
        Some(eight) => u64::from_le_bytes(eight),
        None => {
            let mut eight = [0; 8];
            let rest = &bytes[at..];
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(eight)
        }
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * ONES;

/// The highest bit of each byte that is `byte`.
#[inline]
fn equal_bits(word: u64, byte: u8) -> u64 {
    let other = word ^ (u64::from(byte) * ONES);
    !(((other & !HIGH) + !HIGH) | other) & HIGH
}

/// The highest bit of each byte that is `A` to `Z`.
#[inline]
fn upper_bits(word: u64) -> u64 {
    let low = word & !HIGH;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let past_z = low + (0x80 - (b'Z' + 1) as u64) * ONES;
    from_a & !past_z & !word & HIGH
}

/// The level that begins at `start`, if nothing of a word or a path is around it.
fn whole_word(head: &[u8], start: usize) -> Option<Level> {
    let rest = &head[start..];
    let length = rest.iter().take(LONGEST + 1).take_while(|byte| byte.is_ascii_uppercase()).count();
    let level = parse(&rest[..length], true)?;
    let opens = match start.checked_sub(1).map(|before| head[before]) {
        None => true,
        // The end of an escape that colours a terminal.
        Some(b'm') => memchr::memrchr(0x1b, &head[start.saturating_sub(8)..start]).is_some(),
        Some(byte) => b" \t[(|:,=\"<*-".contains(&byte),
    };
    let closes = rest.get(length).is_none_or(|byte| b" \t])|:,\">*;-\x1b".contains(byte));
    (opens && closes).then_some(level)
}

/// A level before a closing bracket, padded or not, and after a module or not; or Tornado's letter, before its time:
/// `[INFO ]`, `[core:notice]`, `[I 261122 05:00:00 app:1]`.
fn bracketed(value: &[u8]) -> Option<Level> {
    let mut length = word_length(value);
    let mut start = 0;
    if matches!(value.get(length), Some(b':' | b'_')) {
        // A module's name.
        let named = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        start = value.iter().take_while(named).count() + 1;
        length = word_length(value.get(start..)?);
    }
    let word = &value[start..start + length];
    let after = &value[start + length..];
    let letter = length == 1 && word[0].is_ascii_uppercase() && after.starts_with(b" ");
    (letter || after.trim_ascii_start().starts_with(b"]")).then(|| parse(word, false))?
}

/// A level after the key of one.
fn keyed(key: &[u8], mut value: &[u8]) -> Option<Level> {
    const KEYS: [&[u8]; 5] = [b"level", b"lvl", b"severity", b"loglevel", b"log_level"];
    if !matches!(key.last(), Some(b'l' | b'y')) {
        return None;
    }
    let named = KEYS.iter().any(|name| {
        key.strip_suffix(*name).is_some_and(|rest| {
            rest.last().is_none_or(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'-'))
        })
    });
    while let [b' ' | b'"' | b'\'', after @ ..] = value {
        value = after;
    }
    named.then(|| parse(&value[..word_length(value)], false))?
}

fn word_length(bytes: &[u8]) -> usize {
    bytes.iter().take(LONGEST + 1).take_while(|byte| byte.is_ascii_alphabetic()).count()
}

/// A level by its word, in all spellings seen in logs; `plain` where nothing but its capitals say that it is one.
fn parse(word: &[u8], plain: bool) -> Option<Level> {
    let mut small = [0; LONGEST];
    let small = small.get_mut(..word.len())?;
    small.copy_from_slice(word);
    small.make_ascii_lowercase();
    let level = match &*small {
        b"trace" | b"trc" | b"trce" | b"finest" => Level::Trace,
        b"debug" | b"dbg" | b"dbug" | b"fine" | b"finer" | b"verbose" => Level::Debug,
        b"info" | b"inf" | b"information" => Level::Info,
        b"notice" => Level::Notice,
        b"warn" | b"warning" | b"wrn" => Level::Warn,
        b"error" | b"err" | b"severe" => Level::Error,
        b"critical" | b"crit" | b"dpanic" | b"alert" => Level::Critical,
        b"fatal" | b"ftl" | b"emerg" | b"emergency" | b"panic" => Level::Fatal,
        // In running text these are something else.
        _ if plain => return None,
        b"t" | b"silly" => Level::Trace,
        b"d" | b"v" | b"config" => Level::Debug,
        b"i" | b"informational" | b"http" => Level::Info,
        b"n" | b"note" => Level::Notice,
        b"w" => Level::Warn,
        b"e" | b"fail" => Level::Error,
        b"c" => Level::Critical,
        b"f" => Level::Fatal,
        _ => return None,
    };
    Some(level)
}

#[cfg(test)]
mod tests;
