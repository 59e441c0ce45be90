//! One type for every stream of bytes: a socket, and what is spoken over one.
//!
//! All methods take `&self`, so both directions of a stream can be driven side by side by one task. Each direction
//! has one waker: the task that polled it last.

mod h2_client;
mod h2_server;
mod socket;
mod tls;

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

pub(crate) use h2_client::H2Client;
pub(crate) use h2_server::H2Server;
pub(crate) use socket::{Door, Socket};
pub(crate) use tls::{Handshake, HandshakeError, Tls};

/// A stream of bytes in both directions.
#[derive(Debug)]
pub(crate) enum Wire {
    Socket(Socket),
    H2Server(Box<H2Server>),
    Tls(Box<Tls>),
    H2Client(Box<H2Client>),
}

impl Wire {
    /// The socket whose bytes are the stream's own.
    pub(crate) fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Socket(socket) => Some(socket),
            Self::H2Server(_) | Self::Tls(_) | Self::H2Client(_) => None,
        }
    }

    /// Reads what there is, at most `space`; 0 is the end of the stream.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_read(cx, space),
            Self::H2Server(stream) => stream.poll_read(cx, space),
            Self::Tls(tls) => tls.poll_read(cx, space),
            Self::H2Client(stream) => stream.poll_read(cx, space),
        }
    }

    /// Ready when a read may give something: it may lie, only the read tells. Lets an idle stream hold no buffer.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Socket(socket) => socket.poll_read_ready(cx),
            Self::Tls(tls) => tls.poll_read_ready(cx),
            Self::H2Server(_) | Self::H2Client(_) => Poll::Ready(()),
        }
    }

    /// Writes of two spans, one behind the other, as much as fits; in one system call where there is one.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, spans: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        match self {
            Self::Socket(socket) => socket.poll_write(cx, spans),
            Self::H2Server(stream) => stream.poll_write(cx, spans),
            Self::Tls(tls) => tls.poll_write(cx, spans),
            Self::H2Client(stream) => stream.poll_write(cx, spans),
        }
    }

    /// Ends our direction, once all that was written is on its way.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(socket) => Poll::Ready(socket.shutdown()),
            Self::H2Server(stream) => {
                stream.shutdown();
                Poll::Ready(Ok(()))
            }
            Self::Tls(tls) => tls.poll_shutdown(cx),
            // The end of a request is told by the request.
            Self::H2Client(_) => Poll::Ready(Ok(())),
        }
    }

    /// Why TLS broke off, where it did.
    pub(crate) fn fault(&self) -> Option<String> {
        if let Self::Tls(tls) = self { tls.fault() } else { None }
    }

    /// Returns when the peer has left altogether, so that nobody is there to read what we write.
    pub(crate) async fn broken(&self) {
        match self {
            Self::Socket(socket) => socket.broken().await,
            Self::H2Server(stream) => stream.broken().await,
            Self::Tls(tls) => tls.broken().await,
            // Its reads tell.
            Self::H2Client(_) => std::future::pending().await,
        }
    }

    /// Whether bytes, or the end, wait: asks the kernel, in place of what the event loop last heard.
    pub(crate) fn has_arrived(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.has_arrived(),
            Self::Tls(tls) => tls.has_arrived(),
            Self::H2Server(_) | Self::H2Client(_) => false,
        }
    }

    /// Whether nothing has arrived as far as the event loop knows: on an idle connection anything is an end, or an
    /// answer to no question. Costs no system call while the connection is silent.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.is_silent(),
            Self::Tls(tls) => tls.is_silent(),
            Self::H2Server(_) | Self::H2Client(_) => false,
        }
    }

    /// How many bytes of what was written the peer has not taken yet, where the kernel knows.
    pub(crate) fn untaken(&self) -> Option<u64> {
        match self {
            Self::Socket(socket) => socket.untaken(),
            Self::Tls(tls) => tls.untaken(),
            // A stream takes only what its peer has room for.
            Self::H2Server(_) | Self::H2Client(_) => None,
        }
    }

    /// Whether this is one of many on its connection to an upstream, which lives on without it.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::H2Client(_))
    }

    /// Breaks the connection once the peer has taken nothing of what was sent for so long.
    pub(crate) fn limit_silence(&self, limit: Duration) {
        match self {
            Self::Socket(socket) => socket.limit_silence(limit),
            Self::Tls(tls) => tls.limit_silence(limit),
            Self::H2Server(_) | Self::H2Client(_) => {}
        }
    }

    /// Has the close of this stream reach the peer as a reset: what it got is cut off, and it must know.
    pub(crate) fn cut(&self) {
        match self {
            Self::Socket(socket) => socket.cut(),
            Self::H2Server(stream) => stream.set_cut(true),
            Self::Tls(tls) => tls.cut(),
            // A request that is not whole is reset in any case.
            Self::H2Client(_) => {}
        }
    }

    /// Takes a [`cut`](Self::cut) back, once nothing is missing.
    pub(crate) fn mend(&self) {
        match self {
            Self::Socket(socket) => socket.mend(),
            Self::H2Server(stream) => stream.set_cut(false),
            Self::Tls(tls) => tls.mend(),
            Self::H2Client(_) => {}
        }
    }
}
