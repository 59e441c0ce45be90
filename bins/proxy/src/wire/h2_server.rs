//! One stream of a client's HTTP/2 connection, as a wire that speaks HTTP/1.1: the request is read from it, and the
//! answer written to it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use crate::http2::{Framing, Incoming, Outgoing, Resets, Streams, broken, response};
use crate::worker::{Clock, Tick};

/// A stream that a client has opened.
#[derive(Debug)]
pub(crate) struct H2Server(RefCell<Stream>);

#[derive(Debug)]
struct Stream {
    incoming: Incoming,
    respond: SendResponse<Bytes>,
    /// The answer, from its head on.
    outgoing: Option<(Outgoing, SendStream<Bytes>)>,
    /// The request is HEAD.
    to_head: bool,
    cut: bool,
    /// The client has reset it, or is gone.
    left: bool,
    begun: bool,
    streams: Rc<Streams>,
    clock: Rc<Clock>,
    young_until: Tick,
}

impl H2Server {
    /// Takes a request: its head as text, its framing and its body.
    pub(crate) fn new(
        (head, framing, body): (Vec<u8>, Framing, RecvStream),
        respond: SendResponse<Bytes>,
        to_head: bool,
        streams: &Rc<Streams>,
        clock: Rc<Clock>,
    ) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self(RefCell::new(Stream {
            incoming: Incoming::new(head, framing, body),
            respond,
            outgoing: None,
            to_head,
            cut: false,
            left: false,
            begun: false,
            streams: Rc::clone(streams),
            young_until: Resets::young_until(&clock),
            clock,
        }))
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_read(cx, space)
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, spans: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, spans)
    }

    pub(super) fn shutdown(&self) {
        self.0.borrow_mut().finish();
    }

    pub(super) async fn broken(&self) {
        poll_fn(|cx| self.0.borrow_mut().poll_left(cx)).await;
    }

    pub(super) fn set_cut(&self, cut: bool) {
        self.0.borrow_mut().cut = cut;
    }
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        // A stream that was reset as soon as it was opened is nobody's request.
        if !self.begun && self.poll_left(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.begun = true;
        // Once it is answered, what is left of the request is of no use.
        if self.outgoing.as_ref().is_some_and(|(outgoing, _)| outgoing.is_over()) {
            return Poll::Ready(Ok(0));
        }
        let read = self.incoming.poll_read(cx, space);
        self.left |= matches!(read, Poll::Ready(Err(_)));
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, [first, second]: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        if self.outgoing.is_none() {
            taken = self.send_head(first)?;
        }
        let Some((outgoing, stream)) = &mut self.outgoing else { return Poll::Ready(Ok(taken)) };
        let poll = outgoing.poll_write(cx, stream, taken, [&first[taken..], second]);
        self.left |= matches!(poll, Poll::Ready(Err(_)));
        poll
    }

    /// Sends an interim answer, or begins the final one; gives the bytes that were read.
    fn send_head(&mut self, text: &[u8]) -> io::Result<usize> {
        let read = response(text, self.to_head).map_err(|_| io::ErrorKind::InvalidData)?;
        if read.message.status().is_informational() {
            // A client that is gone is found so at the next step.
            self.respond.send_informational(read.message).map_err(broken)?;
            return Ok(read.length);
        }
        let mut outgoing = Outgoing::new(read.body);
        let (stream, behind) =
            outgoing.begin(&text[read.length..], |ends| self.respond.send_response(read.message, ends))?;
        self.outgoing = Some((outgoing, stream));
        Ok(read.length + behind)
    }

    fn finish(&mut self) {
        if let Some((outgoing, stream)) = self.outgoing.as_mut().filter(|_| !self.cut) {
            outgoing.finish(stream);
        }
    }

    /// Ready once the client has reset the stream, or is gone.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let poll = match &mut self.outgoing {
            Some((_, stream)) => stream.poll_reset(cx).map(drop),
            None => self.respond.poll_reset(cx).map(drop),
        };
        self.left |= poll.is_ready();
        poll
    }
}

/// An answer that is not whole is reset: its end would look like the end of a whole one. What is left of the request is
/// refused by `h2`, without an error where the answer is whole (RFC 9113 8.1).
impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.open.set(self.streams.open.get() - 1);
        if self.outgoing.as_ref().is_some_and(|(outgoing, _)| outgoing.is_over()) {
            return;
        }
        if self.left {
            self.streams.resets.count(self.young_until, &self.clock);
        }
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }
}
