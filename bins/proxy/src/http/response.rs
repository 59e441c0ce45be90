//! An upstream's response head, checked and written anew for the client. Pure functions over bytes.

use std::mem::MaybeUninit;
use std::time::Duration;

use super::body::{Body, Chunks};
use super::fields::{CHUNKED, Connection, Field, content_length};
use super::head::{Copy, write_field};
use super::request::Request;
use crate::buffer::Buffer;
use crate::config::MAX_HEADERS;

/// An answer that cannot be understood, with the part that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadResponse(pub(crate) &'static str);

/// What must be known of a response once its head is written to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Response {
    /// Bytes of the head.
    pub(crate) length: usize,
    pub(crate) status: u16,
    pub(crate) body: Body,
    /// The client gets the body in chunks, if it comes so; an HTTP/1.0 client gets bare data until the end.
    pub(crate) keep_framing: bool,
    /// The upstream connection can carry another request.
    pub(crate) reusable: bool,
    /// For how long the upstream keeps it open, if it says so.
    pub(crate) keep_alive: Option<Duration>,
    /// The client is told, or knows by the version, that its connection ends with this.
    pub(crate) close: bool,
}

impl Response {
    /// An interim response: another one follows (RFC 9110 15.2).
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The client can tell the end of the body only by the end of the connection.
    pub(crate) fn ends_by_close(&self) -> bool {
        self.body == Body::UntilClose || (!self.keep_framing && matches!(self.body, Body::Chunked(_)))
    }
}

/// Whether these are the bytes of a head as far as they go: an answer begins with its first byte, and each of its lines
/// ends in CRLF. The parser would take empty lines and bare LFs, which the next reader may take for something else.
fn begins_well(bytes: &[u8]) -> Result<(), BadResponse> {
    let start = &b"HTTP/1."[..bytes.len().min(7)];
    if !bytes.starts_with(start) {
        return Err(BadResponse("it does not begin with a status line"));
    }
    for at in memchr::memchr_iter(b'\n', bytes) {
        match at.checked_sub(1).map(|before| bytes[before]) {
            Some(b'\r') if at >= 3 && &bytes[at - 3..at - 1] == b"\r\n" => break,
            Some(b'\r') => {}
            _ => return Err(BadResponse("a line of its head ends without a carriage return")),
        }
    }
    Ok(())
}

