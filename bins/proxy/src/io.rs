//! Reads and writes that end: each has a moment by which it must have moved a byte.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::buffer::Lent;
use crate::wire::Wire;
use crate::worker::{Tick, Watch};

/// How long a peer that we close is still read, so that bytes on their way do not turn what we said into a reset.
const LINGER: Duration = Duration::from_secs(1);

/// Why bytes no longer move.
#[derive(Debug)]
pub(crate) enum Stall {
    /// The moment came first.
    Timeout,
    /// The connection broke.
    Broken(io::Error),
}

/// What comes before the moment; `None` where nothing does.
pub(crate) async fn before<T>(
    watch: &Watch,
    until: Tick,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    poll_fn(|cx| match poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if watch.is_over(until, cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Closes our direction, and reads what is still on its way: a close with unread bytes is sent as a reset, which can
/// take what we said last from the peer (RFC 9112 9.6).
pub(crate) async fn linger(wire: &Wire, mut input: Lent, watch: &Watch) {
    let until = watch.after(LINGER);
    // TLS has an end of its own to send, for which a client that does not read may leave no room.
    if !matches!(before(watch, until, |cx| wire.poll_shutdown(cx)).await, Some(Ok(()))) {
        return;
    }
    loop {
        input.clear();
        match read(wire, &mut input, watch, until).await {
            Ok(1..) if watch.now() < until => {}
            _ => return,
        }
    }
}

impl Stall {
    /// The log's word for the end of a connection.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "idle_timeout",
            Self::Broken(_) => "broken",
        }
    }
}

/// Reads what there is, at most the buffer's space; 0 is the end of the stream. An empty buffer goes back to the stock
/// while nothing is there.
pub(crate) async fn read(from: &Wire, buffer: &mut Lent, watch: &Watch, until: Tick) -> Result<usize, Stall> {
    let result = before(watch, until, |cx| {
        if from.poll_read_ready(cx).is_ready()
            && let Poll::Ready(result) = from.poll_read(cx, buffer.space())
        {
            return Poll::Ready(result);
        }
        buffer.give_back();
        Poll::Pending
    });
    let count = result.await.ok_or(Stall::Timeout)?.map_err(Stall::Broken)?;
    buffer.fill(count);
    Ok(count)
}

/// Writes two spans one behind the other, in one system call where the kernel takes them; `written` counts along,
/// also where it fails.
pub(crate) async fn write(
    to: &Wire,
    spans: [&[u8]; 2],
    watch: &Watch,
    until: Tick,
    written: &Cell<u64>,
) -> Result<(), Stall> {
    let [mut first, mut second] = spans;
    poll_fn(|cx| {
        while !(first.is_empty() && second.is_empty()) {
            let poll = to.poll_write(cx, [first, second]);
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
