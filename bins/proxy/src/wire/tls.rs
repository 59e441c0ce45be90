//! TLS over a socket. A stream ends by the peer's `close_notify`, never by the socket's end alone: whoever can cut a
//! connection could else cut a message.
//!
//! A write is over when its records are with the kernel, so that the time it may take is told to the caller, and an
//! idle connection has nothing left to send.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use super::Socket;
use crate::tls::{Alpn, Failure, Origination, Session};

/// A socket that speaks TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    socket: Socket,
    session: RefCell<Session>,
    /// A write whose records are not all sent.
    writing: Cell<Option<Writing>>,
    /// The socket has ended or broken, which the next read will tell.
    is_over: Cell<bool>,
    /// The peer must not take our end for an orderly one.
    is_cut: Cell<bool>,
}

/// A write that is to be tried again, as the caller takes it, though all of it waits in records already. The next try
/// begins with the same bytes, but may have more behind them, and from another place: `h2` adds frames to what was not
/// taken.
#[derive(Debug, Clone, Copy)]
struct Writing {
    /// Plain bytes in the records.
    count: usize,
    /// The first and the last of them: a write that begins with others is another one.
    edges: [u8; 2 * EDGE],
    /// How long the records were.
    sealed: usize,
}

/// Bytes at either end that tell one write from another.
const EDGE: usize = 32;

impl Writing {
    fn new(spans: [&[u8]; 2], count: usize, sealed: usize) -> Self {
        Self { count, edges: edges(spans, count), sealed }
    }

    fn is_of(&self, spans: [&[u8]; 2]) -> bool {
        let [first, second] = spans;
        self.count <= first.len() + second.len() && self.edges == edges(spans, self.count)
    }
}

/// The first and the last of the first `count` bytes of two spans.
fn edges([first, second]: [&[u8]; 2], count: usize) -> [u8; 2 * EDGE] {
    let at = |place: usize| first.get(place).or_else(|| second.get(place.checked_sub(first.len())?));
    let byte = |place| at(place).copied().unwrap_or_default();
    let some = count.min(EDGE);
    std::array::from_fn(|index| match index.checked_sub(EDGE) {
        Some(index) if index < some => byte(count - some + index),
        None if index < some => byte(index),
        _ => 0,
    })
}

/// A socket whose two sides do not trust each other yet.
#[derive(Debug)]
pub(crate) struct Handshake {
    socket: Socket,
    session: Session,
    /// What comes next is the peer's first byte, and we are the server.
    is_first: bool,
}

/// Why there is no TLS connection.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The other side left in the middle of it, or the network did.
    Socket(io::Error),
    /// One side refused the other.
    Tls(rustls::Error),
    /// The client speaks something else.
    NotTls,
}

impl From<rustls::Error> for HandshakeError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// The type of a handshake record, which each client begins with (RFC 8446 5.1).
const HANDSHAKE: u8 = 22;

impl Handshake {
    /// The server's end.
    pub(crate) fn server(socket: Socket, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self { socket, session: Session::server(config)?, is_first: true })
    }

    /// The client's end.
    pub(crate) fn client(socket: Socket, tls: &Origination, alpn: Alpn) -> Result<Self, rustls::Error> {
        let session = Session::client(tls.config(), tls.name().clone(), alpn)?;
        Ok(Self { socket, session, is_first: false })
    }

    /// Ready when both sides trust each other. The caller keeps the time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        let Self { socket, session, is_first } = self;
        loop {
            let settled = session.settle();
            let flushed = poll_flush(socket, session, cx);
            if let Err(error) = settled {
                // The alert is on its way as far as the kernel takes it; it is not worth waiting for more.
                return Poll::Ready(Err(error.into()));
            }
            ready!(flushed)?;
            if !session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(poll_fill(socket, session, cx))? == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
            if std::mem::take(is_first) && session.first_byte() != Some(HANDSHAKE) {
                // Before an alert would go out to someone who cannot read it.
                return Poll::Ready(Err(HandshakeError::NotTls));
            }
        }
    }

    /// The connection, once it is ready.
    pub(crate) fn finish(self) -> Tls {
        Tls {
            socket: self.socket,
            session: RefCell::new(self.session),
            writing: Cell::new(None),
            is_over: Cell::new(false),
            is_cut: Cell::new(false),
        }
    }

    /// The bare socket, where nothing came of it.
    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }
}

impl Tls {
    /// The protocol that was agreed on.
    pub(crate) fn has_agreed_on(&self, protocol: &[u8]) -> bool {
        self.session.borrow().alpn() == Some(protocol)
    }