/// Reads a head if all of it is there, and writes the client's to `out`, which it clears. `close` is whether the
/// client's connection must end with this response.
pub(crate) fn read(
    bytes: &[u8],
    request: &Request,
    close: bool,
    out: &mut Buffer,
) -> Result<Option<Response>, BadResponse> {
    begins_well(bytes)?;
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(BadResponse("its head has too many fields")),
        Err(_) => return Err(BadResponse("its head is malformed")),
    };
    let (Some(minor), Some(status)) = (parsed.version, parsed.code) else {
        return Err(BadResponse("its head is malformed"));
    };
    if !(100..600).contains(&status) || (status == 101 && !request.upgrade) {
        return Err(BadResponse("its status was not asked for"));
    }
    let mut kinds = [Field::Other; MAX_HEADERS];
    let (mut connection, mut content, mut chunked, mut upgrade) = (Connection::default(), None, false, None);
    let mut keep_alive = None;
    for (header, kind) in parsed.headers.iter().zip(&mut kinds) {
        *kind = Field::of(header.name);
        match kind {
            Field::ContentLength if content.is_some() => return Err(BadResponse("it has two lengths")),
            Field::ContentLength => {
                content = Some(content_length(header.value).ok_or(BadResponse("its length is no number"))?);
            }
            Field::TransferEncoding => {
                if chunked || minor == 0 || !header.value.eq_ignore_ascii_case(CHUNKED) {
                    return Err(BadResponse("its transfer coding is not chunked"));
                }
                chunked = true;
            }
            Field::Connection if !connection.add(header.value) => {
                return Err(BadResponse("it names too many connection options"));
            }
            Field::Upgrade => upgrade = Some(header.value),
            Field::HopByHop if header.name.eq_ignore_ascii_case("keep-alive") => {
                keep_alive = keep_alive_timeout(header.value);
            }
            _ => {}
        }
    }
    if chunked && content.is_some() {
        return Err(BadResponse("it has a length and a transfer coding"));
    }

    let interim = status < 200;
    let body = match content {
        _ if interim || request.is_head || matches!(status, 204 | 304) => Body::Empty,
        _ if chunked => Body::Chunked(Chunks::new(None)),
        Some(0) => Body::Empty,
        Some(length) => Body::Length(length),
        None => Body::UntilClose,
    };
    let keep_framing = !request.http10;
    let mut response = Response {
        length,
        status,
        body,
        keep_framing,
        reusable: body != Body::UntilClose
            && !connection.close
            && (minor == 1 || connection.keep_alive)
            // A body that must not be there may follow all the same, as the answer to whoever asks next.
            && !(status == 204 && (chunked || content.is_some_and(|length| length > 0))),
        keep_alive,
        close,
    };
    response.close = !interim && (close || response.ends_by_close());

    out.clear();
    let start = write_status_line(bytes, status, parsed.reason.unwrap_or_default(), out);
    let mut copy = Copy::new(bytes, start, out);
    for (header, kind) in parsed.headers.iter().zip(&kinds) {
        let dropped = match kind {
            Field::Connection | Field::HopByHop | Field::Te | Field::Upgrade => true,
            // Where no chunks follow, a client could still wait for them.
            Field::TransferEncoding => request.http10 || !matches!(body, Body::Chunked(_)),
            Field::ContentLength => interim || status == 204,
            _ => connection.names(header.name),
        };
        if !dropped {
            copy.field(*kind, header.name, header.value);
        }
    }
    copy.end();
    // 426 Upgrade Required has to name the protocol (RFC 9110 15.5.22).
    match upgrade.filter(|_| matches!(status, 101 | 426)) {
        Some(protocol) => {
            write_field(out, "Upgrade", protocol);
            out.push(if response.close {
                b"Connection: upgrade, close\r\n"
            } else {
                b"Connection: upgrade\r\n"
            });
        }
        None if response.close => out.push(b"Connection: close\r\n"),
        None if request.http10 && !interim => out.push(b"Connection: keep-alive\r\n"),
        None => {}
    }
    out.push(b"\r\n");
    Ok(Some(response))
}

