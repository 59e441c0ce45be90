//! HTTP/1.1, relayed: a client's connection from its first request to its last.
//!
//! ```text
//!   client ─► request::read ─► exchange ─► upstream (from the pool, or new)
//!   client ◄────────────────── exchange ◄─ response::read
//! ```
//!
//! `request`, `response`, `body` and `fields` are pure; `exchange` and `carry` move the bytes; this module decides
//! what comes next on the connection.

mod answer;
mod body;
mod carry;
mod exchange;
mod fields;
mod pool;
mod refusal;
mod relay;
mod request;
mod response;

use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use crate::buffer::{Buffer, Lent};
use crate::io::{self, Stall, cut, has_arrived};
use crate::listener::Service;
use crate::tunnel::tunnel;
use crate::worker::Seat;
use refusal::Refusal;
use relay::Next;
use request::HeadEnd;

pub(crate) use pool::Pool;

/// An upgraded connection may be silent as long as a TCP connection may.
const UPGRADED_IDLE: Duration = Duration::from_secs(3600);

/// How long a client that we close is still read, so that bytes on their way do not turn our answer into a reset.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    /// The client's address as the upstream is told it.
    peer: Option<String>,
    service: Rc<Service>,
    seat: Seat,
}

/// Serves one client's connection to its end.
pub(crate) async fn serve(client: TcpStream, peer: SocketAddr, service: Rc<Service>, seat: Seat) {
    let peer = service.is_inbound().then(|| peer.ip().to_canonical().to_string());
    let mut connection = Connection { client, peer, service, seat };
    let mut left_over = None;
    while let Some(mut input) = connection.wait(left_over.take()).await {
        let next = match connection.read_head(&mut input).await {
            Ok(Some(length)) => connection.serve_request(&mut input, length).await,
            Ok(None) => return,
            Err(refusal) => connection.refuse(refusal).await,
        };
        match next {
            Next::Request => left_over = Some(input),
            Next::Close => return,
            Next::Linger => return connection.linger(input).await,
            Next::Cut => return cut(&connection.client),
            Next::Tunnel { mut upstream, received, _busy } => {
                let counts = &connection.service.state().connections;
                let early = [Some(input), Some(received)];
                let (client, seat) = (&mut connection.client, &connection.seat);
                let carried = tunnel(client, &mut upstream, early, UPGRADED_IDLE, seat, counts);
                return drop(carried.await);
            }
        }
    }
}

impl Connection {
    /// Waits for the first bytes of a request, without a buffer; `None` when the connection is to end.
    async fn wait(&mut self, left_over: Option<Lent>) -> Option<Lent> {
        if let Some(input) = left_over.filter(|input| !input.is_empty()) {
            return Some(input);
        }
        let (watch, config) = (&self.seat.watch, &self.service.config);
        let idle_until = watch.after(config.timeouts.idle);
        // A client that has just come, or has just been served, may be about to ask.
        let closing_until = watch.now().plus(self.service.quiet);
        poll_fn(|cx| {
            if self.client.poll_read_ready(cx).is_ready() {
                // The event loop may say so of a silent connection: only the read tells.
                let mut input = self.seat.worker.buffers.lend();
                let mut space = ReadBuf::new(input.space());
                if let Poll::Ready(result) = Pin::new(&mut self.client).poll_read(cx, &mut space) {
                    let count = result.map_or(0, |()| space.filled().len());
                    input.fill(count);
                    self.service.state().connections.received.inc_by(count as u64);
                    return Poll::Ready((count > 0).then_some(input));
                }
            }
            let until = if watch.is_closing() { idle_until.min(closing_until) } else { idle_until };
            if watch.is_over(until, cx) {
                // What has arrived in this moment is still served.
                return Poll::Ready(has_arrived(&self.client).then(|| self.seat.worker.buffers.lend()));
            }
            Poll::Pending
        })
        .await
    }

    /// Reads until a whole head is there, and gives its length; `None` where the client left before.
    async fn read_head(&mut self, input: &mut Buffer) -> Result<Option<usize>, Refusal> {
        let (watch, config) = (&self.seat.watch, &self.service.config);
        let until = watch.after(config.timeouts.header);
        let mut end = HeadEnd::default();
        let (mut from, _) = self.client.split();
        loop {
            // Empty lines before a request are to be ignored (RFC 9112 2.2).
            while input.filled().starts_with(b"\r\n") {
                input.consume(2);
                // What was seen of the head were bytes of this line.
                end = HeadEnd::default();
            }
            if let Some(length) = end.find(input.filled())? {
                return Ok(Some(length));
            }
            if input.filled().len() > config.limits.header_size {
                return Err(Refusal::HeadTooLarge);
            }
            // One byte more than the limit, to tell a head that fits from one that does not.
            input.make_room(config.limits.header_size + 1);
            match io::read(&mut from, input, watch, until).await {
                Ok(0) | Err(Stall::Broken(_)) => return Ok(None),
                Ok(count) => self.service.state().connections.received.inc_by(count as u64),
                Err(Stall::Timeout) if input.is_empty() => return Ok(None),
                Err(Stall::Timeout) => return Err(Refusal::HeaderTimeout),
            }
        }
    }

    /// Answers a request that is not carried, and closes: where the next one begins is not known.
    async fn refuse(&mut self, refusal: Refusal) -> Next {
        self.service.http().refused.count(refusal.reason());
        self.answer(refusal.status(), refusal.message(), true, false).await;
        Next::Linger
    }

    /// Sends an answer of our own.
    async fn answer(&mut self, status: u16, message: &str, close: bool, is_head: bool) {
        let mut out = self.seat.worker.buffers.lend();
        answer::write(&mut out, status, message, close, is_head);
        let until = self.seat.watch.after(self.service.config.timeouts.idle);
        let (_, mut to) = self.client.split();
        let written = Cell::new(0);
        self.service.http().answered(status);
        // A client that is gone needs no answer.
        let _ = io::write(&mut to, [out.filled(), &[]], &self.seat.watch, until, &written).await;
        self.service.state().connections.sent.inc_by(written.get());
    }

    /// Closes our direction, and reads what is still on its way: a close with unread bytes is sent as a reset, which
    /// can take our answer from the client (RFC 9112 9.6).
    async fn linger(mut self, mut input: Lent) {
        if poll_fn(|cx| Pin::new(&mut self.client).poll_shutdown(cx)).await.is_err() {
            return;
        }
        let until = self.seat.watch.after(LINGER);
        let (mut from, _) = self.client.split();
        loop {
            input.clear();
            match io::read(&mut from, &mut input, &self.seat.watch, until).await {
                Ok(1..) if self.seat.watch.now() < until => {}
                _ => return,
            }
        }
    }
}

/// Counts a request as in flight for as long as it lives, also through a panic.
#[derive(Debug)]
struct Busy {
    service: Rc<Service>,
    started: Instant,
}

impl Busy {
    fn new(service: &Rc<Service>) -> Self {
        let started = Instant::now();
        service.http().in_flight.inc();
        service.state().last_request.set(&service.worker.state, started);
        Self { service: Rc::clone(service), started }
    }

    /// Counts the time that the answer took.
    fn ended(&self) {
        self.service.http().duration.observe(self.started.elapsed().as_secs_f64());
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.service.http().in_flight.dec();
        self.service.state().last_end.set(&self.service.worker.state, Instant::now());
    }
}
