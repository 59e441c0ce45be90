//! One request, carried: which upstream connection it takes, whether it may be tried again, and what the client gets
//! when it fails.

use tokio::net::TcpStream;

use super::exchange::{Broken, Exchange, Progress};
use super::request::{self, Request, Rules};
use super::{Busy, Connection};
use crate::buffer::{Buffer, Lent};
use crate::io::has_arrived;
use crate::upstream::{ConnectError, connect};

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
        upstream: TcpStream,
        /// What the upstream has sent in the new protocol.
        received: Lent,
        /// In flight until the end.
        _busy: Busy,
    },
}

/// Whether the client has sent more than was asked of it: a close would then reach it as a reset.
fn more(client: &TcpStream, input: &Buffer) -> bool {
    !input.is_empty() || has_arrived(client)
}

impl Connection {
    /// Serves the request whose head is the first `length` bytes of `input`.
    pub(super) async fn serve_request(&mut self, input: &mut Buffer, length: usize) -> Next {
        let mut out = self.seat.worker.buffers.lend();
        let rules = Rules {
            limits: &self.service.config.limits,
            peer: self.peer.as_deref(),
            default_host: &self.service.upstream_host,
        };
        let request = match request::read(&input.filled()[..length], &rules, &mut out) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(refusal).await,
        };
        input.consume(length);
        let busy = Busy::new(&self.service);
        self.carry_request(&request, input, &mut out, busy).await
    }

    async fn carry_request(
        &mut self,
        request: &Request,
        input: &mut Buffer,
        out: &mut Buffer,
        busy: Busy,
    ) -> Next {
        let service = self.service.clone();
        let until = self.seat.watch.after(service.config.timeouts.request);
        let repeatable = request.idempotent && request.body.is_over();
        let mut pooled = service.pool.take(!repeatable);
        loop {
            let reused = pooled.is_some();
            let mut upstream = match pooled.take() {
                Some(stream) => stream,
                None => match connect(&service.config.upstream).await {
                    Ok(stream) => stream,
                    Err(error) => return self.no_upstream(&error, request, &busy).await,
                },
            };
            let (seat, progress) = (&self.seat, Progress::default());
            let exchange = Exchange { service: &service, seat, request, until, progress };
            let outcome = exchange.run(&mut self.client, &mut upstream, input, out).await;
            let progress = exchange.progress;
            let broken = match outcome {
                Ok(done) => {
                    busy.ended();
                    if let Some(received) = done.upgraded {
                        return Next::Tunnel { upstream, received, _busy: busy };
                    }
                    if done.reusable {
                        service.pool.put(upstream);
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
            let untouched = repeatable || progress.sent.get() == 0;
            if matches!(broken, Broken::Upstream) && reused && untouched && !progress.answered.get() {
                // The upstream closed the connection while it waited in the pool: no answer to this request.
                service.worker.state.metrics.upstream_retries.inc();
                continue;
            }
            return self.failed(broken, &progress, request, &busy).await;
        }
    }

    async fn no_upstream(&mut self, error: &ConnectError, request: &Request, busy: &Busy) -> Next {
        self.service.state().connections.upstream_errors.count(error.reason());
        self.service.complain(&podkit_cli::chain(error));
        self.own_answer(502, "the upstream cannot be reached", request, busy).await
    }

    /// Tells the client, in an answer where none has begun, else by the cut.
    async fn failed(&mut self, broken: Broken, progress: &Progress, request: &Request, busy: &Busy) -> Next {
        let errors = &self.service.state().connections.upstream_errors;
        let (status, message) = match broken {
            Broken::Client => return Next::Cut,
            Broken::Refused(refusal) => {
                self.service.http().refused.count(refusal.reason());
                (refusal.status(), refusal.message())
            }
            Broken::Upstream => {
                errors.count(if progress.answered.get() { "truncated" } else { "closed" });
                (502, "the upstream closed the connection before its answer was whole")
            }
            Broken::Timeout => {
                errors.count("timeout");
                (504, "the upstream did not answer in time")
            }
            Broken::Answer(why) => {
                errors.count("bad_response");
                self.service.complain(&format!("the upstream's answer is refused: {}", why.0));
                (502, "the upstream's answer is malformed")
            }
        };
        match progress.status.get() {
            None => self.own_answer(status, message, request, busy).await,
            Some(_) => {
                busy.ended();
                // Where the length was told, the client sees that bytes are missing; where the end of the
                // connection is the end of the body, only a reset tells it.
                if progress.ends_by_close.get() { Next::Cut } else { Next::Close }
            }
        }
    }

    async fn own_answer(&mut self, status: u16, message: &str, request: &Request, busy: &Busy) -> Next {
        // What is left of a body would be read as the next request.
        let keep =
            request.keep_alive && request.body.is_over() && !request.http10 && !self.service.is_leaving();
        self.answer(status, message, !keep, request.is_head).await;
        busy.ended();
        if keep { Next::Request } else { Next::Linger }
    }
}
