//! Scripted neighbours and clients for the tests of the real binary.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use podkit_testkit::{Finished, Run, eventually, program};
use socket2::{Domain, Socket, Type};

/// The real binary, with a log that the tests can read whoever runs them.
pub(crate) fn drain(args: &[&str]) -> Run {
    program(env!("CARGO_BIN_EXE_podkit-drain")).env("PODKIT_DRAIN_LOG", "/dev/stderr").args(args)
}

/// The same with short delays, which flags may still change, and a budget that a test only spends if something is
/// wrong.
pub(crate) fn quick(args: &[&str]) -> Run {
    drain(args)
        .env("PODKIT_DRAIN_GRACE", "25s")
        .env("PODKIT_DRAIN_RESERVE", "1s")
        .env("PODKIT_DRAIN_QUIET", "300ms")
        .env("PODKIT_DRAIN_MIN_DELAY", "50ms")
}

/// Runs it to its end; how long that took, too.
pub(crate) fn timed(run: Run) -> (Finished, Duration) {
    let started = Instant::now();
    let finished = run.finish();
    (finished, started.elapsed())
}

/// What a neighbour does with a request.
pub(crate) enum Answer {
    Reply(u16, String),
    /// The connection stays open without an answer.
    Silence,
    /// Nothing that this neighbour was made for: 404, and the test fails.
    Unknown,
}

/// One request as it came: `POST /drain?lease=5s`.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    pub(crate) line: String,
    /// The lines of its head after that one.
    pub(crate) head: Vec<String>,
    pub(crate) body: String,
}

type Script = Box<dyn FnMut(&str) -> Answer + Send>;

struct Shared {
    requests: Mutex<Vec<Request>>,
    unknown: Mutex<Vec<String>>,
    silent: Mutex<Vec<TcpStream>>,
    script: Mutex<Script>,
    stopped: AtomicBool,
}

/// An HTTP server that follows a script; it refuses connections once it is dropped.
pub(crate) struct Neighbour {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    pub(crate) fn new(script: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        Self::on(0, script)
    }

    pub(crate) fn on(port: u16, script: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            unknown: Mutex::default(),
            silent: Mutex::default(),
            script: Mutex::new(Box::new(script)),
            stopped: AtomicBool::new(false),
        });
        let server = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if server.stopped.load(Ordering::Acquire) {
                    return;
                }
                server.serve(stream.expect("the listener is open"));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no script panics").clone()
    }

    /// Their lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }

    /// How many requests so far begin with this.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }

    /// Waits for so many requests that begin with this.
    pub(crate) fn wait_for(&self, start: &str, count: usize) {
        eventually(&format!("{count} requests {start:?} have come"), || {
            (self.count(start) >= count).then_some(())
        });
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the accept; the listener is closed when the thread has ended.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("the server does not panic");
                assert_eq!(
                    *self.shared.unknown.lock().expect("no script panics"),
                    Vec::<String>::new(),
                    "unknown requests"
                );
            }
        }
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("descriptors are left"));
        let mut lines = reader.by_ref().lines();
        let Some(Ok(first)) = lines.next() else { return };
        let line = first.trim_end_matches(" HTTP/1.1").to_owned();
        let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let length = head.iter().filter_map(|line| line.split_once(": ")).find_map(|(name, value)| {
            value.parse().ok().filter(|_| name.eq_ignore_ascii_case("content-length"))
        });
        let mut body = String::new();
        let _ = reader.take(length.unwrap_or(0)).read_to_string(&mut body);
        let request = Request { at: Instant::now(), line: line.clone(), head, body };
        self.requests.lock().expect("no script panics").push(request);
        let (status, body) = match (self.script.lock().expect("no script panics"))(&line) {
            Answer::Reply(status, body) => (status, body),
            Answer::Silence => {
                self.silent.lock().expect("no script panics").push(stream);
                return;
            }
            Answer::Unknown => {
                self.unknown.lock().expect("no script panics").push(line);
                (404, String::new())
            }
        };
        let head =
            format!("HTTP/1.1 {status} Fine\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        // A drain that ended in between does not read it.
        let _ = stream.write_all((head + &body).as_bytes());
    }
}

