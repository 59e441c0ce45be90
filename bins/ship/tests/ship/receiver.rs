//! A backend that takes NDJSON or a JSON array, as `http` destinations send them.

use serde_json::Value;

pub(crate) use crate::backends::Answer;
use crate::backends::{Backend, Request, Response, Server};

/// A running receiver.
pub(crate) type Receiver = Server<Records>;

/// Takes what is whole, valid and an object.
#[derive(Default)]
pub(crate) struct Records {
    taken: Vec<Value>,
}

impl Receiver {
    /// This one as a destination of a config file, as YAML on one line, with further settings or none.
    pub(crate) fn destination(&self, settings: &str) -> String {
        let comma = if settings.is_empty() { "" } else { ", " };
        format!("http: {{url: \"{}\"{comma}{settings}}}", self.url())
    }
}

impl Backend for Records {
    const PATH: &'static str = "/logs";
    const ENCODINGS: &'static [&'static str] = &["gzip", "zstd"];

    fn count(request: &Request) -> usize {
        parse(request).map_or(0, |records| records.len())
    }

    fn take(&mut self, request: &Request) -> Response {
        if (request.method.as_str(), request.target.as_str()) != ("POST", "/logs") {
            return Response::text(404, format!("{} {}", request.method, request.target));
        }
        match parse(request) {
            Ok(records) => {
                self.taken.extend(records);
                Response::empty(200, "")
            }
            Err((status, what)) => Response::text(status, what),
        }
    }

    fn records(&self) -> Vec<Value> {
        self.taken.clone()
    }

    fn len(&self) -> usize {
        self.taken.len()
    }
}

/// The records of a request, or the status and reason of a refusal.
fn parse(request: &Request) -> Result<Vec<Value>, (u16, String)> {
    let text = std::str::from_utf8(&request.body).map_err(|error| (400, error.to_string()))?;
    let records = match request.media_type().as_str() {
        "application/x-ndjson" if text.ends_with('\n') => {
            text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()
        }
        "application/x-ndjson" => return Err((400, "the last record has no line end".to_owned())),
        "application/json" => serde_json::from_str(text),
        other => return Err((415, format!("the content type {other:?}"))),
    };
    let records = records.map_err(|error| (400, error.to_string()))?;
    match records.iter().find(|record| !record.is_object()) {
        Some(record) => Err((400, format!("{record} is not an object"))),
        None => Ok(records),
    }
}
