//! An OpenTelemetry collector's `/v1/logs`, in protobuf (docs: "OTLP specification", OTLP/HTTP; fields as in
//! `opentelemetry-proto` 1.x).

mod messages;

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Map, Value, json};

use crate::backends::{Backend, Request, Response, Server};
use messages::*;

/// A running collector.
pub(crate) type Collector = Server<Logs>;

/// One log record that was taken, its values as JSON.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) resource: BTreeMap<String, Value>,
    /// Nanoseconds since 1970; 0 where the time is not known.
    pub(crate) time: u64,
    pub(crate) observed: u64,
    pub(crate) severity: i32,
    pub(crate) severity_text: String,
    pub(crate) body: Value,
    pub(crate) attributes: BTreeMap<String, Value>,
}

/// The records, and what is refused of the next request.
#[derive(Default)]
pub(crate) struct Logs {
    taken: Vec<Taken>,
    refuse: Option<(usize, String)>,
    warn: Option<String>,
}

impl Logs {
    /// Of the next request the first records are refused for good.
    pub(crate) fn refuse_of_next(&mut self, count: usize, message: &str) {
        self.refuse = Some((count, message.to_owned()));
    }

    /// The next request is taken whole, with a warning.
    pub(crate) fn warn_next(&mut self, message: &str) {
        self.warn = Some(message.to_owned());
    }

    pub(crate) fn taken(&self) -> &[Taken] {
        &self.taken
    }
}

fn status(http: u16, code: i32, message: &str) -> Response {
    protobuf(http, &Status { code, message: message.to_owned() })
}

fn protobuf(status: u16, message: &impl Message) -> Response {
    let body = message.encode_to_vec();
    Response { status, content_type: "application/x-protobuf", body, fields: String::new() }
}

fn json_of(value: Option<AnyValue>) -> Result<Value, String> {
    Ok(match value.and_then(|value| value.value) {
        None => Value::Null,
        Some(Any::String(text)) => text.into(),
        Some(Any::Bool(value)) => value.into(),
        Some(Any::Int(value)) => value.into(),
        Some(Any::Double(value)) => value.into(),
        Some(Any::Bytes(bytes)) => bytes.into(),
        Some(Any::Array(array)) => {
            array.values.into_iter().map(|value| json_of(Some(value))).collect::<Result<Vec<_>, _>>()?.into()
        }
        Some(Any::Map(list)) => Value::Object(map_of(list.values)?.into_iter().collect::<Map<_, _>>()),
    })
}

/// Keys must be there and must be unique (docs: "Attribute collections").
fn map_of(pairs: Vec<KeyValue>) -> Result<BTreeMap<String, Value>, String> {
    let mut map = BTreeMap::new();
    for KeyValue { key, value } in pairs {
        if key.is_empty() {
            return Err("an attribute without a key".to_owned());
        }
        if map.insert(key.clone(), json_of(value)?).is_some() {
            return Err(format!("the attribute {key:?} is given twice"));
        }
    }
    Ok(map)
}

fn decode(request: &Request) -> Result<Vec<Taken>, String> {
    let export =
        ExportLogsServiceRequest::decode(request.body.as_slice()).map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    for group in export.resource_logs {
        let resource = map_of(group.resource.unwrap_or_default().attributes)?;
        for scoped in group.scope_logs {
            for record in scoped.log_records {
                if !(0..=24).contains(&record.severity_number) {
                    return Err(format!("severity number {}", record.severity_number));
                }
                if !matches!(record.trace_id.len(), 0 | 16) || !matches!(record.span_id.len(), 0 | 8) {
                    return Err("invalid length for ID".to_owned());
                }
                records.push(Taken {
                    resource: resource.clone(),
                    time: record.time_unix_nano,
                    observed: record.observed_time_unix_nano,
                    severity: record.severity_number,
                    severity_text: record.severity_text,
                    body: json_of(record.body)?,
                    attributes: map_of(record.attributes)?,
                });
            }
        }
    }
    Ok(records)
}

