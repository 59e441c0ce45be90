//! One request to one upstream connection and its answer back.
//!
//! The request's body goes up while the answer comes down, so that an early answer, an interim one and a stream in
//! both directions all pass. Says exactly how far it came when it breaks: the caller decides about a second try.

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::body::Piece;
use super::broken::{Broken, bad_body, refused, upstream_broke};
use super::carry::{Failed, Moved, carry};
use super::pace::Pace;
use super::refusal::Refusal;
use super::request::Request;
use super::response::{self, BadResponse, Response};
use crate::access_log::Entry;
use crate::buffer::{Buffer, Lent};
use crate::io::{self, Stall};
use crate::listener::Service;
use crate::upstream::Link;
use crate::wire::Wire;
use crate::worker::{Seat, Tick};

/// The most interim responses to one request: a `102 Processing` every 20 seconds for five hours.
const INTERIM_LIMIT: u32 = 1000;

/// One request on its way.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) service: &'a Service,
    pub(super) seat: &'a Seat,
    pub(super) link: &'a Link,
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
    /// The upstream connection took the whole request.
    pub(super) uploaded: Cell<bool>,
    /// The whole body is still there to be sent again.
    pub(super) at_hand: Cell<bool>,
    /// The upstream has begun to answer.
    pub(super) answered: Cell<bool>,
    /// The status whose head the client has been sent, or a part of it.
    pub(super) status: Cell<Option<u16>>,
    /// The client takes the end of the connection for the end of the body.
    pub(super) ends_by_close: Cell<bool>,
    /// Bytes of the body that came from the client.
    pub(super) received: Cell<u64>,
    /// Bytes of the answer's body that the client's connection took.
    pub(super) delivered: Cell<u64>,
    /// How long the answer took to begin.
    pub(super) latency: Cell<Option<Duration>>,
    /// The client may be silent as long as it likes: the upstream answers it already, or they speak gRPC, where an
    /// answer may well begin with the client's next message.
    is_dialogue: Cell<bool>,
}

impl Progress {
    /// Tells the log.
    pub(super) fn tell(&self, entry: &Entry) {
        entry.bytes.received.set(self.received.get());
        entry.bytes.sent.set(self.delivered.get());
        if let Some(status) = self.status.get() {
            entry.answered(status, self.latency.get());
        }
    }
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
    /// For how long the upstream keeps it open, if it said so.
    pub(super) keep_alive: Option<Duration>,
    /// The upstream switched protocols; this is what it has sent in the new one.
    pub(super) upgraded: Option<Lent>,
}

/// What came to its end first.
enum Either {
    Upload(Result<(), Failed>),
    Download(Result<Done, Broken>),
}

