//! A client's request head, checked and written anew for the upstream.
//!
//! What two servers could read differently is refused (RFC 9112 2.2, 3.2, 5, 6; RFC 9110 7.6.1); of the rest, what is
//! handed on is written so that nothing unread can pass. Pure functions over bytes: never does I/O.
//!
//! Our hop does not show in a `Via` field, though RFC 9110 7.6.3 asks for one: as behind Envoy and HAProxy, the app
//! and the world see no proxy at all.

use std::io::Write as _;
use std::mem::MaybeUninit;

use super::body::Body;
use super::facts::Facts;
use super::fields::{Field, Fields};
use super::forwarded::{CLAIMS, Client};
use super::head::{Head, write_field};
use super::refusal::Refusal;
use super::target::Target;
use super::trace;
use crate::access_log::Line;
use crate::buffer::Buffer;
use crate::config::{Forwarded, Limits, MAX_HEADERS};

/// Fields that end at this hop, or are written anew.
const HOP: Fields = Fields::of([
    Field::Dropped,
    Field::Connection,
    Field::HopByHop,
    Field::Te,
    Field::Host,
    Field::Upgrade,
    Field::ClientCert,
]);

/// What the head is read for.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) client: Client<'a>,
    /// What the upstream is told of the client; `None` for outbound, where the client is the app itself and telling
    /// would only show the world that it is there.
    pub(crate) forwarded: Option<Forwarded>,
    /// Whether a request without a trace is given one.
    pub(crate) start_trace: bool,
    /// The Host for an HTTP/1.0 client that sent none.
    pub(crate) default_host: &'a str,
}

/// What must be known of a request once its head is written to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) body: Body,
    pub(crate) is_head: bool,
    /// May be sent a second time without harm (RFC 9110 9.2.2).
    pub(crate) idempotent: bool,
    pub(crate) http10: bool,
    /// The client wants to use the connection again.
    pub(crate) keep_alive: bool,
    /// An upgrade was asked for and is handed on.
    pub(crate) upgrade: bool,
    /// gRPC, by its content type: its upstream must speak HTTP/2, and its bodies are streams that may be silent.
    pub(crate) grpc: bool,
    /// The kubelet's, as it says itself.
    pub(crate) probe: bool,
}

