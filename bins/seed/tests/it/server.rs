//! A small HTTP server that is strict about what it is asked, and answers as the test says: also half an answer, none,
//! one without end, and what is no HTTP. One request a connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use podkit_testkit::PATIENCE;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Reads a head, and tells what a strict server would not take. `None` from a client that left before it asked.
    fn read(stream: &mut impl Read, asked: Asked) -> Result<Option<Self>, String> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                Ok(0) if head.is_empty() => return Ok(None),
                other => return Err(format!("the request ends early: {other:?} after {head:?}")),
            }
        }
        let head = String::from_utf8(head).map_err(|error| error.to_string())?;
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap_or_default();
        let line = first.strip_suffix(" HTTP/1.1").and_then(|line| line.split_once(' '));
        let (method, path) = line
            .filter(|(method, path)| path.starts_with('/') && (asked == Asked::ToWait || *method == "GET"))
            .ok_or(format!("a strange line: {first:?}"))?;
        let header = |line: &str| Some(line.split_once(": ")).flatten().map(|(a, b)| (a.into(), b.into()));
        let headers: Option<Vec<_>> = lines.map(header).collect();
        let headers = headers.ok_or(format!("strange: {head:?}"))?;
        let request = Self { method: method.to_owned(), path: path.to_owned(), headers };
        let has = |name| request.header(name);
        if has("host").is_none_or(str::is_empty)
            || (asked == Asked::ToDownload && has("accept-encoding") != Some("identity"))
            || !has("user-agent").is_some_and(|agent| agent.starts_with("podkit-seed/"))
            || has("content-length").is_some_and(|length| method != "POST" || length != "0")
        {
            return Err(format!("a header is missing, or too much: {head:?}"));
        }
        Ok(Some(request))
    }
}

/// What a server is there for, by which it is strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    ToDownload,
    ToWait,
}

/// What becomes of a connection after so many bytes of the body.
#[derive(Debug, Clone, Copy)]
enum End {
    Whole,
    /// The sender says that it is done.
    Closed(usize),
    Reset(usize),
    /// Nothing more comes, until the client leaves.
    Silent(usize),
    /// The body comes again and again, until the client leaves.
    Endless,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    is_chunked: bool,
    /// The body is all that is sent.
    is_raw: bool,
    end: End,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::status("200 OK").body(body)
    }

    pub(crate) fn status(status: &'static str) -> Self {
        let (headers, body) = (Vec::new(), Vec::new());
        Self { status, headers, body, is_chunked: false, is_raw: false, end: End::Whole }
    }

    /// These bytes, whatever they are.
    pub(crate) fn raw(bytes: &str) -> Self {
        Self { is_raw: true, ..Self::ok(bytes) }
    }

    /// Nothing, until the client leaves.
    pub(crate) fn silence() -> Self {
        Self::raw("").silent_after(0)
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status("302 Found").header("Location", to)
    }

    pub(crate) fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Does not say how long it is.
    pub(crate) fn chunked(self) -> Self {
        Self { is_chunked: true, ..self }
    }

    /// Ends too early.
    pub(crate) fn closed_after(self, bytes: usize) -> Self {
        Self { end: End::Closed(bytes), ..self }
    }

    pub(crate) fn reset_after(self, bytes: usize) -> Self {
        Self { end: End::Reset(bytes), ..self }
    }

    pub(crate) fn silent_after(self, bytes: usize) -> Self {
        Self { end: End::Silent(bytes), ..self }
    }

    /// Says so often what it has to say as anybody listens.
    pub(crate) fn endless(self) -> Self {
        Self { end: End::Endless, ..self }
    }

    fn send(&self, stream: &mut impl Write) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.is_raw {
            head.clear();
        } else if self.is_chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.status.starts_with("304") && !matches!(self.end, End::Endless) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        if !self.is_raw {
            head.push_str("\r\n");
        }
        stream.write_all(head.as_bytes())?;
        let length = match self.end {
            End::Whole | End::Endless => self.body.len(),
            End::Closed(bytes) | End::Reset(bytes) | End::Silent(bytes) => bytes,
        };
        let body = &self.body[..length];
        if !self.is_chunked {
            stream.write_all(body)?;
        } else if !body.is_empty() {
            stream.write_all(format!("{:x}\r\n", body.len()).as_bytes())?;
            stream.write_all(body)?;
            stream.write_all(b"\r\n")?;
        }
        if self.is_chunked && matches!(self.end, End::Whole) {
            stream.write_all(b"0\r\n\r\n")?;
        }
        if matches!(self.end, End::Endless) {
            while stream.write_all(body).is_ok() {}
        }
        stream.flush()
    }
}

