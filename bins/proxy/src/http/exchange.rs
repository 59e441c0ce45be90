//! One request to one upstream connection and its answer back.
//!
//! The request's body goes up while the answer comes down, so that an early answer, an interim one and a stream in
//! both directions all pass. Says exactly how far it came when it breaks: the caller decides about a second try.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::body::{BadBody, Piece};
use super::carry::{Failed, Moved, Pace, carry};
use super::refusal::Refusal;
use super::request::Request;
use super::response::{self, BadResponse, Response};
use crate::buffer::{Buffer, Lent};
use crate::io::{self, Stall, cut, mend};
use crate::listener::Service;
use crate::worker::{Seat, Tick};

/// One request on its way.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) service: &'a Service,
    pub(super) seat: &'a Seat,
    pub(super) request: &'a Request,
    /// The end of the request's time.
    pub(super) until: Tick,
    pub(super) progress: Progress,
}

/// How far an exchange came, also when it broke.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes that the upstream connection took.
    pub(super) sent: Cell<u64>,
    /// The upstream has begun to answer.
    pub(super) answered: Cell<bool>,
    /// The status whose head the client has been sent, or a part of it.
    pub(super) status: Cell<Option<u16>>,
    /// The client takes the end of the connection for the end of the body.
    pub(super) ends_by_close: Cell<bool>,
}

/// An exchange that came to its end.
#[derive(Debug)]
pub(super) struct Done {
    /// The client's connection must end now.
    pub(super) close: bool,
    /// The request went up to its end.
    pub(super) whole: bool,
    /// The upstream connection can carry another request.
    pub(super) reusable: bool,
    /// The upstream switched protocols; this is what it has sent in the new one.
    pub(super) upgraded: Option<Lent>,
}

/// Why an exchange broke.
#[derive(Debug)]
pub(super) enum Broken {
    /// The upstream closed or reset the connection.
    Upstream,
    /// The upstream took or gave nothing in time.
    Timeout,
    /// The upstream's answer cannot be understood.
    Answer(BadResponse),
    /// The client is gone, or does not take its answer.
    Client,
    /// The client's body breaks a rule.
    Refused(Refusal),
}

/// What came to its end first.
enum Either {
    Upload(Result<(), Failed>),
    Download(Result<Done, Broken>),
}

