//! Splunk's HTTP Event Collector: one JSON object for each event, one after the other.
//!
//! Sources: docs.splunk.com, "Format events for HTTP Event Collector" and "Troubleshoot HTTP Event Collector" for the
//! codes. Where one event is refused, Splunk names it and takes none after it; whether it took those before is not
//! promised (it has been seen to), so that they are sent again rather than lost.

use std::io::Write as _;

use crate::event::{Body, Event, LEVEL, OWN_NAMES};

use super::escape::{escape, member};
use super::json::{Pairs, Shared, bit};
use super::members::each_member;
use super::{Answer, Fate, Format, Origin, Verdict, Why, status};

/// Requests to the event collector.
#[derive(Debug, Default)]
pub(crate) struct Splunk {
    /// The token's own where none is given.
    pub(crate) index: Option<String>,
    /// The token's own where none is given.
    pub(crate) sourcetype: Option<String>,
}

/// What an origin's events share.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// `,"host":…,"source":…,"sourcetype":…,"index":…,"event":`
    head: Vec<u8>,
    fields: Shared,
}

impl Format for Splunk {
    type Prepared = Metadata;

    fn path(&self) -> &'static str {
        "/services/collector/event"
    }

    fn prepare(&self, origin: &Origin) -> Metadata {
        let field =
            |wanted: &str| origin.fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let mut head = Vec::new();
        for (name, value) in [
            ("host", field("host").or_else(|| field("pod"))),
            ("source", Some(&origin.file)),
            ("sourcetype", self.sourcetype.as_ref()),
            ("index", self.index.as_ref()),
        ] {
            if let Some(value) = value {
                member(name, value, &mut head);
            }
        }
        head.extend_from_slice(b",\"event\":");
        let mut fields = Shared::default();
        for (at, (name, value)) in origin.fields.iter().enumerate() {
            if name != OWN_NAMES[LEVEL] {
                fields.add(OWN_NAMES.len() + at, name, value);
            }
        }
        Metadata { head, fields }
    }

    fn write(&mut self, event: &Event<'_>, origin: &Metadata, _offset: u64, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        time(event.time.0, out);
        out.extend_from_slice(&origin.head);
        if let Some(first) = out.get_mut(start) {
            *first = b'{';
        }
        let mut taken = 0;
        match &event.body {
            Body::Object(object) if !is_blank(&object.json) => {
                taken = object.names;
                out.extend_from_slice(object.json.as_bytes());
            }
            // An event without content is refused ("Event field cannot be blank"); an empty line is one too.
            Body::Text(text) if text.trim().is_empty() => {
                out.extend_from_slice(b"{\"message\":\"");
                escape(text, out);
                out.extend_from_slice(b"\"}");
            }
            Body::Object(crate::event::Object { json: text, .. }) | Body::Text(text) => {
                out.push(b'"');
                escape(text, out);
                out.push(b'"');
            }
        }
        // As in a record, each member is written after a comma; that of the first becomes the opening brace.
        out.extend_from_slice(b",\"fields\":");
        let fields = out.len();
        let pairs = Pairs::of(event);
        for (name, _) in pairs.iter() {
            taken |= origin.fields.taken(name) | if name == OWN_NAMES[LEVEL] { bit(LEVEL) } else { 0 };
        }
        if let Some(level) = event.level
            && taken & bit(LEVEL) == 0
        {
            member(OWN_NAMES[LEVEL], level.name(), out);
        }
        origin.fields.write(taken, out);
        for (name, value) in pairs.iter() {
            member(name, value, out);
        }
        if event.split && !pairs.tell("split") && origin.fields.taken("split") == 0 {
            member("split", "true", out);
        }
        match out.get_mut(fields) {
            Some(first) => *first = b'{',
            None => out.push(b'{'),
        }
        out.extend_from_slice(b"}}\n");
        0
    }

    fn body<'c>(&self, chunks: impl Iterator<Item = (u32, &'c [u8])> + Clone, out: &mut Vec<u8>) {
        chunks.for_each(|(_, chunk)| out.extend_from_slice(chunk));
    }

    fn is_joined(&self) -> bool {
        true
    }

    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn judge(&self, answer: &Answer, count: usize) -> Verdict {
        let code = Code::read(&answer.body);
        let said = status::excerpt(&answer.body);
        let why = |reason, mend: &str| Why::new(reason, format!("status {}: {said}{mend}", answer.status));
        match (answer.status, code.number) {
            // Healthy, or nearing a limit. Others that speak this protocol answer as they like.
            (200..=299, None | Some(0 | 17 | 24 | 25)) => Verdict::Delivered,
            (200..=299, _) => Verdict::Later(why("unexpected", "")),
            (400, Some(7)) => Verdict::Later(why(
                "unexpected",
                "; check `index`, and the indexes that the token may write to",
            )),
            (400, Some(10 | 11 | 14 | 16)) => {
                Verdict::Later(why("unauthorized", "; check the token's settings"))
            }
            (400, _) => match code.event.filter(|event| *event < count) {
                Some(refused) => Verdict::Partly(
                    (0..count)
                        .map(|at| match at == refused {
                            true => (at, Fate::Refused(why("refused", ""))),
                            false => {
                                (at, Fate::Later(Why::new("refused", format!("event {refused} was refused"))))
                            }
                        })
                        .collect(),
                ),
                None => status::judge(answer.status, &said),
            },
            (status, _) => status::judge(status, &said),
        }
    }
}

