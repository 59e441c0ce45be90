//! Connecting to an endpoint, and where one fails to another, within the time that all tries have together.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use podkit_lifecycle::{Backoff, Deadline};
use socket2::SockAddr;

use super::endpoint::{Endpoint, EndpointAddress};
use super::start::{Opened, Purpose, start};
use super::{Endpoints, Upstream};
use crate::tls::Failure;
use crate::wire::Socket;

/// The first wait between two tries: an app that just starts listens within milliseconds.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// The longest wait between two tries: well below the time that a client notices.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot resolve {name}: {why}")]
    Resolve { name: String, why: String },
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("cannot connect to {address} in time")]
    Timeout { address: String },
    #[error("cannot start TLS with {address} as {name:?}: {failure}")]
    Tls { address: String, name: String, failure: Failure },
}

impl ConnectError {
    /// The label of `podkit_proxy_upstream_errors_total` and `podkit_proxy_upstream_connect_failures_total`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Timeout { .. } => "connect_timeout",
            Self::Tls { .. } => "tls",
        }
    }

    /// Whether another try with the same endpoint would end the same.
    fn is_final(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }

    /// The reason alone, where the address is known.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Resolve { why, .. } => why.clone(),
            Self::Connect { source, .. } => podkit_cli::chain(source),
            Self::Timeout { .. } => "no connection in time".to_owned(),
            Self::Tls { failure, .. } => failure.to_string(),
        }
    }
}

/// Connects to `first` or, where that fails, to another endpoint that has not failed this request, and then to the same
/// ones again: an app that restarts refuses for a moment. Adds those that failed to `tried`.
pub(super) async fn connect(
    upstream: &Upstream,
    first: Option<Arc<Endpoint>>,
    tried: &mut Vec<Arc<Endpoint>>,
    purpose: Purpose,
) -> Result<(Opened, Arc<Endpoint>), ConnectError> {
    let deadline = Deadline::after(upstream.config.connect_timeout);
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut next = first;
    loop {
        let endpoint = match next.take() {
            Some(endpoint) => endpoint,
            None => choose(upstream, tried, deadline).await?,
        };
        let set = upstream.current();
        // While there is somebody else to turn to, one that swallows all packets does not take all the time.
        let time = deadline.remaining() / if is_last(&set, &endpoint, tried) { 1 } else { 2 };
        let error = match tokio::time::timeout(time, open(upstream, &endpoint, purpose)).await {
            Ok(Ok(opened)) => {
                upstream.metrics.connections.inc();
                return Ok((opened, endpoint));
            }
            Ok(Err(error)) => error,
            Err(_) => ConnectError::Timeout { address: endpoint.address.to_string() },
        };
        upstream.metrics.connect_failures.count(error.reason());
        upstream.failed(&endpoint, error.why(), Instant::now());
        if !is_among(&endpoint, tried) {
            tried.push(endpoint);
        }
        if set.all().iter().any(|other| !is_among(other, tried)) && !deadline.expired() {
            continue;
        }
        let wait = backoff.next_delay().max(Duration::from_millis(1));
        if error.is_final() || wait >= deadline.remaining() {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
}

fn is_among(endpoint: &Arc<Endpoint>, tried: &[Arc<Endpoint>]) -> bool {
    tried.iter().any(|other| Arc::ptr_eq(endpoint, other))
}

fn is_last(set: &Endpoints, endpoint: &Arc<Endpoint>, tried: &[Arc<Endpoint>]) -> bool {
    set.all().iter().all(|other| Arc::ptr_eq(other, endpoint) || is_among(other, tried))
}

/// An endpoint to connect to; waits for the first answer of the DNS.
async fn choose(
    upstream: &Upstream,
    tried: &[Arc<Endpoint>],
    deadline: Deadline,
) -> Result<Arc<Endpoint>, ConnectError> {
    let mut news = upstream.endpoints.subscribe();
    loop {
        let set = Arc::clone(&news.borrow_and_update());
        if let Some(index) = upstream.choose(&set, tried, Instant::now()) {
            return Ok(Arc::clone(&set.all()[index]));
        }
        // The sender is the upstream's own, so the wait ends with news or with the time.
        if tokio::time::timeout(deadline.remaining(), news.changed()).await.is_err() {
            let why = upstream.dns_error().unwrap_or_else(|| "there is no answer yet".to_owned());
            return Err(ConnectError::Resolve { name: upstream.config.address.to_string(), why });
        }
    }
}

/// One connection to an endpoint, ready for the first request. The caller keeps the time.
pub(super) async fn open(
    upstream: &Upstream,
    endpoint: &Endpoint,
    purpose: Purpose,
) -> Result<Opened, ConnectError> {
    start(dial(endpoint).await?, upstream, &endpoint.address, purpose).await
}

async fn dial(endpoint: &Endpoint) -> Result<Socket, ConnectError> {
    let failed = |source| ConnectError::Connect { address: endpoint.address.to_string(), source };
    let socket = match &endpoint.address {
        EndpointAddress::Tcp(address) => Socket::connect(&SockAddr::from(*address)).await,
        EndpointAddress::Unix(path) => Socket::connect(&SockAddr::unix(path).map_err(failed)?).await,
        EndpointAddress::Localhost(port) => {
            let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            match Socket::connect(&SockAddr::from(v4)).await {
                Ok(socket) => Ok(socket),
                Err(error) => {
                    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, *port));
                    // Where there is no IPv6 at all, the first error is the one that tells.
                    Socket::connect(&SockAddr::from(v6)).await.map_err(|_| error)
                }
            }
        }
    };
    socket.map_err(failed)
}

/// Whether any endpoint takes connections. Learns nothing from it: for the stop, which waits for the app's end.
pub(crate) async fn answers(upstream: &Upstream) -> bool {
    for endpoint in upstream.current().all() {
        if dial(endpoint).await.is_ok() {
            return true;
        }
    }
    false
}
