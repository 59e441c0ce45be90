//! One request, carried: which upstream connection it takes, whether it may be tried again, and what the client gets
//! when it fails.

use super::Connection;
use super::admit::Turned;
use super::answer::{Answer, Form};
use super::broken::Broken;
use super::busy::Busy;
use super::exchange::{Exchange, Progress};
use super::forwarded::Client;
use super::refusal::Refusal;
use super::request::{self, Request, Rules};
use super::retry::{Again, Try, again};
use crate::access_log::Entry;
use crate::buffer::{Buffer, Lent};
use crate::drain::Standing;
use crate::turn;
use crate::upstream::{ConnectError, Link, Purpose};
use crate::wire::Wire;
use crate::worker::Tick;

/// What comes next on the client's connection.
#[derive(Debug)]
pub(super) enum Next {
    /// Another request.
    Request,
    /// The client knows that it is over.
    Close,
    /// We end it, and the client may not know yet.
    Linger,
    /// The client must see that something is missing.
    Cut,
    /// Bytes both ways, after an upgrade.
    Tunnel {
        upstream: Link,
        /// What the upstream has sent in the new protocol.
        received: Lent,
        /// In flight until the end.
        _busy: Busy,
    },
}

/// Why a request ended whose client did not wait for its answer.
const CLIENT_CLOSED: &str = "client_closed";

/// Whether the client has sent more than was asked of it: a close would then reach it as a reset.
fn more(client: &Wire, input: &Buffer) -> bool {
    !input.is_empty() || client.has_arrived()
}

/// Takes in what a failure says of the endpoint. Nothing where the answer had begun, or the client had not sent all: a
/// client that is slow could else have a healthy endpoint ejected.
fn learn(link: &Link, broken: &Broken, progress: &Progress) {
    let is_blamed = progress.uploaded.get() && !progress.answered.get();
    match broken {
        Broken::Upstream | Broken::Unseen | Broken::Reset if is_blamed => {
            link.failed("it closed the connection without an answer");
        }
        Broken::Timeout if is_blamed => link.failed("it did not answer in time"),
        Broken::Answer(why) => link.failed(why.0),
        _ => {}
    }
}

