//! A wire as `h2` takes it, with the bytes in front that were read before it was known to be HTTP/2.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Lent;
use crate::wire::Wire;

#[derive(Debug)]
pub(super) struct Io {
    wire: Rc<Wire>,
    early: Option<Lent>,
}

impl Io {
    pub(super) fn new(wire: Rc<Wire>, early: Option<Lent>) -> Self {
        Self { wire, early }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(early) = &mut self.early {
            let count = early.filled().len().min(into.remaining());
            into.put_slice(&early.filled()[..count]);
            early.consume(count);
            if early.is_empty() {
                self.early = None;
            }
            return Poll::Ready(Ok(()));
        }
        let count = ready!(self.wire.poll_read(cx, into.initialize_unfilled()))?;
        into.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.poll_write(cx, [bytes, &[]])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        spans: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = spans.iter().filter(|span| !span.is_empty());
        let mut next = || filled.next().map_or(&[][..], |span| span);
        self.wire.poll_write(cx, [next(), next()])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_shutdown(cx)
    }
}
