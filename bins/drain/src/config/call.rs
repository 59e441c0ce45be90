//! A request to send when traffic has left: `POST http://127.0.0.1:8080/shutdown`, or a mapping with more to say.

use std::fmt;
use std::time::Duration;

use podkit_cli::{Invalid, Section, mask_url, units};
use podkit_http_client::{Target, is_field};
use serde_json::{Value, json};

/// No single call takes longer unless it says so: the other steps and the flush come after it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What the client itself sets (RFC 9112 sections 3.2 and 6).
const RESERVED: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];

/// A request to send when traffic has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// `POST`.
    pub(crate) method: String,
    /// `http://127.0.0.1:8080`
    pub(crate) target: Target,
    /// `/shutdown`, with its query; at least `/`.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// What counts as success; any 2xx where it is empty.
    pub(crate) status: Vec<u16>,
    pub(crate) timeout: Duration,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, mask_url(&format!("{}{}", self.target, self.path)))
    }
}

impl Call {
    /// Whether an answer with this status is a success.
    pub(crate) fn expects(&self, status: u16) -> bool {
        if self.status.is_empty() { (200..300).contains(&status) } else { self.status.contains(&status) }
    }

    /// Headers and body may hold tokens, so that neither is shown.
    pub(super) fn effective(&self) -> Value {
        let mut value = json!({ "call": self.to_string() });
        if !self.headers.is_empty() {
            value["headers"] = self.headers.iter().map(|(name, _)| (name.clone(), json!("***"))).collect();
        }
        if !self.body.is_empty() {
            value["body"] = json!("***");
        }
        if !self.status.is_empty() {
            value["status"] = json!(self.status);
        }
        if self.timeout != TIMEOUT {
            value["timeout"] = json!(units::show_duration(self.timeout));
        }
        match value.as_object() {
            Some(only_call) if only_call.len() == 1 => json!(self.to_string()),
            _ => value,
        }
    }
}

/// `--then`, or `then:` with texts and mappings.
pub(super) fn read_all(root: &Section<'_>) -> Vec<Call> {
    root.items("then", parse, read)
}

fn read(section: &Section<'_>) -> Option<Call> {
    let call = section.required("call", parse);
    let headers = section.map("headers");
    for (name, value) in &headers {
        if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            section.fault("headers", Invalid::new(format!("{name:?} is set by podkit-drain itself")));
        } else if !is_field(name, value) {
            section.fault("headers", Invalid::new(format!("{name:?} or its value cannot stand in a header")));
        }
    }
    let body = section.value_or("body", |text| Ok(text.to_owned()), String::new());
    let status = section.list("status", status);
    let timeout = section.value_or("timeout", units::positive_duration, TIMEOUT);
    Some(Call { headers, body, status, timeout, ..call? })
}

fn status(text: &str) -> Result<u16, Invalid> {
    text.parse().ok().filter(|status| (200..600).contains(status)).ok_or_else(|| {
        Invalid::new(format!("{text:?} is not a status from 200 to 599")).hint("write `[200, 202]`")
    })
}

/// `POST http://127.0.0.1:8080/shutdown`
fn parse(text: &str) -> Result<Call, Invalid> {
    let bad = |why: &str| {
        Invalid::new(format!("{:?} {why}", mask_url(text)))
            .hint("write `POST http://127.0.0.1:8080/shutdown`")
    };
    let (method, rest) = text.trim().split_once(' ').ok_or_else(|| bad("is not `METHOD URL`"))?;
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(bad("has no method in capitals before its URL"));
    }
    let rest = rest.trim();
    let authority = rest.find("://").map_or(0, |at| at + 3);
    let end = rest[authority..].find(['/', '?']).map_or(rest.len(), |at| authority + at);
    let (target, path) = rest.split_at(end);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    // The whole of it is checked, so that a path with a space in it is a fault too.
    super::url(&format!("{target}{path}"))?;
    Ok(Call {
        method: method.to_owned(),
        target: super::url(target)?,
        path,
        headers: Vec::new(),
        body: String::new(),
        status: Vec::new(),
        timeout: TIMEOUT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_a_method_and_a_url() {
        for (text, shown) in [
            ("POST http://127.0.0.1:8080/shutdown?now=1", "POST http://127.0.0.1:8080/shutdown?now=***"),
            ("PUT  http://[::1]:80/a/", "PUT http://[::1]:80/a/"),
            ("GET http://localhost", "GET http://localhost/"),
            ("GET http://127.0.0.1:80?x=1", "GET http://127.0.0.1:80/?x=***"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "POST",
            "http://127.0.0.1/x",
            "post http://127.0.0.1/x",
            "POST https://127.0.0.1/",
            "POST http://",
            "POST http://127.0.0.1/a b",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn any_2xx_is_a_success_unless_told_otherwise() {
        let call = parse("GET http://localhost").unwrap();
        assert!(call.expects(200) && call.expects(299) && !call.expects(302) && !call.expects(503));
        let call = Call { status: vec![202, 503], ..call };
        assert!(!call.expects(200) && call.expects(503));
    }
}