impl Exchange<'_> {
    /// Sends the head in `out` and the body behind it in `input`, and carries the answer back.
    /// `input` is untouched as long as `progress.sent` is zero.
    pub(super) async fn run(
        &self,
        client: &mut TcpStream,
        upstream: &mut TcpStream,
        input: &mut Buffer,
        out: &mut Buffer,
    ) -> Result<Done, Broken> {
        let (mut client_in, mut client_out) = client.split();
        let (mut upstream_in, mut upstream_out) = upstream.split();
        let mut body = self.request.body;
        let mut piece = body.next(input.filled(), true).map_err(refused)?;
        let ready = if let Piece::Forward(length) = piece { length } else { 0 };
        let (pace, sent) = (self.pace(self.service.config.timeouts.idle), &self.progress.sent);
        let spans = [out.filled(), &input.filled()[..ready]];
        io::write(&mut upstream_out, spans, pace.watch, pace.write_until(), sent)
            .await
            .map_err(upstream_broke)?;
        if ready > 0 {
            input.consume(ready);
            piece = body.next(input.filled(), true).map_err(refused)?;
        }
        let uploading = Cell::new(piece != Piece::End);
        let mut download = pin!(self.download(&mut upstream_in, &mut client_out, out, &uploading));
        if uploading.get() {
            let count = |moved| match moved {
                Moved::In(length) => self.counts().received.inc_by(length),
                Moved::Out(length) => sent.set(sent.get() + length),
            };
            let sides = (&mut client_in, &mut upstream_out);
            let mut upload = pin!(carry(sides, input, &mut body, true, piece, pace, count));
            let first = poll_fn(|cx| match upload.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Either::Upload(result)),
                Poll::Pending => download.as_mut().poll(cx).map(Either::Download),
            });
            match first.await {
                Either::Download(result) => return result,
                Either::Upload(Ok(())) => uploading.set(false),
                // The upstream may have answered before it stopped reading: that answer is the client's.
                Either::Upload(Err(Failed::Sink(Stall::Broken(_)))) => {}
                Either::Upload(Err(failed)) => return Err(self.upload_broke(failed)),
            }
        }
        // Nothing more is read of the client: only an error tells that it has left, and nobody wants the answer then.
        let mut left = pin!(client_in.as_ref().ready(Interest::ERROR));
        poll_fn(|cx| match download.as_mut().poll(cx) {
            Poll::Pending => left.as_mut().poll(cx).map(|_| Err(Broken::Client)),
            done => done,
        })
        .await
    }

    /// Reads the answer and hands it on; `uploading` is whether the request is still on its way.
    async fn download(
        &self,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        out: &mut Buffer,
        uploading: &Cell<bool>,
    ) -> Result<Done, Broken> {
        let mut received = self.seat.worker.buffers.lend();
        let response = self.read_head(from, to, &mut received, out, uploading).await?;
        if response.status == 101 {
            self.answered(101);
            self.write_to_client(to, [out.filled(), &[]]).await?;
            return Ok(Done { close: false, whole: true, reusable: false, upgraded: Some(received) });
        }
        let mut body = response.body;
        let mut piece = body.next(received.filled(), response.keep_framing).map_err(|_| bad_body())?;
        let ready = if let Piece::Forward(length) = piece { length } else { 0 };
        self.answered(response.status);
        self.progress.ends_by_close.set(response.ends_by_close());
        if response.ends_by_close() {
            // Until the body is whole, however it ends.
            cut(to.as_ref());
        }
        self.write_to_client(to, [out.filled(), &received.filled()[..ready]]).await?;
        if ready > 0 {
            received.consume(ready);
            piece = body.next(received.filled(), response.keep_framing).map_err(|_| bad_body())?;
        }
        if piece != Piece::End {
            let count = |moved| {
                if let Moved::Out(length) = moved {
                    self.counts().sent.inc_by(length);
                }
            };
            // A long poll may be silent for as long as the request's time allows.
            let pace = self.pace(Duration::ZERO);
            let carried =
                carry((from, to), &mut received, &mut body, response.keep_framing, piece, pace, count);
            carried.await.map_err(|failed| self.download_broke(failed))?;
        }
        if response.ends_by_close() {
            mend(to.as_ref());
        }
        let whole = !uploading.get();
        Ok(Done {
            close: response.close || !whole,
            whole,
            reusable: response.reusable && whole && received.is_empty(),
            upgraded: None,
        })
    }

    /// Reads up to the final head, handing on interim ones, and leaves the client's head in `out`.
    async fn read_head(
        &self,
        from: &mut ReadHalf<'_>,
        to: &mut WriteHalf<'_>,
        received: &mut Buffer,
        out: &mut Buffer,
        uploading: &Cell<bool>,
    ) -> Result<Response, Broken> {
        let pace = self.pace(Duration::ZERO);
        loop {
            if !received.make_room(self.service.config.limits.header_size) {
                return Err(Broken::Answer(BadResponse("its head is too large")));
            }
            if io::read(from, received, pace.watch, pace.read_until()).await.map_err(upstream_broke)? == 0 {
                return Err(Broken::Upstream);
            }
            self.progress.answered.set(true);
            // An answer before the request's end: whether the client still sends is not known, so its connection
            // carries no other request.
            let close = || !self.request.keep_alive || uploading.get() || self.service.is_leaving();
            while let Some(response) =
                response::read(received.filled(), self.request, close(), out).map_err(Broken::Answer)?
            {
                received.consume(response.length);
                if !response.is_interim() {
                    return Ok(response);
                }
                // HTTP/1.0 knows no interim responses (RFC 9110 15.2).
                if !self.request.http10 {
                    self.write_to_client(to, [out.filled(), &[]]).await?;
                }
            }
        }
    }

    /// Counts the answer before the client can have it, so that who has seen it also finds it counted.
    fn answered(&self, status: u16) {
        self.progress.status.set(Some(status));
        self.service.http().answered(status);
    }

    async fn write_to_client(&self, to: &mut WriteHalf<'_>, spans: [&[u8]; 2]) -> Result<(), Broken> {
        let (pace, written) = (self.pace(Duration::ZERO), Cell::new(0));
        let result = io::write(to, spans, pace.watch, pace.write_until(), &written).await;
        self.counts().sent.inc_by(written.get());
        result.map_err(|_| Broken::Client)
    }

    fn upload_broke(&self, failed: Failed) -> Broken {
        match failed {
            Failed::Bad(bad) => refused(bad),
            Failed::Source(Stall::Timeout) if self.pace(Duration::ZERO).is_over() => Broken::Timeout,
            Failed::Source(Stall::Timeout) => Broken::Refused(Refusal::BodyTimeout),
            Failed::Source(Stall::Broken(_)) | Failed::Truncated => Broken::Client,
            Failed::Sink(stall) => upstream_broke(stall),
        }
    }

    fn download_broke(&self, failed: Failed) -> Broken {
        match failed {
            Failed::Bad(_) => bad_body(),
            Failed::Truncated => Broken::Upstream,
            Failed::Source(stall) => upstream_broke(stall),
            Failed::Sink(_) => Broken::Client,
        }
    }

    fn pace(&self, read: Duration) -> Pace<'_> {
        Pace { watch: &self.seat.watch, read, write: self.service.config.timeouts.idle, until: self.until }
    }

    fn counts(&self) -> &crate::metrics::ConnectionMetrics {
        &self.service.state().connections
    }
}

fn upstream_broke(stall: Stall) -> Broken {
    match stall {
        Stall::Timeout => Broken::Timeout,
        Stall::Broken(_) => Broken::Upstream,
    }
}

fn refused(bad: BadBody) -> Broken {
    Broken::Refused(match bad {
        BadBody::Framing => Refusal::Chunk,
        BadBody::TooLarge => Refusal::BodyTooLarge,
    })
}

fn bad_body() -> Broken {
    Broken::Answer(BadResponse("its chunked body is malformed"))
}