/// Appends the status line, unless the one that came has its form: then returns how many bytes it has.
fn write_status_line(bytes: &[u8], status: u16, reason: &str, out: &mut Buffer) -> usize {
    const START: &[u8] = b"HTTP/1.1 200 ";
    let end = START.len() + reason.len();
    let is_plain = bytes.starts_with(&START[..9])
        && bytes[START.len() - 1] == b' '
        && bytes.get(START.len()..end) == Some(reason.as_bytes())
        && bytes[end..].starts_with(b"\r\n");
    if is_plain {
        return end + 2;
    }
    let digits = [b'0' + (status / 100) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
    for part in [b"HTTP/1.1 ", &digits[..], b" ", reason.as_bytes(), b"\r\n"] {
        out.push(part);
    }
    0
}

/// The `timeout=5` of a Keep-Alive field: what the upstream closes an idle connection after.
fn keep_alive_timeout(value: &[u8]) -> Option<Duration> {
    let seconds = value.split(|byte| *byte == b',').find_map(|parameter| {
        let (name, number) = parameter.trim_ascii().split_at_checked(8)?;
        name.eq_ignore_ascii_case(b"timeout=").then_some(number)
    })?;
    std::str::from_utf8(seconds).ok()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Request = Request {
        body: Body::Empty,
        is_head: false,
        idempotent: true,
        http10: false,
        keep_alive: true,
        upgrade: false,
        grpc: false,
        probe: false,
    };

    fn carried(raw: &str, request: &Request, close: bool) -> (Response, String) {
        let mut out = Buffer::default();
        let response = read(raw.as_bytes(), request, close, &mut out).unwrap().expect("the head is whole");
        (response, String::from_utf8_lossy(out.filled()).into_owned())
    }

    #[test]
    fn a_response_is_written_without_the_fields_of_its_hop() {
        let raw = "HTTP/1.1 200 Fine\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok";
        let (response, head) = carried(raw, &GET, false);
        assert_eq!(head, "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\n");
        assert_eq!((response.body, response.reusable, response.close), (Body::Length(2), true, false));
        assert_eq!(&raw[response.length..], "ok");
        let (_, head) = carried(raw, &GET, true);
        assert_eq!(head, "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: close\r\n\r\n");
    }

    #[test]
    fn bodies_are_delimited_as_rfc_9112_6_3_says() {
        let body = |raw: &str, request: &Request| carried(raw, request, false).0.body;
        let head = Request { is_head: true, ..GET };
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", &head), Body::Empty);
        assert_eq!(body("HTTP/1.1 204 No\r\n\r\n", &GET), Body::Empty);
        assert_eq!(body("HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n", &GET), Body::Empty);
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", &GET), Body::Length(9));
        assert!(matches!(
            body("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", &GET),
            Body::Chunked(_)
        ));
        let (response, head) = carried("HTTP/1.1 200 OK\r\n\r\n", &GET, false);
        assert_eq!((response.body, response.close, response.reusable), (Body::UntilClose, true, false));
        assert!(head.contains("Connection: close"), "{head}");
    }

    #[test]
    fn an_upstream_connection_is_used_again_only_where_it_may() {
        let reusable = |raw: &str| carried(raw, &GET, false).0.reusable;
        assert!(reusable("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"));
        assert!(!reusable("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"));
        assert!(!reusable("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n"));
        assert!(reusable("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn the_time_that_an_upstream_keeps_a_connection_is_learnt() {
        let keep_alive = |value: &str| {
            let raw = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: {value}\r\n\r\n");
            carried(&raw, &GET, false).0.keep_alive
        };
        assert_eq!(keep_alive("timeout=5"), Some(Duration::from_secs(5)));
        assert_eq!(keep_alive("max=100, Timeout=72"), Some(Duration::from_secs(72)));
        for none in ["", "timeout", "timeout=", "timeout=-1", "timeout=x", "max=5"] {
            assert_eq!(keep_alive(none), None, "{none:?}");
        }
    }

    #[test]
    fn where_no_body_can_be_nothing_tells_of_one_and_nobody_else_gets_it() {
        let (response, head) = carried("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", &GET, false);
        assert_eq!((head.as_str(), response.reusable), ("HTTP/1.1 204 No\r\n\r\n", false));
        let (response, head) = carried("HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n\r\n", &GET, false);
        assert_eq!((head.as_str(), response.reusable), ("HTTP/1.1 304 Not\r\n\r\n", true));
    }

    #[test]
    fn what_delimits_a_body_is_spelled_in_one_way() {
        let (_, head) = carried("HTTP/1.1 200 OK\r\nContent-Length: 007\r\n\r\n", &GET, false);
        assert!(head.contains("Content-Length: 7\r\n"), "{head}");
        let (_, head) = carried("HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n", &GET, false);
        assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
    }

    #[test]
    fn an_old_client_gets_no_chunks_and_is_told_of_keep_alive() {
        let old = Request { http10: true, ..GET };
        let (response, head) = carried("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &old, false);
        assert!(!response.keep_framing && response.close && response.ends_by_close());
        assert_eq!(head, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let (_, head) = carried("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", &old, false);
        assert!(head.contains("Connection: keep-alive\r\n"), "{head}");
    }

    #[test]
    fn interim_and_switching_responses() {
        let (response, head) =
            carried("HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 3\r\n\r\n", &GET, true);
        assert!(response.is_interim() && response.body.is_over());
        assert_eq!(head, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
        let raw = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
        let (response, head) = carried(raw, &Request { upgrade: true, ..GET }, false);
        assert!(!response.is_interim());
        assert!(head.contains("Upgrade: websocket\r\nConnection: upgrade\r\n"), "{head}");
    }

    #[test]
    fn answers_that_cannot_be_trusted_are_refused() {
        for raw in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
            "HTTP/1.1 999 What\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\n",
            "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
            // Refused before its end has come.
            "HTTP/1.1 200 OK\r\nX: 1\nY",
            "<html>",
        ] {
            assert!(read(raw.as_bytes(), &GET, false, &mut Buffer::default()).is_err(), "{raw:?}");
        }
    }
}
