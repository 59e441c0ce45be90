//! Loki's push endpoint with its default limits (docs: "Ingest logs", `limits_config`; messages as in Loki's
//! `pkg/validation`). Entries that are in order are taken even where others in the request are refused.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use serde_json::{Value, json};

use crate::backends::{Backend, Request, Response, Server};

/// A running Loki.
pub(crate) type Loki = Server<Streams>;

/// `logproto.PushRequest`
#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    /// As in LogQL: `{service="shop", level="info"}`.
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
    #[prost(uint64, tag = "3")]
    hash: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    structured_metadata: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

const MAX_LABELS: usize = 15;
const MAX_LABEL_NAME: usize = 1024;
const MAX_LABEL_VALUE: usize = 2048;
const MAX_LINE: usize = 256 << 10;
const MAX_METADATA: usize = 64 << 10;
const MAX_METADATA_PAIRS: usize = 128;
const SECOND: i128 = 1_000_000_000;
/// `reject_old_samples_max_age`
const MAX_AGE: i128 = 7 * 24 * 3600 * SECOND;
/// `creation_grace_period`
const GRACE: i128 = 600 * SECOND;
/// Half of `max_chunk_age`: a stream takes nothing that is this much older than its newest entry.
const MAX_BEHIND: i128 = 3600 * SECOND;

/// One entry that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) labels: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    pub(crate) time: i128,
    pub(crate) line: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// The streams and their entries.
#[derive(Default)]
pub(crate) struct Streams {
    taken: Vec<Taken>,
    newest: HashMap<BTreeMap<String, String>, i128>,
    /// The one tenant that is let in; without one, nobody is asked.
    tenant: Option<String>,
}

impl Streams {
    pub(crate) fn admit_only(&mut self, tenant: &str) {
        self.tenant = Some(tenant.to_owned());
    }

    pub(crate) fn taken(&self) -> &[Taken] {
        &self.taken
    }

    fn push(&mut self, stream: Stream, now: i128) -> Result<(), String> {
        let Stream { labels: text, entries, .. } = stream;
        let labels = parse_labels(&text)
            .map_err(|why| format!("error parsing labels {text} with error: parse error : {why}"))?;
        if labels.is_empty() {
            return Err("error at least one label pair is required per stream".to_owned());
        }
        if labels.len() > MAX_LABELS {
            return Err(format!(
                "entry for stream '{text}' has {} label names; limit {MAX_LABELS}",
                labels.len()
            ));
        }
        for (name, value) in &labels {
            if name.len() > MAX_LABEL_NAME {
                return Err(format!("stream '{text}' has label name too long: '{name}'"));
            }
            if value.len() > MAX_LABEL_VALUE {
                return Err(format!("stream '{text}' has label value too long: '{value}'"));
            }
        }
        let mut refused = Ok(());
        for entry in entries {
            if let Err(why) = self.entry(&labels, &text, entry, now) {
                refused = Err(why);
            }
        }
        refused
    }

    fn entry(
        &mut self,
        labels: &BTreeMap<String, String>,
        text: &str,
        entry: Entry,
        now: i128,
    ) -> Result<(), String> {
        let Timestamp { seconds, nanos } = entry.timestamp.unwrap_or_default();
        let time = i128::from(seconds) * SECOND + i128::from(nanos);
        if !(0..1_000_000_000).contains(&nanos) {
            return Err(format!("timestamp with {nanos} nanoseconds"));
        }
        if time < now - MAX_AGE {
            let oldest = now - MAX_AGE;
            return Err(format!(
                "entry for stream '{text}' has timestamp too old: {time}, oldest acceptable timestamp is: {oldest}"
            ));
        }
        if time > now + GRACE {
            return Err(format!("entry for stream '{text}' has timestamp too new: {time}"));
        }
        let size = entry.line.len();
        if size > MAX_LINE {
            return Err(format!(
                "Max entry size '{MAX_LINE}' bytes exceeded for stream '{text}' while adding an entry with length '{size}' bytes"
            ));
        }
        let bytes: usize =
            entry.structured_metadata.iter().map(|pair| pair.name.len() + pair.value.len()).sum();
        if bytes > MAX_METADATA {
            return Err(format!(
                "stream '{text}' has structured metadata too large: '{bytes}' bytes, limit: '{MAX_METADATA}' bytes"
            ));
        }
        if entry.structured_metadata.len() > MAX_METADATA_PAIRS {
            let count = entry.structured_metadata.len();
            return Err(format!(
                "stream '{text}' has too many structured metadata labels: '{count}', limit: '{MAX_METADATA_PAIRS}'"
            ));
        }
        let newest = self.newest.entry(labels.clone()).or_insert(time);
        if time < *newest - MAX_BEHIND {
            return Err(format!(
                "entry with timestamp {time} ignored, reason: 'entry too far behind, oldest acceptable timestamp is: {}', user 'fake', stream: {text}",
                *newest - MAX_BEHIND
            ));
        }
        *newest = time.max(*newest);
        let metadata = entry.structured_metadata.into_iter().map(|pair| (pair.name, pair.value)).collect();
        self.taken.push(Taken { labels: labels.clone(), time, line: entry.line, metadata });
        Ok(())
    }
}

