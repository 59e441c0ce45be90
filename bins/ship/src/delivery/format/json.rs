//! Events as JSON objects, one a line (NDJSON) or in one array. For plain HTTP sinks, stdout and files.
//!
//! The array is what Fluentd's `in_http` and Fluent Bit's `http` input take (docs.fluentd.org, input/http, "Handle
//! large data with batch mode"; docs.fluentbit.io, pipeline/inputs/http). The record itself is also what
//! Elasticsearch gets. The members that an app wrote are kept as they are and win over pairs, pairs over ours.

use std::collections::HashMap;

use crate::event::{Body, Event, FILE, LEVEL, MESSAGE, OWN_NAMES, Rfc3339, TIMESTAMP};

use super::escape::{escape, member};
use super::members::has_member;
use super::{Answer, Format, Origin, Verdict, status};

/// How the records of a request are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One record a line.
    Lines,
    /// One JSON array.
    Array,
}

/// JSON records.
#[derive(Debug)]
pub(crate) struct Json {
    framing: Framing,
}

impl Json {
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing }
    }
}

impl Format for Json {
    type Prepared = Members;

    fn prepare(&self, origin: &Origin) -> Members {
        Members::new(origin, TIMESTAMP)
    }

    fn write(&mut self, event: &Event<'_>, origin: &Members, _offset: u64, out: &mut Vec<u8>) -> u32 {
        origin.write(event, out);
        0
    }

    fn body<'c>(&self, chunks: impl Iterator<Item = (u32, &'c [u8])> + Clone, out: &mut Vec<u8>) {
        match self.framing {
            Framing::Lines => chunks.for_each(|(_, chunk)| out.extend_from_slice(chunk)),
            Framing::Array => {
                let mut before = b'[';
                for (_, chunk) in chunks {
                    out.push(before);
                    out.extend_from_slice(chunk);
                    before = b',';
                }
                out.extend_from_slice(if before == b'[' { b"[]" } else { b"]" });
            }
        }
    }

    fn is_joined(&self) -> bool {
        self.framing == Framing::Lines
    }

    fn content_type(&self) -> &'static str {
        match self.framing {
            Framing::Lines => "application/x-ndjson",
            Framing::Array => "application/json",
        }
    }

    fn judge(&self, answer: &Answer, _count: usize) -> Verdict {
        status::http(answer)
    }
}

/// The members that all records of one origin get, and the name of the time.
#[derive(Debug)]
pub(crate) struct Members {
    /// `TIMESTAMP` or `AT_TIMESTAMP`.
    stamp: usize,
    /// `,"timestamp":"`
    stamp_open: Vec<u8>,
    stamps: Rfc3339,
    /// `file` and the fields.
    shared: Shared,
}

impl Members {
    pub(super) fn new(origin: &Origin, stamp: usize) -> Self {
        let mut shared = Shared::default();
        shared.add(FILE, OWN_NAMES[FILE], &origin.file);
        for (field, (name, value)) in origin.fields.iter().enumerate() {
            // Two members of one name would be no valid document for many backends.
            let taken = [stamp, LEVEL, MESSAGE, FILE].iter().any(|own| OWN_NAMES[*own] == name);
            if !taken {
                shared.add(OWN_NAMES.len() + field, name, value);
            }
        }
        let stamp_open = format!(",\"{}\":\"", OWN_NAMES[stamp]).into_bytes();
        Self { stamp, stamp_open, stamps: Rfc3339::default(), shared }
    }

    /// Appends an event's record and a line end.
    pub(super) fn write(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        // Each member is written after a comma; the comma of the first becomes the opening brace.
        let start = out.len();
        let mut taken = 0;
        match &event.body {
            Body::Text(text) => out.reserve(text.len() + self.shared.all.len() + 96),
            Body::Object(object) => {
                taken = object.names;
                let inner = inner(&object.json);
                out.reserve(inner.len() + self.shared.all.len() + 96);
                if !inner.is_empty() {
                    out.push(b',');
                    out.extend_from_slice(inner.as_bytes());
                }
            }
        }
        let pairs = Pairs::of(event);
        if !event.pairs.is_empty() {
            let own = [self.stamp, LEVEL, MESSAGE].map(|own| (own, OWN_NAMES[own]));
            for (name, _) in pairs.iter() {
                taken |=
                    own.iter().filter(|(_, own)| *own == name).fold(0, |bits, (own, _)| bits | bit(*own));
                taken |= self.shared.taken(name);
            }
        }
        if taken & bit(self.stamp) == 0 {
            out.extend_from_slice(&self.stamp_open);
            self.stamps.write(event.time, out);
            out.push(b'"');
        }
        if let Some(level) = event.level
            && taken & bit(LEVEL) == 0
        {
            out.extend_from_slice(b",\"level\":\"");
            out.extend_from_slice(level.name().as_bytes());
            out.push(b'"');
        }
        if let Body::Text(text) = &event.body
            && taken & bit(MESSAGE) == 0
        {
            out.extend_from_slice(b",\"message\":\"");
            escape(text, out);
            out.push(b'"');
        }
        self.shared.write(taken, out);
        for (name, value) in pairs.iter() {
            member(name, value, out);
        }
        if event.split && !pairs.tell("split") && self.shared.taken("split") == 0 {
            out.extend_from_slice(b",\"split\":true");
        }
        match out.get_mut(start) {
            Some(first) => *first = b'{',
            None => out.push(b'{'),
        }
        out.extend_from_slice(b"}\n");
    }
}

