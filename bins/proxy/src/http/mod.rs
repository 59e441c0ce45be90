//! HTTP/1.1, relayed: a client's connection from its first request to its last.
//!
//! ```text
//!   client ─► request::read ─► exchange ─► upstream (from the pool, or new)
//!   client ◄────────────────── exchange ◄─ response::read
//! ```
//!
//! `request`, `response`, `body` and `fields` are pure; `exchange` and `carry` move the bytes; this module decides
//! what comes next on the connection.

mod admit;
mod answer;
pub(crate) mod body;
mod broken;
mod busy;
mod carry;
mod exchange;
mod facts;
pub(crate) mod fields;
mod forwarded;
pub(crate) mod head;
mod host;
mod pace;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod property_tests;
pub(crate) mod refusal;
mod relay;
pub(crate) mod request;
mod response;
mod retry;
#[cfg(any(test, fuzzing))]
#[path = "../../tests/it/support/strict.rs"]
mod strict;
mod target;
mod trace;

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::access_log::{Bytes, Entry};
use crate::arrival::Peer;
use crate::buffer::Lent;
use crate::http2;
use crate::io::{self, Stall};
use crate::listener::Service;
use crate::tunnel::tunnel;
use crate::wire::Wire;
use crate::worker::{Seat, Worker};
use answer::{Answer, Form};
pub(crate) use facts::is_grpc;
use head::HeadEnd;
use refusal::Refusal;
use relay::Next;

/// An upgraded connection may be silent as long as a TCP connection may.
const UPGRADED_IDLE: Duration = Duration::from_secs(3600);

/// A client's connection.
#[derive(Debug)]
struct Connection {
    client: Wire,
    peer: Rc<Peer>,
    /// What the client says about where a request came from is believed.
    is_trusted: bool,
    service: Rc<Service>,
    seat: Seat,
    is_http2: bool,
    /// The request's line in the log, where there is one.
    entry: Option<Box<Entry>>,
}

/// Serves one client's connection to its end.
pub(crate) async fn serve(client: Wire, peer: Rc<Peer>, service: Rc<Service>, seat: Seat) {
    Connection::new(client, peer, service, seat, false).carry().await;
}

/// Serves the one request of a stream, which speaks HTTP/1.1 to us whatever it speaks to its client.
pub(crate) async fn serve_one(client: Wire, peer: Rc<Peer>, service: Rc<Service>, seat: Seat) {
    Connection::new(client, peer, service, seat, true).carry().await;
}

impl Connection {
    fn new(client: Wire, peer: Rc<Peer>, service: Rc<Service>, seat: Seat, is_http2: bool) -> Self {
        let is_trusted = service.listener.config.trusts(peer.address.map(|address| address.ip()));
        Self { client, peer, is_trusted, service, seat, is_http2, entry: None }
    }

    /// Serves all requests; of a stream, its one.
    async fn carry(mut self) {
        let mut left_over = None;
        let mut is_first = !self.is_http2;
        while let Some(mut input) = self.wait(left_over.take()).await {
            let next = match self.read_head(&mut input).await {
                Ok(Some(_)) if is_first && input.filled().starts_with(http2::PREFACE) => {
                    let Self { client, peer, service, seat, .. } = self;
                    return Worker::run(http2::serve(client, Some(input), peer, service, seat));
                }
                Ok(Some(length)) => self.serve_request(&mut input, length).await,
                Ok(None) => return,
                Err(refusal) => self.refuse(refusal).await,
            };
            is_first = false;
            if !matches!(next, Next::Tunnel { .. }) {
                // With that it is written.
                self.entry = None;
            }
            match next {
                Next::Request if self.is_http2 => return,
                Next::Request => left_over = Some(input),
                Next::Close => return,
                Next::Linger => return io::linger(&self.client, input, &self.seat.watch).await,
                Next::Cut => return self.client.cut(),
                Next::Tunnel { upstream, received, _busy } => {
                    let counts = &self.service.listener.numbers.connections;
                    let early = [Some(input), Some(received)];
                    let none = Bytes::default();
                    let bytes = self.entry.as_ref().map_or(&none, |entry| &entry.bytes);
                    let wires = [&self.client, &upstream.wire];
                    let carried = tunnel(wires, early, UPGRADED_IDLE, &self.seat, counts, bytes).await;
                    return self.ended(carried.err().map(|stall| stall.reason()));
                }
            }
        }
    }

