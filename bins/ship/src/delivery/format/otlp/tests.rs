//! Requests are read with the messages that the collector of the tests with the real binary has.

#[path = "../../../../tests/ship/backends/otlp/messages.rs"]
mod messages;

use super::*;
use crate::delivery::format::sample::*;
use crate::event::Level;
use messages::Any;
use messages::*;
use proptest::prelude::*;
use prost::Message;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// A value as people read it, its type before it.
fn shown(value: &AnyValue) -> String {
    match &value.value {
        None => "null".to_owned(),
        Some(Any::String(text)) => format!("{text:?}"),
        Some(Any::Bool(value)) => value.to_string(),
        Some(Any::Int(value)) => format!("int {value}"),
        Some(Any::Double(value)) => format!("double {value}"),
        Some(Any::Array(array)) => {
            format!("[{}]", array.values.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Some(Any::Bytes(bytes)) => format!("bytes {bytes:?}"),
        Some(Any::Map(list)) => format!("{{{}}}", all_shown(&list.values).join(", ")),
    }
}

fn all_shown(list: &[KeyValue]) -> Vec<String> {
    list.iter().map(|pair| format!("{}={}", pair.key, shown(pair.value.as_ref().unwrap()))).collect()
}

fn decoded(events: &[Event<'_>]) -> ResourceLogs {
    let request = ExportLogsServiceRequest::decode(request(&mut Otlp::default(), events).as_slice()).unwrap();
    let [logs] = request.resource_logs.try_into().unwrap();
    assert_eq!(logs.scope_logs.len(), 1);
    logs
}

fn record(event: Event<'_>) -> LogRecord {
    decoded(&[event]).scope_logs[0].log_records[0].clone()
}

/// The attributes after those of the file.
fn attributes(record: &LogRecord) -> Vec<String> {
    let all = all_shown(&record.attributes);
    all.into_iter().filter(|attribute| !attribute.starts_with("log.file.")).collect()
}

#[test]
fn a_request_can_be_read_by_people() {
    let mut format = Otlp::default();
    let body = r#"{"message":"a","n":[1.5,-2,true],"trace_id":"0af7651916cd43dd8448eb211c80319c"}"#;
    let body = request(&mut format, &[object(body)]);
    let shown = format.show(&body);
    let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "resource_logs { resource { attributes { key: \"service.name\" value { string_value: \"shop\" } }",
        "scope_logs { scope { name: \"podkit-ship\" version: ",
        "log_records { time_unix_nano: 1795323600123000000",
        "body { string_value: \"a\" }",
        "array_value { values { double_value: 1.5 } values { int_value: -2 } values { bool_value: true } }",
        "trace_id: 0af7651916cd43dd8448eb211c80319c",
    ] {
        assert!(flat.contains(part), "{part} in {shown}");
    }
}

#[test]
fn an_event_is_a_record_of_its_resource() {
    let logs = decoded(&[Event { level: Some(Level::Critical), ..text("hello") }]);
    let resource = ["service.name=\"shop\"", "k8s.pod.name=\"shop-1\"", "k8s.namespace.name=\"web\""];
    assert_eq!(all_shown(&logs.resource.unwrap().attributes), resource);
    let scope = logs.scope_logs[0].scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("podkit-ship", env!("CARGO_PKG_VERSION")));
    let record = &logs.scope_logs[0].log_records[0];
    assert_eq!(record.time_unix_nano, NOON.0 as u64);
    assert_eq!(record.observed_time_unix_nano, NOON.0 as u64);
    assert_eq!((record.severity_number, record.severity_text.as_str()), (18, "critical"));
    assert_eq!(shown(record.body.as_ref().unwrap()), "\"hello\"");
    let file = [r#"log.file.path="/var/log/\"app\".log""#, r#"log.file.name="\"app\".log""#];
    assert_eq!(all_shown(&record.attributes), file);
}

#[test]
fn the_bytes_are_these() {
    let mut format = Otlp::default();
    let origin = format.prepare(&Origin { file: String::new(), fields: Vec::new(), key: 0 });
    let mut chunk = Vec::new();
    let event = Event { time: Time(1), ..text("m") };
    assert_eq!(format.write(&event, &origin, 0, &mut chunk), 0);
    let mut want = b"\x12\x41\x09\x01\0\0\0\0\0\0\0\x59\x01\0\0\0\0\0\0\0\x2a\x03\x0a\x01m".to_vec();
    want.extend_from_slice(b"\x32\x13\x0a\x0dlog.file.path\x12\x02\x0a\x00");
    want.extend_from_slice(b"\x32\x13\x0a\x0dlog.file.name\x12\x02\x0a\x00");
    assert_eq!(chunk, want);
}

#[test]
fn the_time_of_reading_is_told_beside_the_events_own() {
    let mut format = Otlp::default();
    format.read_at(Time(7));
    let body = request(&mut format, &[Event { time: Time(-1), ..text("m") }]);
    let record = &ExportLogsServiceRequest::decode(body.as_slice()).unwrap().resource_logs[0].scope_logs[0]
        .log_records[0];
    assert_eq!((record.time_unix_nano, record.observed_time_unix_nano), (0, 7));
}

#[test]
fn the_members_of_an_object_keep_their_types() {
    let json = r#"{"n":1,"neg":-5,"big":9223372036854775808,"x":1.50,"huge":1e999,"t":true,"f":false,"z":null,
        "message":"hi\n","a":[1,"two",[]],"o":{"k":{"v":2.0}},"half":"\ud800"}"#;
    let record = record(object_with_message(json));
    assert_eq!(shown(record.body.as_ref().unwrap()), "\"hi\\n\"");
    let want = [
        "n=int 1",
        "neg=int -5",
        "big=\"9223372036854775808\"",
        "x=double 1.5",
        "huge=\"1e999\"",
        "t=true",
        "f=false",
        "z=null",
        "a=[int 1, \"two\", []]",
        "o={k={v=double 2}}",
        "half=\"\\\"\\\\ud800\\\"\"",
    ];
    assert_eq!(attributes(&record), want);
}

/// An object of which the sample's own reader would say that it is not valid.
fn object_with_message(json: &str) -> Event<'_> {
    event(Body::Object(Object { json: json.into(), names: 1 << MESSAGE }))
}

