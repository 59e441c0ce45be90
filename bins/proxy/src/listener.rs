//! A listener on one worker: accepting, limits, and closing without losing a connection that the kernel has accepted
//! already.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::arrival;
use crate::config::Direction;
use crate::drain::Standing;
use crate::metrics::HttpMetrics;
use crate::state::Listener;
use crate::upstream::Pool;
use crate::wire::{Door, Socket};
use crate::worker::{Seat, Worker};

/// How long to wait after the kernel could not give us a connection (no file descriptor, no memory): connections that
/// end meanwhile make room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a listener that closes waits so.
const LAST_PAUSES: u32 = 20;

/// How often at most a listener logs what goes wrong with its connections; all of it is counted.
const LOG_PAUSE: Duration = Duration::from_secs(5);

/// What the connections of one listener need, under one config.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) listener: Arc<Listener>,
    pub(crate) worker: Rc<Worker>,
    pub(crate) pool: Rc<Pool>,
    /// The upstream's address, as a Host field.
    pub(crate) upstream_host: String,
    /// A newer config has taken its place, or none.
    retired: Cell<bool>,
    last_log: Cell<Option<Instant>>,
}

impl Service {
    fn new(worker: &Rc<Worker>, listener: Arc<Listener>) -> Rc<Self> {
        Rc::new(Self {
            worker: Rc::clone(worker),
            pool: worker.pool(&listener.upstream),
            upstream_host: listener.upstream.config.address.to_string(),
            retired: Cell::new(false),
            last_log: Cell::new(None),
            listener,
        })
    }

    pub(crate) fn http(&self) -> &HttpMetrics {
        self.listener.numbers.http.as_ref().expect("only HTTP listeners serve HTTP")
    }

    pub(crate) fn is_inbound(&self) -> bool {
        self.listener.config.direction == Direction::Inbound
    }

    /// Whether clients are to be sent away: the app keeps its own way out until it has ended.
    pub(crate) fn is_leaving(&self) -> bool {
        self.retired.get() || (self.is_inbound() && self.worker.state.is_leaving())
    }

    /// Whether idle connections are to end, since no new ones come: the drain goes on serving until the stop.
    pub(crate) fn has_settled(&self) -> bool {
        self.is_inbound() && self.worker.has_settled()
    }

    /// Whether what comes from a peer is traffic. The app's own way out has no probes.
    pub(crate) fn standing(&self, peer: impl FnOnce() -> Option<IpAddr>) -> Standing {
        if self.is_inbound() { self.worker.state.standing(peer) } else { Standing::Client }
    }

    /// It is known from whom a connection comes. Of a prober's more is known later.
    pub(crate) fn comes(&self, peer: impl FnOnce() -> Option<SocketAddr>, seat: &Seat) {
        if self.standing(|| peer().map(|peer| peer.ip())) == Standing::Client {
            self.is_traffic_after_all(seat);
        }
    }

    /// A connection turns out to be traffic that was not known for it when it came.
    pub(crate) fn is_traffic_after_all(&self, seat: &Seat) {
        seat.set_traffic();
        self.listener.numbers.came(&self.worker.state);
    }

    /// Logs what goes wrong, but never as often as it may go wrong.
    pub(crate) fn complain(&self, what: &str) {
        if self.last_log.get().is_none_or(|at| at.elapsed() >= LOG_PAUSE) {
            self.last_log.set(Some(Instant::now()));
            tracing::warn!(listener = self.listener.config.name, "{what}");
        }
    }

    fn start(self: Rc<Self>, socket: Socket) {
        let seat = self.worker.seat(&self.listener);
        // Who comes is told by the header, where one comes first.
        if !self.listener.config.proxy_protocol {
            self.comes(|| socket.peer(), &seat);
        }
        Worker::run(arrival::serve(socket, self, seat));
    }
}

/// A listener that accepts.
#[derive(Debug)]
pub(crate) struct Accepting {
    front: Rc<Front>,
    task: JoinHandle<()>,
}

/// The door, and who serves those that come through it.
#[derive(Debug)]
struct Front {
    door: Door,
    service: RefCell<Rc<Service>>,
}

impl Accepting {
    /// Begins to accept on a socket that listens.
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        listener: Arc<Listener>,
        socket: socket2::Socket,
    ) -> io::Result<Self> {
        let service = RefCell::new(Service::new(worker, listener));
        let front = Rc::new(Front { door: Door::new(socket)?, service });
        let task = tokio::task::spawn_local(Rc::clone(&front).accept());
        Ok(Self { front, task })
    }

    /// Serves new connections by other settings; those that are open leave after the request they are at.
    pub(crate) fn change(&self, listener: Arc<Listener>) {
        let worker = Rc::clone(&self.front.service().worker);
        let old = self.front.service.replace(Service::new(&worker, listener));
        old.retired.set(true);
        worker.wake(&old.listener);
    }

    /// Stops accepting. What the kernel has accepted before is served: its clients know of no refusal.
    pub(crate) async fn close(self) {
        self.task.abort();
        // Ends with `Cancelled`.
        let _ = self.task.await;
        let service = self.front.service();
        let mut pauses = 0;
        loop {
            match self.front.door.accept_now() {
                Ok(Some(socket)) => Rc::clone(&service).start(socket),
                Ok(None) => break,
                Err(error) if is_about_one(&error) => {}
                Err(error) if pauses == LAST_PAUSES => {
                    service.complain(&format!(
                        "cannot accept the last connections: {}",
                        podkit_cli::chain(&error)
                    ));
                    break;
                }
                Err(_) => {
                    pauses += 1;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        service.retired.set(true);
        service.worker.wake(&service.listener);
    }
}

impl Front {
    fn service(&self) -> Rc<Service> {
        Rc::clone(&self.service.borrow())
    }

    async fn accept(self: Rc<Self>) {
        loop {
            let listener = Arc::clone(&self.service().listener);
            self.service().worker.has_room(&listener).await;
            match self.door.accept().await {
                Ok(socket) => self.service().start(socket),
                Err(error) if is_about_one(&error) => {}
                Err(error) => {
                    self.service()
                        .complain(&format!("cannot accept a connection: {}", podkit_cli::chain(&error)));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A connection that broke before it was accepted says nothing about the next one (accept(2), "Error handling").
fn is_about_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied)
}