/// What the collector answers: `{"text":"Invalid data format","code":6,"invalid-event-number":3}`.
#[derive(Default)]
struct Code {
    number: Option<u32>,
    event: Option<usize>,
}

impl Code {
    fn read(body: &[u8]) -> Self {
        let mut code = Self::default();
        let read = std::str::from_utf8(body).is_ok_and(|body| {
            each_member(body, |name, value| match name {
                "code" => code.number = value.parse().ok(),
                "invalid-event-number" => code.event = value.parse().ok(),
                _ => {}
            })
            .is_ok()
        });
        if read { code } else { Self::default() }
    }
}

/// `,"time":1732252800.123`; nothing for a time before 1970, for which the time of arrival stands.
fn time(nanos: i64, out: &mut Vec<u8>) {
    const SECOND: i64 = 1_000_000_000;
    let Ok(nanos) = u64::try_from(nanos) else { return };
    let (seconds, fraction) = (nanos / SECOND as u64, nanos % SECOND as u64);
    // Microseconds are the finest that it stores.
    let _ = if fraction % 1_000_000 == 0 {
        write!(out, ",\"time\":{seconds}.{:03}", fraction / 1_000_000)
    } else {
        write!(out, ",\"time\":{seconds}.{:06}", fraction / 1_000)
    };
}

