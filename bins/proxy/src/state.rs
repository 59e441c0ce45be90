//! What the worker and the admin thread share: the phase, the lease, and each listener's numbers.
//!
//! The hot path only touches atomics here, but for a drain that leaves peers out: then each connection and each request
//! takes the drain's lock and compares its peer with the blocks of all holders, whose number is bounded.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use podkit_admin::Lease;
use podkit_lifecycle::{Phase, Stop};
use prometheus::IntGauge;

use crate::access_log::Writer;
use crate::config::{self, Direction, Protocol};
use crate::drain::{Change, Drain, Standing};
use crate::guard::Guard;
use crate::metrics::{ConnectionMetrics, HttpMetrics, Metrics};
use crate::tls::Termination;
use crate::upstream::Upstream;

/// A client's time to ask after it has come, however short the quiet period of a stop: even the nearest one needs a round
/// trip.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// The process, as its admin port tells it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) metrics: Metrics,
    pub(crate) access_log: Writer,
    pub(crate) stop: Stop,
    /// Those of the config in force, and those that are closed but still have connections.
    listeners: Mutex<Vec<Arc<Listener>>>,
    drain: Mutex<Drain>,
    /// Draining or stopping, for the hot path.
    leaving: AtomicBool,
    /// Some peers may be no clients, for the hot path.
    leaves_out: AtomicBool,
    started: Instant,
    /// When each worker's loop last turned, in milliseconds since the start.
    heartbeats: Vec<AtomicU64>,
}

impl State {
    /// A process with so many workers and no listener yet.
    pub(crate) fn new(workers: usize, stop: Stop) -> Self {
        let metrics = Metrics::new();
        Self {
            access_log: Writer::new(metrics.access_log_dropped.clone()),
            metrics,
            stop,
            listeners: Mutex::default(),
            drain: Mutex::new(Drain::new()),
            leaving: AtomicBool::new(false),
            leaves_out: AtomicBool::new(false),
            started: Instant::now(),
            heartbeats: (0..workers).map(|_| AtomicU64::default()).collect(),
        }
    }

    /// The listeners that are to be told of.
    pub(crate) fn listeners(&self) -> Vec<Arc<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The upstreams of some of them, each once.
    pub(crate) fn upstreams(&self, of: impl Fn(&Listener) -> bool) -> Vec<Arc<Upstream>> {
        let mut upstreams: Vec<Arc<Upstream>> = Vec::new();
        for listener in self.listeners().iter().filter(|listener| of(listener)) {
            if !upstreams.iter().any(|known| Arc::ptr_eq(known, &listener.upstream)) {
                upstreams.push(Arc::clone(&listener.upstream));
            }
        }
        upstreams
    }

    /// Puts others in their place.
    pub(crate) fn set_listeners(&self, listeners: Vec<Arc<Listener>>) {
        *self.listeners.lock().unwrap_or_else(PoisonError::into_inner) = listeners;
    }

