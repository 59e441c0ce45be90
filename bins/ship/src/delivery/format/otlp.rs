//! OTLP over HTTP: `ExportLogsServiceRequest` in protobuf.
//!
//! Sources: opentelemetry.io/docs/specs/otlp, "OTLP/HTTP"; opentelemetry-proto, `logs/v1/logs.proto`; the log data
//! model; the semantic conventions for resources (`service.*`, `k8s.*`, `host.*`, `deployment.*`) and for log files.
//! Values of JSON keep their types; W3C Trace Context tells the form of `traceparent`.

use std::cell::Cell;

use memchr::memmem;

use crate::event::{Body, Event, MESSAGE, OWN_NAMES, Object, Time};

use super::json::Pairs;
use super::members::{each_member, string};
use super::protobuf::{
    Groups, Value, bytes, bytes_head, each_field, fixed32, fixed64, message, show, uint, varint_len,
};
use super::{Answer, Format, Origin, Verdict, Why, status};
use value::{json_value, key_value, key_value_text, text_value};

mod shown;
mod value;

/// Fields that resources have a name of their own for.
const RESOURCE_NAMES: [(&str, &str); 8] = [
    ("service", "service.name"),
    ("version", "service.version"),
    ("environment", "deployment.environment.name"),
    ("pod", "k8s.pod.name"),
    ("namespace", "k8s.namespace.name"),
    ("container", "k8s.container.name"),
    ("node", "k8s.node.name"),
    ("host", "host.name"),
];

/// Log requests.
#[derive(Debug, Default)]
pub(crate) struct Otlp {
    /// Each group is a resource; what it shares is the encoded `Resource`.
    resources: Groups,
    read_at: Option<Time>,
}

/// What an origin's records share.
#[derive(Debug)]
pub(crate) struct Resource {
    encoded: Vec<u8>,
    group: Cell<Option<u32>>,
    /// The attributes `log.file.path` and `log.file.name`.
    attributes: Vec<u8>,
}

impl Format for Otlp {
    type Prepared = Resource;

    fn path(&self) -> &'static str {
        "/v1/logs"
    }

    fn read_at(&mut self, now: Time) {
        self.read_at = Some(now);
    }

    fn prepare(&self, origin: &Origin) -> Resource {
        let mut encoded = Vec::new();
        for (name, value) in &origin.fields {
            let known = RESOURCE_NAMES.iter().find(|(field, _)| field == name);
            key_value_text(1, known.map_or(name, |(_, name)| name), value, &mut encoded);
        }
        let mut attributes = Vec::new();
        key_value_text(6, "log.file.path", &origin.file, &mut attributes);
        let name = origin.file.rsplit('/').next().unwrap_or(&origin.file);
        key_value_text(6, "log.file.name", name, &mut attributes);
        Resource { encoded, group: Cell::new(None), attributes }
    }

    fn write(&mut self, event: &Event<'_>, origin: &Resource, _offset: u64, out: &mut Vec<u8>) -> u32 {
        let read_at = self.read_at.unwrap_or(event.time);
        message(2, out, |out| {
            // Times before 1970 cannot be told; 0 is an unknown one.
            fixed64(1, event.time.0.max(0) as u64, out);
            fixed64(11, read_at.0.max(0) as u64, out);
            if let Some(level) = event.level {
                uint(2, u64::from(level.severity_number()), out);
                bytes(3, level.name().as_bytes(), out);
            }
            let mut trace = Trace::default();
            match &event.body {
                Body::Text(text) => message(5, out, |out| text_value(text, out)),
                Body::Object(object) => members(object, &mut trace, out),
            }
            out.extend_from_slice(&origin.attributes);
            let pairs = Pairs::of(event);
            for (name, value) in pairs.iter() {
                if !trace.take(name, value) {
                    key_value_text(6, name, value, out);
                }
            }
            if event.split && !pairs.tell("split") {
                key_value(6, "split", out, |out| json_value("true", out));
            }
            trace.write(out);
        });
        let group = origin.group.get().unwrap_or_else(|| self.resources.number(&origin.encoded));
        origin.group.set(Some(group));
        group
    }

    fn body<'c>(&self, chunks: impl Iterator<Item = (u32, &'c [u8])> + Clone, out: &mut Vec<u8>) {
        let mut scope = Vec::new();
        message(1, &mut scope, |out| {
            bytes(1, b"podkit-ship", out);
            bytes(2, env!("CARGO_PKG_VERSION").as_bytes(), out);
        });
        // ResourceLogs { resource = 1, scope_logs = 2 { scope = 1, log_records = 2 } }
        self.resources.gather(chunks, out, |resource, size, out| {
            let logs = scope.len() + size;
            let mut head = Vec::with_capacity(resource.len() + 8);
            bytes(1, resource, &mut head);
            bytes_head(1, head.len() + 1 + varint_len(logs as u64) + logs, out);
            out.extend_from_slice(&head);
            bytes_head(2, logs, out);
            out.extend_from_slice(&scope);
        });
    }

    fn content_type(&self) -> &'static str {
        "application/x-protobuf"
    }

    fn show(&self, body: &[u8]) -> String {
        show(&shown::EXPORT_LOGS_SERVICE_REQUEST, body)
    }

    fn judge(&self, answer: &Answer, count: usize) -> Verdict {
        if !(200..300).contains(&answer.status) {
            let said = said(&answer.body).unwrap_or_else(|| status::excerpt(&answer.body));
            return status::judge(answer.status, &said);
        }
        // The status says that the request was taken, whatever the body says ("Full Success"): servers that answer
        // with an empty body, JSON or a page are not rare, and to send again would double all events.
        let (rejected, message) = partial_success(&answer.body).unwrap_or_default();
        let said = if message.is_empty() { "no reason given" } else { &message };
        let why = Why::new("refused", format!("{rejected} of {count} records rejected: {said}"));
        match usize::try_from(rejected) {
            Ok(0) | Err(_) => Verdict::Delivered,
            Ok(rejected) if rejected >= count => Verdict::Refused(why),
            Ok(_) => Verdict::SomeRefused(why),
        }
    }
}

