//! Events for the tests of all formats.

use proptest::prelude::*;
use proptest::strategy::Union;

use crate::event::{Body, Event, Level, OWN_NAMES, Object, Time};

use super::{Answer, Format, Origin};

/// 2026-11-22T05:00:00.123Z
pub(super) const NOON: Time = Time(1_795_323_600_123_000_000);

pub(super) fn origin() -> Origin {
    let fields = [("service", "shop"), ("pod", "shop-1"), ("namespace", "web")];
    Origin {
        file: "/var/log/\"app\".log".to_owned(),
        fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        key: 0x0123_4567_89ab_cdef,
    }
}

pub(super) fn event(body: Body<'_>) -> Event<'_> {
    Event {
        time: NOON,
        level: None,
        body,
        pairs: Vec::new(),
        split: false,
        invalid_utf8: false,
        unparsed: false,
    }
}

pub(super) fn text(text: &str) -> Event<'_> {
    event(Body::Text(text.into()))
}

pub(super) fn with_pairs<'a>(mut event: Event<'a>, pairs: &[(&'a str, &'a str)]) -> Event<'a> {
    event.pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    event
}

/// An object as the event's parser makes it for the fields of [`origin`].
pub(super) fn object(json: &str) -> Event<'_> {
    let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
    let fields = origin().fields;
    let names = OWN_NAMES.into_iter().chain(fields.iter().map(|(name, _)| name.as_str()));
    let names = names.enumerate().filter(|(_, name)| value.contains_key(*name));
    let names = names.fold(0, |names, (at, _)| names | 1 << at);
    event(Body::Object(Object { json: json.into(), names }))
}

/// The body of one request with these events, each one byte after the other in the file.
pub(super) fn request<F: Format>(format: &mut F, events: &[Event<'_>]) -> Vec<u8> {
    let prepared = format.prepare(&origin());
    let chunks: Vec<_> = events
        .iter()
        .enumerate()
        .map(|(offset, event)| {
            let mut chunk = Vec::new();
            let group = format.write(event, &prepared, offset as u64, &mut chunk);
            (group, chunk)
        })
        .collect();
    let mut body = Vec::new();
    format.body(chunks.iter().map(|(group, chunk)| (*group, chunk.as_slice())), &mut body);
    body
}

pub(super) fn answer(status: u16, body: impl AsRef<[u8]>) -> Answer {
    Answer { status, body: body.as_ref().to_vec() }
}

/// An event whose parts the caller keeps.
#[derive(Debug, Clone)]
pub(super) struct Any {
    time: i64,
    level: Option<Level>,
    body: Result<String, String>,
    pairs: Vec<(String, String)>,
    split: bool,
}

impl Any {
    pub(super) fn event(&self) -> Event<'_> {
        let mut event = match &self.body {
            Ok(line) => text(line),
            Err(json) => object(json),
        };
        event.pairs =
            self.pairs.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
        Event { time: Time(self.time), level: self.level, split: self.split, ..event }
    }
}

/// Events of all kinds.
pub(super) fn any_events() -> impl Strategy<Value = Vec<Any>> {
    proptest::collection::vec(any_event(), 1..6)
}

fn any_event() -> impl Strategy<Value = Any> {
    let name = || prop_oneof!["[a-z\"\\\\é.]{0,4}", Union::new(NAMES.map(|name| Just(name.to_owned())))];
    let value =
        || prop_oneof!["[ -~\\x00\\n\"\\\\é☃]{0,60}", Just("0af7651916cd43dd8448eb211c80319c".to_owned())];
    let json = prop_oneof![
        value().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        Just(serde_json::json!({"a": [1, {"b": null}], "c": true})),
    ];
    let object = proptest::collection::vec((name(), json), 0..5)
        .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()).to_string());
    let level = proptest::option::of(Union::new([Level::Info, Level::Notice, Level::Fatal].map(Just)));
    let body = prop_oneof![value().prop_map(Ok), object.prop_map(Err)];
    let pairs = proptest::collection::vec((name(), value()), 0..4);
    (any::<i64>(), level, body, pairs, any::<bool>()).prop_map(|(time, level, body, pairs, split)| Any {
        time,
        level,
        body,
        pairs,
        split,
    })
}

/// Names that mean something to a format.
const NAMES: [&str; 9] =
    ["split", "message", "level", "timestamp", "@timestamp", "file", "service", "trace_id", "traceparent"];

/// Bodies of answers: noise, and what is nearly right.
pub(super) fn any_answer() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        "[\\[\\]{}\":,a-z0-9]{0,80}".prop_map(String::into_bytes),
        "\\{\"errors\":(true|false),\"items\":\\[(\\{\"create\":\\{\"status\":[0-9]{1,3}\\}\\},?){0,3}\\]?\\}?"
            .prop_map(String::into_bytes),
        "\\{\"text\":\"[a-z]{3}\",\"code\":[0-9]{1,2},\"invalid-event-number\":[0-9]\\}".prop_map(String::into_bytes),
    ]
}

/// What must hold of every answer's verdict.
pub(super) fn check_verdict(verdict: &super::Verdict, status: u16, count: usize) {
    use super::Verdict;
    let taken = (200..300).contains(&status);
    match verdict {
        Verdict::Delivered => assert!(taken, "{status}"),
        Verdict::Partly(fates) => {
            assert!(!fates.is_empty() && fates.iter().all(|(at, _)| *at < count), "{fates:?}");
            assert!(fates.is_sorted_by(|one, next| one.0 < next.0), "{fates:?}");
        }
        Verdict::SomeRefused(_) => assert!(taken && count > 1),
        Verdict::Later(_) | Verdict::TooLarge(_) | Verdict::Refused(_) => {}
    }
}
