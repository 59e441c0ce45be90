//! A client's request head, checked and written anew for the upstream.
//!
//! What two servers could read differently is refused (RFC 9112 2.2, 3.2, 5, 6; RFC 9110 7.6.1); what is handed on
//! is written field by field, so nothing unread can pass. Pure functions over bytes: never does I/O.

use std::mem::MaybeUninit;

use httparse::Header;

use super::body::{Body, Chunks};
use super::fields::{Connection, Field, content_length};
use super::refusal::Refusal;
use crate::buffer::Buffer;
use crate::config::{Limits, MAX_HEADERS};

/// Looks for the end of a head as its bytes arrive, each byte once.
#[derive(Debug, Default)]
pub(crate) struct HeadEnd {
    seen: usize,
}

impl HeadEnd {
    /// The length of the head, once `bytes`, all that has arrived of it, hold its end. What cannot become a head
    /// is refused at once.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        if bytes
            .first()
            .is_some_and(|first| !first.is_ascii_alphabetic() && !b"!#$%&'*+-.^_`|~\r".contains(first))
        {
            return Err(Refusal::RequestLine);
        }
        for at in memchr::memchr_iter(b'\n', &bytes[self.seen..]).map(|at| self.seen + at) {
            match at.checked_sub(1).map(|before| bytes[before]) {
                Some(b'\r') if at >= 3 && &bytes[at - 3..at - 1] == b"\r\n" => return Ok(Some(at + 1)),
                Some(b'\r') => {}
                _ => return Err(Refusal::BareLf),
            }
        }
        self.seen = bytes.len();
        Ok(None)
    }
}

/// What the head is read for.
#[derive(Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) limits: &'a Limits,
    /// The client's address as text; `None` for outbound, where the client is the app itself and X-Forwarded-*
    /// would only tell the world that it is there.
    pub(crate) peer: Option<&'a str>,
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
}

/// Reads a whole head, blank line included, and appends the upstream's to `out`.
pub(crate) fn read(head: &[u8], rules: &Rules<'_>, out: &mut Buffer) -> Result<Request, Refusal> {
    if head.len() > rules.limits.header_size {
        return Err(Refusal::HeadTooLarge);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let allowed = &mut fields[..rules.limits.headers];
    match parsed.parse_with_uninit_headers(head, allowed) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Refusal::RequestLine),
        Err(error) => return Err(diagnose(error, head)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::RequestLine);
    };
    let mut kinds = [Field::Other; MAX_HEADERS];
    let facts = Facts::gather(parsed.headers, &mut kinds, minor == 0)?;
    let target = Target::read(method, target, facts.host)?;
    let body = facts.body(rules.limits)?;
    // An upgrade with a body would need the body's end first; RFC 9110 7.8 lets a server ignore the wish.
    let upgrade = facts.upgrade.filter(|_| body.is_over() && !facts.http10 && facts.connection.upgrade);

    for part in [method, " ", target.start, target.rest, " HTTP/1.1\r\nHost: "] {
        out.push(part.as_bytes());
    }
    out.push(facts.host.unwrap_or(rules.default_host.as_bytes()));
    out.push(b"\r\n");
    write_fields(parsed.headers, &kinds, &facts, rules, out);
    if let Some(protocol) = upgrade {
        write_field(out, "Connection", b"upgrade");
        write_field(out, "Upgrade", protocol);
    }
    out.push(b"\r\n");

    Ok(Request {
        body,
        is_head: method == "HEAD",
        idempotent: matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"),
        http10: facts.http10,
        keep_alive: (!facts.http10 || facts.connection.keep_alive) && !facts.connection.close,
        upgrade: upgrade.is_some(),
    })
}

/// The fields that decide about the message.
#[derive(Debug)]
struct Facts<'a> {
    http10: bool,
    connection: Connection<'a>,
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    /// The wished protocols, without h2c: its framing would pass unchecked.
    upgrade: Option<&'a [u8]>,
    has_request_id: bool,
    has_forwarded_host: bool,
    has_forwarded_proto: bool,
    has_forwarded_for: bool,
}

impl<'a> Facts<'a> {
    fn gather(headers: &[Header<'a>], kinds: &mut [Field], http10: bool) -> Result<Self, Refusal> {
        let mut facts = Self {
            http10,
            connection: Connection::default(),
            host: None,
            length: None,
            chunked: false,
            upgrade: None,
            has_request_id: false,
            has_forwarded_host: false,
            has_forwarded_proto: false,
            has_forwarded_for: false,
        };
        for (header, kind) in headers.iter().zip(kinds) {
            *kind = Field::of(header.name);
            facts.add(*kind, header.value)?;
        }
        let connection = &facts.connection;
        if connection.names("host")
            || connection.names("content-length")
            || connection.names("transfer-encoding")
        {
            return Err(Refusal::ConnectionOption);
        }
        match (facts.host, http10) {
            (None, false) => Err(Refusal::HostMissing),
            (Some(host), _) if !is_host(host) => Err(Refusal::HostInvalid),
            _ if facts.chunked && facts.length.is_some() => Err(Refusal::LengthWithEncoding),
            _ => Ok(facts),
        }
    }

    fn add(&mut self, kind: Field, value: &'a [u8]) -> Result<(), Refusal> {
        match kind {
            Field::Host if self.host.is_some() => return Err(Refusal::HostDuplicate),
            Field::Host => self.host = Some(value),
            Field::ContentLength if self.length.is_some() => return Err(Refusal::LengthDuplicate),
            Field::ContentLength => self.length = Some(content_length(value).ok_or(Refusal::LengthInvalid)?),
            Field::TransferEncoding => {
                // Even twice `chunked` is another coding than once.
                if self.http10 || self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Encoding);
                }
                self.chunked = true;
            }
            Field::Connection if !self.connection.add(value) => return Err(Refusal::ConnectionOption),
            Field::Upgrade => {
                let h2c =
                    value.split(|byte| *byte == b',').any(|p| p.trim_ascii().eq_ignore_ascii_case(b"h2c"));
                self.upgrade = if h2c || self.upgrade.is_some() { None } else { Some(value) };
            }
            Field::RequestId => self.has_request_id = true,
            Field::ForwardedHost => self.has_forwarded_host = true,
            Field::ForwardedProto => self.has_forwarded_proto = true,
            Field::ForwardedFor => self.has_forwarded_for = true,
            Field::Connection | Field::HopByHop | Field::Expect | Field::Other => {}
        }
        Ok(())
    }

    fn body(&self, limits: &Limits) -> Result<Body, Refusal> {
        match self.length {
            _ if self.chunked => Ok(Body::Chunked(Chunks::new(limits.body))),
            None | Some(0) => Ok(Body::Empty),
            Some(length) if limits.body.is_some_and(|limit| length > limit) => Err(Refusal::BodyTooLarge),
            Some(length) => Ok(Body::Length(length)),
        }
    }
}