/// What a scripted proxy says of its traffic.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) in_flight: u64,
    pub(crate) open: u64,
    /// When the last connection came; `None` for never.
    pub(crate) last: Option<Instant>,
}

/// Of a proxy at which nothing has come yet.
pub(crate) fn traffic(in_flight: u64, open: u64) -> Traffic {
    Traffic { in_flight, open, last: None }
}

/// Of a proxy at which something came a moment ago.
pub(crate) fn fresh_traffic(in_flight: u64, open: u64) -> Traffic {
    Traffic { in_flight, open, last: Some(Instant::now()) }
}

/// The seconds of a `POST /drain?lease=5s&...`; zero where they cannot be read.
pub(crate) fn lease_of(line: &str) -> Option<u64> {
    let lease = line.strip_prefix("POST /drain?lease=")?.split('&').next()?;
    Some(lease.strip_suffix('s').and_then(|seconds| seconds.parse().ok()).unwrap_or(0))
}

/// A proxy as contract 2 has it, whose traffic the test sets.
pub(crate) struct Proxy {
    pub(crate) server: Neighbour,
    traffic: Arc<Mutex<Traffic>>,
}

impl Proxy {
    pub(crate) fn new(traffic: Traffic) -> Self {
        let traffic = Arc::new(Mutex::new(traffic));
        let shown = Arc::clone(&traffic);
        let server = Neighbour::new(move |line| {
            let now = *shown.lock().expect("no script panics");
            let since = now.last.map_or("null".to_owned(), |last| last.elapsed().as_millis().to_string());
            let lease = lease_of(line);
            let phase = if line.starts_with("DELETE") { "running" } else { "draining" };
            match line.split_once('?').unwrap_or((line, "")) {
                ("GET /drain", "") | ("DELETE /drain", _) | ("POST /drain", _) if lease != Some(0) => {
                    Answer::Reply(
                        200,
                        format!(
                            r#"{{"phase":"{phase}","in_flight":{},"open_connections":{},"ms_since_last_connection":{since},
                        "ms_since_last_request":null,"lease_left_ms":1000}}"#,
                            now.in_flight, now.open
                        ),
                    )
                }
                _ => Answer::Unknown,
            }
        });
        Self { server, traffic }
    }

    pub(crate) fn set(&self, traffic: Traffic) {
        *self.traffic.lock().expect("no script panics") = traffic;
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }
}

/// A proxy that leaves the first question without an answer, and has a request in flight as long as this says so.
pub(crate) fn slow_proxy(port: u16, is_busy: &Arc<AtomicBool>) -> Neighbour {
    let (is_busy, mut asked) = (Arc::clone(is_busy), 0);
    Neighbour::on(port, move |line| {
        asked += 1;
        let in_flight = u8::from(is_busy.load(Ordering::Acquire));
        match line {
            _ if asked == 1 => Answer::Silence,
            "GET /drain" => {
                Answer::Reply(200, format!(r#"{{"in_flight":{in_flight},"ms_since_last_connection":null}}"#))
            }
            line if lease_of(line).is_some() => Answer::Reply(200, "{}".to_owned()),
            _ => Answer::Unknown,
        }
    })
}

/// A ship that gives each flush the same answer.
pub(crate) fn ship(status: u16, body: &'static str) -> Neighbour {
    Neighbour::new(move |line| match line.strip_prefix("POST /flush?wait=") {
        Some(_) => Answer::Reply(status, body.to_owned()),
        None if line == "GET /livez" => Answer::Reply(200, String::new()),
        None => Answer::Unknown,
    })
}

/// A server of the app's and clients of it, over real sockets.
pub(crate) struct App {
    listener: TcpListener,
    pub(crate) port: String,
}

/// Listens on a port that the socket table tells nothing of. The standard library's `bind` takes one, too, whose last
/// user's connections are still in TIME_WAIT.
fn listen_alone() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

impl App {
    pub(crate) fn new() -> Self {
        let listener = listen_alone().expect("some port is free");
        let port = listener.local_addr().expect("a listener has an address").port().to_string();
        Self { listener, port }
    }

    /// A connection, as the client and as the server have it.
    pub(crate) fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.listener.local_addr().expect("a listener has an address"))
            .expect("the app listens");
        let (server, _) = self.listener.accept().expect("a client has connected");
        (client, server)
    }
}
