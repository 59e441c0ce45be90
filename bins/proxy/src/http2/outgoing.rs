//! One stream's message on its way out: the bytes of an HTTP/1.1 message, as `h2` sends them.
//!
//! Takes no more than the peer's window and a small buffer hold, so a peer that does not read stalls its own stream.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use super::from_text;
use super::incoming::broken;
use crate::http::body::{Body, Piece};

/// What stands behind some framing.
#[derive(Debug)]
enum Next {
    /// Nothing that has been given yet.
    More,
    /// Data, so many bytes as are due.
    Data,
    /// The end of the body, with its trailers.
    End(Option<HeaderMap>),
}

/// The body of a message.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Body,
    /// Bytes of data that come next.
    due: usize,
    over: bool,
}

impl Outgoing {
    /// A message whose body is delimited as `body` says.
    pub(crate) fn new(body: Body) -> Self {
        Self { body, due: 0, over: false }
    }

    /// Whether the end of the stream is sent.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Begins the stream: `send` sends the head and is told whether the stream ends with it. Gives the stream, and how
    /// many bytes of `behind` were read.
    pub(crate) fn begin(
        &mut self,
        behind: &[u8],
        send: impl FnOnce(bool) -> Result<SendStream<Bytes>, h2::Error>,
    ) -> io::Result<(SendStream<Bytes>, usize)> {
        let (skipped, next) = self.advance(behind)?;
        let ends = matches!(next, Next::End(None));
        let mut stream = send(ends).map_err(broken)?;
        if let Next::End(Some(trailers)) = next {
            stream.send_trailers(trailers).map_err(broken)?;
        }
        Ok((stream, skipped))
    }

    /// Takes as many bytes of two spans as can be sent now; gives how many, and `taken` before them.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        mut taken: usize,
        spans: [&[u8]; 2],
    ) -> Poll<io::Result<usize>> {
        for span in spans.into_iter().filter(|span| !span.is_empty()) {
            match self.poll_write_one(cx, stream, span) {
                Poll::Ready(Ok(count)) => {
                    taken += count;
                    if count < span.len() {
                        break;
                    }
                }
                Poll::Pending if taken > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_write_one(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        while taken < bytes.len() {
            if self.due == 0 {
                let (skipped, next) = self.advance(&bytes[taken..])?;
                taken += skipped;
                match next {
                    Next::Data => {}
                    Next::More => break,
                    Next::End(Some(trailers)) => stream.send_trailers(trailers).map_err(broken)?,
                    Next::End(None) => stream.send_data(Bytes::new(), true).map_err(broken)?,
                }
                continue;
            }
            let want = self.due.min(bytes.len() - taken);
            let room = match poll_room(cx, stream, want) {
                Poll::Ready(Ok(room)) => room,
                Poll::Pending if taken > 0 => return Poll::Ready(Ok(taken)),
                other => return other,
            };
            let data = Bytes::copy_from_slice(&bytes[taken..taken + room.min(want)]);
            taken += data.len();
            self.due -= data.len();
            self.send(stream, data, &bytes[taken..], &mut taken)?;
        }
        Poll::Ready(Ok(taken))
    }

    /// Sends data, and with it the end where that stands behind it.
    fn send(
        &mut self,
        stream: &mut SendStream<Bytes>,
        data: Bytes,
        behind: &[u8],
        taken: &mut usize,
    ) -> io::Result<()> {
        let mut next = Next::More;
        if self.due == 0 {
            let skipped;
            (skipped, next) = self.advance(behind)?;
            *taken += skipped;
        }
        stream.send_data(data, matches!(next, Next::End(None))).map_err(broken)?;
        if let Next::End(Some(trailers)) = next {
            stream.send_trailers(trailers).map_err(broken)?;
        }
        Ok(())
    }

    /// Ends a body that only the end of its connection delimits; of any other, something is missing.
    pub(crate) fn finish(&mut self, stream: &mut SendStream<Bytes>) {
        if self.over {
            return;
        }
        self.over = true;
        if self.body != Body::UntilClose || stream.send_data(Bytes::new(), true).is_err() {
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    /// Reads framing, up to the next data; gives its length too.
    fn advance(&mut self, bytes: &[u8]) -> io::Result<(usize, Next)> {
        if self.over {
            // Bytes behind the end: they are no part of this message.
            return if bytes.is_empty() {
                Ok((0, Next::More))
            } else {
                Err(io::ErrorKind::InvalidData.into())
            };
        }
        let mut skipped = 0;
        loop {
            let rest = &bytes[skipped..];
            let next = match self.body.next(rest, false).map_err(|_| io::ErrorKind::InvalidData)? {
                Piece::Skip(count) => {
                    skipped += count;
                    continue;
                }
                Piece::Forward(count) => {
                    self.due = count;
                    Next::Data
                }
                // Trailers come whole, or not at all yet.
                Piece::More if !rest.is_empty() => return Err(io::ErrorKind::InvalidData.into()),
                Piece::More => Next::More,
                Piece::Trailers(length) => {
                    skipped += length;
                    let trailers = from_text::trailers(&rest[..length]);
                    Next::End(Some(trailers.map_err(|_| io::ErrorKind::InvalidData)?))
                }
                Piece::End => Next::End(None),
            };
            self.over = matches!(next, Next::End(_));
            return Ok((skipped, next));
        }
    }
}

/// How many bytes may be sent now, one at least.
fn poll_room(cx: &mut Context<'_>, stream: &mut SendStream<Bytes>, want: usize) -> Poll<io::Result<usize>> {
    stream.reserve_capacity(want);
    match stream.capacity() {
        0 => stream.poll_capacity(cx).map(|room| match room {
            Some(room) => room.map_err(broken),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }),
        room => Poll::Ready(Ok(room)),
    }
}
