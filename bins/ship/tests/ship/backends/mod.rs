//! Doubles of the backends: one small HTTP server that can be told to misbehave, and on it, in a module each, what a
//! backend takes and what it refuses. Strict: what the real one would not take, the double does not take either.
//!
//! ```text
//!   connection ─► wire: request ─► control: gate, access, script ─► Backend.take() ─► wire: answer, or a part of it
//! ```

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podkit_testkit::{PATIENCE, eventually};
use serde_json::Value;

pub(crate) mod elasticsearch;
pub(crate) mod loki;
pub(crate) mod otlp;
mod serve;
pub(crate) mod splunk;
#[cfg(test)]
mod tls;
mod wire;

pub(crate) use wire::{Request, Response};

/// What the next request meets.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This status, with these header lines; with 2xx the backend takes the request.
    Status(u16, &'static str),
    /// This status and body; nothing is taken, whatever the answer claims.
    Body(u16, &'static str),
    /// Only requests of up to this many events are taken; larger ones get 413.
    AtMost(usize),
    /// Only requests of up to this many bytes, uncompressed, are taken; larger ones get 413.
    AtMostBytes(usize),
    /// The request is taken and the answer comes this much later.
    After(Duration),
    /// The request is taken and the answer comes byte by byte.
    Trickle,
    /// The request is taken, and the connection closed in the middle of the answer.
    Half,
    /// The request is read, and the connection closed without an answer.
    Close,
    /// The request is read, and the connection reset.
    Reset,
    /// The request is read, and never answered.
    Silent,
    /// Something that is not HTTP.
    Garbage,
    /// An answer without an end, as long as somebody reads it.
    Flood,
}

/// What a backend takes and what it refuses.
pub(crate) trait Backend: Default + Send + 'static {
    /// What is added to the server's address to give the URL that people configure.
    const PATH: &'static str;
    /// The content encodings that it takes, besides none.
    const ENCODINGS: &'static [&'static str];

    /// How many events a request has; 0 where that cannot be told.
    fn count(request: &Request) -> usize;

    /// Takes or refuses a request.
    fn take(&mut self, request: &Request) -> Response;

    /// What was taken, as JSON, in the order it came.
    fn records(&self) -> Vec<Value>;

    /// How many records there are.
    fn len(&self) -> usize;
}

#[derive(Default)]
struct Control {
    script: VecDeque<Answer>,
    otherwise: Option<Answer>,
    gate_closed: bool,
    /// The one `Authorization` that is let in.
    access: Option<String>,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// Refuses connections.
    away: bool,
    acceptor: Option<JoinHandle<()>>,
    connections: HashMap<usize, TcpStream>,
    accepted: usize,
    requests: usize,
    in_flight: usize,
    most_in_flight: usize,
    /// Events of each request that was taken.
    batches: Vec<usize>,
    encodings: Vec<String>,
    /// Events that were taken and whose answer was cut.
    unanswered: usize,
    /// What was refused of the backend's own accord.
    complaints: Vec<String>,
    last_headers: Vec<(String, String)>,
}

struct Shared<B> {
    control: Mutex<Control>,
    changed: Condvar,
    backend: Mutex<B>,
}

/// A running backend.
pub(crate) struct Server<B> {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared<B>>,
}

impl<B> Clone for Server<B> {
    fn clone(&self) -> Self {
        Self { address: self.address, scheme: self.scheme, shared: Arc::clone(&self.shared) }
    }
}