/// Members whose values an origin's events share, rendered once.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The bit of a name in `Object::names`, the name, and `,"name":"value"`.
    members: Vec<(u64, String, Vec<u8>)>,
    /// All of them together.
    all: Vec<u8>,
    bits: u64,
}

impl Shared {
    pub(super) fn add(&mut self, index: usize, name: &str, value: &str) {
        let mut json = Vec::new();
        member(name, value, &mut json);
        self.all.extend_from_slice(&json);
        self.bits |= bit(index);
        self.members.push((bit(index), name.to_owned(), json));
    }

    /// The bit of this name, if it is one of these.
    pub(super) fn taken(&self, name: &str) -> u64 {
        self.members.iter().find(|(_, own, _)| own == name).map_or(0, |(bit, ..)| *bit)
    }

    /// Appends the members that are not taken, each after a comma.
    pub(super) fn write(&self, taken: u64, out: &mut Vec<u8>) {
        if taken & self.bits == 0 {
            out.extend_from_slice(&self.all);
            return;
        }
        for (bit, _, json) in &self.members {
            if taken & bit == 0 {
                out.extend_from_slice(json);
            }
        }
    }
}

/// The bit of a name in `Object::names`; none for a field too many, which the config does not let pass.
pub(super) fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}

/// What stands between the braces of an object.
fn inner(json: &str) -> &str {
    let json = json.trim_ascii();
    json.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default().trim_ascii()
}

/// An event's pairs, each name once: the last of a name counts, and a member of the line's object before a pair.
pub(super) struct Pairs<'e> {
    event: &'e Event<'e>,
    /// Where each name stands last. Only for many pairs: comparing few is faster.
    last: Option<HashMap<&'e str, usize>>,
}

/// From this many on, comparing each with each costs more than a table.
const MANY: usize = 32;

impl<'e> Pairs<'e> {
    pub(super) fn of(event: &'e Event<'_>) -> Self {
        let last = (event.pairs.len() >= MANY)
            .then(|| event.pairs.iter().enumerate().map(|(at, (name, _))| (name.as_ref(), at)).collect());
        Self { event, last }
    }

