//! HTTP/1.1 on a socket, with or without TLS: one request in, one answer out. Knows no backend.

use std::io::{BufRead, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A connection.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    /// Shakes hands where TLS is spoken.
    pub(crate) fn open(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> std::io::Result<Self> {
        let Some(config) = tls else { return Ok(Self::Plain(stream)) };
        let connection = ServerConnection::new(config).map_err(Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The socket below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(to),
            Self::Tls(stream) => stream.read(to),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(from),
            Self::Tls(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A request that was read to its end.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// As it was before it was compressed.
    pub(crate) body: Vec<u8>,
    /// `identity` where nothing is said.
    pub(crate) encoding: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The parameters of the query, percent-decoded.
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(k, v)| (decode(k), decode(v)))
            .collect()
    }

    /// The media type of the body, without parameters.
    pub(crate) fn media_type(&self) -> String {
        let all = self.header("content-type").unwrap_or_default();
        all.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

/// A header by its name, whatever its case.
pub(crate) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        rest = after;
        match (byte, after.get(..2).and_then(hex)) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).expect("a query is UTF-8")
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
    /// Further header lines, each with its end.
    pub(crate) fields: String,
}

impl Response {
    pub(crate) fn empty(status: u16, fields: &str) -> Self {
        Self { status, content_type: "text/plain", body: Vec::new(), fields: fields.to_owned() }
    }

    pub(crate) fn json(status: u16, body: impl ToString) -> Self {
        let content_type = "application/json";
        Self { status, content_type, body: body.to_string().into_bytes(), fields: String::new() }
    }

    pub(crate) fn text(status: u16, body: impl ToString) -> Self {
        Self { content_type: "text/plain; charset=utf-8", ..Self::json(status, body) }
    }

    /// For people.
    pub(crate) fn summary(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }

    /// The answer as it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { status, content_type, body, fields } = self;
        let mut bytes = format!("HTTP/1.1 {status} Double\r\n{fields}").into_bytes();
        // RFC 9110 section 8.6: no length with 204.
        if *status != 204 {
            let length = body.len();
            bytes.extend(format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n").bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        bytes
    }

    pub(crate) fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        to.write_all(&self.bytes())?;
        to.flush()
    }
}

/// Why there is no request.
pub(crate) enum Unread {
    /// The client has gone.
    Gone,
    /// It is none that a server takes.
    Refused(Response),
}

impl From<Error> for Unread {
    fn from(_: Error) -> Self {
        Self::Gone
    }
}

/// Reads one request, whose body may have one of these encodings. What an encoding named `snappy` is, the backend
/// knows: it is left as it came.
pub(crate) fn read(from: &mut impl BufRead, encodings: &[&str]) -> Result<Request, Unread> {
    let line = read_line(from)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(refused(400, &format!("the request line {line:?}")));
    };
    let mut headers = Vec::new();
    loop {
        let field = read_line(from)?;
        if field.is_empty() {
            break;
        }
        let Some((name, value)) = field.split_once(':') else {
            return Err(refused(400, &format!("the field {field:?}")));
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let Some(length) = find(&headers, "content-length").and_then(|value| value.parse::<usize>().ok()) else {
        return Err(refused(411, "a request without a length"));
    };
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let encoding = find(&headers, "content-encoding").unwrap_or("identity").to_owned();
    if encoding != "identity" && !encodings.contains(&encoding.as_str()) {
        return Err(refused(415, &format!("the content encoding {encoding:?}")));
    }
    let body = match encoding.as_str() {
        "gzip" => {
            let mut plain = Vec::new();
            let unpacked = flate2::read::MultiGzDecoder::new(body.as_slice()).read_to_end(&mut plain);
            unpacked.map(|_| plain)
        }
        "zstd" => zstd::decode_all(body.as_slice()),
        _ => Ok(body),
    };
    let body = body.map_err(|error| refused(400, &format!("{encoding}: {error}")))?;
    Ok(Request { method: method.to_owned(), target: target.to_owned(), headers, body, encoding })
}

fn refused(status: u16, what: &str) -> Unread {
    Unread::Refused(Response::text(status, what))
}

/// A line without its end.
fn read_line(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.strip_suffix("\r\n").unwrap_or(&line).to_owned())
}