/// The body and the attributes of an object: its message is the body, the other members are attributes. Without a
/// message all of it is the body.
fn members(object: &Object<'_>, trace: &mut Trace, out: &mut Vec<u8>) {
    let start = out.len();
    if object.has(MESSAGE) {
        let read = each_member(&object.json, |name, value| {
            if name == OWN_NAMES[MESSAGE] {
                message(5, out, |out| json_value(value, out));
            } else if !trace.take_json(name, value) {
                key_value(6, name, out, |out| json_value(value, out));
            }
        });
        if read.is_ok() {
            return;
        }
        // A name that is no Unicode: the object as it was written is all that can be told.
        out.truncate(start);
    } else if memmem::find(object.json.as_bytes(), b"trace").is_some() {
        let _ = each_member(&object.json, |name, value| {
            trace.take_json(name, value);
        });
    }
    message(5, out, |out| json_value(&object.json, out));
}

/// The span that an event belongs to.
#[derive(Debug, Default)]
struct Trace {
    trace: Option<[u8; 16]>,
    span: Option<[u8; 8]>,
    parent: Option<([u8; 16], [u8; 8], u8)>,
}

impl Trace {
    /// Takes a value that the record has a place of its own for; false where it has none.
    fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "trace_id" => {
                let id = id(value);
                self.trace = id.or(self.trace);
                id.is_some()
            }
            "span_id" => {
                let id = id(value);
                self.span = id.or(self.span);
                id.is_some()
            }
            "traceparent" => {
                self.parent = parent(value).or(self.parent);
                // It has more in it than the record has places for.
                false
            }
            _ => false,
        }
    }

    fn take_json(&mut self, name: &str, value: &str) -> bool {
        matches!(name, "trace_id" | "span_id" | "traceparent")
            && string(value).is_some_and(|value| self.take(name, &value))
    }

    fn write(&self, out: &mut Vec<u8>) {
        // Ids of their own name win; those of another trace do not mix.
        let parent = self.parent.filter(|(trace, ..)| self.trace.is_none_or(|own| own == *trace));
        if let Some(trace) = self.trace.or(parent.map(|(trace, ..)| trace)) {
            bytes(9, &trace, out);
        }
        if let Some(span) = self.span.or(parent.map(|(_, span, _)| span)) {
            bytes(10, &span, out);
        }
        if let Some((.., flags)) = parent {
            fixed32(8, u32::from(flags), out);
        }
    }
}

/// An id in hex; one of zeroes is none.
fn id<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut id = [0; N];
    for (byte, digits) in id.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(digits[0])? << 4 | digit(digits[1])?) as u8;
    }
    (id != [0; N]).then_some(id)
}

/// `00-<trace>-<span>-<flags>` (W3C Trace Context, section 3.2).
fn parent(text: &str) -> Option<([u8; 16], [u8; 8], u8)> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || flags.len() != 2 {
        return None;
    }
    Some((id(trace)?, id(span)?, u8::from_str_radix(flags, 16).ok()?))
}

/// The rejected records and the reason of an `ExportLogsServiceResponse`; `None` where it is none.
fn partial_success(body: &[u8]) -> Option<(i64, String)> {
    let mut partial: &[u8] = &[];
    let whole = each_field(body, |field, value| {
        if let (1, Value::Bytes(value)) = (field, value) {
            partial = value;
        }
    });
    let (mut rejected, mut message) = (0, String::new());
    let whole = whole
        && each_field(partial, |field, value| match (field, value) {
            (1, Value::Uint(value)) => rejected = value as i64,
            (2, Value::Bytes(value)) => message = status::excerpt(value),
            _ => {}
        });
    whole.then_some((rejected, message))
}

/// The message of a `google.rpc.Status`; `None` where the body is none.
fn said(body: &[u8]) -> Option<String> {
    let mut said = None;
    let whole = each_field(body, |field, value| {
        if let (2, Value::Bytes(value)) = (field, value) {
            said = std::str::from_utf8(value).ok().map(status::clip);
        }
    });
    said.filter(|said| whole && !said.is_empty())
}

#[cfg(test)]
mod tests;
