//! Loki's push API: streams of entries in protobuf, to be compressed with snappy.
//!
//! Sources: grafana.com/docs/loki, "Loki HTTP API: Ingest logs" and "Label best practices"; `pkg/push/push.proto` in
//! grafana/loki for the messages. Labels are few and only those that the config names; all else that is known of an
//! event is structured metadata. An entry that comes twice is stored once, if it is the same to the byte.

use std::cell::Cell;

use podkit_cli::Invalid;

use crate::event::{Body, Event, LEVEL, Level, OWN_NAMES};

use super::json::Pairs;
use super::protobuf::{Groups, Kind, Message, bytes, message, uint};
use super::{Answer, Format, Origin, Verdict, protobuf, status};

/// The label of streams that would have none: Loki takes no stream without.
const FALLBACK: (&str, &str) = ("job", "podkit");

/// From this many streams on, values from the lines make no new ones but become metadata: each stream costs Loki
/// and us memory, and its own default limit is 5,000 for a whole tenant.
const MAX_STREAMS: usize = 1000;

static PUSH_REQUEST: Message = Message(&[(1, "streams", Kind::Message(&STREAM))]);
static STREAM: Message = Message(&[(1, "labels", Kind::Text), (2, "entries", Kind::Message(&ENTRY))]);
static ENTRY: Message = Message(&[
    (1, "timestamp", Kind::Message(&TIMESTAMP)),
    (2, "line", Kind::Text),
    (3, "structuredMetadata", Kind::Message(&PAIR)),
]);
static TIMESTAMP: Message = Message(&[(1, "seconds", Kind::Int), (2, "nanos", Kind::Int)]);
static PAIR: Message = Message(&[(1, "name", Kind::Text), (2, "value", Kind::Text)]);

/// A label of the config: the name of a field, a pair or `level` or `file`, and what Loki calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label {
    label: String,
    name: String,
}

impl Label {
    /// # Errors
    /// The name is empty.
    pub(crate) fn parse(name: &str) -> Result<Self, Invalid> {
        if name.is_empty() {
            return Err(Invalid::new("is empty").hint("name a field of the source, or `level`"));
        }
        Ok(Self { label: sanitized(name), name: name.to_owned() })
    }

    /// The name of the field.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Push requests.
#[derive(Debug)]
pub(crate) struct Loki {
    /// In the order of their labels, no label twice.
    labels: Vec<Label>,
    /// Each group is a stream and shares its labels.
    streams: Groups,
}

/// What an origin's entries share.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Of each label of the config, if the origin has one.
    values: Vec<Option<String>>,
    /// The streams of events without a level and of each level, once they are known.
    by_level: [Cell<Option<u32>>; 9],
    /// The names and the metadata of what is no label.
    metadata: Vec<(String, Vec<u8>)>,
}

impl Loki {
    pub(crate) fn new(mut labels: Vec<Label>) -> Self {
        labels.sort();
        labels.dedup_by(|one, other| one.label == other.label);
        Self { labels, streams: Groups::default() }
    }

    fn is_label(&self, name: &str) -> bool {
        self.labels.iter().any(|label| label.name == name)
    }

    /// The text of a stream's labels, `{a="b", c="d"}`. An empty value is none to Loki.
    fn selector<'v>(&self, value: impl Fn(usize, &Label) -> Option<&'v str>) -> Vec<u8> {
        let mut text = vec![b'{'];
        let mut add = |name: &str, value: &str| {
            if text.len() > 1 {
                text.extend_from_slice(b", ");
            }
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b"=\"");
            quote(value, &mut text);
            text.push(b'"');
        };
        let mut some = false;
        for (at, label) in self.labels.iter().enumerate() {
            if let Some(value) = value(at, label).filter(|value| !value.is_empty()) {
                add(&label.label, value);
                some = true;
            }
        }
        if !some {
            add(FALLBACK.0, FALLBACK.1);
        }
        text.push(b'}');
        text
    }

    /// The stream by the origin and the level.
    fn stream(&mut self, origin: &Stream, level: Option<Level>) -> u32 {
        let known = &origin.by_level[level.map_or(0, |level| 1 + level as usize)];
        if let Some(stream) = known.get() {
            return stream;
        }
        let selector = self.selector(|at, label| match level {
            Some(level) if label.name == OWN_NAMES[LEVEL] => Some(level.name()),
            _ => origin.values[at].as_deref(),
        });
        let stream = self.streams.number(&selector);
        known.set(Some(stream));
        stream
    }

    /// The stream where pairs are labels too; `None` where that would make too many.
    fn stream_of_pairs(&mut self, event: &Event<'_>, origin: &Stream, pairs: &Pairs<'_>) -> Option<u32> {
        let selector = self.selector(|at, label| match event.level {
            Some(level) if label.name == OWN_NAMES[LEVEL] => Some(level.name()),
            _ => pairs
                .iter()
                .find(|(name, _)| *name == label.name)
                .map(|(_, value)| value)
                .or(origin.values[at].as_deref()),
        });
        match self.streams.find(&selector) {
            None if self.streams.len() >= MAX_STREAMS => None,
            found => Some(found.unwrap_or_else(|| self.streams.number(&selector))),
        }
    }
}