fn write_fields(
    headers: &[Header<'_>],
    kinds: &[Field],
    facts: &Facts<'_>,
    rules: &Rules<'_>,
    out: &mut Buffer,
) {
    for (header, kind) in headers.iter().zip(kinds) {
        let forwarded = matches!(kind, Field::ForwardedFor) && rules.peer.is_some();
        let dropped = matches!(kind, Field::Connection | Field::HopByHop | Field::Host | Field::Upgrade)
            || forwarded
            || (*kind == Field::Expect && facts.http10)
            || facts.connection.names(header.name);
        if !dropped {
            write_field(out, header.name, header.value);
        }
    }
    // A field that Connection names ended with the client's hop, so ours starts anew.
    let missing = |has: bool, name: &str| !has || facts.connection.names(name);
    if missing(facts.has_request_id, "x-request-id") {
        write_field(out, "X-Request-ID", &request_id(fastrand::u128(..)));
    }
    let Some(peer) = rules.peer else { return };
    out.push(b"X-Forwarded-For: ");
    if !missing(facts.has_forwarded_for, "x-forwarded-for") {
        // One line with all hops: apps that look at one line only would else see a part.
        for header in
            headers.iter().zip(kinds).filter(|(_, kind)| **kind == Field::ForwardedFor).map(|(h, _)| h)
        {
            if !header.value.is_empty() {
                out.push(header.value);
                out.push(b", ");
            }
        }
    }
    out.push(peer.as_bytes());
    out.push(b"\r\n");
    if missing(facts.has_forwarded_proto, "x-forwarded-proto") {
        write_field(out, "X-Forwarded-Proto", b"http");
    }
    if let Some(host) = facts.host.filter(|_| missing(facts.has_forwarded_host, "x-forwarded-host")) {
        write_field(out, "X-Forwarded-Host", host);
    }
}

/// Appends `name: value` and the line end.
pub(super) fn write_field(out: &mut Buffer, name: &str, value: &[u8]) {
    out.push(name.as_bytes());
    out.push(b": ");
    out.push(value);
    out.push(b"\r\n");
}

/// A random UUID (version 4), as Envoy starts them: for telling requests apart in logs, not for secrets.
fn request_id(random: u128) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (at, letter) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            shift -= 4;
            *letter = HEX[(bits >> shift) as usize & 0xf];
        }
    }
    text
}

/// The target as the upstream gets it: always in origin form, or `*`.
#[derive(Debug)]
struct Target<'a> {
    start: &'a str,
    rest: &'a str,
}

impl<'a> Target<'a> {
    fn read(method: &str, target: &'a str, host: Option<&[u8]>) -> Result<Self, Refusal> {
        if method == "CONNECT" {
            return Err(Refusal::Connect);
        }
        if target.contains('#') {
            return Err(Refusal::RequestLine);
        }
        if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
            return Ok(Self { start: target, rest: "" });
        }
        // Absolute form (RFC 9112 3.2.2): its host must be the Host field's, or two servers route it differently.
        let scheme_end = target.find("://").ok_or(Refusal::RequestLine)?;
        let (scheme, rest) = (&target[..scheme_end], &target[scheme_end + 3..]);
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Refusal::RequestLine);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || !host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_bytes())) {
            return Err(Refusal::HostMismatch);
        }
        let start = match path.starts_with('/') {
            true => "",
            false if path.is_empty() && method == "OPTIONS" => "*",
            false => "/",
        };
        Ok(Self { start, rest: path })
    }
}

/// The bytes of a host name, an address or brackets, and a port (RFC 3986 3.2, without user information).
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte))
}

/// Names the rule that a head breaks, for the count; how it is answered is the same.
fn diagnose(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version => Refusal::Version,
        _ if memchr::memchr(0, head).is_some() => Refusal::Nul,
        httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::NewLine => {
            let mut lines = head.split(|byte| *byte == b'\n').skip(1);
            lines.find_map(diagnose_line).unwrap_or(Refusal::Field)
        }
        _ => Refusal::RequestLine,
    }
}

fn diagnose_line(line: &[u8]) -> Option<Refusal> {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    match (line.first(), name.last()) {
        (Some(b' ' | b'\t'), _) => Some(Refusal::FoldedField),
        (_, Some(b' ' | b'\t')) if name.len() < line.len() => Some(Refusal::SpaceBeforeColon),
        _ => None,
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
