//! A small blocking HTTP/1.1 client for the pod's own ports: the admin ports of the sidecars, and the app's.
//!
//! Owns one request on one connection, under a deadline. It resolves no names and speaks no TLS: whatever needs
//! those uses a full client. It never follows redirects and never retries.

mod response;
mod target;

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use podkit_lifecycle::Deadline;

pub use response::Response;
pub use target::{BadTarget, Target};

/// An answer larger than this is refused; a status of a busy sidecar is a few KiB.
const MAX_RESPONSE: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there, or the connection could not be made.
    #[error("cannot connect to {target}")]
    Connect {
        /// The address that was tried.
        target: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{method} {target}{path} got no answer")]
    Broken {
        /// The request's method.
        method: String,
        /// The address.
        target: String,
        /// The request's path, without its query: a token may be in that.
        path: String,
        /// What the connection said.
        source: io::Error,
    },
    /// The deadline passed first.
    #[error("{method} {target}{path} got no answer in time")]
    Deadline {
        /// The request's method.
        method: String,
        /// The address.
        target: String,
        /// The request's path, without its query: a token may be in that.
        path: String,
    },
    /// What came is not HTTP/1.1.
    #[error("{target} did not answer in HTTP: {why}")]
    Malformed {
        /// The address.
        target: String,
        /// What is wrong with the answer.
        why: &'static str,
    },
}

impl Error {
    /// Whether nobody listens at the address, as against a listener that does not answer well.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// What goes with a request beside its method and path.
#[derive(Debug, Clone, Copy, Default)]
pub struct Content<'a> {
    /// Fields of the head, with names and values that were [checked](is_field). `Host`, `Content-Length` and
    /// `Connection` are this client's own.
    pub headers: &'a [(String, String)],
    /// The body; may be empty.
    pub body: &'a [u8],
}

/// Whether a header with this name and value can be sent: a token, and text without control characters
/// (RFC 9110 section 5).
#[must_use]
pub fn is_field(name: &str, value: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token) && !value.bytes().any(|byte| byte < b' ' || byte == 0x7f)
}

/// Sends one request without a body and reads the whole answer.
///
/// `path` starts with `/` and is put after the target's own path.
///
/// # Errors
/// No connection, no whole answer before the deadline, or an answer that is not HTTP.
pub fn request(method: &str, target: &Target, path: &str, deadline: Deadline) -> Result<Response, Error> {
    send(method, target, path, Content::default(), deadline)
}

