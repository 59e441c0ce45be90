//! The load: many connections of one thread, each with one request on its way at a time.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use rustls::ClientConfig;

use crate::line::Line;
use crate::sockets::Waiter;
use crate::{Result, bulk, handshakes, origin};

/// How often a paced load looks whether a request is due.
const BEAT: Duration = Duration::from_micros(250);

/// The longest time that is told apart; longer counts as this long.
const LONGEST: usize = 1_000_000;

/// What one request is.
#[derive(Clone, Debug)]
pub(crate) enum Asks {
    /// A GET like a browser's or a service's.
    Http,
    /// The same over TLS.
    Https(Arc<ClientConfig>),
    /// A connection, a handshake and one GET.
    Handshake(Arc<ClientConfig>),
    /// So many bytes, which come back.
    Echo(usize),
    /// A byte of a stream that never ends.
    Byte(bulk::Way),
}

pub(crate) const GET: &[u8] =
    b"GET /api/v1/items?page=2 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: versus/1.0\r\n\
                     Accept: application/json\r\nAccept-Encoding: gzip\r\n\r\n";

/// A load that runs until it is ended.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<std::result::Result<Times, String>>,
}

/// What a load's thread and its owner tell each other.
#[derive(Default)]
pub(crate) struct Shared {
    done: AtomicU64,
    measuring: AtomicBool,
    over: AtomicBool,
}

impl Shared {
    pub(crate) fn count(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }
}

/// How many requests took so many microseconds.
pub(crate) struct Times(Vec<u32>);

impl Times {
    pub(crate) fn new() -> Self {
        Self(vec![0; LONGEST + 1])
    }

    pub(crate) fn add(&mut self, micros: u64) {
        self.0[usize::try_from(micros).unwrap_or(LONGEST).min(LONGEST)] += 1;
    }

    pub(crate) fn latency(&self) -> Latency {
        Latency { p50: self.quantile(0.5), p99: self.quantile(0.99) }
    }

    fn quantile(&self, share: f64) -> f64 {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let mut left = (all as f64 * share).ceil() as u64;
        for (micros, count) in self.0.iter().enumerate() {
            if left > 0 && u64::from(*count) >= left {
                return micros as f64;
            }
            left -= u64::from(*count);
        }
        f64::NAN
    }
}

/// How long requests took, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Load {
    /// Connects, and asks: as fast as answers come, or so many times a second.
    pub(crate) fn start(port: u16, connections: usize, asks: Asks, pace: Option<u32>) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let times = match &asks {
                Asks::Byte(way) => bulk::stream(port, connections, *way, &theirs),
                Asks::Handshake(tls) => handshakes::shake(port, tls, &theirs),
                _ => Thread::new(port, connections, &asks, pace, theirs).and_then(Thread::run),
            };
            times.map_err(|error| error.to_string())
        });
        Ok(Self { shared, thread })
    }

    /// Requests answered so far.
    pub(crate) fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// From now on times count.
    pub(crate) fn measure(&self) {
        self.shared.measuring.store(true, Ordering::Relaxed);
    }

    /// Ends it; an error is one of the load itself: all requests must have been answered.
    pub(crate) fn end(self) -> Result<Latency> {
        self.shared.over.store(true, Ordering::Relaxed);
        let times = self.thread.join().map_err(|_| "the load panicked")??;
        Ok(times.latency())
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }
}

struct Client {
    line: Line,
    /// When its request was due.
    since: Instant,
    /// Bytes of an answer that is not whole yet.
    part: Vec<u8>,
}

struct Thread {
    clients: Vec<Client>,
    waiter: Waiter,
    message: Vec<u8>,
    /// The length of an answer that is no HTTP.
    echo: Option<usize>,
    pace: Option<Pace>,
    shared: Arc<Shared>,
    times: Times,
}

/// Requests at a steady rate: what is late because no connection was free counts as late.
struct Pace {
    timer: TimerFd,
    started: Instant,
    gap: Duration,
    sent: u32,
    free: VecDeque<usize>,
}

