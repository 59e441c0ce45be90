//! What the members of a JSON line mean: its time, its level, its message, and which of the names that we give it has
//! already. The line itself is kept as it is; duplicate keys too, of which the first counts.

use std::borrow::Cow;

use super::json;
use super::stamp::{self, Finder};
use super::{Level, OWN_NAMES, Object, Time};

/// Members that tell the time, the surest first.
pub(super) const TIMES: [&str; 16] = [
    "timestamp",
    "@timestamp",
    "time",
    "ts",
    "eventTime",
    "datetime",
    "date",
    "asctime",
    "@t",
    "t",
    "Timestamp",
    "Time",
    "timeMillis",
    "logged_at",
    "time_unix_nano",
    "timeUnixNano",
];

/// Members that tell the level, the surest first.
pub(super) const LEVELS: [&str; 18] = [
    "level",
    "severity",
    "lvl",
    "log.level",
    "loglevel",
    "logLevel",
    "log_level",
    "LogLevel",
    "levelname",
    "level_name",
    "Level",
    "@l",
    "severity_text",
    "severityText",
    "SeverityText",
    "Severity",
    "priority",
    "PRIORITY",
];

/// From here on, [`LEVELS`] count as syslog does.
const PRIORITIES: usize = 16;

/// Members that are the message, the surest first.
pub(super) const MESSAGES: [&str; 2] = ["message", "msg"];

/// What a name means; ranks count from 1, 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Meaning {
    /// Its bit among the names that we give.
    own: u64,
    time: u8,
    level: u8,
    stream: bool,
}

impl Meaning {
    /// Whether the value matters, or that there is one.
    fn tells(self) -> bool {
        self.time != 0 || self.level != 0 || self.stream
    }
}

/// All names that mean something, to be found fast.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    entries: Vec<Key>,
    /// For each length of a name, where its entries begin.
    starts: [u8; LENGTHS + 1],
}

#[derive(Debug, Clone)]
struct Key {
    name: String,
    /// See [`head`]: most names differ in it.
    head: u64,
    meaning: Meaning,
}

/// Longer names share the last place.
const LENGTHS: usize = 32;

impl Keys {
    pub(super) fn new(fields: &[String]) -> Self {
        let mut entries: Vec<Key> = Vec::new();
        let mut add =
            |name: &str, set: &dyn Fn(&mut Meaning)| match entries.iter_mut().find(|key| key.name == name) {
                Some(key) => set(&mut key.meaning),
                None => {
                    let mut meaning = Meaning::default();
                    set(&mut meaning);
                    entries.push(Key { name: name.to_owned(), head: head(name.as_bytes()), meaning });
                }
            };
        let fields = fields.iter().map(String::as_str);
        for (index, name) in OWN_NAMES.into_iter().chain(fields).enumerate().take(64) {
            add(name, &|meaning| meaning.own |= 1 << index);
        }
        for (index, name) in (1..).zip(TIMES) {
            add(name, &|meaning| meaning.time = index);
        }
        for (index, name) in (1..).zip(LEVELS) {
            add(name, &|meaning| meaning.level = index);
        }
        add("stream", &|meaning| meaning.stream = true);
        entries.sort_by_key(|key| place(key.name.len()));
        let mut starts = [0; LENGTHS + 1];
        for (length, start) in starts.iter_mut().enumerate() {
            *start = entries.iter().filter(|key| place(key.name.len()) < length).count() as u8;
        }
        Self { entries, starts }
    }

    #[inline]
    pub(super) fn meaning(&self, name: &str) -> Option<Meaning> {
        let bytes = name.as_bytes();
        let place = place(bytes.len());
        let entries = &self.entries[self.starts[place].into()..self.starts[place + 1].into()];
        if entries.is_empty() {
            return None;
        }
        let head = head(bytes);
        let same = |key: &&Key| key.head == head && (bytes.len() <= 8 || key.name == name);
        entries.iter().find(same).map(|key| key.meaning)
    }
}

fn place(length: usize) -> usize {
    length.min(LENGTHS - 1)
}

/// Up to eight bytes of a name: all of a name that is no longer.
#[inline]
fn head(name: &[u8]) -> u64 {
    let four =
        |at: usize| name.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes);
    match name.len() {
        0 => 0,
        // Each byte is in, some twice: with the length that tells all names apart.
        length @ 1..=3 => {
            u64::from(name[0]) | u64::from(name[length / 2]) << 8 | u64::from(name[length - 1]) << 16
        }
        length @ 4..=8 => u64::from(four(0)) | u64::from(four(length - 4)) << 32,
        _ => u64::from(four(0)) | u64::from(four(4)) << 32,
    }
}

/// What members or pairs tell, as they come.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Told {
    pub(super) names: u64,
    pub(super) time: Option<Time>,
    pub(super) level: Option<Level>,
    pub(super) stream: bool,
    /// The ranks of those two.
    time_rank: u8,
    level_rank: u8,
}

impl Told {
    /// Takes in a member; `value` is the text of a string or the digits of a number.
    #[inline]
    pub(super) fn take(&mut self, meaning: Meaning, value: Value<'_>, finder: &Finder, now: Time) {
        self.names |= meaning.own;
        self.stream |= meaning.stream;
        if meaning.time != 0 && (self.time_rank == 0 || meaning.time < self.time_rank) {
            let time = match value {
                Value::Text(text) => finder.of_value(text, now),
                Value::Other(text) => stamp::epoch(text),
            };
            if time.is_some() {
                (self.time, self.time_rank) = (time, meaning.time);
            }
        }
        if meaning.level != 0 && (self.level_rank == 0 || meaning.level < self.level_rank) {
            let (Value::Text(text) | Value::Other(text)) = value;
            let priority = usize::from(meaning.level) > PRIORITIES;
            let level = if priority { Level::of_priority(text) } else { Level::of_value(text) };
            if level.is_some() {
                (self.level, self.level_rank) = (level, meaning.level);
            }
        }
    }
}