impl Format for Loki {
    type Prepared = Stream;

    fn path(&self) -> &'static str {
        "/loki/api/v1/push"
    }

    fn prepare(&self, origin: &Origin) -> Stream {
        let own = [("file", origin.file.as_str())];
        let fields = origin.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let facts: Vec<_> = own.into_iter().chain(fields).collect();
        let value = |label: &Label| facts.iter().find(|(name, _)| *name == label.name);
        let values = self.labels.iter().map(|label| value(label).map(|(_, value)| (*value).to_owned()));
        let mut others: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in facts.iter().filter(|(name, _)| !self.is_label(name)) {
            if others.iter().all(|(other, _)| sanitized(other) != sanitized(name)) {
                let mut pair = Vec::new();
                metadata(name, value, &mut pair);
                others.push(((*name).to_owned(), pair));
            }
        }
        Stream { values: values.collect(), by_level: Default::default(), metadata: others }
    }

    fn write(&mut self, event: &Event<'_>, origin: &Stream, _offset: u64, out: &mut Vec<u8>) -> u32 {
        let pairs = Pairs::of(event);
        let with_labels =
            !event.pairs.is_empty() && pairs.iter().any(|(name, _)| name != "level" && self.is_label(name));
        let of_pairs = if with_labels { self.stream_of_pairs(event, origin, &pairs) } else { None };
        let stream = of_pairs.unwrap_or_else(|| self.stream(origin, event.level));
        let level_is_label = self.is_label(OWN_NAMES[LEVEL]);
        // A label tells it already. The word for the level may be another than ours.
        let told = |name: &str, value: &str| {
            of_pairs.is_some() && name != "level" && self.is_label(name)
                || name == "level" && level_is_label && event.level.is_some_and(|level| level.name() == value)
        };
        protobuf::message(2, out, |out| {
            message(1, out, |out| timestamp(event.time.0, out));
            let line = match &event.body {
                Body::Text(text) => text,
                Body::Object(object) => &object.json,
            };
            bytes(2, line.as_bytes(), out);
            let by_pair = |name: &str| event.pairs.iter().any(|(pair, _)| pair == name);
            if let Some(level) = event.level
                && !level_is_label
                && !by_pair("level")
            {
                metadata("level", level.name(), out);
            }
            for (name, pair) in &origin.metadata {
                if !by_pair(name) && (name != "level" || event.level.is_none()) {
                    out.extend_from_slice(pair);
                }
            }
            for (name, value) in pairs.iter().filter(|(name, value)| !told(name, value)) {
                metadata(name, value, out);
            }
            if event.split && !pairs.tell("split") {
                metadata("split", "true", out);
            }
        });
        stream
    }

    fn body<'c>(&self, chunks: impl Iterator<Item = (u32, &'c [u8])> + Clone, out: &mut Vec<u8>) {
        self.streams.gather(chunks, out, |labels, size, out| {
            let mut field = Vec::with_capacity(labels.len() + 4);
            bytes(1, labels, &mut field);
            protobuf::bytes_head(1, field.len() + size, out);
            out.extend_from_slice(&field);
        });
    }

    fn content_type(&self) -> &'static str {
        "application/x-protobuf"
    }

    fn show(&self, body: &[u8]) -> String {
        protobuf::show(&PUSH_REQUEST, body)
    }

    fn judge(&self, answer: &Answer, _count: usize) -> Verdict {
        // 400 is also the answer where some entries are too old and all others are taken: in smaller parts it tells
        // which they are, and entries that come twice do no harm.
        status::http(answer)
    }
}

/// `google.protobuf.Timestamp`
fn timestamp(nanos: i64, out: &mut Vec<u8>) {
    const SECOND: i64 = 1_000_000_000;
    uint(1, nanos.div_euclid(SECOND) as u64, out);
    uint(2, nanos.rem_euclid(SECOND) as u64, out);
}

/// A pair of `structuredMetadata`.
fn metadata(name: &str, value: &str, out: &mut Vec<u8>) {
    message(3, out, |out| {
        bytes(1, sanitized(name).as_bytes(), out);
        bytes(2, value.as_bytes(), out);
    });
}

/// A name as labels must be: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
fn sanitized(name: &str) -> String {
    let mut label: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }).collect();
    if !label.starts_with(|c: char| c == '_' || c == ':' || c.is_ascii_alphabetic()) {
        label.insert(0, '_');
    }
    label
}

/// The content of a string in Go's syntax, which is what selectors have.
fn quote(value: &str, out: &mut Vec<u8>) {
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            c if c.is_control() => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests;
