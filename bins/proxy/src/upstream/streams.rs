//! One worker's HTTP/2 connections to one endpoint: which of them a request's stream begins on, and when they close.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

use crate::http2::Shared;
use crate::wire::Wire;
use crate::worker::Tick;

/// The most connections; what then comes waits in line on one of them.
const CONNECTIONS: usize = 16;

/// The connections, and what is known of who is there.
#[derive(Debug, Default)]
pub(super) struct Streams {
    held: Vec<Held>,
    opening: Weak<Opening>,
    /// Whether the endpoint has agreed to HTTP/2 where it had the choice.
    speaks: Option<bool>,
}

#[derive(Debug)]
struct Held {
    shared: Rc<Shared>,
    /// Streams that had begun when it was last looked at, and the end of the time without any since.
    begun: u64,
    idle_until: Option<Tick>,
}

/// A connection that is being opened, and that more than one may wait for.
#[derive(Debug, Default)]
pub(super) struct Opening {
    told: Notify,
    is_over: Cell<bool>,
    is_open: Cell<bool>,
}

/// Who opens it; the others hear of it when this is dropped.
#[derive(Debug)]
pub(super) struct Opener(Rc<Opening>);

impl Streams {
    /// A stream, and whether its connection has carried others before; `None` where a new connection is needed.
    pub(super) fn begin(&mut self) -> Option<(Wire, bool)> {
        self.held.retain(|held| !held.shared.is_over());
        let free = self.held.iter().find(|held| held.shared.has_room());
        let at_limit = self.held.len() >= CONNECTIONS;
        let held = free.or_else(|| {
            self.held
                .iter()
                .filter(|held| at_limit && !held.shared.is_over())
                .min_by_key(|held| held.shared.open())
        })?;
        Some((held.shared.begin_stream(), held.shared.begun() > 1))
    }

    /// Takes in what a new connection speaks.
    pub(super) fn learn(&mut self, shared: Option<Rc<Shared>>) {
        self.speaks = Some(shared.is_some());
        self.held.extend(shared.map(|shared| Held { shared, begun: 0, idle_until: None }));
    }

    /// A connection that is on its way, which it may be well to wait for.
    pub(super) fn on_its_way(&self) -> Option<Rc<Opening>> {
        // Those that waited may still hold one that is over.
        self.opening.upgrade().filter(|opening| !opening.is_over.get() && self.speaks != Some(false))
    }

    /// Says that one opens a connection.
    pub(super) fn open(&mut self) -> Opener {
        let opening = Rc::new(Opening::default());
        self.opening = Rc::downgrade(&opening);
        Opener(opening)
    }

    /// Closes what has had no stream until now for so long as `until` says.
    pub(super) fn sweep(&mut self, now: Tick, until: Tick) {
        self.held.retain_mut(|held| {
            let begun = held.shared.begun();
            if held.shared.open() > 0 || std::mem::replace(&mut held.begun, begun) != begun {
                held.idle_until = None;
            } else if *held.idle_until.get_or_insert(until) <= now {
                return false;
            }
            !held.shared.is_over()
        });
    }
}

impl Opening {
    /// Waits for its end; gives whether it is open.
    pub(super) async fn wait(&self) -> bool {
        self.told.notified().await;
        self.is_open.get()
    }
}

impl Opener {
    pub(super) fn succeeded(&self) {
        self.0.is_open.set(true);
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.0.is_over.set(true);
        self.0.told.notify_waiters();
    }
}
