//! One worker: its clock, its buffers, and the connections that sit on it.
//!
//! Timeouts are kept by a sweep of all connections ten times a second, in place of a timer each: setting one is a
//! store, and a busy connection never touches a timer wheel. Everything here belongs to one thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::buffer::Buffers;
use crate::config::{Direction, Protocol};
use crate::http::Pool;
use crate::state::State;

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
    fn new() -> Self {
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
    pub(crate) clock: Rc<Clock>,
    seats: RefCell<HashMap<u64, Rc<Watch>>>,
    next_seat: Cell<u64>,
    /// As many seats as there are descriptors for.
    room: usize,
    /// Told when a connection ends.
    left: Notify,
    pools: RefCell<Vec<Rc<Pool>>>,
}

impl Worker {
    /// A worker with room for so many connections.
    pub(crate) fn new(state: Arc<State>, room: usize) -> Rc<Self> {
        Rc::new(Self {
            state,
            buffers: Rc::default(),
            clock: Rc::new(Clock::new()),
            seats: RefCell::default(),
            next_seat: Cell::new(0),
            room,
            left: Notify::new(),
            pools: RefCell::default(),
        })
    }

    /// Has the sweep look after a pool.
    pub(crate) fn look_after(&self, pool: Rc<Pool>) {
        self.pools.borrow_mut().push(pool);
    }

    /// Returns when the listener with this index may take another connection, of `limit` at a time.
    pub(crate) async fn has_room(&self, listener: usize, limit: i64) {
        let open = &self.state.listeners[listener].connections.open;
        while open.get() >= limit || self.seats.borrow().len() >= self.room {
            self.left.notified().await;
        }
    }

    /// Takes in a connection of the listener with this index.
    pub(crate) fn seat(self: &Rc<Self>, listener: usize) -> Seat {
        let now = Instant::now();
        let listener_state = &self.state.listeners[listener];
        listener_state.connections.accepted.inc();
        listener_state.connections.open.inc();
        listener_state.last_connection.set(&self.state, now);
        let id = self.next_seat.replace(self.next_seat.get() + 1);
        let watch = Rc::new(Watch {
            direction: listener_state.direction,
            clock: Rc::clone(&self.clock),
            wake_at: Cell::new(NEVER),
            waker: RefCell::default(),
            closing: Cell::new(false),
        });
        self.seats.borrow_mut().insert(id, Rc::clone(&watch));
        Seat { worker: Rc::clone(self), listener, id, watch }
    }

    /// Turns the loop's wheel for ever: clock, heartbeat, timeouts, lease, pools.
    pub(crate) async fn keep_time(self: Rc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            self.clock.set();
            self.state.beat();
            let now = self.clock.now();
            for watch in self.seats.borrow().values().filter(|watch| watch.wake_at.get() <= now) {
                watch.wake();
            }
            for pool in self.pools.borrow().iter() {
                pool.sweep();
            }
        }
    }

    /// Tells all connections of a direction to end as soon as they are between two requests.
    pub(crate) fn close_idle(&self, direction: Direction) {
        for watch in self.seats.borrow().values().filter(|watch| watch.direction == direction) {
            watch.closing.set(true);
            watch.wake();
        }
    }

    /// Runs a connection by itself; a panic in it ends it alone, and is told in one log line by the panic hook.
    pub(crate) fn run(connection: impl Future<Output = ()> + 'static) {
        drop(tokio::task::spawn_local(connection));
    }
}

/// A connection's place on its worker. Dropping it, also by a panic, is how a connection is counted out.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) worker: Rc<Worker>,
    pub(crate) watch: Rc<Watch>,
    listener: usize,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.seats.borrow_mut().remove(&self.id);
        let listener = &self.worker.state.listeners[self.listener];
        listener.connections.open.dec();
        if listener.protocol == Protocol::Tcp {
            listener.last_end.set(&self.worker.state, Instant::now());
        }
        self.worker.left.notify_waiters();
    }
}

/// Keeps one connection's time: when to look at it again though nothing has arrived.
#[derive(Debug)]
pub(crate) struct Watch {
    direction: Direction,
    clock: Rc<Clock>,
    wake_at: Cell<Tick>,
    waker: RefCell<Option<Waker>>,
    closing: Cell<bool>,
}

impl Watch {
    /// As [`Clock::after`].
    pub(crate) fn after(&self, span: Duration) -> Tick {
        self.clock.after(span)
    }

    pub(crate) fn now(&self) -> Tick {
        self.clock.now()
    }

    /// Whether the connection is to end as soon as it is between two requests.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether the moment has come. If not, the task is woken when it comes, and may be woken before.
    pub(crate) fn is_over(&self, moment: Tick, cx: &Context<'_>) -> bool {
        if moment <= self.clock.now() {
            return true;
        }
        self.wake_at.set(self.wake_at.get().min(moment));
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        false
    }

    /// Has the task look again; it sets the next moment itself.
    fn wake(&self) {
        self.wake_at.set(NEVER);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use podkit_lifecycle::Stop;
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::config::Listener;

    fn worker() -> Rc<Worker> {
        let listener = Listener::of_forward("http://127.0.0.1:80=http://127.0.0.1:81");
        Worker::new(Arc::new(State::new(&[listener], Stop::default())), 10)
    }

    #[test]
    fn a_panic_in_one_connection_frees_its_seat_and_ends_nothing_else() {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let worker = worker();
            let open = worker.state.listeners[0].connections.open.clone();
            let (bad, good) = (worker.seat(0), worker.seat(0));
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
