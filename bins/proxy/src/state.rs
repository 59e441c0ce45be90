//! What the worker and the admin thread share: the phase, the lease, and each listener's numbers.
//!
//! The hot path only touches atomics here; the lock is for the lease, and held for a few instructions.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use podkit_lifecycle::{Phase, Stop};
use prometheus::IntGauge;

use crate::config::{Direction, Listener, Protocol};
use crate::drain::{Change, Drain};
use crate::metrics::{ConnectionMetrics, HttpMetrics, Metrics};

/// The process, as its admin port tells it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) metrics: Metrics,
    pub(crate) listeners: Vec<ListenerState>,
    pub(crate) stop: Stop,
    drain: Mutex<Drain>,
    /// Draining or stopping, for the hot path.
    leaving: AtomicBool,
    started: Instant,
    /// When the worker's loop last turned, in milliseconds since the start.
    heartbeat: AtomicU64,
}

impl State {
    pub(crate) fn new(listeners: &[Listener], stop: Stop) -> Self {
        let metrics = Metrics::new();
        Self {
            listeners: listeners.iter().map(|listener| ListenerState::new(listener, &metrics)).collect(),
            metrics,
            stop,
            drain: Mutex::new(Drain::new()),
            leaving: AtomicBool::new(false),
            started: Instant::now(),
            heartbeat: AtomicU64::new(0),
        }
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

    /// Starts or renews the lease.
    pub(crate) fn lease(&self, length: Duration) {
        let change = self.change(|drain| drain.lease(Instant::now(), length));
        if change == Change::Started {
            tracing::info!(lease_ms = millis(length), "draining: unready, clients are told to close");
        }
    }

    /// Ends the lease by request.
    pub(crate) fn undo(&self) {
        let change = self.change(Drain::undo);
        if change == Change::Undone {
            tracing::info!("the drain was undone");
        }
    }

    /// Begins the stop's drain.
    pub(crate) fn leave_for_good(&self) {
        self.change(|drain| drain.stop(Instant::now()));
    }

    /// What the worker does each time its loop turns.
    pub(crate) fn beat(&self) {
        self.heartbeat.store(millis(self.uptime()), Ordering::Relaxed);
        if self.is_leaving() {
            let change = self.change(|drain| drain.tick(Instant::now()));
            if change == Change::Lapsed {
                tracing::warn!("the drain's lease lapsed and no stop has come: ready again");
            }
        }
    }

    /// How long ago the worker's loop last turned.
    pub(crate) fn since_heartbeat(&self) -> Duration {
        self.uptime().saturating_sub(Duration::from_millis(self.heartbeat.load(Ordering::Relaxed)))
    }

    pub(crate) fn lease_left(&self) -> Option<Duration> {
        self.drain().lease_left(Instant::now())
    }

    /// For how long no connection and no request has come in or ended, counted from the drain's start; zero while
    /// ready. An end counts too: a client that was just told to close may come again at once.
    pub(crate) fn quiet_for(&self, direction: Direction) -> Duration {
        let moments: [fn(&ListenerState) -> &Moment; 3] =
            [|one| &one.last_connection, |one| &one.last_request, |one| &one.last_end];
        let last = moments.into_iter().filter_map(|of| self.last(direction, of)).max();
        self.drain().quiet_for(Instant::now(), last).unwrap_or_default()
    }

    /// When something last came to the listeners of a direction.
    pub(crate) fn last(
        &self,
        direction: Direction,
        of: impl Fn(&ListenerState) -> &Moment,
    ) -> Option<Instant> {
        self.of(direction).filter_map(|listener| of(listener).get(self.started)).max()
    }

    pub(crate) fn of(&self, direction: Direction) -> impl Iterator<Item = &ListenerState> {
        self.listeners.iter().filter(move |listener| listener.direction == direction)
    }

    /// Requests being served, and open TCP and upgraded connections.
    pub(crate) fn in_flight(&self, direction: Direction) -> i64 {
        self.of(direction).map(ListenerState::in_flight).sum()
    }

    pub(crate) fn open_connections(&self, direction: Direction) -> i64 {
        self.of(direction).map(|listener| listener.connections.open.get()).sum()
    }

    /// Changes the drain, and what the hot path sees of it, as one step: the admin thread and the worker both do.
    fn change<T>(&self, step: impl FnOnce(&mut Drain) -> T) -> T {
        let mut drain = self.drain();
        let result = step(&mut drain);
        let leaving = matches!(drain.phase(), Phase::Draining | Phase::Stopping);
        self.leaving.store(leaving, Ordering::Relaxed);
        self.metrics.draining.set(i64::from(leaving));
        result
    }

    fn drain(&self) -> MutexGuard<'_, Drain> {
        // The state machine has no step that panics half-way, so a poisoned lock holds a sound state.
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One listener's numbers.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) name: String,
    pub(crate) direction: Direction,
    pub(crate) protocol: Protocol,
    pub(crate) upstream: String,
    /// Where it listens in truth, once it is bound: port 0 is the kernel's choice.
    pub(crate) address: OnceLock<SocketAddr>,
    pub(crate) connections: ConnectionMetrics,
    /// Only for HTTP.
    pub(crate) http: Option<HttpMetrics>,
    pub(crate) last_connection: Moment,
    pub(crate) last_request: Moment,
    /// When a request, or a TCP connection, was last over.
    pub(crate) last_end: Moment,
}

impl ListenerState {
    fn new(listener: &Listener, metrics: &Metrics) -> Self {
        let name = listener.name.clone();
        Self {
            direction: listener.direction,
            protocol: listener.protocol,
            upstream: listener.upstream.address(),
            address: OnceLock::new(),
            connections: metrics.connections_of(&name, listener.direction),
            http: (listener.protocol == Protocol::Http).then(|| metrics.http_of(&name)),
            last_connection: Moment::default(),
            last_request: Moment::default(),
            last_end: Moment::default(),
            name,
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