#[test]
fn an_object_without_a_message_is_the_body() {
    let record = record(object(r#"{"a":1,"b":{"c":"d"}}"#));
    assert_eq!(shown(record.body.as_ref().unwrap()), "{a=int 1, b={c=\"d\"}}");
    assert!(attributes(&record).is_empty());
}

#[test]
fn what_cannot_be_told_as_members_is_told_as_it_was_written() {
    let json = r#"{"message":"m","\ud800":1}"#;
    let record = record(object_with_message(json));
    assert_eq!(shown(record.body.as_ref().unwrap()), format!("{json:?}"));
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let record = self::record(event(Body::Object(Object { json: deep.into(), names: 0 })));
    assert!(shown(record.body.as_ref().unwrap()).contains("[[[\"[[["));
}

#[test]
fn the_span_of_an_event_is_told_where_it_can_be() {
    let ids = |event: Event<'_>| {
        let record = record(event);
        let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        (hex(&record.trace_id), hex(&record.span_id), record.flags, attributes(&record).join(" "))
    };
    let told = |trace: &str, span: &str, flags, attributes: &str| {
        (trace.to_owned(), span.to_owned(), flags, attributes.to_owned())
    };
    let upper = TRACE.to_uppercase();
    let json = format!(r#"{{"message":"m","trace_id":"{upper}","span_id":"{SPAN}"}}"#);
    assert_eq!(ids(object(&json)), told(TRACE, SPAN, 0, ""));
    let json = format!(r#"{{"trace_id":"{TRACE}"}}"#);
    assert_eq!(ids(object(&json)), told(TRACE, "", 0, ""));
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let event = with_pairs(text("m"), &[("traceparent", &parent)]);
    assert_eq!(ids(event), told(TRACE, SPAN, 1, &format!("traceparent=\"{parent}\"")));
    let other = "1".repeat(32);
    let event = with_pairs(text("m"), &[("trace_id", &other), ("traceparent", &parent)]);
    assert_eq!(ids(event).1, "");
    let zero = "0".repeat(32);
    for bad in ["", "xyz", &TRACE[1..], &zero, "0af7651916cd43dd8448eb211c80319é"] {
        let event = with_pairs(text("m"), &[("trace_id", bad)]);
        assert_eq!(ids(event), told("", "", 0, &format!("trace_id={bad:?}")));
    }
    assert_eq!(ids(object(r#"{"message":"m","trace_id":7}"#)), told("", "", 0, "trace_id=int 7"));
}

#[test]
fn origins_of_one_resource_are_one_group() {
    let mut format = Otlp::default();
    let (one, mut other) = (origin(), origin());
    other.file = "/b.log".to_owned();
    let mut third = origin();
    third.fields.pop();
    let mut out = Vec::new();
    let groups = [one, other, third].map(|origin| {
        let prepared = format.prepare(&origin);
        format.write(&text("m"), &prepared, 0, &mut out)
    });
    assert_eq!(groups, [0, 0, 1]);
}

fn judged(status: u16, message: &impl Message) -> Verdict {
    Otlp::default().judge(&answer(status, message.encode_to_vec()), 3)
}

#[test]
fn a_partial_success_is_told_as_such() {
    let partial = |rejected, said: &str| ExportLogsServiceResponse {
        partial_success: Some(PartialSuccess {
            rejected_log_records: rejected,
            error_message: said.to_owned(),
        }),
    };
    assert_eq!(judged(200, &ExportLogsServiceResponse { partial_success: None }), Verdict::Delivered);
    assert_eq!(judged(200, &partial(0, "a warning")), Verdict::Delivered);
    assert_eq!(judged(200, &partial(-1, "")), Verdict::Delivered);
    let why = |message: &str| Why::new("refused", message);
    assert_eq!(
        judged(200, &partial(2, "too old")),
        Verdict::SomeRefused(why("2 of 3 records rejected: too old"))
    );
    assert_eq!(
        judged(200, &partial(3, "")),
        Verdict::Refused(why("3 of 3 records rejected: no reason given"))
    );
    for body in [b"".as_slice(), b"{}", b"<html>", b"\xff\xff"] {
        assert_eq!(Otlp::default().judge(&answer(200, body), 3), Verdict::Delivered, "{body:?}");
    }
}

#[test]
fn a_failure_says_what_its_status_says() {
    let status = Status { code: 3, message: "no such field".to_owned() };
    assert_eq!(judged(400, &status), Verdict::Refused(Why::new("refused", "status 400: no such field")));
    assert_eq!(judged(503, &status), Verdict::Later(Why::new("unavailable", "status 503: no such field")));
    let Verdict::Later(why) = Otlp::default().judge(&answer(502, "<html>bad gateway"), 3) else { panic!() };
    assert_eq!(why.message, "status 502: <html>bad gateway");
}

proptest! {
    #[test]
    fn every_event_is_a_record(events in any_events()) {
        let events: Vec<_> = events.iter().map(|any| any.event()).collect();
        let logs = decoded(&events);
        let records = &logs.scope_logs[0].log_records;
        prop_assert_eq!(records.len(), events.len());
        for (record, event) in records.iter().zip(&events) {
            match &event.body {
                Body::Text(text) => prop_assert_eq!(shown(record.body.as_ref().unwrap()), format!("{text:?}")),
                Body::Object(_) => prop_assert!(record.body.is_some()),
            }
        }
    }

    #[test]
    fn any_text_is_told(json in "[\\[\\]{}\",:0-9eE.+a\\\\u -]{0,40}") {
        let mut out = Vec::new();
        json_value(&json, &mut out);
        AnyValue::decode(out.as_slice()).unwrap();
    }

    #[test]
    fn any_answer_has_a_verdict(status in prop_oneof![Just(200), any::<u16>()], body in any_answer(), count in 1..4_usize) {
        check_verdict(&Otlp::default().judge(&answer(status, &body), count), status, count);
    }
}
