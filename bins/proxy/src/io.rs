//! Reads and writes that end: each has a moment by which it must have moved a byte.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::Buffer;
use crate::worker::{Tick, Watch};

/// Why bytes no longer move.
#[derive(Debug)]
pub(crate) enum Stall {
    /// The moment came first.
    Timeout,
    /// The connection broke.
    Broken(io::Error),
}

/// Reads what there is, at most the buffer's space; 0 is the end of the stream.
pub(crate) async fn read(
    from: &mut ReadHalf<'_>,
    buffer: &mut Buffer,
    watch: &Watch,
    until: Tick,
) -> Result<usize, Stall> {
    poll_fn(|cx| {
        let mut space = ReadBuf::new(buffer.space());
        match Pin::new(&mut *from).poll_read(cx, &mut space) {
            Poll::Ready(Ok(())) => {
                let count = space.filled().len();
                buffer.fill(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Stall::Broken(error))),
            Poll::Pending if watch.is_over(until, cx) => Poll::Ready(Err(Stall::Timeout)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Writes two spans one behind the other, in one system call where the kernel takes them; `written` counts along,
/// also where it fails.
pub(crate) async fn write(
    to: &mut WriteHalf<'_>,
    spans: [&[u8]; 2],
    watch: &Watch,
    until: Tick,
    written: &Cell<u64>,
) -> Result<(), Stall> {
    let [mut first, mut second] = spans;
    poll_fn(|cx| {
        while !(first.is_empty() && second.is_empty()) {
            let poll = match (first.is_empty(), second.is_empty()) {
                (false, true) => Pin::new(&mut *to).poll_write(cx, first),
                (true, _) => Pin::new(&mut *to).poll_write(cx, second),
                _ => Pin::new(&mut *to).poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
            };
            if poll.is_pending() && watch.is_over(until, cx) {
                return Poll::Ready(Err(Stall::Timeout));
            }
            let count = match ready!(poll) {
                Ok(0) => return Poll::Ready(Err(Stall::Broken(io::ErrorKind::WriteZero.into()))),
                Ok(count) => count,
                Err(error) => return Poll::Ready(Err(Stall::Broken(error))),
            };
            written.set(written.get() + count as u64);
            let of_first = count.min(first.len());
            first = &first[of_first..];
            second = &second[count - of_first..];
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Whether bytes, or the end, wait in the kernel: asks it, in place of what the event loop last heard.
pub(crate) fn has_arrived(stream: &TcpStream) -> bool {
    match socket2::SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Has the close of this connection reach the peer as a reset: what it got is cut off, and it must know.
pub(crate) fn cut(stream: &TcpStream) {
    // A socket that refuses the option is gone already.
    let _ = stream.set_zero_linger();
}

/// Takes a [`cut`] back, once nothing is missing.
pub(crate) fn mend(stream: &TcpStream) {
    // As above.
    let _ = socket2::SockRef::from(stream).set_linger(None);
}
