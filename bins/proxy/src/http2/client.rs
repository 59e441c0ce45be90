//! A connection to an upstream that many requests share, each as a stream of its own.
//!
//! Belongs to one worker. Ends with the last that holds it: its pool, and the streams that are open.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use http::uri::Scheme;
use prometheus::IntGauge;

use super::incoming::broken;
use super::io::Io;
use crate::wire::{H2Client, Wire};
use crate::worker::Worker;

/// What an upstream may send of one answer before it is read, and of all answers of one connection together.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What is kept of one request for an upstream that reads slower than the client writes: two reads.
const SEND_BUFFER: usize = 32 << 10;

/// The most that an answer's head may have; the limit of the listener that it is for is checked later.
const HEADER_LIST: u32 = 256 << 10;

/// The most streams of one connection, as many as most servers allow.
const STREAMS: usize = 100;

/// How long an upstream may take nothing of what was sent. One that has vanished would else take all requests with it,
/// new ones too, until the kernel gives up after a quarter of an hour.
const SILENCE: Duration = Duration::from_secs(20);

/// A connection that requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    send: RefCell<SendRequest<Bytes>>,
    scheme: Scheme,
    /// Streams that are open, and those that have ever begun.
    open: Cell<usize>,
    begun: Cell<u64>,
    /// Counts the connection as long as it is held.
    gauge: IntGauge,
    /// The connection has ended, or is about to: no stream begins on it any more.
    over: Cell<bool>,
}

impl Shared {
    /// Begins a connection, which is then driven by a task of its own. Waits for the upstream's SETTINGS: who sends none
    /// speaks something else, and who sends some says how many streams it takes. The caller keeps the time.
    pub(crate) async fn begin(wire: Wire, scheme: Scheme, gauge: IntGauge) -> io::Result<Rc<Self>> {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(0)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER);
        wire.limit_silence(SILENCE);
        let (send, connection) = builder.handshake(Io::new(Rc::new(wire), None)).await.map_err(broken)?;
        let mut connection = Box::pin(connection);
        poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(broken(error))),
            Poll::Pending if send.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        gauge.inc();
        let shared = Rc::new(Self {
            send: RefCell::new(send),
            scheme,
            open: Cell::new(0),
            begun: Cell::new(0),
            gauge,
            over: Cell::new(false),
        });
        let weak = Rc::downgrade(&shared);
        Worker::run(async move {
            // Why it ended, each of its streams is told.
            let _ = connection.await;
            if let Some(shared) = weak.upgrade() {
                shared.over.set(true);
            }
        });
        Ok(shared)
    }

    /// Whether one more stream can begin now.
    pub(crate) fn has_room(&self) -> bool {
        let mut send = self.send.borrow_mut();
        // Never waits: what it looks for is whether the upstream has said that it goes away.
        let ready = matches!(send.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
        self.over.set(self.over.get() || !ready);
        ready && !self.over.get() && self.open.get() < send.current_max_send_streams().min(STREAMS)
    }

    /// Whether no stream can begin any more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }

    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// A stream for one request, which begins with the request's first byte.
    pub(crate) fn begin_stream(self: &Rc<Self>) -> Wire {
        self.open.set(self.open.get() + 1);
        self.begun.set(self.begun.get() + 1);
        Wire::H2Client(Box::new(H2Client::new(Rc::clone(self))))
    }

    pub(crate) fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    pub(crate) fn send(
        &self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        // A clone has no stream that it waits for.
        self.send.borrow().clone().send_request(request, ends)
    }

    /// A stream is over.
    pub(crate) fn ended(&self) {
        self.open.set(self.open.get() - 1);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
