//! An upstream as it runs: its endpoints, and what is known of each. Shared by all threads.
//!
//! ```text
//!   control thread                         each worker                      admin thread
//!   resolve ─► refresh ─► Endpoints ─────► pool ─► balance ─► endpoint ─►   readiness, /status, gauges
//!   check ───► health ──► endpoint ◄─────── answers, failures ─► eject, latency, budget
//! ```
//!
//! `balance`, `eject`, `health`, `latency`, `budget` and `refresh` are pure. Nothing here is locked on the way of a
//! request: what is new is heard of by an atomic, what is counted is atomic.

mod balance;
mod budget;
mod check;
mod connect;
mod eject;
mod endpoint;
mod follow;
mod health;
mod latency;
mod pool;
mod refresh;
mod resolve;
mod set;
mod start;
mod streams;
mod tell;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

pub(crate) use connect::{ConnectError, answers};
pub(crate) use endpoint::Endpoint;
pub(crate) use pool::{Link, Pool};
pub(crate) use start::Purpose;

use crate::config::{self, Address, UpstreamProtocol};
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::state::millis;
use crate::tls::{Alpn, Origination};
use budget::Budget;
use endpoint::EndpointAddress;
use set::{Choice, Endpoints};

/// A moment as shared numbers keep it: milliseconds since the upstream was set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64);

/// An upstream in use.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) config: Arc<config::Upstream>,
    /// Where the config has it.
    tls: Option<Origination>,
    pub(crate) metrics: UpstreamMetrics,
    started: Instant,
    endpoints: watch::Sender<Arc<Endpoints>>,
    /// Counts choices, for all workers together: round robin is one round.
    turn: AtomicUsize,
    budget: Budget,
    /// Held while one is ejected, so that two workers do not eject one too many.
    ejecting: Mutex<()>,
    /// No endpoint is well, so all are used.
    doubting: AtomicBool,
    /// Why there are no endpoints, or no new ones.
    dns_error: Mutex<Option<String>>,
    /// No longer in the config, so no longer checked; it may still have connections.
    retired: AtomicBool,
}

/// Retires an upstream when it is no longer kept up to date.
struct Retire<'a>(&'a Upstream);

impl Drop for Retire<'_> {
    fn drop(&mut self) {
        self.0.retired.store(true, Ordering::Relaxed);
    }
}

impl Upstream {
    pub(crate) fn new(
        config: Arc<config::Upstream>,
        metrics: &Metrics,
        tls: Option<Origination>,
    ) -> Arc<Self> {
        let endpoints = fixed(&config.address).map(Endpoints::of_one).unwrap_or_default();
        Arc::new(Self {
            tls,
            metrics: metrics.upstream_of(&config.name),
            started: Instant::now(),
            endpoints: watch::Sender::new(Arc::new(endpoints)),
            // Many pods that start together do not all begin with the same endpoint.
            turn: AtomicUsize::new(fastrand::usize(..1 << 20)),
            budget: Budget::new(config.retries.budget_percent),
            ejecting: Mutex::default(),
            doubting: AtomicBool::new(false),
            dns_error: Mutex::default(),
            retired: AtomicBool::new(false),
            config,
        })
    }

    /// Keeps what is known of it up to date, on the control thread, until it is dropped from the config: names,
    /// health, and who is back.
    pub(crate) async fn keep(self: Arc<Self>) {
        let _retire = Retire(&self);
        tokio::join!(follow::names(&self), check::all(&self), follow::returns(&self));
    }

    /// What a request of this kind is spoken in, as far as there is a choice. gRPC knows HTTP/2 alone, and a protocol is
    /// switched to from HTTP/1.1 alone.
    pub(crate) fn alpn(&self, is_grpc: bool, switches: bool) -> Alpn {
        match (self.config.protocol, &self.tls) {
            (UpstreamProtocol::Http1, _) => Alpn::Http1,
            (UpstreamProtocol::Http2, _) => Alpn::Http2,
            (UpstreamProtocol::Auto, Some(_)) if !switches => Alpn::Both,
            (UpstreamProtocol::Auto, None) if is_grpc => Alpn::Http2,
            (UpstreamProtocol::Auto, _) => Alpn::Http1,
        }
    }