    /// Waits for the first bytes of a request, without a buffer; `None` when the connection is to end.
    async fn wait(&mut self, left_over: Option<Lent>) -> Option<Lent> {
        if let Some(input) = left_over.filter(|input| !input.is_empty()) {
            return Some(input);
        }
        let (watch, config) = (&self.seat.watch, &self.service.listener.config);
        let idle_until = watch.after(config.timeouts.idle);
        // A client that has just come, or has just been served, may be about to ask.
        let closing_until = watch.now().plus(self.service.listener.quiet);
        let settled_until = watch.now().plus(self.service.listener.patience());
        poll_fn(|cx| {
            if self.client.poll_read_ready(cx).is_ready() {
                // The event loop may say so of a silent connection: only the read tells.
                let mut input = self.seat.worker.buffers.lend();
                if let Poll::Ready(result) = self.client.poll_read(cx, input.space()) {
                    let count = result.unwrap_or(0);
                    input.fill(count);
                    self.service.listener.numbers.connections.received.inc_by(count as u64);
                    return Poll::Ready((count > 0).then_some(input));
                }
            }
            let until = match () {
                () if watch.is_closing() => idle_until.min(closing_until),
                () if self.service.has_settled() => idle_until.min(settled_until),
                () => idle_until,
            };
            if watch.is_over(until, cx) {
                // What has arrived in this moment is still served.
                return Poll::Ready(self.client.has_arrived().then(|| self.seat.worker.buffers.lend()));
            }
            Poll::Pending
        })
        .await
    }

    /// Reads until a whole head is there, and gives its length; `None` where the client left before.
    async fn read_head(&mut self, input: &mut Lent) -> Result<Option<usize>, Refusal> {
        let (watch, config) = (&self.seat.watch, &self.service.listener.config);
        let until = watch.after(config.timeouts.header);
        let mut end = HeadEnd::default();
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
            match io::read(&self.client, input, watch, until).await {
                Ok(0) | Err(Stall::Broken(_)) => return Ok(None),
                Ok(count) => self.service.listener.numbers.connections.received.inc_by(count as u64),
                Err(Stall::Timeout) if input.is_empty() => return Ok(None),
                Err(Stall::Timeout) => return Err(Refusal::HeaderTimeout),
            }
        }
    }

    /// Answers a request that is not carried, and closes: where the next one begins is not known.
    async fn refuse(&mut self, refusal: Refusal) -> Next {
        if self.entry.is_none() {
            self.entry = Entry::begin(&self.service, &self.peer);
        }
        self.refused(refusal);
        if self.answer(refusal.into(), true, Form::Json).await { Next::Linger } else { Next::Cut }
    }

    /// Counts a refusal.
    fn refused(&self, refusal: Refusal) {
        self.service.http().refused.count(refusal.reason());
        self.ended(Some(refusal.reason()));
    }

    /// Says for the log what became of the request.
    fn ended(&self, reason: Option<&'static str>) {
        if let Some(entry) = &self.entry {
            entry.ended(reason);
        }
    }

    /// Sends an answer of our own; false where the client did not take all of it: what came behind the part that it
    /// has would be read as the rest.
    async fn answer(&mut self, answer: Answer, close: bool, form: Form) -> bool {
        let mut out = self.seat.worker.heads.lend();
        answer.write(close, form, &mut out);
        let until = self.seat.watch.after(self.service.listener.config.timeouts.write);
        let written = Cell::new(0);
        self.service.http().answered(answer.status);
        if let Some(entry) = &self.entry {
            entry.answered(answer.status, None);
        }
        let outcome = io::write(&self.client, [out.filled(), &[]], &self.seat.watch, until, &written).await;
        self.service.listener.numbers.connections.sent.inc_by(written.get());
        outcome.is_ok()
    }
}