impl<B: Backend> Server<B> {
    /// Starts one on a port of its own.
    pub(crate) fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), None)
    }

    /// Starts one on a known port, for a backend that comes up late.
    pub(crate) fn start_at(port: u16) -> Self {
        Self::listen(TcpListener::bind(("127.0.0.1", port)).unwrap(), None)
    }

    /// Starts one that speaks TLS only.
    pub(crate) fn start_tls(config: Arc<rustls::ServerConfig>) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap(), Some(config))
    }

    fn listen(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let control = Control { tls: tls.clone(), ..Control::default() };
        let shared = Shared {
            control: Mutex::new(control),
            changed: Condvar::new(),
            backend: Mutex::new(B::default()),
        };
        let server = Self {
            address: listener.local_addr().unwrap(),
            scheme: if tls.is_some() { "https" } else { "http" },
            shared: Arc::new(shared),
        };
        server.accept(listener);
        server
    }

    /// The URL to configure.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.address, B::PATH)
    }

    /// Queues answers; each meets one request.
    pub(crate) fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.control().script.extend(answers);
    }

    /// What meets requests when the script has ended; they are taken unless told.
    pub(crate) fn otherwise(&self, answer: Answer) {
        self.control().otherwise = Some(answer);
    }

    /// Takes requests again, and forgets the script.
    pub(crate) fn behave(&self) {
        let mut control = self.control();
        control.script.clear();
        control.otherwise = None;
    }

    /// Holds every request without an answer until the gate is opened again.
    pub(crate) fn close_gate(&self) {
        self.control().gate_closed = true;
    }

    pub(crate) fn open_gate(&self) {
        self.control().gate_closed = false;
        self.shared.changed.notify_all();
    }

    /// Lets in only requests with this `Authorization`.
    pub(crate) fn admit_only(&self, authorization: &str) {
        self.control().access = Some(authorization.to_owned());
    }

    /// New connections get another certificate, and those that are open are closed.
    pub(crate) fn rotate_tls(&self, config: Arc<rustls::ServerConfig>) {
        let mut control = self.control();
        control.tls = Some(config);
        control.hang_up();
    }

    /// Closes all connections.
    pub(crate) fn hang_up(&self) {
        self.control().hang_up();
    }

    /// Closes all connections and refuses new ones.
    pub(crate) fn go_away(&self) {
        let mut control = self.control();
        control.away = true;
        control.hang_up();
        let acceptor = control.acceptor.take();
        drop(control);
        // The acceptor looks up when somebody comes, and leaves with its listener.
        let _ = TcpStream::connect(self.address);
        acceptor.expect("it has not gone away twice").join().expect("the acceptor does not panic");
    }

    /// Takes connections again, on the same port.
    pub(crate) fn come_back(&self) {
        self.control().away = false;
        self.accept(eventually("the port can be had again", || TcpListener::bind(self.address).ok()));
    }

    /// Looks at the backend, or changes it.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut B) -> T) -> T {
        look(&mut self.shared.backend.lock().expect("no backend panics"))
    }

    pub(crate) fn requests(&self) -> usize {
        self.control().requests
    }

    /// The most requests that were without an answer at one time since the last call.
    pub(crate) fn most_in_flight(&self) -> usize {
        let mut control = self.control();
        let now = control.in_flight;
        std::mem::replace(&mut control.most_in_flight, now)
    }

    pub(crate) fn batches(&self) -> Vec<usize> {
        self.control().batches.clone()
    }

    pub(crate) fn encodings(&self) -> Vec<String> {
        self.control().encodings.clone()
    }

    /// Events that were taken and whose answer was cut: the shipper cannot know of them.
    pub(crate) fn unanswered(&self) -> usize {
        self.control().unanswered
    }

    /// What was refused without being told to.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.control().complaints.clone()
    }

    /// A header of the last request.
    pub(crate) fn last_header(&self, name: &str) -> Option<String> {
        wire::find(&self.control().last_headers, name).map(str::to_owned)
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        self.with(|backend| backend.records())
    }

    /// The messages received so far, in order.
    pub(crate) fn messages(&self) -> Vec<String> {
        let text = |record: &Value| record["message"].as_str().unwrap_or_default().to_owned();
        self.records().iter().map(text).collect()
    }

    /// Waits until there are this many records, and returns their messages.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<String> {
        self.wait_until(&format!("{count} records"), || self.with(|backend| backend.len()) >= count);
        self.messages()
    }

    /// Waits until this many requests have come.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        self.wait_until(&format!("{count} requests"), || self.requests() >= count);
    }

    fn wait_until(&self, what: &str, reached: impl Fn() -> bool) {
        let start = Instant::now();
        while !reached() {
            assert!(
                start.elapsed() < PATIENCE,
                "waited {PATIENCE:?} in vain for {what}; there are {} records of {} requests; refused: {:#?}",
                self.with(|backend| backend.len()),
                self.requests(),
                self.complaints(),
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.shared.control.lock().expect("no server thread panics with the lock")
    }
}

impl Control {
    fn hang_up(&mut self) {
        for (_, stream) in self.connections.drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