/// `{name="value", other="…"}`: Prometheus names, Go's string literals.
fn parse_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let mut rest = inner.ok_or("no braces")?.trim();
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("no `=`")?;
        let name = name.trim();
        let mut characters = name.chars();
        let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("unexpected name {name:?}"));
        }
        let after = after.trim_start().strip_prefix('"').ok_or("no opening quote")?;
        let (value, after) = literal(after)?;
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("duplicate label name {name:?}"));
        }
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(next) if !next.trim().is_empty() => rest = next.trim_start(),
            None if rest.is_empty() => {}
            _ => return Err(format!("unexpected {rest:?}")),
        }
    }
    Ok(labels)
}

/// The content of a string literal of Go, and what follows its closing quote.
fn literal(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\n' => return Err("literal not terminated".to_owned()),
            '\\' => {
                let (_, escape) = characters.next().ok_or("literal not terminated")?;
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                value.push(match escape {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' | '"' => escape,
                    'x' | 'u' | 'U' => {
                        let hex: String = characters.by_ref().take(digits).map(|(_, digit)| digit).collect();
                        let code =
                            u32::from_str_radix(&hex, 16).map_err(|_| format!("unknown escape {hex:?}"))?;
                        char::from_u32(code).ok_or(format!("unknown escape {hex:?}"))?
                    }
                    other => {
                        return Err(format!("unknown escape sequence U+{:04X} {other:?}", u32::from(other)));
                    }
                });
            }
            c => value.push(c),
        }
    }
    Err("literal not terminated".to_owned())
}

/// The streams of a request.
fn decode(request: &Request) -> Result<Vec<Stream>, Response> {
    let bad = |why: String| Response::text(400, why);
    match (request.method.as_str(), request.path()) {
        ("POST", "/loki/api/v1/push") => {}
        (_, "/loki/api/v1/push") => return Err(Response::empty(405, "")),
        _ => return Err(Response::text(404, "404 page not found\n")),
    }
    if request.media_type() != "application/x-protobuf" {
        return Err(bad(format!("the double takes protobuf only, not {:?}", request.media_type())));
    }
    let plain =
        snap::raw::Decoder::new().decompress_vec(&request.body).map_err(|error| bad(error.to_string()))?;
    let push = PushRequest::decode(plain.as_slice()).map_err(|error| bad(error.to_string()))?;
    Ok(push.streams)
}