/// A value that may tell something.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Text(&'a str),
    /// A number, as written, or what is neither.
    Other(&'a str),
}

/// Reads a line that is one JSON object; `None` where it is none.
pub(super) fn read<'a>(text: &'a str, keys: &Keys, finder: &Finder, now: Time) -> Option<(Object<'a>, Told)> {
    let mut told = Told::default();
    let json = json::walk(text, |member| {
        let meaning =
            if member.escaped { keys.meaning(&unescape(member.key)) } else { keys.meaning(member.key) };
        let Some(meaning) = meaning else { return true };
        if !meaning.tells() {
            told.names |= meaning.own;
        } else {
            match inner(member.value) {
                Some(text) if text.contains('\\') => {
                    told.take(meaning, Value::Text(&unescape(text)), finder, now)
                }
                Some(text) => told.take(meaning, Value::Text(text), finder, now),
                None => told.take(meaning, Value::Other(member.value), finder, now),
            }
        }
        true
    })?;
    Some((Object { json: Cow::Borrowed(json), names: told.names }, told))
}

/// What is between the quotes of a string.
fn inner(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

/// What the inside of a JSON string says. Half a surrogate pair says nothing, and leaves the text as it is written.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    serde_json::from_str(&format!("\"{text}\"")).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::time::Zone;
    use crate::event::{AT_TIMESTAMP, FILE, LEVEL, MESSAGE, TIMESTAMP};
    use proptest::prelude::*;

    const FIVE: Time = Time(1_795_323_600_000_000_000);

    fn told(line: &str) -> Option<(Object<'_>, Told)> {
        let keys =
            Keys::new(&["service".to_owned(), "a_name_that_is_much_longer_than_thirty_two_bytes".to_owned()]);
        read(line, &keys, &Finder::new(Zone(0)), FIVE)
    }

    #[test]
    fn names_that_the_line_has_are_known() {
        let (object, _) = told(
            r#"{"timestamp":1,"fil\u0065":7,"service":null,"services":1,"a_name_that_is_much_longer_than_thirty_two_bytes":1,"x":{"level":1}}"#,
        )
        .unwrap();
        let has: Vec<usize> = (0..8).filter(|name| object.has(*name)).collect();
        assert_eq!(has, [TIMESTAMP, FILE, 5, 6]);
        let (object, _) = told(r#"{"@timestamp":1,"level":1,"message":1}"#).unwrap();
        assert!(
            object.has(AT_TIMESTAMP) && object.has(LEVEL) && object.has(MESSAGE) && !object.has(TIMESTAMP)
        );
    }

    #[test]
    fn the_time_is_that_of_the_surest_member() {
        for line in [
            r#"{"time":"2026-11-22T05:00:00Z"}"#,
            r#"{"ts":1795323600.0}"#,
            r#"{"ts":"1795323600000"}"#,
            r#"{"t":1,"time":1795323600000,"level":30}"#,
            r#"{"@timestamp":"2026-11-22T05:00:00\u002b00:00"}"#,
            r#"{"date":"2020-01-01T00:00:00Z","timestamp":"2026-11-22 05:00:00"}"#,
            r#"{"time":0.247,"asctime":"2026-11-22 05:00:00,000"}"#,
            r#"{"time":"2026-11-22T05:00:00Z","time":"2020-01-01T00:00:00Z"}"#,
        ] {
            assert_eq!(told(line).unwrap().1.time, Some(FIVE), "{line}");
        }
        assert_eq!(told(r#"{"time":12.5,"x":{"time":1795323600}}"#).unwrap().1.time, None);
    }

    #[test]
    fn the_level_is_a_word_or_a_number() {
        for (line, level) in [
            (r#"{"level":"WARNING"}"#, Some(Level::Warn)),
            (r#"{"level":50}"#, Some(Level::Error)),
            (r#"{"log.level":"info"}"#, Some(Level::Info)),
            (r#"{"PRIORITY":"3"}"#, Some(Level::Error)),
            (r#"{"priority":7}"#, Some(Level::Debug)),
            (r#"{"level":3,"levelname":"ERROR"}"#, Some(Level::Error)),
            (r#"{"level":"high"}"#, None),
            (r#"{"level":{"a":1}}"#, None),
        ] {
            assert_eq!(told(line).unwrap().1.level, level, "{line}");
        }
    }

    #[test]
    fn the_line_is_kept_as_it_is() {
        let line = "  {\"a\" : 1.50,\t\"a\":12345678901234567890123 } \r";
        assert_eq!(told(line).unwrap().0.json, line.trim());
        assert!(told("{\"a\":1").is_none());
    }

    proptest! {
        #[test]
        fn a_name_is_found_if_and_only_if_it_is_given(fields in proptest::collection::vec("[a-z_.é]{1,40}", 0..20), other in "[a-z_.]{1,40}") {
            let keys = Keys::new(&fields);
            for name in &fields {
                let index = fields.iter().position(|field| field == name).unwrap() + OWN_NAMES.len();
                let own = keys.meaning(name).unwrap().own;
                prop_assert!(own & 1 << index != 0);
            }
            let known = OWN_NAMES.contains(&other.as_str()) || fields.contains(&other);
            prop_assert_eq!(keys.meaning(&other).is_some_and(|meaning| meaning.own != 0), known);
        }
    }
}
