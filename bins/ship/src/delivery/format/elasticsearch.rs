//! The `_bulk` requests of Elasticsearch and OpenSearch: a `create` action and a document for each event.
//!
//! Sources: elastic.co/docs/api, "Bulk index or delete documents"; "Create an index" for the rules of names;
//! "Common options" for `filter_path`. `create` with an id of our own makes a repeated request harmless, and is what
//! data streams ask for. The id is made of what never changes: the generation and the offset.

use podkit_cli::Invalid;

use crate::event::{AT_TIMESTAMP, DatePattern, Event, Time};

use super::json::Members;
use super::{Answer, Format, Origin, Verdict, bulk};

/// The name of an index or a data stream, or one for each date.
#[derive(Debug, Clone)]
pub(crate) struct Index(DatePattern);

impl Index {
    /// `logs-%Y.%m.%d`, or a fixed name.
    ///
    /// # Errors
    /// The name is none that Elasticsearch takes.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        /// Names are at most this long, in bytes.
        const LONGEST: usize = 255;
        let mut pattern = DatePattern::parse(text)?;
        // Digits stand for dates, so that the name at one time shows what is wrong with it at any.
        let mut name = Vec::new();
        pattern.write(Time(0), &mut name);
        let name = String::from_utf8_lossy(&name);
        let wrong = if name.is_empty() {
            "is empty".to_owned()
        } else if name == "." || name == ".." {
            "is the name of a directory".to_owned()
        } else if let Some(first) = name.chars().next().filter(|first| "-_+".contains(*first)) {
            format!("begins with `{first}`")
        } else if name.chars().any(char::is_uppercase) {
            "has capital letters".to_owned()
        } else if let Some(bad) = name.chars().find(|c| "\\/*?\"<>| ,#:".contains(*c) || c.is_control()) {
            format!("has {bad:?} in it")
        } else if name.len() > LONGEST {
            format!("is longer than {LONGEST} bytes")
        } else {
            return Ok(Self(pattern));
        };
        Err(Invalid::new(format!("{text:?} is no name of an index: it {wrong}"))
            .hint("write lower-case letters, digits, `-` and `.`, like `logs-%Y.%m.%d`"))
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        self.0.text()
    }
}

/// Bulk requests.
#[derive(Debug)]
pub(crate) struct Elasticsearch {
    index: Index,
    /// The hour for which `action` is rendered, counted from 1970.
    hour: i64,
    /// The action line up to the id.
    action: Vec<u8>,
}

/// What an origin's documents share.
#[derive(Debug)]
pub(crate) struct Documents {
    /// The first half of each id.
    key: [u8; 16],
    members: Members,
}

impl Elasticsearch {
    pub(crate) fn new(index: Index) -> Self {
        let mut new = Self { index, hour: 0, action: Vec::new() };
        new.name_index(Time(0), 0);
        new
    }

    fn name_index(&mut self, time: Time, hour: i64) {
        self.hour = hour;
        self.action.clear();
        self.action.extend_from_slice(b"{\"create\":{\"_index\":\"");
        self.index.0.write(time, &mut self.action);
        self.action.extend_from_slice(b"\",\"_id\":\"");
    }
}

impl Format for Elasticsearch {
    type Prepared = Documents;

    fn path(&self) -> &'static str {
        // What the answer may say of each item: of ten thousand items, all else is a megabyte.
        "/_bulk?filter_path=errors,items.*.status,items.*.error"
    }

    fn prepare(&self, origin: &Origin) -> Documents {
        let mut key = [0; 16];
        for (at, digit) in key.iter_mut().enumerate() {
            *digit = hex(origin.key >> (60 - 4 * at));
        }
        Documents { key, members: Members::new(origin, AT_TIMESTAMP) }
    }

    fn write(&mut self, event: &Event<'_>, origin: &Documents, offset: u64, out: &mut Vec<u8>) -> u32 {
        const HOUR: i64 = 3600 * 1_000_000_000;
        let hour = event.time.0.div_euclid(HOUR);
        if hour != self.hour {
            self.name_index(event.time, hour);
        }
        out.extend_from_slice(&self.action);
        out.extend_from_slice(&origin.key);
        let digits = (offset | 1).ilog2() / 4;
        out.extend((0..=digits).rev().map(|digit| hex(offset >> (4 * digit))));
        out.extend_from_slice(b"\"}}\n");
        origin.members.write(event, out);
        0
    }

    fn body<'c>(&self, chunks: impl Iterator<Item = (u32, &'c [u8])> + Clone, out: &mut Vec<u8>) {
        chunks.for_each(|(_, chunk)| out.extend_from_slice(chunk));
    }

    fn is_joined(&self) -> bool {
        true
    }

    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn judge(&self, answer: &Answer, count: usize) -> Verdict {
        bulk::judge(answer, count)
    }
}

