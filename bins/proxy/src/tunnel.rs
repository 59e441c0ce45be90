//! Bytes both ways between two connections, unread: for TCP listeners and for upgraded HTTP connections.
//!
//! The end of one direction is handed on as such (half-close); a connection that breaks breaks the other one too,
//! so that no peer takes a cut stream for a whole one. Holds no buffer while nothing moves.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::access_log::Bytes;
use crate::buffer::{BUFFER_SIZE, Lent};
use crate::io::Stall;
use crate::metrics::ConnectionMetrics;
use crate::splice::Pipes;
use crate::wire::Wire;
use crate::worker::{Seat, Tick};
use prometheus::IntCounter;

/// So many full buffers, one behind the other, are bulk.
const BULK: u32 = 4;

/// What is asked of a pipe at a time.
const PIECE: usize = 512 * 1024;

/// After so many bytes at a stretch, a millisecond or two, the worker's other connections have a turn.
const TURN: usize = 4 * 1024 * 1024;

/// Fewer bytes than this at a time cost less to copy than to pass through a pipe.
const BURST: usize = 2 * BUFFER_SIZE;

/// One direction.
struct Pump<'a> {
    from: &'a Wire,
    to: &'a Wire,
    /// Lent while bytes wait to be written.
    held: Option<Lent>,
    /// Counts what is read; bytes that were read before are counted already.
    read: Option<&'a IntCounter>,
    /// Counts what is written.
    written: Option<&'a IntCounter>,
    /// As well, for the log.
    bytes: &'a Cell<u64>,
}

/// Carries bytes until both directions have ended; `bytes` counts along. `early` is what was read before of the client and the upstream.
/// Where it breaks, or is dropped before, both connections are cut.
pub(crate) async fn tunnel(
    [client, upstream]: [&Wire; 2],
    early: [Option<Lent>; 2],
    idle: Duration,
    seat: &Seat,
    count: &ConnectionMetrics,
    bytes: &Bytes,
) -> Result<(), Stall> {
    // Cut for as long as bytes may be missing: also the stop's deadline, a panic or a kill must not look like an end.
    client.cut();
    upstream.cut();
    let result = {
        let [from_client, from_upstream] = early;
        let up = Pump {
            from: client,
            to: upstream,
            held: from_client,
            read: Some(&count.received),
            written: None,
            bytes: &bytes.received,
        };
        let down = Pump {
            from: upstream,
            to: client,
            held: from_upstream,
            read: None,
            written: Some(&count.sent),
            bytes: &bytes.sent,
        };
        both(up, down, idle, seat).await
    };
    if !matches!(result, Err(Stall::Broken(_))) {
        client.mend();
        upstream.mend();
    }
    result
}

async fn both(up: Pump<'_>, down: Pump<'_>, idle: Duration, seat: &Seat) -> Result<(), Stall> {
    // Either direction keeps both alive.
    let idle_at = Cell::new(seat.watch.after(idle));
    let mut up = pin!(up.run(idle, &idle_at, seat));
    let mut down = pin!(down.run(idle, &idle_at, seat));
    let (mut up_ended, mut down_ended) = (false, false);
    poll_fn(|cx| {
        if !up_ended && let Poll::Ready(result) = up.as_mut().poll(cx) {
            result.map_err(Stall::Broken)?;
            up_ended = true;
        }
        if !down_ended && let Poll::Ready(result) = down.as_mut().poll(cx) {
            result.map_err(Stall::Broken)?;
            down_ended = true;
        }
        if up_ended && down_ended {
            Poll::Ready(Ok(()))
        } else if seat.watch.is_over(idle_at.get(), cx) {
            Poll::Ready(Err(Stall::Timeout))
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Why bytes pass through a pipe no longer.
enum Passed {
    /// The stream is over.
    All,
    /// They come in small amounts, or there is no pipe.
    Enough,
}

impl Pump<'_> {
    /// Carries all to the end and hands the end on.
    async fn run(mut self, idle: Duration, idle_at: &Cell<Tick>, seat: &Seat) -> io::Result<()> {
        let moved = || idle_at.set(seat.watch.after(idle));
        let mut full = 0;
        loop {
            if full >= BULK {
                match self.pass(&seat.worker.pipes, moved).await? {
                    Passed::All => break,
                    Passed::Enough => full = 0,
                }
            }
            if self.held.as_ref().is_none_or(|held| held.is_empty()) {
                match self.read(seat).await? {
                    0 => break,
                    count => full = if count >= BUFFER_SIZE { full + 1 } else { 0 },
                }
            }
            while let Some(held) = self.held.as_mut().filter(|held| !held.is_empty()) {
                let count = some(poll_fn(|cx| self.to.poll_write(cx, [held.filled(), &[]])).await?)?;
                held.consume(count);
                self.count_written(count);
                moved();
            }
        }
        poll_fn(|cx| self.to.poll_shutdown(cx)).await
    }

    /// Passes bytes through a pipe for as long as there are many of them.
    async fn pass(&mut self, pipes: &Rc<Pipes>, moved: impl Fn()) -> io::Result<Passed> {
        let (Some(from), Some(to)) = (self.from.socket(), self.to.socket()) else {
            return Ok(Passed::Enough);
        };
        self.held = None;
        let mut pipe = None;
        // Since the source last ran dry.
        let mut burst = BURST;
        let mut turn = 0;
        loop {
            if turn >= TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
            let filled = poll_fn(|cx| {
                let Some(lent) = pipe.take().or_else(|| pipes.lend()) else { return Poll::Ready(None) };
                match pipe.insert(lent).poll_fill(cx, from, PIECE) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending if burst < BURST => Poll::Ready(None),
                    Poll::Pending => {
                        pipe = None;
                        burst = 0;
                        Poll::Pending
                    }
                }
            });
            let count = match filled.await {
                None => return Ok(Passed::Enough),
                Some(Err(error)) if is_unfit(&error) => return Ok(Passed::Enough),
                Some(result) => result?,
            };
            if count == 0 {
                return Ok(Passed::All);
            }
            burst += count;
            turn += count;
            if let Some(read) = self.read {
                read.inc_by(count as u64);
            }
            while let Some(pipe) = pipe.as_mut().filter(|pipe| !pipe.is_empty()) {
                let count = some(poll_fn(|cx| pipe.poll_drain(cx, to)).await?)?;
                self.count_written(count);
                moved();
            }
        }
    }

    fn count_written(&self, count: usize) {
        self.bytes.set(self.bytes.get() + count as u64);
        if let Some(written) = self.written {
            written.inc_by(count as u64);
        }
    }

    /// Reads into a lent buffer, which is given back for as long as there is nothing to read.
    async fn read(&mut self, seat: &Seat) -> io::Result<usize> {
        poll_fn(|cx| {
            if self.from.poll_read_ready(cx).is_ready() {
                // The event loop may say so of a silent connection: only the read tells.
                let held = self.held.get_or_insert_with(|| seat.worker.buffers.lend());
                if let Poll::Ready(result) = self.from.poll_read(cx, held.space()) {
                    let count = result?;
                    held.fill(count);
                    if let Some(read) = self.read {
                        read.inc_by(count as u64);
                    }
                    return Poll::Ready(Ok(count));
                }
            }
            self.held = None;
            Poll::Pending
        })
        .await
    }
}

/// A write that takes nothing would be tried for ever.
fn some(count: usize) -> io::Result<usize> {
    if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
}

/// The kernel does not splice such a socket.
fn is_unfit(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENOSYS))
}