/// Whether an object has no members.
fn is_blank(json: &str) -> bool {
    json.bytes().all(|byte| byte.is_ascii_whitespace() || byte == b'{' || byte == b'}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::format::sample::*;
    use crate::event::{Level, Time};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn one(event: Event<'_>) -> Value {
        serde_json::from_slice(&request(&mut Splunk::default(), &[event])).unwrap()
    }

    #[test]
    fn an_event_is_an_object_with_its_metadata() {
        let mut format = Splunk { index: Some("main".to_owned()), sourcetype: Some("app".to_owned()) };
        let event =
            Event { level: Some(Level::Warn), ..with_pairs(text("a \"b\""), &[("k", "v"), ("pod", "p")]) };
        let want = concat!(
            r#"{"time":1795323600.123,"host":"shop-1","source":"/var/log/\"app\".log","sourcetype":"app","#,
            r#""index":"main","event":"a \"b\"","fields":{"level":"warn","service":"shop","namespace":"web","#,
            r#""k":"v","pod":"p"}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(request(&mut format, &[event])).unwrap(), want);
    }

    #[test]
    fn an_object_is_the_event_and_its_members_win() {
        let event = Event { level: Some(Level::Info), ..object(r#"{"level":"INFO","service":1,"x":1.50}"#) };
        let got = one(event);
        assert_eq!(got["event"], json!({"level": "INFO", "service": 1, "x": 1.50}));
        assert_eq!(got["fields"], json!({"pod": "shop-1", "namespace": "web"}));
    }

    #[test]
    fn what_splunk_would_call_blank_has_content() {
        assert_eq!(one(text(""))["event"], json!({"message": ""}));
        assert_eq!(one(text(" \t"))["event"], json!({"message": " \t"}));
        assert_eq!(one(object("{ }"))["event"], json!("{ }"));
    }

    #[test]
    fn times_are_told_to_the_microsecond() {
        let told = |nanos| {
            let body = request(&mut Splunk::default(), &[Event { time: Time(nanos), ..text("m") }]);
            String::from_utf8(body).unwrap().split(",\"").next().unwrap().to_owned()
        };
        assert_eq!(told(1_000_000_000), "{\"time\":1.000");
        assert_eq!(told(1_000_001_999), "{\"time\":1.000001");
        assert_eq!(told(-1), "{\"host\":\"shop-1\"");
    }

    #[test]
    fn an_origin_without_fields_has_empty_ones() {
        let mut format = Splunk::default();
        let origin = format.prepare(&Origin { file: "f".to_owned(), fields: Vec::new(), key: 0 });
        let mut out = Vec::new();
        format.write(&text("m"), &origin, 0, &mut out);
        assert_eq!(out, b"{\"time\":1795323600.123,\"source\":\"f\",\"event\":\"m\",\"fields\":{}}\n");
    }

    fn judged(status: u16, body: &str) -> String {
        match Splunk::default().judge(&answer(status, body), 3) {
            Verdict::Delivered => "delivered".to_owned(),
            Verdict::Later(why) => format!("later {}", why.reason),
            Verdict::TooLarge(_) => "too large".to_owned(),
            Verdict::Refused(_) => "refused".to_owned(),
            Verdict::SomeRefused(_) => "some refused".to_owned(),
            Verdict::Partly(fates) => {
                let fates = fates.iter().map(|(_, fate)| matches!(fate, Fate::Refused(_)));
                format!("refused {:?}", fates.collect::<Vec<_>>())
            }
        }
    }

    #[test]
    fn each_code_has_its_verdict() {
        for (status, body, want) in [
            (200, r#"{"text":"Success","code":0}"#, "delivered"),
            (200, "", "delivered"),
            (200, r#"{"text":"HEC is unhealthy","code":18}"#, "later unexpected"),
            (400, r#"{"text":"No data","code":5}"#, "refused"),
            (
                400,
                r#"{"text":"Invalid data format","code":6,"invalid-event-number":1}"#,
                "refused [false, true, false]",
            ),
            (400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#, "refused"),
            (400, r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#, "later unexpected"),
            (400, r#"{"text":"Data channel is missing","code":10}"#, "later unauthorized"),
            (
                400,
                r#"{"text":"Event field cannot be blank","code":13,"invalid-event-number":0}"#,
                "refused [true, false, false]",
            ),
            (400, "what?", "refused"),
            (401, r#"{"text":"Token is required","code":2}"#, "later unauthorized"),
            (403, r#"{"text":"Invalid token","code":4}"#, "later unauthorized"),
            (413, "", "too large"),
            (429, r#"{"code":26}"#, "later throttled"),
            (503, r#"{"text":"Server is busy","code":9}"#, "later unavailable"),
        ] {
            assert_eq!(judged(status, body), want, "{status} {body}");
        }
    }

    proptest! {
        #[test]
        fn every_event_is_an_object(events in any_events()) {
            let events: Vec<_> = events.iter().map(|any| any.event()).collect();
            let body = request(&mut Splunk::default(), &events);
            let objects: Vec<Value> =
                serde_json::Deserializer::from_slice(&body).into_iter().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(objects.len(), events.len());
            for object in objects {
                prop_assert!(object["fields"].as_object().unwrap().values().all(Value::is_string));
                prop_assert!(![json!(""), json!({})].contains(&object["event"]), "blank");
            }
        }

        #[test]
        fn any_answer_has_a_verdict(status in prop_oneof![Just(200), Just(400), any::<u16>()], body in any_answer(), count in 1..4_usize) {
            check_verdict(&Splunk::default().judge(&answer(status, &body), count), status, count);
        }
    }
}