    /// The version that is spoken.
    pub(crate) fn version(&self) -> Option<&'static str> {
        self.session.borrow().version()
    }

    /// The verified certificate of the peer.
    pub(crate) fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        self.session.borrow().peer_certificate().cloned()
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let read = self.session.borrow_mut().read(space);
            // What the session has to say of its own: an alert, the answer to an update of keys.
            let flushed = self.poll_flush(cx);
            if let Some(count) = read.map_err(broken)? {
                return Poll::Ready(Ok(count));
            }
            if let Poll::Ready(Err(error)) = flushed {
                return Poll::Ready(Err(error));
            }
            if ready!(poll_fill(&self.socket, &mut self.session.borrow_mut(), cx))? == 0 {
                let why = "the connection ended without TLS's end: something may be missing";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
            }
        }
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.session.borrow().may_have_plain() { Poll::Ready(()) } else { self.socket.poll_read_ready(cx) }
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, spans: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        let mut flushed = ready!(self.poll_flush(cx));
        // One that was given up by its caller is sent all the same.
        let again = self.writing.take().filter(|writing| writing.is_of(spans));
        let mut written = again.map(|Writing { count, sealed, .. }| (count, sealed));
        if written.is_none() && flushed.is_ok() {
            let mut session = self.session.borrow_mut();
            let count = session.write(spans).map_err(broken)?;
            let sealed = session.output().len();
            drop(session);
            let Poll::Ready(result) = self.poll_flush(cx) else {
                self.writing.set(Some(Writing::new(spans, count, sealed)));
                return Poll::Pending;
            };
            (flushed, written) = (result, Some((count, sealed)));
        }
        match (flushed, written) {
            (Ok(()), written) => Poll::Ready(Ok(written.map_or(0, |(count, _)| count))),
            // A part was sent, which the peer may have acted on. The error comes again.
            (Err(_), Some((count, sealed))) if self.session.borrow().output().len() < sealed => {
                Poll::Ready(Ok(count))
            }
            (Err(error), _) => Poll::Ready(Err(error)),
        }
    }

    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        self.session.borrow_mut().close().map_err(broken)?;
        ready!(self.poll_flush(cx))?;
        Poll::Ready(self.socket.shutdown())
    }

    /// Why TLS broke off, where it did.
    pub(super) fn fault(&self) -> Option<String> {
        self.session.borrow().fault().map(|error| Failure::of(error).to_string())
    }

    pub(super) async fn broken(&self) {
        self.socket.broken().await;
    }

    /// As of the bytes, not of the records: a session's own messages are no news.
    pub(super) fn has_arrived(&self) -> bool {
        while !self.has_news() && self.fill_now(Socket::read_now) {}
        self.has_news()
    }

    pub(super) fn is_silent(&self) -> bool {
        while !self.has_news() && self.fill_now(Socket::try_read) {}
        !self.has_news()
    }

    fn has_news(&self) -> bool {
        let mut session = self.session.borrow_mut();
        session.has_plain() || session.has_part() || self.is_over.get()
    }

    pub(super) fn limit_silence(&self, limit: Duration) {
        self.socket.limit_silence(limit);
    }

    pub(super) fn cut(&self) {
        self.is_cut.set(true);
        self.socket.cut();
    }

    pub(super) fn untaken(&self) -> Option<u64> {
        self.socket.untaken()
    }

    pub(super) fn mend(&self) {
        self.is_cut.set(false);
        self.socket.mend();
    }

    /// Takes what there is without waiting; false where there is nothing more.
    fn fill_now(&self, read: impl FnOnce(&Socket, &mut [u8]) -> io::Result<usize>) -> bool {
        let mut session = self.session.borrow_mut();
        let result = read(&self.socket, session.space());
        session.received(*result.as_ref().unwrap_or(&0));
        match result {
            Ok(1..) => session.settle().is_ok(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Ok(0) | Err(_) => {
                self.is_over.set(true);
                false
            }
        }
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_flush(&self.socket, &mut self.session.borrow_mut(), cx)
    }
}

/// Reads from the socket once; 0 is its end.
fn poll_fill(socket: &Socket, session: &mut Session, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let space = session.space();
    if space.is_empty() {
        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS message has no end")));
    }
    let filled = socket.poll_read(cx, space);
    // Also nothing: that gives the buffer back.
    session.received(if let Poll::Ready(Ok(count)) = filled { count } else { 0 });
    filled
}

/// Sends what there is to send.
fn poll_flush(socket: &Socket, session: &mut Session, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !session.output().is_empty() {
        match ready!(socket.poll_write(cx, [session.output(), &[]]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => session.sent(count),
        }
    }
    Poll::Ready(Ok(()))
}

impl Drop for Tls {
    /// As the kernel ends a socket in order, so does this end TLS, if the kernel takes it at once.
    fn drop(&mut self) {
        if self.is_cut.get() || std::thread::panicking() || self.session.borrow_mut().close().is_err() {
            return;
        }
        let _ = self.poll_flush(&mut Context::from_waker(Waker::noop()));
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
