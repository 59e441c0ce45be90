//! A client's HTTP/2 connection: its streams, and when it ends.
//!
//! Each stream has a task of its own that serves it as one HTTP/1.1 request; this one drives the connection. What a
//! client can have held in memory is bounded: the streams, their windows and ours to send, the head. The `h2` crate
//! answers floods of frames (it reads on only once the acknowledgement of a SETTINGS or PING frame is written, and
//! bounds CONTINUATION frames, empty DATA frames and streams reset before they are seen); `resets` adds what it lacks.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{Method, Request};
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};

use super::io::Io;
use super::resets::Resets;
use super::to_text::request_head;
use crate::arrival::Peer;
use crate::buffer::Lent;
use crate::http;
use crate::io;
use crate::listener::Service;
use crate::wire::{H2Server, Wire};
use crate::worker::{NEVER, Seat, Tick, Watch, Worker};

/// What a client may send of one body before it is read, and of all bodies of one connection together.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What is kept of one answer for a client that reads slower than the upstream writes: two reads.
const SEND_BUFFER: usize = 32 << 10;

/// What RFC 9113 6.5.2 counts for each field of a head beyond its bytes.
const FIELD_OVERHEAD: usize = 32;

/// How long a client that was told to leave may take to say that it has understood, with no stream open.
const FAREWELL: Duration = Duration::from_secs(1);

/// The size of a usual head.
const HEAD: usize = 512;

/// What the streams of one connection have in common.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) open: Cell<usize>,
    pub(crate) resets: Resets,
}

/// How far the end of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Not,
    /// GOAWAY is sent; streams that are open, or on their way, are served.
    Leaving,
    /// The last GOAWAY is sent; until then it may be written.
    Closing(Tick),
}

struct Server {
    connection: Connection<Io, Bytes>,
    peer: Rc<Peer>,
    service: Rc<Service>,
    seat: Seat,
    streams: Rc<Streams>,
    /// The end of the time without streams, once there are none.
    idle_until: Option<Tick>,
    /// Until then a client that has just come may be about to ask.
    fresh_until: Tick,
    ending: Ending,
}

/// Serves one client's connection to its end. `early` is what was read of it before.
pub(crate) async fn serve(wire: Wire, early: Option<Lent>, peer: Rc<Peer>, service: Rc<Service>, seat: Seat) {
    let until = seat.watch.after(service.listener.config.timeouts.handshake);
    let wire = Rc::new(wire);
    let handshake = builder(&service).handshake(Io::new(Rc::clone(&wire), early));
    // Who sends no preface gets no answer.
    let Some(Ok(connection)) = within(handshake, &seat.watch, until).await else { return };
    let streams = Streams { open: Cell::new(0), resets: Resets::new(&seat.worker.clock) };
    let mut server = Server {
        connection,
        peer,
        streams: Rc::new(streams),
        idle_until: None,
        fresh_until: seat.watch.after(service.listener.patience()),
        ending: Ending::Not,
        service,
        seat,
    };
    server.run().await;
    let Server { connection, seat, .. } = server;
    drop(connection);
    io::linger(&wire, seat.worker.buffers.lend(), &seat.watch).await;
}

fn builder(service: &Service) -> Builder {
    let limits = &service.listener.config.limits;
    // More than a head may have, so that the limits for all requests decide, answer and count.
    let header_list = limits.header_size + limits.headers * FIELD_OVERHEAD * 2;
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams.get())
        .max_header_list_size(u32::try_from(header_list).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.streams.get() as usize)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

impl Server {
    async fn run(&mut self) {
        while let Some((request, respond)) = poll_fn(|cx| self.poll_next(cx)).await {
            self.begin(request, respond);
        }
    }

    /// The next stream; `None` once the connection has ended.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Request<RecvStream>, SendResponse<Bytes>)>> {
        loop {
            if let Poll::Ready(accepted) = self.connection.poll_accept(cx) {
                let accepted = accepted.transpose();
                return Poll::Ready(accepted.inspect_err(|error| self.count(error)).unwrap_or_default());
            }
            let (now, until) = (self.seat.watch.now(), self.until());
            match self.ending {
                Ending::Closing(_) if until <= now => return Poll::Ready(None),
                Ending::Closing(_) => {}
                _ if self.streams.resets.is_spent() => {
                    self.service.http().refused.count("rapid_reset");
                    self.close(Reason::ENHANCE_YOUR_CALM);
                    continue;
                }
                Ending::Leaving if until <= now => {
                    self.close(Reason::NO_ERROR);
                    continue;
                }
                Ending::Not if until <= now || self.is_to_leave() => {
                    self.connection.graceful_shutdown();
                    self.ending = Ending::Leaving;
                    self.idle_until = None;
                    continue;
                }
                Ending::Leaving | Ending::Not => {}
            }
            if !self.seat.watch.is_over(until, cx) {
                return Poll::Pending;
            }
        }
    }

    /// When to look again though nothing has arrived.
    fn until(&mut self) -> Tick {
        if let Ending::Closing(until) = self.ending {
            return until;
        }
        if self.streams.open.get() > 0 {
            self.idle_until = None;
            return NEVER;
        }
        let idle = match self.ending {
            Ending::Not => self.service.listener.config.timeouts.idle,
            _ => FAREWELL,
        };
        let until = *self.idle_until.get_or_insert_with(|| self.seat.watch.after(idle));
        // A fresh client's time is looked at when it ends, and else only the leaving of all.
        if self.ending == Ending::Not && self.service.is_leaving() {
            until.min(self.fresh_until)
        } else {
            until
        }
    }

    /// Whether the client is to be sent away; while a drain still serves, not before its first request, or it would come
    /// again at once. Who stays silent is not waited for either, so that a drain that has settled adds nothing.
    fn is_to_leave(&self) -> bool {
        let asked = self.streams.open.get() > 0 || self.fresh_until <= self.seat.watch.now();
        self.seat.watch.is_closing() || (self.service.is_leaving() && asked)
    }

    fn close(&mut self, reason: Reason) {
        self.connection.abrupt_shutdown(reason);
        self.ending = Ending::Closing(self.seat.watch.after(FAREWELL));
    }

    fn begin(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (parts, body) = request.into_parts();
        let mut head = Vec::with_capacity(HEAD);
        match request_head(&parts, body.is_end_stream(), &mut head) {
            Ok(framing) => {
                let clock = Rc::clone(&self.seat.worker.clock);
                let to_head = parts.method == Method::HEAD;
                let stream = H2Server::new((head, framing, body), respond, to_head, &self.streams, clock);
                let seat = self.seat.worker.stream_seat(&self.service.listener, &self.seat);
                let wire = Wire::H2Server(Box::new(stream));
                let (peer, service) = (Rc::clone(&self.peer), Rc::clone(&self.service));
                Worker::run(http::serve_one(wire, peer, service, seat));
            }
            Err(malformed) => {
                self.service.http().refused.count(malformed.0);
                respond.send_reset(Reason::PROTOCOL_ERROR);
            }
        }
    }

    /// Counts what a client broke; that it has left is no fault.
    fn count(&self, error: &h2::Error) {
        if error.is_library() && error.is_go_away() {
            let is_flood = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
            self.service.http().refused.count(if is_flood { "flood" } else { "framing" });
        }
    }
}

/// Waits for a future, but not longer than until the moment.
async fn within<T>(future: impl Future<Output = T>, watch: &Watch, until: Tick) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if watch.is_over(until, cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
