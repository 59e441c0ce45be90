//! From a configured listener to connections that are served: binding, accepting, limits, and closing without losing
//! a connection that the kernel has accepted already.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::TcpKeepalive;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::config::{Config, Direction, Listener, Protocol};
use crate::error::Error;
use crate::http::{self, Pool};
use crate::metrics::HttpMetrics;
use crate::state::{ListenerState, State};
use crate::tcp;
use crate::worker::{Seat, Worker};

/// Connections that the kernel keeps until we accept them; it cuts this to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// How long to wait after the kernel could not give us a connection (no file descriptor, no memory): connections that
/// end meanwhile make room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a silent client is asked by the kernel whether it is still there, as Go does: one that has vanished, or
/// has closed while the app takes its time, would else hold its place and its request for ever.
const PROBE: Duration = Duration::from_secs(15);

/// How often at most a listener logs what goes wrong with its connections; all of it is counted.
const LOG_PAUSE: Duration = Duration::from_secs(5);

/// What the connections of one listener need.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: Listener,
    pub(crate) worker: Rc<Worker>,
    pub(crate) pool: Rc<Pool>,
    /// The upstream's `host:port`, as a Host field.
    pub(crate) upstream_host: String,
    /// How long an idle connection is left alone when idle connections are closed.
    pub(crate) quiet: Duration,
    index: usize,
    last_log: Cell<Option<Instant>>,
}

impl Service {
    pub(crate) fn state(&self) -> &ListenerState {
        &self.worker.state.listeners[self.index]
    }

    pub(crate) fn http(&self) -> &HttpMetrics {
        self.state().http.as_ref().expect("only HTTP listeners serve HTTP")
    }

    pub(crate) fn is_inbound(&self) -> bool {
        self.config.direction == Direction::Inbound
    }

    /// Whether clients are to be sent away: the app keeps its own way out until it has ended.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_inbound() && self.worker.state.is_leaving()
    }

    /// Logs what goes wrong, but never as often as it may go wrong.
    pub(crate) fn complain(&self, what: &str) {
        if self.last_log.get().is_none_or(|at| at.elapsed() >= LOG_PAUSE) {
            self.last_log.set(Some(Instant::now()));
            tracing::warn!(listener = self.config.name, "{what}");
        }
    }

    fn start(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let seat: Seat = self.worker.seat(self.index);
        if let Err(error) = stream.set_nodelay(true) {
            return tracing::debug!("the client left before it was served: {error}");
        }
        match self.config.protocol {
            Protocol::Http => Worker::run(http::serve(stream, peer, self, seat)),
            Protocol::Tcp => Worker::run(tcp::serve(stream, self, seat)),
        }
    }

    async fn accept(self: Rc<Self>, listener: Rc<TcpListener>) {
        let limit = i64::try_from(self.config.limits.connections.get()).unwrap_or(i64::MAX);
        loop {
            self.worker.has_room(self.index, limit).await;
            match poll_fn(|cx| listener.poll_accept(cx)).await {
                Ok((stream, peer)) => Rc::clone(&self).start(stream, peer),
                Err(error) if is_about_one(&error) => {}
                Err(error) => {
                    self.complain(&format!("cannot accept a connection: {}", podkit_cli::chain(&error)));
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

/// A listener that is bound and accepts.
#[derive(Debug)]
pub(crate) struct Bound {
    service: Rc<Service>,
    listener: Rc<TcpListener>,
    accepting: JoinHandle<()>,
}

impl Bound {
    pub(crate) fn direction(&self) -> Direction {
        self.service.config.direction
    }

    pub(crate) fn config(&self) -> &Listener {
        &self.service.config
    }

    /// Stops accepting. What the kernel has accepted before is served: its clients know of no refusal.
    pub(crate) async fn close(self) {
        self.accepting.abort();
        // Ends with `Cancelled`, and with that the task's hold on the listener.
        let _ = self.accepting.await;
        let Some(Ok(listener)) = Rc::into_inner(self.listener).map(TcpListener::into_std) else { return };
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                Rc::clone(&self.service).start(stream, peer);
            }
        }
    }
}

/// Binds all listeners, or none: a proxy with a part of its ways would be taken for a whole one.
pub(crate) fn bind(config: &Config, worker: &Rc<Worker>) -> Result<Vec<Bound>, Error> {
    let sockets: Vec<TcpListener> = config.listeners.iter().map(bind_one).collect::<Result<_, _>>()?;
    let mut pools: Vec<Rc<Pool>> = Vec::new();
    let mut bound = Vec::with_capacity(sockets.len());
    for (index, (socket, listener)) in sockets.into_iter().zip(&config.listeners).enumerate() {
        record_address(&worker.state, index, &socket, listener);
        let known = pools.iter().find(|pool| std::sync::Arc::ptr_eq(&pool.upstream, &listener.upstream));
        let pool = known.cloned().unwrap_or_else(|| {
            let pool = Pool::new(listener.upstream.clone(), Rc::clone(&worker.clock));
            worker.look_after(Rc::clone(&pool));
            pools.push(Rc::clone(&pool));
            pool
        });
        let service = Rc::new(Service {
            config: listener.clone(),
            worker: Rc::clone(worker),
            pool,
            upstream_host: listener.upstream.address(),
            quiet: config.shutdown.quiet,
            index,
            last_log: Cell::new(None),
        });
        let socket = Rc::new(socket);
        let accepting = tokio::task::spawn_local(Rc::clone(&service).accept(Rc::clone(&socket)));
        bound.push(Bound { service, listener: socket, accepting });
    }
    Ok(bound)
}

fn bind_one(listener: &Listener) -> Result<TcpListener, Error> {
    let listen = || {
        let socket = if listener.listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted container must not wait for the old one's connections to leave TIME_WAIT.
        socket.set_reuseaddr(true)?;
        // Accepted connections inherit it.
        socket2::SockRef::from(&socket)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE).with_interval(PROBE))?;
        socket.bind(listener.listen)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| Error::Bind {
        told_by: listener.told_by.clone(),
        address: listener.listen,
        source,
    })
}

fn record_address(state: &State, index: usize, socket: &TcpListener, listener: &Listener) {
    let address = socket.local_addr().unwrap_or(listener.listen);
    let listener_state = &state.listeners[index];
    listener_state.address.get_or_init(|| address);
    tracing::info!(
        listener = listener.name,
        direction = listener.direction.as_str(),
        "listening on {address} for {}",
        listener_state.upstream,
    );
}