    /// Whether the line says something under this name.
    pub(super) fn tell(&self, name: &str) -> bool {
        self.event.pairs.iter().any(|(pair, _)| pair == name)
            || matches!(&self.event.body, Body::Object(object) if has_member(&object.json, name))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'e str, &'e str)> {
        let pairs = &self.event.pairs;
        pairs.iter().enumerate().filter_map(move |(at, (name, value))| {
            let again = match &self.last {
                Some(last) => last.get(name.as_ref()) != Some(&at),
                None => pairs[at + 1..].iter().any(|(later, _)| later == name),
            };
            let theirs = matches!(&self.event.body, Body::Object(object) if has_member(&object.json, name));
            (!again && !theirs).then_some((name.as_ref(), value.as_ref()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::format::sample::*;
    use crate::event::Level;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn record(event: &Event<'_>) -> String {
        let body = request(&mut Json::new(Framing::Lines), std::slice::from_ref(event));
        let text = String::from_utf8(body).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        text
    }

    fn value(event: &Event<'_>) -> Value {
        let text = record(event);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn a_text_becomes_a_message() {
        let event = Event { level: Some(Level::Warn), ..text("a\t\"q\" é") };
        let want = concat!(
            r#"{"timestamp":"2026-11-22T05:00:00.123Z","level":"warn","message":"a\t\"q\" é","#,
            r#""file":"/var/log/\"app\".log","service":"shop","pod":"shop-1","namespace":"web"}"#,
            "\n"
        );
        assert_eq!(record(&event), want);
    }

    #[test]
    fn the_members_of_an_object_are_kept_and_win() {
        let event = Event {
            level: Some(Level::Info),
            ..object(
                r#" { "a" : 1.50, "big":12345678901234567890123, "file": 7, "level": "INFO", "n": {"pod": 1} } "#,
            )
        };
        let want = concat!(
            r#"{"a" : 1.50, "big":12345678901234567890123, "file": 7, "level": "INFO", "n": {"pod": 1},"#,
            r#""timestamp":"2026-11-22T05:00:00.123Z","service":"shop","pod":"shop-1","namespace":"web"}"#,
            "\n"
        );
        assert_eq!(record(&event), want);
        let ours = json!({"timestamp": "2026-11-22T05:00:00.123Z", "file": "/var/log/\"app\".log",
            "service": "shop", "pod": "shop-1", "namespace": "web"});
        assert_eq!(value(&object("{ }")), ours);
        assert!(record(&object("{ }")).starts_with("{\"timestamp\""));
    }

    #[test]
    fn pairs_win_over_ours_and_lose_to_an_object() {
        let pairs = [("service", "cart"), ("level", "WRN"), ("k", "1"), ("k", "2"), ("message", "m")];
        let event = Event { level: Some(Level::Warn), ..with_pairs(text("line"), &pairs) };
        let want = json!({"timestamp": "2026-11-22T05:00:00.123Z", "file": "/var/log/\"app\".log",
            "service": "cart", "pod": "shop-1", "namespace": "web", "level": "WRN", "k": "2", "message": "m"});
        assert_eq!(value(&event), want);
        let event = with_pairs(object(r#"{"stream":1}"#), &[("stream", "stdout"), ("pod", "p")]);
        let got = value(&event);
        assert_eq!((&got["stream"], &got["pod"]), (&json!(1), &json!("p")));
        assert_eq!(record(&event).matches("\"stream\"").count(), 1);
    }

    #[test]
    fn a_piece_of_a_long_line_is_marked() {
        let event = Event { split: true, ..text("{}") };
        assert_eq!(value(&event)["split"], json!(true));
    }

    #[test]
    fn a_field_of_our_own_name_makes_no_second_member() {
        let mut origin = origin();
        origin.fields = vec![("level".to_owned(), "x".to_owned()), ("file".to_owned(), "y".to_owned())];
        let mut out = Vec::new();
        Members::new(&origin, TIMESTAMP).write(&Event { level: Some(Level::Info), ..text("m") }, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!((text.matches("\"level\"").count(), text.matches("\"file\"").count()), (1, 1), "{text}");
    }

    #[test]
    fn an_array_is_one_json_value() {
        let mut format = Json::new(Framing::Array);
        let body = request(&mut format, &[text("one"), text("two")]);
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&value[0]["message"], &value[1]["message"]), (&json!("one"), &json!("two")));
        assert_eq!(request(&mut format, &[]), b"[]");
        assert_eq!(format.content_type(), "application/json");
    }

    #[test]
    fn a_thousand_pairs_of_one_name_are_one_member() {
        let names: Vec<String> = (0..1000).map(|at| format!("k{}", at % 10)).collect();
        let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let text = record(&with_pairs(text("m"), &pairs));
        assert_eq!(text.matches("\"k").count(), 10, "{text}");
    }

    proptest! {
        #[test]
        fn every_event_is_one_record_without_a_name_twice(events in any_events()) {
            let events: Vec<_> = events.iter().map(|any| any.event()).collect();
            let body = String::from_utf8(request(&mut Json::new(Framing::Lines), &events)).unwrap();
            prop_assert_eq!(body.lines().count(), events.len());
            for (line, event) in body.lines().zip(&events) {
                let mut names = Vec::new();
                crate::delivery::format::members::each_member(line, |name, _| names.push(name.to_owned())).unwrap();
                let count = names.len();
                names.sort();
                names.dedup();
                prop_assert_eq!(names.len(), count, "{}", line);
                let value: Value = serde_json::from_str(line).unwrap();
                match &event.body {
                    Body::Text(text) if event.pairs.is_empty() => prop_assert_eq!(value["message"].as_str(), Some(text.as_ref())),
                    Body::Text(_) => {}
                    Body::Object(object) => {
                        let theirs: Value = serde_json::from_str(&object.json).unwrap();
                        for (name, member) in theirs.as_object().unwrap() {
                            prop_assert_eq!(&value[name], member);
                        }
                    }
                }
            }
            let array = request(&mut Json::new(Framing::Array), &events);
            prop_assert_eq!(serde_json::from_slice::<Vec<Value>>(&array).unwrap().len(), events.len());
        }
    }
}