/// A server on a port of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    faults: Vec<String>,
}

type Answers = Arc<dyn Fn(usize, &Request) -> Answer + Send + Sync>;

impl Server {
    /// Answers each request by its number, from 0.
    pub(crate) fn start(answers: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(("127.0.0.1", 0), None, Asked::ToDownload, Arc::new(answers))
    }

    /// The same on a port that was chosen before.
    pub(crate) fn start_on(
        port: u16,
        answers: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(("127.0.0.1", port), None, Asked::ToDownload, Arc::new(answers))
    }

    pub(crate) fn start_tls(
        config: Arc<ServerConfig>,
        answers: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(("127.0.0.1", 0), Some(config), Asked::ToDownload, Arc::new(answers))
    }

    /// One whose answers somebody waits for, by any method; answers by the number of the request.
    pub(crate) fn to_wait_for(answers: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen(("127.0.0.1", 0), None, Asked::ToWait, Arc::new(move |number, _| answers(number)))
    }

    pub(crate) fn to_wait_for_tls(
        config: Arc<ServerConfig>,
        answers: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(
            ("127.0.0.1", 0),
            Some(config),
            Asked::ToWait,
            Arc::new(move |number, _| answers(number)),
        )
    }

    fn listen(at: (&str, u16), tls: Option<Arc<ServerConfig>>, asked: Asked, answers: Answers) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let log: Arc<Mutex<Log>> = Arc::default();
        let served = Arc::clone(&log);
        // They end with the test's process: a thread that waits in `accept` cannot be told.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (tls, answers, log) = (tls.clone(), Arc::clone(&answers), Arc::clone(&served));
                thread::spawn(move || serve(stream.unwrap(), tls, asked, &*answers, &log));
            }
        });
        Self { address, scheme, log }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().requests.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let faults = &self.log.lock().unwrap().faults;
        assert!(thread::panicking() || faults.is_empty(), "{faults:?}");
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    asked: Asked,
    answers: &dyn Fn(usize, &Request) -> Answer,
    log: &Mutex<Log>,
) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let Some(tls) = tls else { return exchange(&stream, &stream, asked, answers, log) };
    let mut secure = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream.try_clone().unwrap());
    while secure.conn.is_handshaking() {
        // Who does not trust us is not heard; the test sees it on the other side.
        if secure.conn.complete_io(&mut secure.sock).is_err() {
            return;
        }
    }
    exchange(&mut secure, &stream, asked, answers, log);
    secure.conn.send_close_notify();
    let _ = secure.flush();
}

fn exchange(
    mut stream: impl Read + Write,
    socket: &TcpStream,
    asked: Asked,
    answers: &dyn Fn(usize, &Request) -> Answer,
    log: &Mutex<Log>,
) {
    let request = match Request::read(&mut stream, asked) {
        Ok(Some(request)) => request,
        Ok(None) => return,
        Err(fault) => return log.lock().unwrap().faults.push(fault),
    };
    let number = {
        let mut log = log.lock().unwrap();
        log.requests.push(request.clone());
        log.requests.len() - 1
    };
    let answer = answers(number, &request);
    // A client may leave before all is said.
    let _ = answer.send(&mut stream);
    match answer.end {
        End::Whole | End::Closed(_) | End::Endless => {}
        End::Reset(_) => socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap(),
        End::Silent(_) => {
            let _ = stream.read(&mut [0]);
        }
    }
}