/// The last four bits as a digit.
fn hex(bits: u64) -> u8 {
    b"0123456789abcdef"[(bits & 0xf) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::format::sample::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn dated() -> Elasticsearch {
        Elasticsearch::new(Index::parse("logs-%Y.%m.%d").unwrap())
    }

    #[test]
    fn an_event_is_an_action_and_a_document() {
        let body = request(&mut dated(), &[text("hello")]);
        let want = concat!(
            r#"{"create":{"_index":"logs-2026.11.22","_id":"0123456789abcdef0"}}"#,
            "\n",
            r#"{"@timestamp":"2026-11-22T05:00:00.123Z","message":"hello","#,
            r#""file":"/var/log/\"app\".log","service":"shop","pod":"shop-1","namespace":"web"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(body).unwrap(), want);
    }

    #[test]
    fn the_timestamp_of_an_object_stays_and_its_own_at_timestamp_wins() {
        let body =
            request(&mut dated(), &[object(r#"{"timestamp":"then"}"#), object(r#"{"@timestamp":"then"}"#)]);
        let lines: Vec<Value> =
            body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let stamps = |line: &Value| (line["timestamp"].clone(), line["@timestamp"].clone());
        assert_eq!(stamps(&lines[1]), (json!("then"), json!("2026-11-22T05:00:00.123Z")));
        assert_eq!(stamps(&lines[3]), (Value::Null, json!("then")));
    }

    #[test]
    fn the_index_follows_the_time_of_the_event_and_the_id_the_offset() {
        let mut format = dated();
        let origin = format.prepare(&origin());
        let mut action = |time: i64, offset: u64| {
            let mut out = Vec::new();
            format.write(&Event { time: Time(time), ..text("") }, &origin, offset, &mut out);
            let line: Value =
                serde_json::from_slice(out.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
            format!(
                "{} {}",
                line["create"]["_index"].as_str().unwrap(),
                line["create"]["_id"].as_str().unwrap()
            )
        };
        let day = 24 * 3600 * 1_000_000_000;
        assert_eq!(action(0, 0), "logs-1970.01.01 0123456789abcdef0");
        assert_eq!(action(day - 1, 15), "logs-1970.01.01 0123456789abcdeff");
        assert_eq!(action(day, 16), "logs-1970.01.02 0123456789abcdef10");
        assert_eq!(action(-1, u64::MAX), "logs-1969.12.31 0123456789abcdefffffffffffffffff");
    }

    #[test]
    fn a_data_stream_has_one_name() {
        let body = request(&mut Elasticsearch::new(Index::parse("logs-app-default").unwrap()), &[text("")]);
        assert!(body.starts_with(br#"{"create":{"_index":"logs-app-default","_id":""#));
    }

    #[test]
    fn a_name_that_elasticsearch_would_not_take_is_a_fault() {
        for (name, wrong) in [
            ("", "is empty"),
            ("..", "directory"),
            ("-logs", "begins with `-`"),
            ("_logs", "begins with `_`"),
            ("Logs-%Y", "capital"),
            ("a b", "has ' ' in it"),
            ("a\"b", "has '\"' in it"),
            ("a:b", "has ':' in it"),
            ("a/b", "has '/' in it"),
        ] {
            let fault = Index::parse(name).unwrap_err();
            assert!(fault.to_string().contains(wrong), "{name}: {fault}");
        }
        assert!(Index::parse(&"x".repeat(256)).is_err());
        for name in [".ds-logs", "logs-%Y.%m.%d", "journal-ä"] {
            Index::parse(name).unwrap();
        }
    }

    proptest! {
        #[test]
        fn every_event_is_an_action_and_a_document_in_one_line_each(events in any_events()) {
            let events: Vec<_> = events.iter().map(|any| any.event()).collect();
            let body = request(&mut dated(), &events);
            let lines: Vec<&[u8]> = body.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').collect();
            prop_assert_eq!(lines.len(), 2 * events.len());
            for (at, pair) in lines.chunks(2).enumerate() {
                let action: Value = serde_json::from_slice(pair[0]).unwrap();
                prop_assert_eq!(action["create"]["_id"].as_str().unwrap(), format!("0123456789abcdef{at:x}"));
                let document: Value = serde_json::from_slice(pair[1]).unwrap();
                prop_assert!(document.get("@timestamp").is_some());
            }
        }
    }
}
