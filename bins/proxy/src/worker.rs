//! One worker: its clock, its buffers, and the connections that sit on it.
//!
//! Timeouts are kept by a sweep of all connections ten times a second, in place of a timer each: setting one is a
//! store, and a busy connection never touches a timer wheel. Everything here belongs to one thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::access_log::Log;
use crate::buffer::{Buffers, HEAD_SIZE};
use crate::config::Direction;
use crate::splice::Pipes;
use crate::state::{Listener, State};
use crate::upstream::{Pool, Upstream};

mod seat;

pub(crate) use seat::{Seat, Watch};

/// The resolution of every timeout. Ten wake-ups a second cost less than 0.1 % of one CPU.
const TICK: Duration = Duration::from_millis(100);

/// A moment on a worker's clock, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

/// A moment that never comes.
pub(crate) const NEVER: Tick = Tick(u64::MAX);

/// A clock that moves with the sweep: reading it costs nothing.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    now: Cell<u64>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), now: Cell::new(0) }
    }

    fn set(&self) {
        self.now
            .set(u64::try_from(self.started.elapsed().as_millis() / TICK.as_millis()).unwrap_or(u64::MAX));
    }

    pub(crate) fn now(&self) -> Tick {
        Tick(self.now.get())
    }

    /// The moment `span` from now, never early; zero stands for no limit.
    pub(crate) fn after(&self, span: Duration) -> Tick {
        if span.is_zero() { NEVER } else { self.now().plus(span) }
    }
}

impl Tick {
    /// As much later as one moment is than another.
    pub(crate) fn moved(self, from: Self, to: Self) -> Self {
        Self(self.0.saturating_add(to.0.saturating_sub(from.0)))
    }

    /// The moment `span` later, never early.
    pub(crate) fn plus(self, span: Duration) -> Self {
        let ticks = u64::try_from(span.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX);
        // One more: the present tick has begun already.
        Self(self.0.saturating_add(ticks).saturating_add(1))
    }
}

/// What one thread serves.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) state: Arc<State>,
    pub(crate) buffers: Rc<Buffers>,
    /// Smaller ones, for heads that we write.
    pub(crate) heads: Rc<Buffers>,
    pub(crate) pipes: Rc<Pipes>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) log: Log,
    /// Which of the workers this is, from 0.
    index: usize,
    seats: RefCell<HashMap<u64, Rc<Watch>>>,
    next_seat: Cell<u64>,
    /// As many seats as there are descriptors for.
    room: usize,
    /// While clients are told to leave: no new one has come for a quiet period. Undone with the drain.
    settled: Cell<bool>,
    /// Told when a connection ends.
    left: Notify,
    pools: RefCell<Vec<Rc<Pool>>>,
}

impl Worker {
    /// A worker with room for so many connections.
    pub(crate) fn new(index: usize, state: Arc<State>, room: usize) -> Rc<Self> {
        let clock = Rc::new(Clock::new());
        Rc::new(Self {
            state,
            pipes: Pipes::new(Rc::clone(&clock)),
            buffers: Rc::default(),
            heads: Rc::new(Buffers::of_size(HEAD_SIZE)),
            clock,
            log: Log::default(),
            index,
            seats: RefCell::default(),
            next_seat: Cell::new(0),
            room,
            settled: Cell::new(false),
            left: Notify::new(),
            pools: RefCell::default(),
        })
    }

    /// This worker's connections to an upstream.
    pub(crate) fn pool(&self, upstream: &Arc<Upstream>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.iter().find(|pool| Arc::ptr_eq(&pool.upstream, upstream)) {
            return Rc::clone(pool);
        }
        let pool = Pool::new(Arc::clone(upstream), Rc::clone(&self.clock));
        pools.push(Rc::clone(&pool));
        pool
    }

    fn sweep_pools(&self) {
        // One that no listener uses any more lives on in the connections that do.
        self.pools.borrow_mut().retain(|pool| Rc::strong_count(pool) > 1);
        for pool in self.pools.borrow().iter() {
            pool.sweep();
        }
    }

    /// Returns when a listener may take another connection.
    pub(crate) async fn has_room(&self, listener: &Listener) {
        let limit = i64::try_from(listener.config.limits.connections.get()).unwrap_or(i64::MAX);
        let open = &listener.numbers.connections.open;
        while open.get() >= limit || self.seats.borrow().len() >= self.room {
            // Another worker's connections count too, and their end is not told here.
            let _ = tokio::time::timeout(TICK, self.left.notified()).await;
        }
    }

    /// Takes in a connection.
    pub(crate) fn seat(self: &Rc<Self>, listener: &Arc<Listener>) -> Seat {
        listener.numbers.connected();
        self.place(listener, None)
    }

    /// Takes in a stream of a connection that has a seat already.
    pub(crate) fn stream_seat(self: &Rc<Self>, listener: &Arc<Listener>, connection: &Seat) -> Seat {
        self.place(listener, Some(Rc::clone(&connection.watch)))
    }

    fn place(self: &Rc<Self>, listener: &Arc<Listener>, connection: Option<Rc<Watch>>) -> Seat {
        let id = self.next_seat.replace(self.next_seat.get() + 1);
        let watch = Rc::new(Watch::new(Arc::clone(listener), Rc::clone(&self.clock)));
        self.seats.borrow_mut().insert(id, Rc::clone(&watch));
        Seat { worker: Rc::clone(self), id, watch, connection }
    }

