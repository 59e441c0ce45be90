//! Requests are read with messages written down from grafana/loki's `pkg/push/push.proto`.

use super::*;
use crate::delivery::format::sample::*;
use proptest::prelude::*;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<StreamAdapter>,
}

#[derive(Clone, PartialEq, Message)]
struct StreamAdapter {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryAdapter>,
}

#[derive(Clone, PartialEq, Message)]
struct EntryAdapter {
    #[prost(message, required, tag = "1")]
    timestamp: Timestamp,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    structured_metadata: Vec<LabelPair>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn loki(labels: &[&str]) -> Loki {
    Loki::new(labels.iter().map(|label| Label::parse(label).unwrap()).collect())
}

fn pushed(format: &mut Loki, events: &[Event<'_>]) -> Vec<StreamAdapter> {
    PushRequest::decode(request(format, events).as_slice()).unwrap().streams
}

fn metadata_of(entry: &EntryAdapter) -> Vec<(&str, &str)> {
    entry.structured_metadata.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect()
}

#[test]
fn a_request_can_be_read_by_people() {
    let mut format = loki(&["level"]);
    let mut event = text("a \"b\"");
    event.level = Some(Level::Warn);
    let body = request(&mut format, &[event]);
    let shown = format.show(&body);
    let head = "streams {\n  labels: \"{level=\\\"warn\\\"}\"\n  entries {\n    timestamp {\n      \
                seconds: 1795323600\n      nanos: 123000000\n    }\n    line: \"a \\\"b\\\"\"\n    \
                structuredMetadata {\n      name: \"file\"\n";
    assert!(shown.starts_with(head), "{shown}");
}

#[test]
fn an_event_is_an_entry_of_its_labels_stream() {
    let event = Event { level: Some(Level::Warn), ..text("hello") };
    let streams = pushed(&mut loki(&["service", "level"]), &[event]);
    let file = r#"/var/log/"app".log"#;
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[0].labels, r#"{level="warn", service="shop"}"#);
    let entry = &streams[0].entries[0];
    assert_eq!((entry.timestamp.seconds, entry.timestamp.nanos), (1_795_323_600, 123_000_000));
    assert_eq!(entry.line, "hello");
    assert_eq!(metadata_of(entry), [("file", file), ("pod", "shop-1"), ("namespace", "web")]);
}

#[test]
fn the_bytes_are_these() {
    let mut format = loki(&[]);
    let origin = Origin { file: "f".to_owned(), fields: Vec::new(), key: 0 };
    let prepared = format.prepare(&origin);
    let mut chunk = Vec::new();
    let group = format.write(&Event { time: crate::event::Time(0), ..text("m") }, &prepared, 0, &mut chunk);
    let entry = b"\x12\x14\x0a\x04\x08\x00\x10\x00\x12\x01m\x1a\x09\x0a\x04file\x12\x01f";
    assert_eq!(chunk, entry);
    let mut body = Vec::new();
    format.body([(group, chunk.as_slice())].into_iter(), &mut body);
    assert_eq!(body, [b"\x0a\x26\x0a\x0e{job=\"podkit\"}".as_slice(), entry].concat());
}

#[test]
fn events_are_parted_by_their_labels_and_keep_their_order() {
    let level = |level, line| Event { level: Some(level), ..text(line) };
    let events = [
        level(Level::Info, "1"),
        level(Level::Error, "2"),
        level(Level::Info, "3"),
        text("4"),
        level(Level::Error, "5"),
    ];
    let mut format = loki(&["level"]);
    let streams = pushed(&mut format, &events);
    let lines: Vec<_> = streams
        .iter()
        .map(|stream| {
            let lines: Vec<_> = stream.entries.iter().map(|entry| entry.line.as_str()).collect();
            (stream.labels.as_str(), lines.join(" "))
        })
        .collect();
    let want = [("{level=\"info\"}", "1 3"), ("{level=\"error\"}", "2 5"), ("{job=\"podkit\"}", "4")];
    assert_eq!(lines, want.map(|(labels, lines)| (labels, lines.to_owned())));
}

#[test]
fn an_object_is_its_text_and_what_we_know_is_metadata() {
    let event = Event { level: Some(Level::Info), split: true, ..object(r#"{"message":"m","n":1.50}"#) };
    let streams = pushed(&mut loki(&["service"]), &[event]);
    let entry = &streams[0].entries[0];
    assert_eq!(entry.line, r#"{"message":"m","n":1.50}"#);
    assert_eq!(metadata_of(entry)[0], ("level", "info"));
    assert_eq!(metadata_of(entry).last(), Some(&("split", "true")));
}

#[test]
fn pairs_are_metadata_unless_the_config_names_them() {
    let event =
        with_pairs(text("m"), &[("component", "db"), ("user.id", "7"), ("pod", "p"), ("level", "WRN")]);
    let event = Event { level: Some(Level::Warn), ..event };
    let streams = pushed(&mut loki(&["component", "level"]), std::slice::from_ref(&event));
    assert_eq!(streams[0].labels, r#"{component="db", level="warn"}"#);
    let metadata = metadata_of(&streams[0].entries[0]);
    assert_eq!(
        metadata[1..],
        [("service", "shop"), ("namespace", "web"), ("user_id", "7"), ("pod", "p"), ("level", "WRN")]
    );
}

#[test]
fn values_from_lines_cannot_make_streams_without_end() {
    let mut format = loki(&["id"]);
    let ids: Vec<String> = (0..MAX_STREAMS + 10).map(|id| id.to_string()).collect();
    let events: Vec<_> = ids.iter().map(|id| with_pairs(text("m"), &[("id", id.as_str())])).collect();
    let streams = pushed(&mut format, &events);
    assert_eq!(streams.len(), MAX_STREAMS + 1);
    let last = streams.last().unwrap();
    assert_eq!((last.labels.as_str(), last.entries.len()), ("{job=\"podkit\"}", 10));
    assert_eq!(metadata_of(&last.entries[9]).last(), Some(&("id", "1009")));
}

#[test]
fn names_and_values_of_labels_are_made_fit() {
    assert_eq!(["a.b-c", "1a", "ä:x", ""].map(sanitized), ["a_b_c", "_1a", "_:x", "_"]);
    let mut quoted = Vec::new();
    quote("a\"\\\n\u{1}é", &mut quoted);
    assert_eq!(String::from_utf8(quoted).unwrap(), r#"a\"\\\n\u0001é"#);
    assert!(Label::parse("").is_err());
}

proptest! {
    #[test]
    fn every_event_is_an_entry(events in any_events()) {
        let events: Vec<_> = events.iter().map(|any| any.event()).collect();
        let streams = pushed(&mut loki(&["service", "level", "trace_id", "a.b"]), &events);
        let mut lines: Vec<_> =
            streams.iter().flat_map(|stream| &stream.entries).map(|entry| entry.line.as_str()).collect();
        let mut want: Vec<_> = events
            .iter()
            .map(|event| match &event.body {
                Body::Text(text) => text.as_ref(),
                Body::Object(object) => object.json.as_ref(),
            })
            .collect();
        lines.sort_unstable();
        want.sort_unstable();
        prop_assert_eq!(lines, want);
        for stream in &streams {
            prop_assert!(stream.labels.len() > 4);
        }
    }

    #[test]
    fn any_answer_has_a_verdict(status: u16, body in any_answer(), count in 1..4_usize) {
        check_verdict(&loki(&[]).judge(&answer(status, &body), count), status, count);
    }
}
