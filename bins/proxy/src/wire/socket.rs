//! Sockets, TCP and Unix alike, on the event loop of one worker.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::libc;
use nix::sys::socket::{MsgFlags, SockFlag, accept4, recv};
use socket2::{SockAddr, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::bind::PROBE;

/// Bytes are moved where that is possible, and neither side waits.
const SPLICE: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Socket(AsyncFd<socket2::Socket>);

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Door(AsyncFd<socket2::Socket>);

impl Socket {
    /// Connects. The caller keeps the time.
    pub(crate) async fn connect(address: &SockAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(address.domain(), Type::STREAM.nonblocking().cloexec(), None)?;
        let is_tcp = address.is_ipv4() || address.is_ipv6();
        if is_tcp {
            socket.set_tcp_nodelay(true)?;
            // Of a node that has vanished nobody says that its connections are over.
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE).with_interval(PROBE))?;
        }
        match socket.connect(address) {
            Ok(()) => return Ok(Self(watch(socket)?)),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let connecting = watch(socket)?;
        connecting.writable().await?.retain_ready();
        match connecting.get_ref().take_error()? {
            None => Ok(Self(connecting)),
            Some(error) => Err(error),
        }
    }

    /// Has a connection break whose peer has not taken for so long what it was sent: the kernel alone would try for a
    /// quarter of an hour, during which requests that share the connection would go the same way. Not on Unix sockets.
    pub(crate) fn give_up_after(&self, time: Duration) {
        // A Unix socket refuses the option, and its peer cannot vanish.
        let _ = self.0.get_ref().set_tcp_user_timeout(Some(time));
    }

    /// The address of the other side.
    pub(crate) fn peer(&self) -> Option<std::net::SocketAddr> {
        self.0.get_ref().peer_addr().ok()?.as_socket()
    }

    /// The address of our side.
    pub(crate) fn local(&self) -> Option<std::net::SocketAddr> {
        self.0.get_ref().local_addr().ok()?.as_socket()
    }

    /// As [`poll_read`](Self::poll_read), and leaves the bytes where they are. What is seen must be read before the
    /// next look: only what comes behind it is news to the event loop.
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match recv(self.0.get_ref().as_raw_fd(), space, MsgFlags::MSG_PEEK) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match self.0.get_ref().read(space) {
                Ok(count) => {
                    // The kernel gave all it had: the next edge tells of more, and saves a read that finds nothing.
                    if count > 0 && count < space.len() {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads what has arrived, asking the kernel in place of what the event loop last heard.
    pub(super) fn read_now(&self, space: &mut [u8]) -> io::Result<usize> {
        self.0.get_ref().read(space)
    }

    /// Reads what has arrived as far as the event loop knows.
    pub(super) fn try_read(&self, space: &mut [u8]) -> io::Result<usize> {
        self.0.try_io(Interest::READABLE, |mut socket| socket.read(space))
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_read_ready(cx).map(|_| ())
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, spans: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        let [first, second] = spans;
        let asked = first.len() + second.len();
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            let mut socket = self.0.get_ref();
            let written = match (first, second) {
                (only, []) | ([], only) => socket.write(only),
                _ => socket.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
            };
            match written {
                Ok(count) => {
                    if count > 0 && count < asked {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Moves what there is into a pipe, within the kernel; 0 is the end of the stream.
    pub(crate) fn poll_splice_out_of(
        &self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match splice(self, None, pipe, None, most, SPLICE) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Moves `count` bytes that a pipe holds on, as many as fit.
    pub(crate) fn poll_splice_into(
        &self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match splice(pipe, None, self, None, count, SPLICE) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    pub(super) fn shutdown(&self) -> io::Result<()> {
        match self.0.get_ref().shutdown(Shutdown::Write) {
            // The peer may close fully before its own end of our direction is handed on.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    pub(super) async fn broken(&self) {
        // A peer that left is always readable, and to wait for that alone costs far less.
        poll_fn(|cx| self.poll_read_ready(cx)).await;
        // An error of the event loop ends the wait as well: the next read or write tells.
        drop(self.0.ready(Interest::ERROR).await);
    }

    pub(super) fn has_arrived(&self) -> bool {
        match self.0.get_ref().peek(&mut [MaybeUninit::uninit()]) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Breaks the connection once the peer has taken nothing of what was sent for so long, be it that it has vanished.
    pub(super) fn limit_silence(&self, limit: Duration) {
        // Not of a Unix socket, whose peer cannot vanish.
        let _ = self.0.get_ref().set_tcp_user_timeout(Some(limit));
    }

    pub(super) fn is_silent(&self) -> bool {
        matches!(self.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Only TCP has resets: on a Unix socket the peer sees an end.
    pub(super) fn cut(&self) {
        // A socket that refuses the option is gone already.
        let _ = self.0.get_ref().set_linger(Some(Duration::ZERO));
    }

    /// Bytes that we have written and the peer has not taken.
    #[expect(unsafe_code, reason = "the kernel tells it by an ioctl alone")]
    pub(super) fn untaken(&self) -> Option<u64> {
        let mut count: libc::c_int = 0;
        // SAFETY: the descriptor is open as long as `self` is, and TIOCOUTQ writes one int, which `count` has room for.
        let result = unsafe { libc::ioctl(self.0.get_ref().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
        u64::try_from(count).ok().filter(|_| result == 0)
    }

    pub(super) fn mend(&self) {
        // As above.
        let _ = self.0.get_ref().set_linger(None);
    }
}

/// Puts a socket on the event loop.
#[expect(unsafe_code, reason = "the event loop keeps the descriptor's number")]
fn watch(socket: socket2::Socket) -> io::Result<AsyncFd<socket2::Socket>> {
    // SAFETY: a `socket2::Socket` owns its descriptor and has the same one until it is dropped.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

impl Door {
    /// Takes a socket that listens and does not block.
    pub(crate) fn new(socket: socket2::Socket) -> io::Result<Self> {
        watch(socket).map(Self)
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.accept_now()? {
                Some(socket) => return Ok(socket),
                None => ready.clear_ready(),
            }
        }
    }

    /// A connection that the kernel has accepted already.
    #[expect(
        unsafe_code,
        reason = "accept4 gives a number, and a socket that does not block in the same call"
    )]
    pub(crate) fn accept_now(&self) -> io::Result<Option<Socket>> {
        match accept4(self.0.get_ref().as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC) {
            Ok(number) => {
                // SAFETY: accept4 has just made this descriptor, and nobody else knows of it.
                let owned = unsafe { OwnedFd::from_raw_fd(number) };
                Ok(Some(Socket(watch(socket2::Socket::from(owned))?)))
            }
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    #[test]
    fn an_upstream_that_vanishes_is_found_out() {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        runtime.unwrap().block_on(async {
            let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let socket = Socket::connect(&listening.local_addr().unwrap().into()).await.unwrap();
            let time = Duration::from_secs(9);
            socket.give_up_after(time);
            let socket = socket.0.get_ref();
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), PROBE);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(time));
        });
    }
}