    fn stamp(&self, now: Instant) -> Stamp {
        Stamp(millis(now.saturating_duration_since(self.started)))
    }

    fn now(&self) -> Stamp {
        self.stamp(Instant::now())
    }

    /// The endpoints as they are now.
    fn current(&self) -> Arc<Endpoints> {
        Arc::clone(&self.endpoints.borrow())
    }

    /// Where the next request goes, as an index into `set`.
    fn choose(&self, set: &Endpoints, tried: &[Arc<Endpoint>], now: Instant) -> Option<usize> {
        // No choice, no turn, no chance: nobody else could serve, whatever was found of it.
        if let [_] = set.all() {
            return Some(0);
        }
        let now = self.stamp(now);
        // A retry takes no turn: the next request would else begin where this one failed, again and again.
        let same_turn = AtomicUsize::new(self.turn.load(Ordering::Relaxed));
        let turn = if tried.is_empty() { &self.turn } else { &same_turn };
        let choice = Choice { policy: self.config.balance, turn, now, tried };
        let (index, is_well) = set.choose(&choice)?;
        self.tell_doubt(is_well || set.all().iter().any(|endpoint| endpoint.is_well(now)));
        Some(index)
    }

    /// Tells once when no endpoint is well any more.
    fn tell_doubt(&self, any_is_well: bool) {
        if self.doubting.load(Ordering::Relaxed) == any_is_well
            && self.doubting.swap(!any_is_well, Ordering::Relaxed) == any_is_well
            && !any_is_well
        {
            tracing::warn!(upstream = self.config.name, "no address is well: all of them are used");
        }
    }

    /// Takes in an answer's head.
    fn answered(&self, endpoint: &Endpoint, status: u16, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        self.metrics.answered(status);
        self.metrics.duration.observe(took.as_secs_f64());
        if eject::is_failure(status) {
            self.failed(endpoint, format!("it answered {status}"), now);
        } else {
            endpoint.succeeded(took, self.stamp(now));
        }
    }

    /// Takes in that there was no answer, or none that says that the endpoint is well.
    fn failed(&self, endpoint: &Endpoint, why: String, now: Instant) {
        let now = self.stamp(now);
        if let Some(rules) = &self.config.eject
            && endpoint.accrual.failed(rules)
        {
            self.eject(endpoint, rules, &why, now);
        }
        endpoint.failed(why, now);
    }

    /// Leaves an endpoint out for a while, unless too many are.
    fn eject(&self, endpoint: &Endpoint, rules: &config::Eject, why: &str, now: Stamp) {
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let set = self.current();
        let ejected = set.all().iter().filter(|one| one.accrual.is_ejected(now)).count();
        if endpoint.accrual.is_ejected(now) || !eject::may_eject(ejected, set.all().len()) {
            return;
        }
        let span = endpoint.accrual.eject(rules, now);
        self.metrics.ejections.inc();
        tracing::warn!(
            upstream = self.config.name,
            address = %endpoint.address,
            "ejected for {} s: {why}",
            span.as_secs_f32(),
        );
    }
}

/// The one endpoint of an address that needs no DNS: literal ones, and `localhost` (RFC 6761 6.3).
fn fixed(address: &Address) -> Option<EndpointAddress> {
    match address {
        Address::Unix(path) => Some(EndpointAddress::Unix(path.clone())),
        Address::Host { host, port } => match host.parse() {
            Ok(ip) => Some(EndpointAddress::Tcp(SocketAddr::new(ip, *port))),
            Err(_) => podkit_dns::is_localhost(host).then_some(EndpointAddress::Localhost(*port)),
        },
        Address::Srv(_) => None,
    }
}