impl Exchange<'_> {
    /// Sends the head in `out` and the body behind it in `input`, and carries the answer back.
    /// `input` is untouched as long as `progress.sent` is zero, and where the body is at hand to be sent again.
    pub(super) async fn run(
        &self,
        client: &Wire,
        input: &mut Lent,
        out: &mut Buffer,
    ) -> Result<Done, Broken> {
        let mut kept = 0;
        let outcome = self.carry(client, input, out, &mut kept).await;
        let is_unseen = matches!(outcome, Err(Broken::Unseen)) && !self.progress.answered.get();
        self.progress.at_hand.set(kept > 0 && is_unseen);
        if !is_unseen {
            input.consume(kept);
        }
        outcome
    }

    /// Does so; `kept` is how many bytes of `input` are sent but not consumed.
    async fn carry(
        &self,
        client: &Wire,
        input: &mut Lent,
        out: &mut Buffer,
        kept: &mut usize,
    ) -> Result<Done, Broken> {
        let upstream = &self.link.wire;
        let mut body = self.request.body;
        let mut piece = body.next(input.filled(), true).map_err(refused)?;
        let ready = if let Piece::Forward(length) = piece { length } else { 0 };
        self.progress.is_dialogue.set(self.request.grpc);
        let (pace, sent) = (self.pace(self.service.listener.config.timeouts.body), &self.progress.sent);
        let head = out.filled().len();
        let rest = if out.join(&input.filled()[..ready]) { &[] } else { &input.filled()[..ready] };
        let written = pace.write(upstream, [out.filled(), rest], sent).await;
        // A second try sends the body from `input`.
        out.truncate(head);
        written.map_err(upstream_broke)?;
        add(&self.progress.received, ready as u64);
        if ready > 0 {
            piece = body.next(&input.filled()[ready..], true).map_err(refused)?;
            // Only an upstream that many requests share says of one that it has not seen it.
            if piece == Piece::End && upstream.is_stream() {
                *kept = ready;
            } else {
                input.consume(ready);
            }
        }
        let uploading = Cell::new(piece != Piece::End);
        self.progress.uploaded.set(!uploading.get());
        input.give_back();
        let mut download = pin!(self.download((upstream, client), out, &uploading));
        if uploading.get() {
            let count = |moved| match moved {
                Moved::In(length) => self.counts().received.inc_by(length),
                Moved::Out(length) => {
                    add(sent, length);
                    add(&self.progress.received, length);
                }
            };
            let mut upload = pin!(carry((client, upstream), input, &mut body, true, piece, pace, count));
            let first = poll_fn(|cx| match upload.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(Either::Upload(result)),
                Poll::Pending => download.as_mut().poll(cx).map(Either::Download),
            });
            match first.await {
                Either::Download(result) => return result,
                Either::Upload(Ok(())) => {
                    uploading.set(false);
                    self.progress.uploaded.set(true);
                }
                // The upstream may have answered before it stopped reading: that answer is the client's.
                Either::Upload(Err(Failed::Sink(Stall::Broken(_)))) => {}
                Either::Upload(Err(failed)) => return Err(self.upload_broke(failed)),
            }
        }
        // Nothing more is read of the client: only an error tells that it has left, and nobody wants the answer then.
        let mut left = pin!(client.broken());
        poll_fn(|cx| match download.as_mut().poll(cx) {
            Poll::Pending => left.as_mut().poll(cx).map(|()| Err(Broken::Client)),
            done => done,
        })
        .await
    }

    /// Reads the answer and hands it on; `uploading` is whether the request is still on its way.
    async fn download(
        &self,
        (from, to): (&Wire, &Wire),
        out: &mut Buffer,
        uploading: &Cell<bool>,
    ) -> Result<Done, Broken> {
        let mut received = self.seat.worker.buffers.promise();
        let response = self.read_head((from, to), &mut received, out, uploading).await?;
        if response.status == 101 {
            self.answered(101);
            self.write_to_client(to, [out.filled(), &[]]).await?;
            return Ok(Done {
                close: false,
                whole: true,
                reusable: false,
                keep_alive: None,
                upgraded: Some(received),
            });
        }
        let mut body = response.body;
        let mut piece = body.next(received.filled(), response.keep_framing).map_err(|_| bad_body())?;
        let ready = if let Piece::Forward(length) = piece { length } else { 0 };
        self.answered(response.status);
        self.progress.ends_by_close.set(response.ends_by_close());
        if response.ends_by_close() {
            // Until the body is whole, however it ends.
            to.cut();
        }
        let rest = if out.join(&received.filled()[..ready]) { &[] } else { &received.filled()[..ready] };
        self.write_to_client(to, [out.filled(), rest]).await?;
        add(&self.progress.delivered, ready as u64);
        if ready > 0 {
            received.consume(ready);
            piece = body.next(received.filled(), response.keep_framing).map_err(|_| bad_body())?;
        }
        if piece != Piece::End {
            let count = |moved| {
                if let Moved::Out(length) = moved {
                    self.counts().sent.inc_by(length);
                    add(&self.progress.delivered, length);
                }
            };
            // A long poll may be silent for as long as the request's time allows.
            let pace = self.pace(Duration::ZERO);
            let carried =
                carry((from, to), &mut received, &mut body, response.keep_framing, piece, pace, count);
            carried.await.map_err(|failed| self.download_broke(failed))?;
        }
        if response.ends_by_close() {
            to.mend();
        }
        let whole = !uploading.get();
        Ok(Done {
            close: response.close || !whole,
            whole,
            reusable: response.reusable && whole && received.is_empty(),
            keep_alive: response.keep_alive,
            upgraded: None,
        })
    }

    /// Reads up to the final head, handing on interim ones, and leaves the client's head in `out`.
    async fn read_head(
        &self,
        (from, to): (&Wire, &Wire),
        received: &mut Lent,
        out: &mut Buffer,
        uploading: &Cell<bool>,
    ) -> Result<Response, Broken> {
        let pace = self.pace(Duration::ZERO);
        let mut interim = 0;
        loop {
            if !received.make_room(self.service.listener.config.limits.header_size) {
                return Err(Broken::Answer(BadResponse("its head is too large")));
            }
            if io::read(from, received, pace.watch, pace.until).await.map_err(upstream_broke)? == 0 {
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
                interim += 1;
                if interim > INTERIM_LIMIT {
                    return Err(Broken::Answer(BadResponse("it is interim without end")));
                }
                // HTTP/1.0 knows no interim responses (RFC 9110 15.2).
                if !self.request.http10 {
                    let sent = self.write_to_client(to, [out.filled(), &[]]).await;
                    // No answer of ours can stand behind a part of this one.
                    sent.map_err(|broken| match broken {
                        Broken::Timeout => Broken::Refused(Refusal::Unread),
                        other => other,
                    })?;
                }
            }
        }
    }

    /// Counts the answer before the client can have it, so that who has seen it also finds it counted.
    fn answered(&self, status: u16) {
        self.progress.status.set(Some(status));
        self.progress.latency.set(Some(self.link.answered(status)));
        self.progress.is_dialogue.set(true);
        self.service.http().answered(status);
    }

    async fn write_to_client(&self, to: &Wire, spans: [&[u8]; 2]) -> Result<(), Broken> {
        let (pace, written) = (self.pace(Duration::ZERO), Cell::new(0));
        let result = pace.write(to, spans, &written).await;
        self.counts().sent.inc_by(written.get());
        result.map_err(|stall| self.client_broke(stall))
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
            Failed::Sink(stall) => self.client_broke(stall),
        }
    }

    fn client_broke(&self, stall: Stall) -> Broken {
        match stall {
            Stall::Timeout if self.pace(Duration::ZERO).is_over() => Broken::Timeout,
            Stall::Timeout => Broken::Refused(Refusal::Unread),
            Stall::Broken(_) => Broken::Client,
        }
    }

    fn pace(&self, read: Duration) -> Pace<'_> {
        Pace {
            watch: &self.seat.watch,
            read,
            write: self.service.listener.config.timeouts.write,
            until: self.until,
            is_dialogue: &self.progress.is_dialogue,
        }
    }

    fn counts(&self) -> &crate::metrics::ConnectionMetrics {
        &self.service.listener.numbers.connections
    }
}

fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}