/// Reads a whole head, blank line included, and appends the upstream's to `out`; the line of the access log, if there
/// is one, gets what is worth telling of it, also where it is refused.
pub(crate) fn read(
    raw: &[u8],
    rules: &Rules<'_>,
    out: &mut Buffer,
    mut line: Option<&mut Line>,
) -> Result<Request, Refusal> {
    if raw.len() > rules.limits.header_size {
        return Err(Refusal::HeadTooLarge);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let outcome = parsed.parse_with_uninit_headers(raw, &mut fields[..rules.limits.headers]);
    if let Some(line) = line.as_deref_mut() {
        tell_target(&parsed, line);
    }
    match outcome {
        Ok(httparse::Status::Complete(length)) if length == raw.len() => {}
        Ok(_) => return Err(Refusal::RequestLine),
        Err(error) => return Err(diagnose(error, raw)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::RequestLine);
    };
    let mut kinds = [Field::Other; MAX_HEADERS];
    let mut head = Head::new(raw, parsed.headers, &mut kinds)?;
    if let Some(line) = line.as_deref_mut() {
        tell_client(&head, line);
    }
    let facts = Facts::gather(&head, minor == 0)?;
    let target = Target::read(method, target, facts.host)?;
    let body = facts.body(rules.limits)?;
    // An upgrade with a body would need the body's end first; RFC 9110 7.8 lets a server ignore the wish.
    let upgrade = facts.upgrade.filter(|_| body.is_over() && !facts.http10 && facts.connection.upgrade);
    let forwards = facts.forwards_left(method)?;
    head.drop_named(&facts.connection);
    if !rules.client.is_trusted {
        head.drop_all(CLAIMS);
    }

    for part in [method, " ", target.start, target.rest, " HTTP/1.1\r\nHost: "] {
        out.push(part.as_bytes());
    }
    out.push(facts.host.unwrap_or(rules.default_host.as_bytes()));
    out.push(b"\r\n");
    write_fields(&head, &facts, forwards, rules, out, line);
    if let Some(protocol) = upgrade {
        write_field(out, "Connection", b"upgrade");
        write_field(out, "Upgrade", protocol);
    }
    out.push(b"\r\n");

    Ok(Request {
        body,
        is_head: method == "HEAD",
        idempotent: matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE"),
        http10: facts.http10,
        keep_alive: (!facts.http10 || facts.connection.keep_alive) && !facts.connection.close,
        upgrade: upgrade.is_some(),
        grpc: facts.grpc,
        probe: facts.probe,
    })
}

/// The method and the target, as far as they could be read.
fn tell_target(parsed: &httparse::Request<'_, '_>, line: &mut Line) {
    for (key, value) in [("method", parsed.method), ("path", parsed.path)] {
        if let Some(value) = value {
            line.text(key, value.as_bytes());
        }
    }
}

fn tell_client(head: &Head<'_, '_>, line: &mut Line) {
    for (key, kind) in [("host", Field::Host), ("user_agent", Field::UserAgent)] {
        if let Some(value) = head.values(kind).next() {
            line.text(key, value);
        }
    }
}

fn write_fields(
    head: &Head<'_, '_>,
    facts: &Facts<'_>,
    forwards: Option<u64>,
    rules: &Rules<'_>,
    out: &mut Buffer,
    line: Option<&mut Line>,
) {
    let mut without = HOP;
    if !facts.may_expect() {
        without = without.with(Field::Expect);
    }
    let id = head.only(Field::RequestId).filter(|id| trace::is_request_id(id));
    if id.is_none() {
        without = without.with(Field::RequestId);
    }
    let traced = head.only(Field::Traceparent).and_then(trace::trace_id);
    if traced.is_none() {
        // The state is of the parent that is not believed (W3C Trace Context 3.3).
        without = without.with(Field::Traceparent).with(Field::Tracestate);
    }
    if let Some(hops) = forwards {
        without = without.with(Field::MaxForwards);
        let mut text = [0; 20];
        let mut rest = &mut text[..];
        // Twenty digits hold every number.
        let _ = write!(rest, "{hops}");
        let unused = rest.len();
        write_field(out, "Max-Forwards", &text[..text.len() - unused]);
    }
    if let Some(forwarded) = rules.forwarded {
        without = without.and(rules.client.rewritten(forwarded));
    }
    head.copy(without, out);

    let started_id = id.is_none().then(|| trace::request_id(fastrand::u128(..)));
    if let Some(id) = &started_id {
        write_field(out, "X-Request-ID", id);
    }
    let starts_trace = traced.is_none() && rules.start_trace;
    let started = starts_trace.then(|| trace::traceparent(fastrand::u128(..), fastrand::u64(..)));
    if let Some(traceparent) = &started {
        write_field(out, "traceparent", traceparent);
    }
    if let Some(forwarded) = rules.forwarded {
        rules.client.tell(forwarded, head, facts.host, out);
    }
    if let Some(line) = line {
        line.text("request_id", id.or(started_id.as_ref().map(|id| &id[..])).unwrap_or_default());
        if let Some(id) = traced.or_else(|| trace::trace_id(started.as_ref()?)) {
            line.text("trace_id", id);
        }
    }
}

/// Names the rule that a head breaks, for the count; how it is answered is the same.
fn diagnose(error: httparse::Error, head: &[u8]) -> Refusal {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        _ if memchr::memchr(0, head).is_some() => Refusal::Nul,
        httparse::Error::Version if is_of_another_version(line) => Refusal::Version,
        httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::NewLine
            if line.ends_with(b" HTTP/1.1\r") || line.ends_with(b" HTTP/1.0\r") =>
        {
            let mut lines = head.split(|byte| *byte == b'\n').skip(1);
            lines.find_map(diagnose_line).unwrap_or(Refusal::Field)
        }
        _ => Refusal::RequestLine,
    }
}

/// `METHOD target HTTP/d.d`
fn is_of_another_version(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let version = words.next().and_then(|version| version.strip_prefix(b"HTTP/"));
    matches!(version, Some([b'0'..=b'9', b'.', b'0'..=b'9', b'\r'])) && words.next().is_none()
}

fn diagnose_line(line: &[u8]) -> Option<Refusal> {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    match (line.first(), name.last()) {
        (Some(b' ' | b'\t'), _) => Some(Refusal::FoldedField),
        (_, Some(b' ' | b'\t')) if name.len() < line.len() => Some(Refusal::SpaceBeforeColon),
        _ => None,
    }
}

#[cfg(any(test, fuzzing))]
impl<'a> Rules<'a> {
    /// Those of an outbound listener that adds nothing but a request id, for tests.
    pub(crate) fn plain(limits: &'a Limits) -> Self {
        let client = Client { ip: Some("10.1.2.3"), is_secure: false, certificate: None, is_trusted: true };
        Self { limits, client, forwarded: None, start_trace: false, default_host: "127.0.0.1:8081" }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
