//! A line to a record: one JSON object on one line. Pure.
//!
//! `timestamp` is the time of reading, in RFC 3339. The members of a line that is a JSON object itself are kept as
//! they are written; ours are added where it has none of that name.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::config::Format;

/// What all records of one file have in common.
#[derive(Debug)]
pub(crate) struct Shape {
    format: Format,
    /// `file` and the configured fields: the name, and the member as JSON.
    members: Vec<(String, Vec<u8>)>,
    /// All members, each after a comma, and the closing brace.
    suffix: Vec<u8>,
}

/// What is counted of a line.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Notes {
    /// It was not UTF-8; what was not is replaced by U+FFFD.
    pub(crate) invalid_utf8: bool,
}

impl Shape {
    pub(crate) fn new(format: Format, file: &str, fields: &[(String, String)]) -> Self {
        let own = [("file".to_owned(), file.to_owned())];
        let members: Vec<_> =
            own.iter().chain(fields).map(|(name, value)| (name.clone(), member(name, value))).collect();
        let mut suffix = Vec::new();
        for (_, member) in &members {
            suffix.push(b',');
            suffix.extend_from_slice(member);
        }
        suffix.extend_from_slice(b"}\n");
        Self { format, members, suffix }
    }

    /// Appends the record of `line`; `split` marks that the line goes on in the next one.
    pub(crate) fn write(&self, line: &[u8], split: bool, timestamp: &str, out: &mut Vec<u8>) -> Notes {
        if self.format == Format::Auto && !split && self.write_object(line, timestamp, out) {
            return Notes::default();
        }
        out.extend_from_slice(b"{\"timestamp\":\"");
        out.extend_from_slice(timestamp.as_bytes());
        out.extend_from_slice(b"\",\"message\":\"");
        let invalid_utf8 = match std::str::from_utf8(line) {
            Ok(_) => {
                escape(line, out);
                false
            }
            Err(_) => {
                escape(String::from_utf8_lossy(line).as_bytes(), out);
                true
            }
        };
        out.push(b'"');
        if split {
            out.extend_from_slice(b",\"split\":true");
        }
        out.extend_from_slice(&self.suffix);
        Notes { invalid_utf8 }
    }

    /// Appends a line that is a JSON object with our members added; false, with nothing appended, where it is none.
    fn write_object(&self, line: &[u8], timestamp: &str, out: &mut Vec<u8>) -> bool {
        // The parser skips values without a look at their bytes, and NDJSON is UTF-8.
        if std::str::from_utf8(line).is_err() {
            return false;
        }
        let Some(inner) = line.trim_ascii().strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"))
        else {
            return false;
        };
        let Some(theirs) = Theirs::of(line, &self.members) else { return false };
        let inner = inner.trim_ascii();
        out.push(b'{');
        out.extend_from_slice(inner);
        let mut comma = !inner.is_empty();
        let mut add = |member: &[u8], out: &mut Vec<u8>| {
            if comma {
                out.push(b',');
            }
            comma = true;
            out.extend_from_slice(member);
        };
        if !theirs.timestamp {
            add(&member("timestamp", timestamp), out);
        }
        for ((_, member), taken) in self.members.iter().zip(&theirs.taken) {
            if !taken {
                add(member, out);
            }
        }
        out.extend_from_slice(b"}\n");
        true
    }
}

/// `"name":"value"`
fn member(name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + value.len() + 5);
    for (part, end) in [(name, &b"\":"[..]), (value, b"\"")] {
        out.push(b'"');
        escape(part.as_bytes(), &mut out);
        out.extend_from_slice(end);
    }
    out
}

/// Appends the content of a JSON string (RFC 8259 section 7).
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut plain = 0;
    for (at, byte) in text.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 0xf)]);
            }
        }
    }
    out.extend_from_slice(&text[plain..]);
}

/// Which of our members a JSON object has already.
struct Theirs {
    timestamp: bool,
    taken: Vec<bool>,
}

