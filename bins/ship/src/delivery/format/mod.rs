//! How each backend wants its events, and what its answers mean. Pure: no I/O.
//!
//! ```text
//!   Event ─► Format.write() ─► a chunk for each event ─► Format.body() ─► the request's body, of all or some chunks
//!                                                                         │ answer
//!                                              Verdict ◄── Format.judge() ◄┘
//! ```

use crate::event::{Event, Time};

mod any;
mod bulk;
mod elasticsearch;
mod escape;
mod json;
mod loki;
mod members;
mod otlp;
mod protobuf;
#[cfg(test)]
mod sample;
mod splunk;
mod status;

pub(crate) use any::{AnyFormat, AnyPrepared};
pub(crate) use elasticsearch::{Elasticsearch, Index};
pub(crate) use json::{Framing, Json};
pub(crate) use loki::{Label, Loki};
pub(crate) use members::each_member;
pub(crate) use otlp::Otlp;
pub(crate) use splunk::Splunk;

/// Where events come from: what all events of one generation of a file have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The file's name, as people call it.
    pub(crate) file: String,
    /// The source's `fields`.
    pub(crate) fields: Vec<(String, String)>,
    /// Tells this generation from all others, over restarts and pods: with an event's offset it names the event.
    pub(crate) key: u64,
}

/// One backend's form of events. `Prepared` keeps what all events of one origin share, ready to be copied.
pub(crate) trait Format {
    /// What of an origin is worked out once.
    type Prepared;

    /// Where the backend takes requests, below the configured URL. Empty where that is the whole of it.
    fn path(&self) -> &'static str {
        ""
    }

    /// The time of reading, for formats that tell it beside the event's own; to be told before events are written.
    fn read_at(&mut self, _now: Time) {}

    fn prepare(&self, origin: &Origin) -> Self::Prepared;

    /// Appends an event that begins at `offset` of its file. Returns the group that the chunk belongs to; formats
    /// without groups have only group 0.
    fn write(&mut self, event: &Event<'_>, origin: &Self::Prepared, offset: u64, out: &mut Vec<u8>) -> u32;

    /// Puts the body of one request together from chunks, in order, each with its group.
    fn body<'c>(&self, chunks: impl Iterator<Item = (u32, &'c [u8])> + Clone, out: &mut Vec<u8>);

    /// Whether a body is its chunks, one after the other: then those of a batch need not be copied.
    fn is_joined(&self) -> bool {
        false
    }

    /// The value of `Content-Type`.
    fn content_type(&self) -> &'static str;

    /// A body for people to look at.
    fn show(&self, body: &[u8]) -> String {
        String::from_utf8_lossy(body).into_owned()
    }

    /// What an answer says about the `count` events of a request.
    fn judge(&self, answer: &Answer, count: usize) -> Verdict;
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// What became of a request's events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All are delivered.
    Delivered,
    /// All are delivered but these: their indexes in the request, ascending.
    Partly(Vec<(usize, Fate)>),
    /// None is known to be delivered, and the backend may take them later.
    Later(Why),
    /// The request is larger than the backend takes.
    TooLarge(Why),
    /// The backend will never take this request. In smaller parts it will tell which events it means.
    Refused(Why),
    /// Some events are refused for good and the answer does not tell which: to ask again would send the others
    /// twice.
    SomeRefused(Why),
}

/// What becomes of one event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The backend may take it later.
    Later(Why),
    /// The backend will never take it.
    Refused(Why),
}

/// The reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Why {
    /// One word for the metric: `throttled`, `unavailable`, `refused`, `unauthorized`, `too_large`, `unexpected`.
    pub(crate) reason: &'static str,
    /// What the backend said, for people.
    pub(crate) message: String,
}

#[cfg(test)]
mod tests {
    use super::sample::{NOON, text};
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// The body of a request with two events of one origin.
    fn body<F: Format>(mut format: F, origin: &Origin, message: &str) -> Vec<u8> {
        let prepared = format.prepare(origin);
        format.read_at(NOON);
        let mut chunks = [(0, Vec::new()), (0, Vec::new())];
        for (offset, (group, chunk)) in chunks.iter_mut().enumerate() {
            *group = format.write(&text(message), &prepared, offset as u64, chunk);
        }
        let mut body = Vec::new();
        format.body(chunks.iter().map(|(group, chunk)| (*group, chunk.as_slice())), &mut body);
        assert!(!format.is_joined() || body == [chunks[0].1.as_slice(), &chunks[1].1].concat());
        body
    }

    /// How many JSON values stand one after the other.
    fn values(body: &[u8]) -> usize {
        serde_json::Deserializer::from_slice(body).into_iter::<Value>().map(Result::unwrap).count()
    }

    proptest! {
        #[test]
        fn any_origin_and_message_make_a_request_with_all_events(
            file in ".{0,12}",
            fields in proptest::collection::vec((".{1,8}", ".{0,8}"), 0..4),
            key: u64,
            message in ".{0,40}",
        ) {
            let origin = Origin { file, fields, key };
            let json = body(Json::new(Framing::Lines), &origin, &message);
            prop_assert_eq!(values(&json), 2);
            let array = body(Json::new(Framing::Array), &origin, &message);
            prop_assert_eq!(serde_json::from_slice::<Vec<Value>>(&array).unwrap().len(), 2);
            let index = Index::parse("logs-%Y").unwrap();
            prop_assert_eq!(values(&body(Elasticsearch::new(index), &origin, &message)), 4);
            prop_assert_eq!(values(&body(Splunk::default(), &origin, &message)), 2);
            let labels = origin.fields.iter().map(|(name, _)| Label::parse(name).unwrap()).collect();
            for body in [body(Loki::new(labels), &origin, &message), body(Otlp::default(), &origin, &message)] {
                let mut groups = 0;
                prop_assert!(protobuf::each_field(&body, |_, _| groups += 1));
                prop_assert_eq!(groups, 1);
            }
        }
    }
}