impl Backend for Streams {
    const PATH: &'static str = "";
    /// Snappy is what the body is, said or not; what else is said would come on top.
    const ENCODINGS: &'static [&'static str] = &["snappy"];

    fn count(request: &Request) -> usize {
        decode(request).map_or(0, |streams| streams.iter().map(|stream| stream.entries.len()).sum())
    }

    fn take(&mut self, request: &Request) -> Response {
        if let Some(tenant) = &self.tenant
            && request.header("x-scope-orgid") != Some(tenant)
        {
            return Response::text(401, "no org id\n");
        }
        let streams = match decode(request) {
            Ok(streams) => streams,
            Err(refused) => return refused,
        };
        if streams.iter().all(|stream| stream.entries.is_empty()) {
            return Response::text(422, "Error: at least one stream is required for ingestion\n");
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let now = i128::try_from(since.as_nanos()).expect("nanoseconds fit");
        let mut refused = None;
        for stream in streams {
            refused = self.push(stream, now).err().or(refused);
        }
        match refused {
            Some(why) => Response::text(400, why + "\n"),
            None => Response::empty(204, ""),
        }
    }

    /// `message` is the line as it was pushed.
    fn records(&self) -> Vec<Value> {
        let record = |taken: &Taken| json!({"message": taken.line, "labels": taken.labels, "metadata": taken.metadata, "time": taken.time.to_string()});
        self.taken.iter().map(record).collect()
    }

    fn len(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(streams: &mut Streams, labels: &str, entries: &[(i64, &str)]) -> (u16, String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let entry = |(age, line): &(i64, &str)| Entry {
            timestamp: Some(Timestamp { seconds: i64::try_from(now).unwrap() - age, nanos: 5 }),
            line: (*line).to_owned(),
            structured_metadata: vec![Pair { name: "file".to_owned(), value: "/a.log".to_owned() }],
        };
        let stream =
            Stream { labels: labels.to_owned(), entries: entries.iter().map(entry).collect(), hash: 0 };
        let plain = PushRequest { streams: vec![stream] }.encode_to_vec();
        let request = Request {
            method: "POST".to_owned(),
            target: "/loki/api/v1/push".to_owned(),
            headers: vec![("content-type".to_owned(), "application/x-protobuf".to_owned())],
            body: snap::raw::Encoder::new().compress_vec(&plain).unwrap(),
            encoding: "snappy".to_owned(),
        };
        let response = streams.take(&request);
        (response.status, String::from_utf8(response.body).unwrap())
    }

    #[test]
    fn entries_in_order_are_taken() {
        let mut streams = Streams::default();
        let (status, _) = push(&mut streams, r#"{service="sh\"op\\", level="info"}"#, &[(5, "a"), (3, "b")]);
        assert_eq!(status, 204);
        let taken = &streams.taken()[0];
        assert_eq!((taken.labels["service"].as_str(), taken.labels["level"].as_str()), ("sh\"op\\", "info"));
        assert_eq!((taken.line.as_str(), taken.metadata["file"].as_str()), ("a", "/a.log"));
        assert_eq!(streams.len(), 2);
    }

    #[test]
    fn what_loki_refuses_is_refused_and_the_rest_taken() {
        let many: String = (0..16).map(|n| format!("l{n}=\"x\",")).collect();
        let many = format!("{{{}}}", many.trim_end_matches(','));
        for (labels, entries, taken, message) in [
            ("{}", &[(0, "a")][..], 0, "at least one label pair is required"),
            ("service=\"x\"", &[(0, "a")], 0, "error parsing labels"),
            ("{a-b=\"x\"}", &[(0, "a")], 0, "error parsing labels"),
            ("{a=\"x}", &[(0, "a")], 0, "literal not terminated"),
            ("{a=\"x\",a=\"y\"}", &[(0, "a")], 0, "duplicate label name"),
            (many.as_str(), &[(0, "a")], 0, "has 16 label names; limit 15"),
            ("{a=\"x\"}", &[(0, "a"), (8 * 24 * 3600, "b")], 1, "timestamp too old"),
            ("{a=\"x\"}", &[(0, "a"), (-1000, "b")], 1, "timestamp too new"),
            ("{a=\"x\"}", &[(0, "a"), (7200, "b"), (1, "c")], 2, "too far behind"),
            ("{a=\"x\"}", &[], 0, "at least one stream"),
        ] {
            let mut streams = Streams::default();
            let (status, body) = push(&mut streams, labels, entries);
            assert!(status == 400 || status == 422, "{labels}: {status}");
            assert!(body.contains(message), "{labels}: {body}");
            assert_eq!(streams.len(), taken, "{labels}");
        }
        let mut streams = Streams::default();
        let (status, body) = push(&mut streams, "{a=\"x\"}", &[(0, &"x".repeat(MAX_LINE + 1)), (0, "b")]);
        assert_eq!((status, streams.len()), (400, 1));
        assert!(body.starts_with("Max entry size '262144' bytes exceeded for stream '{a=\"x\"}'"), "{body}");
    }
}
