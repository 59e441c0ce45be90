//! The workers' threads, and the orders that they take from the control thread.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use podkit_lifecycle::Deadline;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::listener::Accepting;
use crate::state::{Listener, State};
use crate::turn;
use crate::worker::Worker;

/// Orders that may wait; a worker takes each at once.
const MAILBOX: usize = 16;

/// How long the workers have to drop all that is open.
const END: Duration = Duration::from_secs(1);

/// Between looks at whether they have.
const LOOK: Duration = Duration::from_millis(1);

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Accept on a socket, from now on known by this number.
    Open { door: u64, listener: Arc<Listener>, socket: socket2::Socket },
    /// Serve what comes through a door by other settings.
    Change { door: u64, listener: Arc<Listener> },
    /// Close a door, and serve what the kernel has accepted before.
    Close { door: u64 },
    /// Tell the connections of a listener, whatever settings they have, to end when they are between two requests.
    CloseIdle { listener: Arc<Listener> },
}

/// All workers.
#[derive(Debug)]
pub(crate) struct Crew {
    mailboxes: Vec<mpsc::Sender<(Order, Done)>>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// Hears when an order is carried out.
type Done = oneshot::Sender<io::Result<()>>;

impl Crew {
    /// Starts so many workers, which share the room for connections.
    pub(crate) fn start(count: usize, state: &Arc<State>, room: usize) -> Result<Self, Error> {
        let mut crew = Self { mailboxes: Vec::with_capacity(count), threads: Vec::with_capacity(count) };
        for index in 0..count {
            let (mailbox, orders) = mpsc::channel(MAILBOX);
            let (state, room) = (Arc::clone(state), (room / count).max(1));
            let thread = thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || work(index, state, room, orders))
                .map_err(Error::Thread)?;
            crew.mailboxes.push(mailbox);
            crew.threads.push(thread);
        }
        Ok(crew)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.mailboxes.len()
    }

    /// Gives each worker an order of its own, and returns when all are carried out.
    pub(crate) async fn order(&self, orders: impl IntoIterator<Item = Order>) -> io::Result<()> {
        let mut waiting = Vec::with_capacity(self.count());
        for (mailbox, order) in self.mailboxes.iter().zip(orders) {
            let (done, answer) = oneshot::channel();
            mailbox.send((order, done)).await.map_err(|_| gone())?;
            waiting.push(answer);
        }
        for answer in waiting {
            answer.await.map_err(|_| gone())??;
        }
        Ok(())
    }

    /// Gives all workers the same order.
    pub(crate) async fn order_all(&self, order: impl Fn() -> Order) -> io::Result<()> {
        self.order((0..self.count()).map(|_| order())).await
    }

    /// Ends all threads, and with them what is still open.
    pub(crate) async fn end(self) {
        drop(self.mailboxes);
        let deadline = Deadline::after(END);
        // The end of the process takes with it one that is stuck.
        while !self.threads.iter().all(thread::JoinHandle::is_finished) && !deadline.expired() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("a worker has ended")
}

fn work(index: usize, state: Arc<State>, room: usize, orders: mpsc::Receiver<(Order, Done)>) {
    // One thread: a sidecar has a part of one CPU, and nothing on a worker needs a lock then (contract 3, point 10).
    let mut builder = Builder::new_current_thread();
    builder.on_thread_unpark(turn::begin);
    match builder.enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => {
            let worker = Worker::new(index, state, room);
            runtime.block_on(obey(Rc::clone(&worker), orders));
            // What is open ends here, and says so in the log.
            runtime.shutdown_background();
            worker.log.flush(&worker.state.access_log);
        }
        Err(error) => tracing::error!("a worker cannot start its event loop: {error}"),
    }
}

async fn obey(worker: Rc<Worker>, mut orders: mpsc::Receiver<(Order, Done)>) {
    tokio::task::spawn_local(Rc::clone(&worker).keep_time());
    let mut doors: Vec<(u64, Accepting)> = Vec::new();
    while let Some((order, done)) = orders.recv().await {
        let result = match order {
            Order::Open { door, listener, socket } => {
                Accepting::begin(&worker, listener, socket).map(|accepting| doors.push((door, accepting)))
            }
            Order::Change { door, listener } => {
                for (_, accepting) in doors.iter().filter(|(number, _)| *number == door) {
                    accepting.change(Arc::clone(&listener));
                }
                Ok(())
            }
            Order::Close { door } => {
                while let Some(at) = doors.iter().position(|(number, _)| *number == door) {
                    doors.swap_remove(at).1.close().await;
                }
                Ok(())
            }
            Order::CloseIdle { listener } => {
                worker.close_idle(&listener);
                Ok(())
            }
        };
        // Nobody waits any more where the stop's deadline has passed.
        let _ = done.send(result);
    }
}
