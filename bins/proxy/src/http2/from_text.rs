//! HTTP/1.1 messages, as the relay writes them, read into what `h2` sends.
//!
//! Pure functions over text that is checked already: what cannot be read here is a bug, not an attack.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, Request, Response, StatusCode, Uri, uri};
use httparse::{Header, ParserConfig, Status};

use super::to_text::is_of_grpc;
use crate::config::MAX_HEADERS;
use crate::http::body::{Body, Chunks};
use crate::http::fields::{Field, content_length};

/// The most fields of a head: the peer's, and those that the relay adds.
const FIELDS: usize = MAX_HEADERS + 16;

/// The most fields of a trailer section, as the relay has it.
const TRAILERS: usize = 32;

/// A cookie so short could be guessed by its effect on the compression (as nghttp2 has it).
const SHORT_COOKIE: usize = 20;

/// Text that is no HTTP/1.1 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMessage;

/// A head, and how what follows it is to be read.
#[derive(Debug)]
pub(crate) struct Read<T> {
    pub(crate) message: T,
    /// Bytes of the head.
    pub(crate) length: usize,
    pub(crate) body: Body,
}

/// Reads a response's head at the start of `text`; `to_head` is whether it answers HEAD.
pub(crate) fn response(text: &[u8], to_head: bool) -> Result<Read<Response<()>>, NoMessage> {
    let text = head_of(text)?;
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, &text, &mut fields);
    let Ok(Status::Complete(length)) = status else { return Err(NoMessage) };
    let status = StatusCode::from_u16(parsed.code.ok_or(NoMessage)?).map_err(|_| NoMessage)?;
    let (headers, framing) = read_fields(&text, parsed.headers)?;
    let bodiless = to_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if bodiless { Body::Empty } else { framing.unwrap_or(Body::UntilClose) };
    let mut message = Response::new(());
    *message.status_mut() = status;
    *message.headers_mut() = headers;
    Ok(Read { message, length, body })
}

/// Reads a request's head at the start of `text`, for an upstream that is spoken to in `scheme`.
pub(crate) fn request(text: &[u8], scheme: &uri::Scheme) -> Result<Read<Request<()>>, NoMessage> {
    let text = head_of(text)?;
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let Ok(Status::Complete(length)) = parsed.parse_with_uninit_headers(&text, &mut fields) else {
        return Err(NoMessage);
    };
    let (Some(method), Some(path)) = (parsed.method, parsed.path) else { return Err(NoMessage) };
    let host = parsed.headers.iter().find(|field| Field::of(field.name) == Field::Host).ok_or(NoMessage)?;
    let (host, (mut headers, body)) = (text.slice_ref(host.value), read_fields(&text, parsed.headers)?);

    let mut target = uri::Parts::default();
    target.path_and_query = Some(read_path(&text, path)?);
    match uri::Authority::from_maybe_shared(host.clone()) {
        Ok(authority) => {
            target.scheme = Some(scheme.clone());
            target.authority = Some(authority);
        }
        // Not every Host is an authority; it then stays a field (RFC 9113 8.3.1).
        Err(_) => {
            headers.insert(HOST, HeaderValue::from_maybe_shared(host).map_err(|_| NoMessage)?);
        }
    }
    let mut message = Request::new(());
    *message.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| NoMessage)?;
    *message.uri_mut() = Uri::from_parts(target).map_err(|_| NoMessage)?;
    if is_of_grpc(&headers) {
        // Its servers ask for it: who cannot take trailers cannot be called (gRPC over HTTP/2, "Requests").
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    *message.headers_mut() = headers;
    Ok(Read { message, length, body: body.unwrap_or(Body::Empty) })
}

/// The path, with what is no byte of a URI percent-encoded: HTTP/1.1 clients send such, and servers take it.
fn read_path(text: &Bytes, path: &str) -> Result<uri::PathAndQuery, NoMessage> {
    if let Ok(path) = uri::PathAndQuery::from_maybe_shared(text.slice_ref(path.as_bytes())) {
        return Ok(path);
    }
    let mut encoded = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                encoded += &format!("%{byte:02X}")
            }
            0x21..=0x7e => encoded.push(byte.into()),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded.parse().map_err(|_| NoMessage)
}

/// Reads a trailer section, blank line included.
pub(crate) fn trailers(section: &[u8]) -> Result<HeaderMap, NoMessage> {
    let text = Bytes::copy_from_slice(section);
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS];
    match httparse::parse_headers(&text, &mut fields) {
        Ok(Status::Complete((_, fields))) => Ok(read_fields(&text, fields)?.0),
        _ => Err(NoMessage),
    }
}

/// One copy of the head, which all its fields share.
fn head_of(text: &[u8]) -> Result<Bytes, NoMessage> {
    let end = memchr::memmem::find(text, b"\r\n\r\n").ok_or(NoMessage)?;
    Ok(Bytes::copy_from_slice(&text[..end + 4]))
}

/// The fields without those of an HTTP/1.1 connection (RFC 9113 8.2.2), and what they say of the body's framing.
fn read_fields(text: &Bytes, fields: &[Header<'_>]) -> Result<(HeaderMap, Option<Body>), NoMessage> {
    let mut map = HeaderMap::with_capacity(fields.len() + 1);
    let mut body = None;
    for field in fields {
        match Field::of(field.name) {
            Field::Connection | Field::HopByHop | Field::Te | Field::Upgrade | Field::Host => continue,
            Field::TransferEncoding => {
                body = Some(Body::Chunked(Chunks::new(None)));
                continue;
            }
            Field::ContentLength => {
                let length = content_length(field.value).ok_or(NoMessage)?;
                body = Some(if length == 0 { Body::Empty } else { Body::Length(length) });
            }
            _ => {}
        }
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| NoMessage)?;
        let mut value = HeaderValue::from_maybe_shared(text.slice_ref(field.value)).map_err(|_| NoMessage)?;
        if name == AUTHORIZATION || (name == COOKIE && value.len() < SHORT_COOKIE) {
            value.set_sensitive(true);
        }
        map.try_append(name, value).map_err(|_| NoMessage)?;
    }
    Ok((map, body))
}

#[cfg(test)]
#[path = "from_text_tests.rs"]
mod tests;