    /// Whether inbound clients are to be sent away.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.drain().phase()
    }

    /// The listeners are bound.
    pub(crate) fn bound(&self) {
        self.drain().bound();
    }

    /// Starts or renews a lease.
    pub(crate) fn lease(&self, lease: Lease) {
        let lease_ms = millis(lease.length);
        let change = self.change(|drain| drain.lease(Instant::now(), lease));
        if change == Change::Started {
            tracing::info!(lease_ms, "draining: unready, clients are told to close");
        }
    }

    /// Ends a holder's lease by request, or all.
    pub(crate) fn undo(&self, holder: Option<&str>) {
        match self.change(|drain| drain.undo(holder)) {
            Change::Undone => tracing::info!("the drain was undone"),
            Change::Left => tracing::info!("a lease was given back; another one holds the drain"),
            _ => {}
        }
    }

    /// Whether what comes from a peer is traffic; `None` is a Unix socket's. The peer is only asked for where it matters.
    pub(crate) fn standing(&self, peer: impl FnOnce() -> Option<IpAddr>) -> Standing {
        if !self.leaves_out.load(Ordering::Relaxed) {
            return Standing::Client;
        }
        peer().map_or(Standing::Client, |peer| self.drain().standing(peer))
    }

    pub(crate) fn leases(&self) -> usize {
        self.drain().leases()
    }

    /// Begins the stop's drain.
    pub(crate) fn leave_for_good(&self) {
        self.change(|drain| drain.stop(Instant::now()));
    }

    /// What each worker does each time its loop turns.
    pub(crate) fn beat(&self, worker: usize) {
        self.heartbeats[worker].store(millis(self.uptime()), Ordering::Relaxed);
        if self.is_leaving() {
            let change = self.change(|drain| drain.tick(Instant::now()));
            if change == Change::Lapsed {
                tracing::warn!("the drain's lease lapsed and no stop has come: ready again");
            }
        }
    }

    /// How long ago the loop of the slowest worker last turned.
    pub(crate) fn since_heartbeat(&self) -> Duration {
        let last = self.heartbeats.iter().map(|beat| beat.load(Ordering::Relaxed)).min().unwrap_or_default();
        self.uptime().saturating_sub(Duration::from_millis(last))
    }

    pub(crate) fn lease_left(&self) -> Option<Duration> {
        self.drain().lease_left(Instant::now())
    }

    /// For how long no connection and no request has come in or ended, counted from the drain's start; zero while
    /// ready. An end counts too: a client that was just told to close may come again at once.
    pub(crate) fn quiet_for(&self, direction: Direction) -> Duration {
        let moments: [fn(&Numbers) -> &Moment; 3] =
            [|one| &one.last_connection, |one| &one.last_request, |one| &one.last_end];
        let last = moments.into_iter().filter_map(|of| self.last(direction, of)).max();
        self.drain().quiet_for(Instant::now(), last).unwrap_or_default()
    }

    /// Whether, since inbound clients are told to leave, no new one has come for as long as an idle one is left alone.
    pub(crate) fn has_settled(&self) -> bool {
        let last = self.last(Direction::Inbound, |one| &one.last_connection);
        let settled_for = self.drain().quiet_for(Instant::now(), last).unwrap_or_default();
        self.of(Direction::Inbound).all(|listener| settled_for >= listener.patience())
    }

    /// When something last came to the listeners of a direction.
    pub(crate) fn last(&self, direction: Direction, of: impl Fn(&Numbers) -> &Moment) -> Option<Instant> {
        self.of(direction).filter_map(|listener| of(&listener.numbers).get(self.started)).max()
    }

    pub(crate) fn of(&self, direction: Direction) -> impl Iterator<Item = Arc<Listener>> {
        self.listeners().into_iter().filter(move |listener| listener.config.direction == direction)
    }

    /// Requests being served, and open TCP and upgraded connections.
    pub(crate) fn in_flight(&self, direction: Direction) -> i64 {
        self.of(direction).map(|listener| listener.numbers.in_flight()).sum()
    }

    pub(crate) fn open_connections(&self, direction: Direction) -> i64 {
        self.of(direction).map(|listener| listener.numbers.connections.open.get()).sum()
    }

    /// Changes the drain, and what the hot path sees of it, as one step: the admin thread and the worker both do.
    fn change<T>(&self, step: impl FnOnce(&mut Drain) -> T) -> T {
        let mut drain = self.drain();
        let result = step(&mut drain);
        let leaving = matches!(drain.phase(), Phase::Draining | Phase::Stopping);
        self.leaving.store(leaving, Ordering::Relaxed);
        self.leaves_out.store(drain.leaves_out(), Ordering::Relaxed);
        self.metrics.draining.set(i64::from(leaving));
        result
    }

    fn drain(&self) -> MutexGuard<'_, Drain> {
        // The state machine has no step that panics half-way, so a poisoned lock holds a sound state.
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener in use.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) config: config::Listener,
    /// Where it listens in truth, once it is bound: port 0 is the kernel's choice. Not for Unix sockets.
    pub(crate) address: OnceLock<SocketAddr>,
    /// Where the config has it.
    pub(crate) tls: Option<Termination>,
    pub(crate) upstream: Arc<Upstream>,
    /// How long an idle connection is left alone when idle connections are closed.
    pub(crate) quiet: Duration,
    /// Those of the listener of this name, whatever its settings were before.
    pub(crate) numbers: Arc<Numbers>,
    /// That of the listener of this name while its limits are the same.
    pub(crate) guard: Arc<Guard>,
}

impl Listener {
    /// How long a client that has just come, or has just been served, may take to ask while a drain still serves all.
    pub(crate) fn patience(&self) -> Duration {
        self.quiet.max(LEAST_PATIENCE)
    }
}

/// One listener's numbers.
#[derive(Debug)]
pub(crate) struct Numbers {
    protocol: Protocol,
    pub(crate) connections: ConnectionMetrics,
    /// Only for HTTP.
    pub(crate) http: Option<HttpMetrics>,
    pub(crate) last_connection: Moment,
    pub(crate) last_request: Moment,
    /// When a request, or a TCP connection, was last over.
    pub(crate) last_end: Moment,
}

impl Numbers {
    pub(crate) fn new(listener: &config::Listener, metrics: &Metrics) -> Self {
        let name = listener.name.as_str();
        Self {
            protocol: listener.protocol,
            connections: metrics.connections_of(name, listener.direction),
            http: (listener.protocol == Protocol::Http).then(|| metrics.http_of(name)),
            last_connection: Moment::default(),
            last_request: Moment::default(),
            last_end: Moment::default(),
        }
    }

    /// A connection has come.
    pub(crate) fn connected(&self) {
        self.connections.accepted.inc();
        self.connections.open.inc();
    }

    /// The connection that has come is traffic.
    pub(crate) fn came(&self, state: &State) {
        self.last_connection.set(state, Instant::now());
    }

    /// A connection is over.
    pub(crate) fn disconnected(&self, state: &State, is_traffic: bool) {
        self.connections.open.dec();
        if self.protocol == Protocol::Tcp && is_traffic {
            self.last_end.set(state, Instant::now());
        }
    }

    /// Requests being served, or open TCP connections.
    pub(crate) fn in_flight(&self) -> i64 {
        self.in_flight_gauge().get()
    }

    fn in_flight_gauge(&self) -> &IntGauge {
        self.http.as_ref().map_or(&self.connections.open, |http| &http.in_flight)
    }
}

/// A moment that other threads read; no moment at first.
#[derive(Debug, Default)]
pub(crate) struct Moment(AtomicU64);

impl Moment {
    /// Sets it to `now`.
    pub(crate) fn set(&self, state: &State, now: Instant) {
        // One more than the milliseconds, so that zero is left for "never".
        self.0.store(millis(now.saturating_duration_since(state.started)) + 1, Ordering::Relaxed);
    }

    fn get(&self, started: Instant) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(started + Duration::from_millis(millis - 1)),
        }
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
