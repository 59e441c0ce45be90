//! One stream of a shared HTTP/2 connection to an upstream, as a wire that takes HTTP/1.1: the request is written to
//! it, and the answer read from it.

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;

use crate::http2::{Incoming, Outgoing, Shared, broken, request, response_head};
use crate::worker::Worker;

/// How long an upstream may take to end a stream whose answer is whole.
const FAREWELL: Duration = Duration::from_secs(1);

/// A stream that we open.
#[derive(Debug)]
pub(crate) struct H2Client(RefCell<Stream>);

#[derive(Debug)]
struct Stream {
    shared: Rc<Shared>,
    /// The request, from its head on.
    outgoing: Option<(Outgoing, SendStream<Bytes>)>,
    answer: Answer,
    /// The request is HEAD.
    to_head: bool,
}

#[derive(Debug)]
enum Answer {
    /// Not asked for.
    None,
    Awaited(ResponseFuture),
    /// An interim one, and how much of it was read.
    Interim(Vec<u8>, usize, ResponseFuture),
    Final(Incoming),
}

impl H2Client {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self(RefCell::new(Stream { shared, outgoing: None, answer: Answer::None, to_head: false }))
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_read(cx, space)
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, spans: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, spans)
    }
}

impl Stream {
    fn poll_write(&mut self, cx: &mut Context<'_>, [first, second]: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        if self.outgoing.is_none() {
            taken = self.send_head(first)?;
        }
        let Some((outgoing, stream)) = &mut self.outgoing else { return Poll::Ready(Ok(taken)) };
        outgoing.poll_write(cx, stream, taken, [&first[taken..], second])
    }

    fn send_head(&mut self, text: &[u8]) -> io::Result<usize> {
        let read = request(text, self.shared.scheme()).map_err(|_| io::ErrorKind::InvalidData)?;
        self.to_head = read.message.method() == http::Method::HEAD;
        let mut outgoing = Outgoing::new(read.body);
        let mut answer = None;
        let (stream, behind) = outgoing.begin(&text[read.length..], |ends| {
            let (response, stream) = self.shared.send(read.message, ends)?;
            answer = Some(response);
            Ok(stream)
        })?;
        self.answer = answer.map_or(Answer::None, Answer::Awaited);
        self.outgoing = Some((outgoing, stream));
        Ok(read.length + behind)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match &mut self.answer {
                Answer::None => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
                Answer::Final(incoming) => return incoming.poll_read(cx, space),
                Answer::Interim(text, at, _) if *at < text.len() => {
                    let count = space.len().min(text.len() - *at);
                    space[..count].copy_from_slice(&text[*at..*at + count]);
                    *at += count;
                    return Poll::Ready(Ok(count));
                }
                Answer::Awaited(_) | Answer::Interim(..) => ready!(self.poll_answer(cx))?,
            }
        }
    }

    /// Waits for the next head.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (Answer::Awaited(response) | Answer::Interim(_, _, response)) = &mut self.answer else {
            return Poll::Ready(Ok(()));
        };
        let interim = ready!(response.poll_informational(cx)).transpose().map_err(broken)?;
        let mut head = Vec::new();
        let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
        if let Some(interim) = interim {
            response_head(&interim.into_parts().0, true, false, &mut head).map_err(malformed)?;
            self.answer = match std::mem::replace(&mut self.answer, Answer::None) {
                Answer::Awaited(response) | Answer::Interim(_, _, response) => {
                    Answer::Interim(head, 0, response)
                }
                other => other,
            };
            return Poll::Ready(Ok(()));
        }
        let (parts, body) = ready!(Pin::new(response).poll(cx)).map_err(broken)?.into_parts();
        let framing =
            response_head(&parts, body.is_end_stream(), self.to_head, &mut head).map_err(malformed)?;
        self.answer = Answer::Final(Incoming::new(head, framing, body));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let is_sent = self.outgoing.as_ref().is_some_and(|(outgoing, _)| outgoing.is_over());
        // All was read that was announced, but the end of the stream is still to come: a reset would be counted
        // against us.
        if let Answer::Final(incoming) = std::mem::replace(&mut self.answer, Answer::None)
            && is_sent
            && let Some(mut rest) = incoming.into_rest()
        {
            let shared = Rc::clone(&self.shared);
            Worker::run(async move {
                let _ = tokio::time::timeout(FAREWELL, rest.data()).await;
                shared.ended();
            });
            return;
        }
        self.shared.ended();
    }
}
