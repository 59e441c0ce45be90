//! A connection's place on its worker: what counts it out however it ends, and what wakes it when its time has come.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::{Clock, NEVER, Tick, Worker};
use crate::state::Listener;

/// The place of a connection, or a stream of one, on its worker. Dropping it, also by a panic, is how a connection is
/// counted out.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) worker: Rc<Worker>,
    pub(crate) watch: Rc<Watch>,
    pub(super) id: u64,
    /// That of a stream; `None` is a connection's own seat.
    pub(super) connection: Option<Rc<Watch>>,
}

impl Seat {
    /// Whether the connection's comings and goings say how quiet it is: a probe's do not.
    pub(crate) fn is_traffic(&self) -> bool {
        self.of_connection().is_traffic.get()
    }

    pub(crate) fn set_traffic(&self) {
        self.of_connection().is_traffic.set(true);
    }

    fn of_connection(&self) -> &Watch {
        self.connection.as_ref().unwrap_or(&self.watch)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.seats.borrow_mut().remove(&self.id);
        if self.connection.is_none() {
            self.watch.listener.numbers.disconnected(&self.worker.state, self.is_traffic());
            self.worker.left.notify_waiters();
        }
    }
}

/// Keeps one connection's time: when to look at it again though nothing has arrived.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(super) listener: Arc<Listener>,
    clock: Rc<Clock>,
    pub(super) wake_at: Cell<Tick>,
    waker: RefCell<Option<Waker>>,
    pub(super) closing: Cell<bool>,
    is_traffic: Cell<bool>,
}

impl Watch {
    pub(super) fn new(listener: Arc<Listener>, clock: Rc<Clock>) -> Self {
        Self {
            listener,
            clock,
            wake_at: Cell::new(NEVER),
            waker: RefCell::default(),
            closing: Cell::new(false),
            is_traffic: Cell::new(false),
        }
    }

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
    pub(super) fn wake(&self) {
        self.wake_at.set(NEVER);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