impl Connection {
    /// Serves the request whose head is the first `length` bytes of `input`.
    pub(super) async fn serve_request(&mut self, input: &mut Lent, length: usize) -> Next {
        let mut out = self.seat.worker.heads.lend();
        let mut entry = Entry::begin(&self.service, &self.peer);
        let line = entry.as_mut().map(|entry| entry.line());
        let read = request::read(&input.filled()[..length], &self.rules(), &mut out, line);
        self.entry = entry;
        let request = match read {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal).await,
        };
        if let Some(entry) = &mut self.entry {
            let protocol = match request.http10 {
                true => "HTTP/1.0",
                false if self.is_http2 => "HTTP/2",
                false => "HTTP/1.1",
            };
            entry.line().text("protocol", protocol.as_bytes());
        }
        input.consume(length);
        let started = turn::now();
        let until = self.seat.watch.after(self.service.listener.config.timeouts.request);
        let permit = match self.admit(started).await {
            Ok(permit) => permit,
            Err(Turned::Away(refusal)) => return self.turn_away(refusal, &request).await,
            Err(Turned::Left) => {
                self.ended(Some(CLIENT_CLOSED));
                return Next::Cut;
            }
        };
        let busy = Busy::new(&self.service, started, self.is_traffic(&request), permit);
        self.carry_request(&request, until, input, &mut out, busy).await
    }

    /// Whether a drain waits for the like of this request. From where probes come, the first other one makes its
    /// connection traffic.
    fn is_traffic(&self, request: &Request) -> bool {
        match self.service.standing(|| self.peer.address.map(|address| address.ip())) {
            Standing::Client => true,
            Standing::Ignored => false,
            Standing::Prober => {
                if !request.probe && !self.seat.is_traffic() {
                    self.service.is_traffic_after_all(&self.seat);
                }
                !request.probe
            }
        }
    }

    /// Answers a request that comes at the wrong time.
    async fn turn_away(&mut self, refusal: Refusal, request: &Request) -> Next {
        self.refused(refusal);
        self.own_answer(refusal.into(), request).await
    }

    fn rules(&self) -> Rules<'_> {
        let config = &self.service.listener.config;
        let client = Client {
            ip: self.peer.ip.as_deref(),
            is_secure: self.peer.tls_version.is_some(),
            certificate: self.peer.certificate.as_ref().map(|certified| certified.forwarded.as_str()),
            is_trusted: self.is_trusted,
        };
        Rules {
            limits: &config.limits,
            client,
            forwarded: self.service.is_inbound().then_some(config.forwarded),
            start_trace: config.start_trace,
            default_host: &self.service.upstream_host,
        }
    }

    async fn carry_request(
        &mut self,
        request: &Request,
        until: Tick,
        input: &mut Lent,
        out: &mut Buffer,
        busy: Busy,
    ) -> Next {
        let service = self.service.clone();
        let bodiless = request.body.is_over();
        let repeatable = request.idempotent && bodiless;
        let alpn = service.pool.upstream.alpn(request.grpc, request.upgrade);
        let mut tries = service.pool.begin(repeatable, Purpose { ends: self.peer.ends(), alpn });
        loop {
            let link = match service.pool.link(&mut tries).await {
                Ok(link) => link,
                Err(error) => return self.no_upstream(&error, request, &busy).await,
            };
            if let Some(entry) = &self.entry {
                entry.goes_to(link.endpoint());
            }
            let (seat, progress) = (&self.seat, Progress::default());
            let exchange = Exchange { service: &service, seat, link: &link, request, until, progress };
            let outcome = exchange.run(&self.client, input, out).await;
            let progress = exchange.progress;
            if let Some(entry) = &self.entry {
                progress.tell(entry);
            }
            let broken = match outcome {
                Ok(done) => {
                    busy.ended();
                    self.ended(None);
                    if let Some(received) = done.upgraded {
                        return Next::Tunnel { upstream: link, received, _busy: busy };
                    }
                    if done.reusable {
                        service.pool.put(link, done.keep_alive);
                    }
                    return match done.close {
                        false => Next::Request,
                        // The client asked for it, and has got all.
                        true if !request.keep_alive && done.whole && !more(&self.client, input) => {
                            Next::Close
                        }
                        true => Next::Linger,
                    };
                }
                Err(broken) => broken,
            };
            if let Some(why) = link.wire.fault() {
                service.complain(&format!("the upstream broke TLS off: {why}"));
            }
            let (sent, answered) = (progress.sent.get() > 0, progress.answered.get());
            let at_hand = bodiless || progress.at_hand.get();
            let last = Try { reused: link.is_reused, sent, answered, repeatable, at_hand };
            let again = again(&broken, last);
            let is_free = again == Some(Again::IdleClosed);
            if !is_free {
                learn(&link, &broken, &progress);
            }
            if let Some(again) = again
                && service.pool.may_retry(&mut tries, &link, is_free)
            {
                service.pool.upstream.metrics.retries.count(again.reason());
                if let Some(entry) = &self.entry {
                    entry.is_retried();
                }
                continue;
            }
            return self.failed(broken, &progress, request, &busy).await;
        }
    }

    async fn no_upstream(&mut self, error: &ConnectError, request: &Request, busy: &Busy) -> Next {
        self.upstream_failed(error.reason());
        self.service.complain(&podkit_cli::chain(error));
        let next = self.own_answer(Answer::new(502, "the upstream cannot be reached"), request).await;
        busy.ended();
        next
    }

    fn upstream_failed(&self, reason: &'static str) {
        self.service.listener.numbers.connections.upstream_errors.count(reason);
        self.ended(Some(reason));
    }

    /// Tells the client, in an answer where none has begun, else by the cut.
    async fn failed(&mut self, broken: Broken, progress: &Progress, request: &Request, busy: &Busy) -> Next {
        let answer = match broken {
            Broken::Client => {
                self.ended(Some(CLIENT_CLOSED));
                return Next::Cut;
            }
            Broken::Refused(refusal) => {
                self.refused(refusal);
                if refusal == Refusal::Unread {
                    return Next::Cut;
                }
                refusal.into()
            }
            Broken::Upstream | Broken::Unseen | Broken::Reset => {
                self.upstream_failed(if progress.answered.get() { "truncated" } else { "closed" });
                Answer::new(502, "the upstream closed the connection before its answer was whole")
            }
            Broken::Timeout => {
                self.upstream_failed("timeout");
                Answer::new(504, "the upstream did not answer in time")
            }
            Broken::Answer(why) => {
                self.upstream_failed("bad_response");
                self.service.complain(&format!("the upstream's answer is refused: {}", why.0));
                Answer::new(502, "the upstream's answer is malformed")
            }
        };
        match progress.status.get() {
            None => {
                let next = self.own_answer(answer, request).await;
                busy.ended();
                next
            }
            Some(_) => {
                busy.ended();
                // Where the length was told, the client sees that bytes are missing; where the end of the
                // connection is the end of the body, only a reset tells it.
                if progress.ends_by_close.get() { Next::Cut } else { Next::Close }
            }
        }
    }

    async fn own_answer(&mut self, answer: Answer, request: &Request) -> Next {
        // What is left of a body would be read as the next request.
        let keep = request.keep_alive
            && request.body.is_over()
            && !request.http10
            && !answer.is_overload()
            && !self.service.is_leaving();
        match self.answer(answer, !keep, Form::for_request(request)).await {
            true if keep => Next::Request,
            true => Next::Linger,
            false => Next::Cut,
        }
    }
}