impl Theirs {
    /// `None` where the line is not one JSON object.
    fn of(line: &[u8], members: &[(String, Vec<u8>)]) -> Option<Self> {
        let mut parser = serde_json::Deserializer::from_slice(line);
        let theirs = serde::Deserializer::deserialize_map(&mut parser, Names { members }).ok()?;
        parser.end().ok()?;
        Some(theirs)
    }
}

struct Names<'a> {
    members: &'a [(String, Vec<u8>)],
}

impl<'de> Visitor<'de> for Names<'_> {
    type Value = Theirs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Theirs, A::Error> {
        let mut theirs = Theirs { timestamp: false, taken: vec![false; self.members.len()] };
        while let Some(Name(name)) = map.next_key()? {
            theirs.timestamp |= name == "timestamp";
            for (taken, (own, _)) in theirs.taken.iter_mut().zip(self.members) {
                *taken |= *own == name;
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(theirs)
    }
}

/// A key, borrowed unless it has escapes in it.
struct Name<'a>(std::borrow::Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(text.to_owned().into()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const NOW: &str = "2026-11-22T05:00:00.000Z";

    fn record(line: &[u8], split: bool) -> (Value, Notes) {
        let shape = Shape::new(Format::Auto, "/a \"b\".log", &[("service".into(), "shop".into())]);
        let mut out = Vec::new();
        let notes = shape.write(line, split, NOW, &mut out);
        let text = std::str::from_utf8(&out).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        (serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")), notes)
    }

    #[test]
    fn a_text_line_becomes_a_message() {
        let want = json!({"timestamp": NOW, "message": "a\t\"q\" \\ \u{1} é", "file": "/a \"b\".log", "service": "shop"});
        assert_eq!(record("a\t\"q\" \\ \u{1} é".as_bytes(), false), (want, Notes::default()));
    }

    #[test]
    fn the_members_of_a_json_line_are_kept_and_win() {
        let (value, _) =
            record(br#" { "a" : 1.50, "file": 7, "timestamp": "then", "n": {"service": 1} } "#, false);
        assert_eq!(
            value,
            json!({"a": 1.50, "file": 7, "timestamp": "then", "n": {"service": 1}, "service": "shop"})
        );
        let (value, _) = record(b"{}", false);
        assert_eq!(value, json!({"timestamp": NOW, "file": "/a \"b\".log", "service": "shop"}));
    }

    #[test]
    fn numbers_are_not_typed_again() {
        let shape = Shape::new(Format::Auto, "f", &[]);
        let mut out = Vec::new();
        shape.write(br#"{"big":12345678901234567890123,"exact":1.10}"#, false, NOW, &mut out);
        assert!(out.starts_with(br#"{"big":12345678901234567890123,"exact":1.10,"timestamp":"#));
    }

    #[test]
    fn a_key_with_escapes_is_known_as_what_it_says() {
        let (value, _) = record(br#"{"\u0066ile": "theirs"}"#, false);
        assert_eq!(value["file"], "theirs");
    }

    #[test]
    fn what_is_nearly_json_is_text() {
        for line in ["{", "{}x", "{\"a\":}", "[1]", "\"a\"", "{\"a\":1}{}", "{\"a\":01}", "{'a':1}"] {
            assert_eq!(record(line.as_bytes(), false).0["message"], line);
        }
    }

    #[test]
    fn a_piece_of_a_long_line_is_marked() {
        let (value, _) = record(b"{}", true);
        assert_eq!((&value["split"], &value["message"]), (&json!(true), &json!("{}")));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_and_noted() {
        let (value, notes) = record(b"a\xffb\0", false);
        assert_eq!(value["message"], "a\u{fffd}b\0");
        assert!(notes.invalid_utf8);
    }

    proptest! {
        #[test]
        fn every_line_is_one_record_that_keeps_its_text(line in "[^\\n]{0,80}") {
            let (value, _) = record(line.as_bytes(), false);
            if value.get("message").is_some_and(|_| !line.trim_ascii().starts_with('{')) {
                prop_assert_eq!(value["message"].as_str(), Some(line.as_str()));
            }
        }

        #[test]
        fn any_bytes_make_one_record(line in proptest::collection::vec(any::<u8>().prop_filter("a line", |b| *b != b'\n'), 0..80)) {
            record(&line, false);
        }
    }
}