    /// Turns the loop's wheel for ever: clock, heartbeat, timeouts, lease, pools, log.
    pub(crate) async fn keep_time(self: Rc<Self>) {
        let mut was_leaving = false;
        loop {
            tokio::time::sleep(TICK).await;
            self.clock.set();
            self.state.beat(self.index);
            let is_leaving = self.state.is_leaving();
            if is_leaving && !was_leaving {
                // An HTTP/2 connection has no next answer that would tell its client to leave.
                self.wake_inbound();
            }
            was_leaving = is_leaving;
            self.settle(is_leaving && self.state.has_settled());
            let now = self.clock.now();
            for watch in self.seats.borrow().values().filter(|watch| watch.wake_at.get() <= now) {
                watch.wake();
            }
            self.sweep_pools();
            self.log.flush(&self.state.access_log);
        }
    }

    /// Whether no new client has come for a quiet period of a drain. Who is connected and silent for as long is then not
    /// waited for until an answer tells it to leave: it would ask when the app has ended, whose SIGTERM is what comes
    /// next.
    pub(crate) fn has_settled(&self) -> bool {
        self.settled.get()
    }

    /// Connections look for themselves whenever they are polled: they are woken only when there is something to see.
    fn settle(&self, settled: bool) {
        if !self.settled.replace(settled) && settled {
            self.wake_inbound();
        }
    }

    fn wake_inbound(&self) {
        let seats = self.seats.borrow();
        let inbound = |watch: &&Rc<Watch>| watch.listener.config.direction == Direction::Inbound;
        seats.values().filter(inbound).for_each(|watch| watch.wake());
    }

    /// Tells all connections of a listener, whatever settings they have, to end as soon as they are between two
    /// requests.
    pub(crate) fn close_idle(&self, listener: &Listener) {
        for watch in self.watches_of(listener) {
            watch.closing.set(true);
        }
        self.wake(listener);
    }

    /// Has all connections of a listener look again whether their clients are to be sent away.
    pub(crate) fn wake(&self, listener: &Listener) {
        for watch in self.watches_of(listener) {
            watch.wake();
        }
    }

    fn watches_of(&self, listener: &Listener) -> Vec<Rc<Watch>> {
        let seats = self.seats.borrow();
        let same = |watch: &&Rc<Watch>| Arc::ptr_eq(&watch.listener.numbers, &listener.numbers);
        seats.values().filter(same).cloned().collect()
    }

    /// Runs a connection by itself; a panic in it ends it alone, and is told in one log line by the panic hook.
    pub(crate) fn run(connection: impl Future<Output = ()> + 'static) {
        drop(tokio::task::spawn_local(connection));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use podkit_lifecycle::Stop;
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::config;
    use crate::guard::Guard;
    use crate::state::Numbers;

    fn listener(worker: &Worker) -> Arc<Listener> {
        let config = config::Listener::of_forward("http://127.0.0.1:80=http://127.0.0.1:81");
        let upstream = Upstream::new(Arc::clone(&config.upstream), &worker.state.metrics, None);
        let numbers = Arc::new(Numbers::new(&config, &worker.state.metrics));
        let guard = Arc::new(Guard::new(&config.limits));
        let (address, quiet) = (OnceLock::new(), Duration::ZERO);
        Arc::new(Listener { config, address, tls: None, upstream, quiet, numbers, guard })
    }

    #[test]
    fn a_panic_in_one_connection_frees_its_seat_and_ends_nothing_else() {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let worker = Worker::new(0, Arc::new(State::new(1, Stop::default())), 10);
            let listener = listener(&worker);
            let open = listener.numbers.connections.open.clone();
            let (bad, good) = (worker.seat(&listener), worker.seat(&listener));
            assert_eq!(open.get(), 2);
            Worker::run(async move {
                let _seat = bad;
                panic!("a bug (this is a test)");
            });
            let served = Rc::new(Cell::new(false));
            let done = Rc::clone(&served);
            Worker::run(async move {
                tokio::task::yield_now().await;
                done.set(true);
                drop(good);
            });
            while open.get() > 0 {
                tokio::task::yield_now().await;
            }
            assert!(served.get());
        });
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_drain_that_settles_wakes_each_connection_once() {
        let worker = Worker::new(0, Arc::new(State::new(1, Stop::default())), 10);
        let listener = listener(&worker);
        let seat = worker.seat(&listener);
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let cx = Context::from_waker(&waker);
        let wakes_of = |settled| {
            let before = woken.0.load(Ordering::Relaxed);
            for _ in 0..3 {
                assert!(!seat.watch.is_over(NEVER, &cx));
                worker.settle(settled);
                assert_eq!(worker.has_settled(), settled);
            }
            woken.0.load(Ordering::Relaxed) - before
        };
        assert_eq!([true, false, true].map(wakes_of), [1, 0, 1]);
    }

    #[test]
    fn a_moment_never_comes_early() {
        let clock = Clock::new();
        for millis in [1, 99, 100, 101, 1000] {
            let ticks = clock.after(Duration::from_millis(millis)).0;
            // The present tick may be all but over.
            assert!((ticks - 1) * 100 >= millis, "{millis} ms became {ticks} ticks");
        }
        assert_eq!(clock.after(Duration::ZERO), NEVER);
    }
}
