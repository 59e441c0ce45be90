//! HTTP/2 messages written as HTTP/1.1, the language that all rules of this proxy are written for.
//!
//! Pure functions. What HTTP/1.1 can say is said, wrong or not, and judged where all messages are; only what it
//! cannot say, or what would lose its meaning on the way, is refused here (RFC 9113 8.2, 8.3).

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, TRAILER};
use http::{Method, StatusCode, Uri, request, response};

use crate::http::fields::content_length;
use crate::http::is_grpc;

/// How the body stands behind the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// So many bytes, as they are.
    Plain(u64),
    Chunked,
}

/// A message that is malformed by RFC 9113, with the rule it breaks as the metrics count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Writes a request's head, blank line included. `ends` is whether no body follows.
pub(crate) fn request_head(
    request: &request::Parts,
    ends: bool,
    out: &mut Vec<u8>,
) -> Result<Framing, Malformed> {
    let (method, fields) = (&request.method, &request.headers);
    push_all(out, [method.as_str().as_bytes(), b" "]);
    push_target(method, &request.uri, fields, out)?;
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = request.uri.authority().filter(|_| !fields.contains_key(HOST)) {
        push_field(out, "host", authority.as_str().as_bytes());
    }
    let framing = framing(fields, ends);
    push_fields(fields, framing, out)?;
    // An origin may want to be told that a request which has a body by its nature has none (RFC 9110 8.6).
    let by_nature = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    if framing == Framing::None && by_nature && !fields.contains_key(CONTENT_LENGTH) {
        push_field(out, "content-length", b"0");
    }
    out.extend_from_slice(b"\r\n");
    Ok(framing)
}

/// Writes a response's head, blank line included. `ends` is whether no body follows; `to_head` is whether it answers
/// HEAD.
pub(crate) fn response_head(
    response: &response::Parts,
    ends: bool,
    to_head: bool,
    out: &mut Vec<u8>,
) -> Result<Framing, Malformed> {
    let (status, fields) = (response.status, &response.headers);
    // The reason phrase may be empty, the space before it may not be missing (RFC 9112 4).
    push_all(out, [b"HTTP/1.1 ", status.as_str().as_bytes(), b" \r\n"]);
    let bodiless = to_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = framing(fields, ends || bodiless);
    push_fields(fields, framing, out)?;
    if framing == Framing::None && !bodiless && !fields.contains_key(CONTENT_LENGTH) {
        push_field(out, "content-length", b"0");
    }
    out.extend_from_slice(b"\r\n");
    Ok(framing)
}

/// Writes the end of a chunked body, with its trailers.
pub(crate) fn last_chunk(trailers: &HeaderMap, out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.iter().filter(|(name, _)| !is_of_connection(name)) {
        push_checked(out, name, value.as_bytes())?;
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Trailers need chunks, and gRPC is nothing without its trailers.
fn framing(fields: &HeaderMap, ends: bool) -> Framing {
    let length = fields.get(CONTENT_LENGTH).and_then(|length| content_length(length.as_bytes()));
    match length {
        _ if ends => Framing::None,
        Some(length) if !fields.contains_key(TRAILER) && !is_of_grpc(fields) => Framing::Plain(length),
        _ => Framing::Chunked,
    }
}

/// Whether the message is a part of a gRPC call.
pub(crate) fn is_of_grpc(fields: &HeaderMap) -> bool {
    fields.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
}

/// The origin form, or `*`; the absolute form where authority and Host differ, and the authority form of CONNECT, so
/// that the rules for these apply.
fn push_target(method: &Method, uri: &Uri, fields: &HeaderMap, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    if method == Method::CONNECT {
        out.extend_from_slice(authority.unwrap_or_default());
        return Ok(());
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    // Where there is none, `http` says `/` of the whole, and the truth of the part.
    if uri.path().is_empty() || !(path.starts_with('/') || path == "*") {
        return Err(Malformed("request_line"));
    }
    if let (Some(authority), Some(host)) = (authority, fields.get(HOST))
        && !host.as_bytes().eq_ignore_ascii_case(authority)
    {
        push_all(out, [b"http://", authority]);
    }
    out.extend_from_slice(path.as_bytes());
    Ok(())
}

/// HTTP/2 may split the cookies over many fields; HTTP/1.1 knows one (RFC 9113 8.2.3).
fn push_cookies(fields: &HeaderMap, out: &mut Vec<u8>) {
    let mut start: &[u8] = b"cookie: ";
    for crumb in fields.get_all(COOKIE) {
        push_all(out, [start, crumb.as_bytes()]);
        start = b"; ";
    }
    if start == b"; " {
        out.extend_from_slice(b"\r\n");
    }
}

fn push_fields(fields: &HeaderMap, framing: Framing, out: &mut Vec<u8>) -> Result<(), Malformed> {
    push_cookies(fields, out);
    for (name, value) in fields {
        let dropped = name == COOKIE
            || is_of_connection(name)
            || (name == CONTENT_LENGTH && framing == Framing::Chunked);
        if !dropped {
            push_checked(out, name, value.as_bytes())?;
        }
    }
    if framing == Framing::Chunked {
        push_field(out, "transfer-encoding", b"chunked");
    }
    Ok(())
}

/// Whether the field is about an HTTP/1.1 connection. `h2` refuses messages with most of them before they come here.
fn is_of_connection(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade")
}

/// Refuses white space at the ends of a value, which HTTP/1.1 would lose (RFC 9113 8.2.1). That there is no line end
/// and no NUL in it, `HeaderValue` promises.
fn push_checked(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) -> Result<(), Malformed> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(value.first()) || is_blank(value.last()) {
        return Err(Malformed("field"));
    }
    push_field(out, name.as_str(), value);
    Ok(())
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    push_all(out, [name.as_bytes(), b": ", value, b"\r\n"]);
}

fn push_all<const N: usize>(out: &mut Vec<u8>, parts: [&[u8]; N]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
#[path = "to_text_tests.rs"]
mod tests;