impl Thread {
    fn new(
        port: u16,
        connections: usize,
        asks: &Asks,
        pace: Option<u32>,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let waiter = Waiter::new()?;
        let (message, echo, tls) = match asks {
            Asks::Echo(length) => (vec![b'x'; *length], Some(*length), None),
            Asks::Https(tls) => (GET.to_vec(), None, Some(tls)),
            _ => (GET.to_vec(), None, None),
        };
        let mut clients = Vec::new();
        for number in 0..connections {
            let line = Line::open(port, tls)?;
            waiter.add(&line, number, EpollFlags::EPOLLIN)?;
            clients.push(Client { line, since: Instant::now(), part: Vec::new() });
        }
        let pace = pace.map(|rate| Pace::new(rate, connections, &waiter)).transpose()?;
        Ok(Self { clients, waiter, message, echo, pace, shared, times: Times::new() })
    }

    fn run(mut self) -> Result<Times> {
        let mut buffer = vec![0; 64 * 1024];
        let mut ready = Vec::new();
        if self.pace.is_none() {
            (0..self.clients.len()).try_for_each(|number| self.ask(number, Instant::now()))?;
        }
        while !self.shared.is_over() {
            ready.clear();
            let events = self.waiter.wait(EpollTimeout::from(100u8))?;
            ready.extend(events.iter().map(|event| event.data() as usize));
            for number in ready.drain(..) {
                if number == usize::MAX {
                    self.send_what_is_due()?;
                } else if self.is_answered(number, &mut buffer)? {
                    self.answered(number)?;
                }
            }
        }
        Ok(self.times)
    }

    fn ask(&mut self, number: usize, due: Instant) -> Result<()> {
        let client = &mut self.clients[number];
        client.since = due;
        Ok(client.line.write_all(&self.message)?)
    }

    /// Reads once, and tells whether the answer is whole.
    fn is_answered(&mut self, number: usize, buffer: &mut [u8]) -> Result<bool> {
        let client = &mut self.clients[number];
        let length = match client.line.read(buffer) {
            Ok(0) => return Err("a connection was closed under load".into()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(format!("a connection broke under load: {error}").into()),
        };
        let got = if client.part.is_empty() {
            &buffer[..length]
        } else {
            client.part.extend_from_slice(&buffer[..length]);
            &client.part
        };
        let whole = match self.echo {
            Some(length) => got.len() >= length,
            None => is_whole(got)?,
        };
        if whole {
            client.part.clear();
        } else if client.part.is_empty() {
            client.part.extend_from_slice(&buffer[..length]);
        }
        Ok(whole)
    }

    fn answered(&mut self, number: usize) -> Result<()> {
        let now = Instant::now();
        self.shared.count(1);
        if self.shared.is_measuring() {
            self.times.add((now - self.clients[number].since).as_micros() as u64);
        }
        match &mut self.pace {
            None => self.ask(number, now),
            Some(pace) => {
                pace.free.push_back(number);
                self.send_what_is_late()
            }
        }
    }

    fn send_what_is_due(&mut self) -> Result<()> {
        if let Some(pace) = &self.pace {
            pace.timer.wait()?;
        }
        self.send_what_is_late()
    }

    fn send_what_is_late(&mut self) -> Result<()> {
        while let Some(pace) = &mut self.pace {
            let due = pace.started + pace.gap * pace.sent;
            if due > Instant::now() {
                break;
            }
            let Some(number) = pace.free.pop_front() else { break };
            pace.sent += 1;
            self.ask(number, due)?;
        }
        Ok(())
    }
}

/// Whether a small HTTP answer is all there; one that is not a success is an error.
pub(crate) fn is_whole(got: &[u8]) -> Result<bool> {
    match memchr::memmem::find(got, b"\r\n\r\n") {
        Some(_) if !got.starts_with(b"HTTP/1.1 200 ") => {
            Err(format!("answered with {:?}", String::from_utf8_lossy(got)).into())
        }
        Some(at) => Ok(got.len() >= at + 4 + origin::BODY),
        None => Ok(false),
    }
}

impl Pace {
    fn new(rate: u32, connections: usize, waiter: &Waiter) -> Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        timer.set(Expiration::Interval(TimeSpec::from_duration(BEAT)), TimerSetTimeFlags::empty())?;
        waiter.add(&timer, usize::MAX, EpollFlags::EPOLLIN)?;
        let gap = Duration::from_secs(1) / rate;
        Ok(Self { timer, started: Instant::now(), gap, sent: 0, free: (0..connections).collect() })
    }
}