impl Backend for Logs {
    const PATH: &'static str = "";
    const ENCODINGS: &'static [&'static str] = &["gzip", "zstd"];

    fn count(request: &Request) -> usize {
        decode(request).map_or(0, |records| records.len())
    }

    fn take(&mut self, request: &Request) -> Response {
        match (request.method.as_str(), request.target.as_str()) {
            ("POST", "/v1/logs") => {}
            (_, "/v1/logs") => return Response::text(405, "405 method not allowed, supported: [POST]"),
            _ => return Response::text(404, "404 page not found"),
        }
        if request.media_type() != "application/x-protobuf" {
            return Response::text(
                415,
                "415 unsupported media type, supported: [application/json, application/x-protobuf]",
            );
        }
        // Code 3 is INVALID_ARGUMENT.
        let mut records = match decode(request) {
            Ok(records) => records,
            Err(why) => return status(400, 3, &why),
        };
        let mut partial_success =
            self.warn.take().map(|error_message| PartialSuccess { error_message, ..Default::default() });
        if let Some((count, error_message)) = self.refuse.take() {
            let count = count.min(records.len());
            records.drain(..count);
            let rejected_log_records = i64::try_from(count).expect("it is a small number");
            partial_success = Some(PartialSuccess { rejected_log_records, error_message });
        }
        self.taken.extend(records);
        protobuf(200, &ExportLogsServiceResponse { partial_success })
    }

    /// `message` is the body where that is text.
    fn records(&self) -> Vec<Value> {
        let record = |taken: &Taken| {
            json!({"message": taken.body, "attributes": taken.attributes, "resource": taken.resource,
                "severity": taken.severity, "time": taken.time})
        };
        self.taken.iter().map(record).collect()
    }

    fn len(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: Vec<u8>) -> Request {
        Request {
            method: "POST".to_owned(),
            target: "/v1/logs".to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/x-protobuf".to_owned())],
            body,
            encoding: "identity".to_owned(),
        }
    }

    fn text(key: &str, value: &str) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Any::String(value.to_owned())) }) }
    }

    fn export(severity_number: i32, attributes: Vec<KeyValue>) -> Vec<u8> {
        let body = text("", "hello").value;
        let record = LogRecord { time_unix_nano: 7, severity_number, body, attributes, ..Default::default() };
        let resource = Resource { attributes: vec![text("service.name", "shop")] };
        let scoped = ScopeLogs { log_records: vec![record.clone(), record], ..Default::default() };
        let group = ResourceLogs { resource: Some(resource), scope_logs: vec![scoped], ..Default::default() };
        ExportLogsServiceRequest { resource_logs: vec![group] }.encode_to_vec()
    }

    #[test]
    fn records_are_taken_with_their_resource() {
        let mut logs = Logs::default();
        let response = logs.take(&request(export(9, vec![text("log.file.path", "/a.log")])));
        // An empty message has no bytes.
        assert_eq!((response.status, response.body.len()), (200, 0));
        let taken = &logs.taken()[0];
        assert_eq!((&taken.body, taken.time, taken.severity), (&json!("hello"), 7, 9));
        assert_eq!(
            (&taken.resource["service.name"], &taken.attributes["log.file.path"]),
            (&json!("shop"), &json!("/a.log"))
        );
    }

    #[test]
    fn partial_success_says_how_many_were_refused() {
        let mut logs = Logs::default();
        logs.refuse_of_next(1, "no");
        let response = logs.take(&request(export(9, Vec::new())));
        let answer = ExportLogsServiceResponse::decode(response.body.as_slice()).unwrap();
        assert_eq!(answer.partial_success.map(|partial| partial.rejected_log_records), Some(1));
        assert_eq!(logs.len(), 1);
        logs.warn_next("soon");
        assert_eq!(logs.take(&request(export(9, Vec::new()))).status, 200);
        assert_eq!(logs.len(), 3);
    }

    #[test]
    fn what_is_not_in_order_is_refused_with_a_status() {
        for body in [
            b"nonsense".to_vec(),
            export(25, Vec::new()),
            export(9, vec![text("a", "1"), text("a", "2")]),
            export(9, vec![text("", "1")]),
        ] {
            let response = Logs::default().take(&request(body));
            assert_eq!(response.status, 400);
            assert_eq!(Status::decode(response.body.as_slice()).unwrap().code, 3);
        }
    }
}
