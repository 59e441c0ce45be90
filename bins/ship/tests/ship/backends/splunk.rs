//! Splunk's HTTP Event Collector (docs: "Format events for HTTP Event Collector", and the table of codes in
//! "Troubleshoot HTTP Event Collector"). Events before one that is refused are taken; those after it are not.

use serde_json::{Value, json};

use crate::backends::{Backend, Request, Response, Server};

/// A running Splunk.
pub(crate) type Splunk = Server<Collector>;

/// The token that is let in unless the test says another.
pub(crate) const TOKEN: &str = "b0221cd8-c4b4-465a-9a3c-273e3a75aa29";

/// The events.
pub(crate) struct Collector {
    token: String,
    events: Vec<Value>,
}

impl Default for Collector {
    fn default() -> Self {
        Self { token: TOKEN.to_owned(), events: Vec::new() }
    }
}

impl Collector {
    /// Lets in another token only.
    pub(crate) fn admit_only(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    fn accept(&mut self, request: &Request) -> Result<(), Response> {
        match (request.method.as_str(), request.path()) {
            (
                "POST",
                "/services/collector" | "/services/collector/event" | "/services/collector/event/1.0",
            ) => {}
            _ => return Err(answer(404, "The requested URL was not found on this server.", 404)),
        }
        let Some(authorization) = request.header("authorization") else {
            return Err(answer(401, "Token is required", 2));
        };
        let Some(token) = authorization.strip_prefix("Splunk ") else {
            return Err(answer(401, "Invalid authorization", 3));
        };
        if token != self.token {
            return Err(answer(403, "Invalid token", 4));
        }
        if request.body.trim_ascii().is_empty() {
            return Err(answer(400, "No data", 5));
        }
        for (number, event) in
            serde_json::Deserializer::from_slice(&request.body).into_iter::<Value>().enumerate()
        {
            let refused = |text, code| {
                Response::json(400, json!({"text": text, "code": code, "invalid-event-number": number}))
            };
            let event = event.map_err(|_| refused("Invalid data format", 6))?;
            if let Err((text, code)) = fault(&event) {
                return Err(refused(text, code));
            }
            self.events.push(event);
        }
        Ok(())
    }
}

fn answer(status: u16, text: &str, code: u16) -> Response {
    Response::json(status, json!({"text": text, "code": code}))
}

/// Why an event is refused: the text and the code.
fn fault(event: &Value) -> Result<(), (&'static str, u16)> {
    let Value::Object(members) = event else { return Err(("Invalid data format", 6)) };
    for (name, value) in members {
        let known = match name.as_str() {
            "event" => true,
            "time" => value.is_number() || value.as_str().is_some_and(|text| text.parse::<f64>().is_ok()),
            "host" | "source" | "sourcetype" | "index" => value.is_string(),
            "fields" => value.is_object(),
            _ => false,
        };
        if !known {
            return Err(("Invalid data format", 6));
        }
    }
    match members.get("event") {
        None => return Err(("Event field is required", 12)),
        Some(Value::Null) => return Err(("Event field cannot be blank", 13)),
        Some(Value::String(text)) if text.is_empty() => return Err(("Event field cannot be blank", 13)),
        Some(_) => {}
    }
    // Docs: "Automate indexed field extractions": no nested objects.
    let is_flat = |value: &Value| !value.is_object() && !value.is_null();
    let all_flat =
        |value: &Value| value.as_array().map_or(is_flat(value), |values| values.iter().all(is_flat));
    match members.get("fields").and_then(Value::as_object) {
        Some(fields) if !fields.values().all(all_flat) => Err(("Error in handling indexed fields", 15)),
        _ => Ok(()),
    }
}

impl Backend for Collector {
    const PATH: &'static str = "";
    const ENCODINGS: &'static [&'static str] = &["gzip"];

    fn count(request: &Request) -> usize {
        serde_json::Deserializer::from_slice(&request.body).into_iter::<Value>().filter(Result::is_ok).count()
    }

    fn take(&mut self, request: &Request) -> Response {
        self.accept(request).map_or_else(|refused| refused, |()| answer(200, "Success", 0))
    }

    /// The events as they came, with `message`: the event where it is text, else its member of that name.
    fn records(&self) -> Vec<Value> {
        let record = |event: &Value| {
            let message =
                if event["event"].is_string() { &event["event"] } else { &event["event"]["message"] };
            let mut record = event.clone();
            record["message"] = message.clone();
            record
        };
        self.events.iter().map(record).collect()
    }

    fn len(&self) -> usize {
        self.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(collector: &mut Collector, authorization: Option<&str>, body: &str) -> (u16, Value) {
        let authorization = authorization.map(|value| ("Authorization".to_owned(), value.to_owned()));
        let request = Request {
            method: "POST".to_owned(),
            target: "/services/collector/event".to_owned(),
            headers: authorization.into_iter().collect(),
            body: body.as_bytes().to_vec(),
            encoding: "identity".to_owned(),
        };
        let response = collector.take(&request);
        (response.status, serde_json::from_slice(&response.body).unwrap())
    }

    #[test]
    fn events_stand_one_after_the_other() {
        let mut collector = Collector::default();
        let token = format!("Splunk {TOKEN}");
        let body = r#"{"event":"a","time":1763000000.123}{"event":{"message":"b"},"fields":{"x":"1"}}"#;
        assert_eq!(send(&mut collector, Some(&token), body), (200, json!({"text": "Success", "code": 0})));
        assert_eq!(collector.records().iter().map(|r| r["message"].clone()).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn refusals_have_their_codes() {
        let token = format!("Splunk {TOKEN}");
        let token = Some(token.as_str());
        for (authorization, body, status, code) in [
            (None, "{}", 401, 2),
            (Some("Bearer x"), "{}", 401, 3),
            (Some("Splunk x"), "{}", 403, 4),
            (token, " ", 400, 5),
            (token, "{\"event\":", 400, 6),
            (token, "[]", 400, 6),
            (token, "{\"event\":\"a\",\"message\":\"b\"}", 400, 6),
            (token, "{}", 400, 12),
            (token, "{\"event\":\"\"}", 400, 13),
            (token, "{\"event\":\"a\",\"fields\":{\"a\":{}}}", 400, 15),
        ] {
            let (got, answer) = send(&mut Collector::default(), authorization, body);
            assert_eq!((got, &answer["code"]), (status, &json!(code)), "{body}: {answer}");
        }
        let mut collector = Collector::default();
        let (_, answer) = send(&mut collector, token, "{\"event\":\"a\"}{\"event\":\"\"}{\"event\":\"c\"}");
        assert_eq!((&answer["invalid-event-number"], collector.len()), (&json!(1), 1));
    }
}