/// As [`request`], with headers and a body.
///
/// # Errors
/// As [`request`].
pub fn send(
    method: &str,
    target: &Target,
    path: &str,
    content: Content<'_>,
    deadline: Deadline,
) -> Result<Response, Error> {
    let fail = |source: io::Error| {
        let (method, target) = (method.to_owned(), target.to_string());
        let path = path.split('?').next().unwrap_or_default().to_owned();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Deadline { method, target, path },
            _ => Error::Broken { method, target, path, source },
        }
    };
    let mut stream = connect(target, deadline).map_err(|source| match source.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => fail(source),
        _ => Error::Connect { target: target.to_string(), source },
    })?;
    stream.set_write_timeout(Some(wait(deadline))).map_err(fail)?;
    stream.write_all(&message(method, target, path, content)).map_err(fail)?;
    let malformed = |why| Error::Malformed { target: target.to_string(), why };
    let mut received = Vec::new();
    let mut chunk = [0; 8 << 10];
    loop {
        if let Some(response) = Response::parse(method, &received, false).map_err(malformed)? {
            return Ok(response);
        }
        if received.len() > MAX_RESPONSE {
            return Err(malformed("the answer is too large"));
        }
        if deadline.expired() {
            return Err(fail(io::ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(turn(deadline))).map_err(fail)?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => received.extend_from_slice(&chunk[..length]),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                _ => return Err(fail(error)),
            },
        }
    }
    match Response::parse(method, &received, true).map_err(malformed)? {
        Some(response) => Ok(response),
        None => Err(fail(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The bytes of a request.
fn message(method: &str, target: &Target, path: &str, content: Content<'_>) -> Vec<u8> {
    let mut head = format!(
        "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n",
        target.base(),
        target.host(),
        content.body.len(),
    );
    let ours = [("User-Agent", concat!("podkit/", env!("CARGO_PKG_VERSION"))), ("Accept", "*/*")];
    let is_given = |name: &str| content.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    let given = content.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in ours.into_iter().filter(|(name, _)| !is_given(name)).chain(given) {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let mut message = head.into_bytes();
    message.extend_from_slice(content.body);
    message
}

fn connect(target: &Target, deadline: Deadline) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in target.addresses() {
        match TcpStream::connect_timeout(address, wait(deadline)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What is left, but never zero: the socket calls take zero as "no limit".
fn wait(deadline: Deadline) -> Duration {
    deadline.remaining().max(Duration::from_millis(1))
}

/// How long to read at a time. The kernel's timer wheel ends a socket's wait late by up to an eighth of it, so that a
/// long one is taken in parts, ever shorter ones.
fn turn(deadline: Deadline) -> Duration {
    wait(deadline).mul_f32(0.75).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A server that reads one request head, answers with `parts`, and closes.
    fn serve(parts: &'static [&'static str]) -> (Target, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::from(listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            for part in parts {
                stream.write_all(part.as_bytes()).unwrap();
            }
            String::from_utf8(head).unwrap()
        });
        (target, server)
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[test]
    fn an_answer_with_a_length() {
        let (target, server) = serve(&["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", "\r\nhel", "lo"]);
        let response = request("POST", &target, "/drain?lease=5s", soon()).unwrap();
        assert_eq!((response.status, response.body.as_slice()), (200, &b"hello"[..]));
        assert!(server.join().unwrap().starts_with("POST /drain?lease=5s HTTP/1.1\r\nHost: 127.0.0.1:"));
    }

    #[test]
    fn headers_and_a_body_go_with_a_request() {
        let target: Target = "http://127.0.0.1:80/base".parse().unwrap();
        let headers =
            [("X-Token".to_owned(), "a b".to_owned()), ("accept".to_owned(), "text/plain".to_owned())];
        let content = Content { headers: &headers, body: b"{}" };
        let message = String::from_utf8(message("PUT", &target, "/x", content)).unwrap();
        assert!(
            message.starts_with("PUT /base/x HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 2\r\n"),
            "{message}"
        );
        assert!(message.contains("\r\nX-Token: a b\r\naccept: text/plain\r\n\r\n{}"), "{message}");
        assert!(message.contains("User-Agent: podkit/") && !message.contains("*/*"), "{message}");
    }

    #[test]
    fn a_field_cannot_break_the_head() {
        assert!(is_field("X-Token", "a: b, \u{e4}") && is_field("x", ""));
        for (name, value) in
            [("", "x"), ("a b", "x"), ("a:", "x"), ("a", "x\r\nb: c"), ("a", "\0"), ("a\n", "x")]
        {
            assert!(!is_field(name, value), "{name:?}: {value:?}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_is_no_answer() {
        let (target, server) = serve(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel"]);
        let error = request("GET", &target, "/", soon()).unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{error}");
        server.join().unwrap();
    }

    #[test]
    fn a_silent_server_costs_no_more_than_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::from(listener.local_addr().unwrap());
        let error = request("GET", &target, "/x", Deadline::after(Duration::from_millis(50))).unwrap_err();
        assert_eq!(error.to_string(), format!("GET {target}/x got no answer in time"));
    }

    #[test]
    fn an_error_never_shows_a_query() {
        let (target, server) = serve(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"]);
        let error = request("POST", &target, "/x?token=hidden", soon()).unwrap_err();
        assert_eq!(error.to_string(), format!("POST {target}/x got no answer"));
        server.join().unwrap();
    }

    #[test]
    fn nobody_there_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::from(listener.local_addr().unwrap());
        drop(listener);
        assert!(request("GET", &target, "/", soon()).unwrap_err().is_refused());
    }
}
