//! HTTP/2 by hand, byte by byte: a peer that says what no library would.
//!
//! Its HPACK is the least there is: it writes literals without the table and without Huffman's code, and reads only a
//! status.

use std::io::ErrorKind;
use std::net::SocketAddr;

use super::Client;

/// Frame types (RFC 9113 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags.
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;

/// Error codes (RFC 9113 7).
pub(crate) const NO_ERROR: u32 = 0x0;
pub(crate) const PROTOCOL_ERROR: u32 = 0x1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 0x3;
pub(crate) const FRAME_SIZE_ERROR: u32 = 0x6;
pub(crate) const REFUSED_STREAM: u32 = 0x7;
pub(crate) const COMPRESSION_ERROR: u32 = 0x9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What became of a stream, or of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// An answer with this status, whole.
    Status(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code, and the end.
    GoAway(u32),
    /// The end of the connection without a word.
    Closed,
}

/// A frame's bytes; the length may be another than the payload's.
pub(crate) fn frame_of(length: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame_of(payload.len(), kind, flags, stream, payload)
}

/// A field section of literals.
pub(crate) fn section(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(text.len(), &mut bytes);
            bytes.extend_from_slice(text);
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541 5.1).
fn integer(value: usize, bytes: &mut Vec<u8>) {
    if value < 127 {
        return bytes.push(value as u8);
    }
    bytes.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        bytes.push(rest as u8 | 128);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// The pseudo-fields of a request to `shop`, and further fields.
pub(crate) fn request<'a>(
    method: &'a str,
    path: &'a str,
    more: &[(&'a [u8], &'a [u8])],
) -> Vec<(&'a [u8], &'a [u8])> {
    let pseudo: [(&[u8], &[u8]); 4] = [
        (b":method", method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", b"shop"),
        (b":path", path.as_bytes()),
    ];
    [&pseudo, more].concat()
}

/// HEADERS of a GET that is whole.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &section(&request("GET", path, &[])))
}

/// A connection.
pub(crate) struct Raw(pub(crate) Client);

impl Raw {
    /// A connection that has sent nothing.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self(Client::connect(address))
    }

    /// A connection that has sent its preface and empty SETTINGS.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut raw = Self::silent(address);
        raw.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        raw
    }

    /// Sends, if the proxy still listens.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        use std::io::Write as _;
        let _ = self.0.stream.write_all(bytes.as_ref());
        self
    }

    /// The next frame; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let head = self.0.exactly(9).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.0.exactly(length as usize).ok()?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this type.
    pub(crate) fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame =
                self.next().unwrap_or_else(|| panic!("the connection ended before a frame of type {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// What becomes of a stream.
    pub(crate) fn fate(&mut self, stream: u32) -> Fate {
        let mut status = None;
        let mut gone = None;
        while let Some(frame) = self.next() {
            match frame.kind {
                GOAWAY if code(&frame.payload[4..]) != NO_ERROR => gone = Some(code(&frame.payload[4..])),
                RST_STREAM if frame.stream == stream => return Fate::Reset(code(&frame.payload)),
                HEADERS if frame.stream == stream => status = status.or_else(|| status_of(&frame.payload)),
                _ => {}
            }
            let ends = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
            if ends && frame.stream == stream {
                return Fate::Status(status.expect("an answer has a status"));
            }
        }
        gone.map_or(Fate::Closed, Fate::GoAway)
    }

    /// Whether the connection still serves requests, by one on this stream.
    pub(crate) fn is_alive(&mut self, stream: u32) -> bool {
        self.send(get(stream, "/alive"));
        self.fate(stream) == Fate::Status(200)
    }

    /// Reads to the end, which must come without a reset of the connection.
    pub(crate) fn end(&mut self) {
        match self.0.rest() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection does not end: {error}"),
        }
    }
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().expect("a code has four bytes"))
}

/// The status of an answer as `h2` encodes it: indexed, or a literal with the name of an indexed one.
fn status_of(section: &[u8]) -> Option<u16> {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A change of the table's size may stand first.
    let section = &section[section.iter().position(|byte| byte & 0xe0 != 0x20)?..];
    match section {
        [first @ 0x88..=0x8e, ..] => Some(INDEXED[usize::from(first - 0x88)]),
        [0x48, length, rest @ ..] if length & 0x80 == 0 => {
            std::str::from_utf8(&rest[..usize::from(*length)]).ok()?.parse().ok()
        }
        [0x48, length, rest @ ..] => huffman_digits(&rest[..usize::from(length & 0x7f)]),
        _ => None,
    }
}

/// Three digits in Huffman's code (RFC 7541 appendix B): 0 to 2 have five bits, 3 to 9 have six.
fn huffman_digits(bytes: &[u8]) -> Option<u16> {
    let bits = bytes.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut left = bytes.len() * 8;
    let mut take = |count: usize| {
        left = left.checked_sub(count)?;
        Some((bits >> left) & ((1 << count) - 1))
    };
    (0..3).try_fold(0_u16, |number, _| {
        let five = take(5)?;
        let digit = if five <= 2 { five } else { (five << 1 | take(1)?) - 0x19 + 3 };
        Some(number * 10 + digit as u16)
    })
}
