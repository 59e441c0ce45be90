//! Bytes both ways between two connections, unread: for TCP listeners and for upgraded HTTP connections.
//!
//! The end of one direction is handed on as such (half-close); a connection that breaks breaks the other one too,
//! so that no peer takes a cut stream for a whole one. Holds no buffer while nothing moves.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::Lent;
use crate::io::{Stall, cut, mend};
use crate::metrics::ConnectionMetrics;
use crate::worker::{Seat, Tick};

/// One direction.
struct Pump<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    /// Lent while bytes wait to be written.
    held: Option<Lent>,
    /// Counts what is read; bytes that were read before are counted already.
    read: Option<&'a IntCounter>,
    /// Counts what is written.
    written: Option<&'a IntCounter>,
}

/// Carries bytes until both directions have ended. `early` is what was read before of the client and the upstream.
/// Where it breaks, or is dropped before, both connections are cut.
pub(crate) async fn tunnel(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    early: [Option<Lent>; 2],
    idle: Duration,
    seat: &Seat,
    count: &ConnectionMetrics,
) -> Result<(), Stall> {
    // Cut for as long as bytes may be missing: also the stop's deadline, a panic or a kill must not look like an end.
    cut(client);
    cut(upstream);
    let result = {
        let [from_client, from_upstream] = early;
        let (client_in, client_out) = client.split();
        let (upstream_in, upstream_out) = upstream.split();
        let up = Pump {
            from: client_in,
            to: upstream_out,
            held: from_client,
            read: Some(&count.received),
            written: None,
        };
        let down = Pump {
            from: upstream_in,
            to: client_out,
            held: from_upstream,
            read: None,
            written: Some(&count.sent),
        };
        both(up, down, idle, seat).await
    };
    if !matches!(result, Err(Stall::Broken(_))) {
        mend(client);
        mend(upstream);
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

impl Pump<'_> {
    /// Copies to the end and hands the end on.
    async fn run(mut self, idle: Duration, idle_at: &Cell<Tick>, seat: &Seat) -> io::Result<()> {
        loop {
            if self.held.as_ref().is_none_or(|held| held.is_empty()) && self.read(seat).await? == 0 {
                return poll_fn(|cx| Pin::new(&mut self.to).poll_shutdown(cx)).await.or_else(already_gone);
            }
            while let Some(held) = self.held.as_mut().filter(|held| !held.is_empty()) {
                let count = poll_fn(|cx| Pin::new(&mut self.to).poll_write(cx, held.filled())).await?;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                held.consume(count);
                if let Some(written) = self.written {
                    written.inc_by(count as u64);
                }
                idle_at.set(seat.watch.after(idle));
            }
        }
    }

    /// Reads into a lent buffer, which is given back for as long as there is nothing to read.
    async fn read(&mut self, seat: &Seat) -> io::Result<usize> {
        poll_fn(|cx| {
            let stream: &TcpStream = self.from.as_ref();
            if stream.poll_read_ready(cx).is_ready() {
                // The event loop may say so of a silent connection: only the read tells.
                let held = self.held.get_or_insert_with(|| seat.worker.buffers.lend());
                let mut space = ReadBuf::new(held.space());
                if let Poll::Ready(result) = Pin::new(&mut self.from).poll_read(cx, &mut space) {
                    let count = space.filled().len();
                    held.fill(count);
                    if let Some(read) = self.read {
                        read.inc_by(count as u64);
                    }
                    return Poll::Ready(result.map(|()| count));
                }
            }
            self.held = None;
            Poll::Pending
        })
        .await
    }
}

/// The peer may close fully before its own end of our direction is handed on.
fn already_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}
