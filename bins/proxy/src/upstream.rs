//! Connecting to an upstream: names, tries, and the time all tries have together.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use podkit_lifecycle::{Backoff, Deadline};
use tokio::net::TcpStream;

use crate::config::Upstream;

/// The first wait between two tries: an app that just starts listens within milliseconds.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// The longest wait between two tries: well below the time that a client notices.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot resolve {host}")]
    Resolve { host: String, source: io::Error },
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("cannot connect to {address} in time")]
    Timeout { address: String },
}

impl ConnectError {
    /// The label of `podkit_proxy_upstream_errors_total`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Resolve { .. } => "resolve",
            Self::Connect { .. } => "connect",
            Self::Timeout { .. } => "connect_timeout",
        }
    }
}

/// Connects, trying again within the upstream's `connect_timeout`: an app that restarts refuses for a moment.
pub(crate) async fn connect(upstream: &Upstream) -> Result<TcpStream, ConnectError> {
    let deadline = Deadline::after(upstream.connect_timeout);
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let outcome = tokio::time::timeout(deadline.remaining(), connect_once(upstream)).await;
        let error = match outcome {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => return Err(ConnectError::Timeout { address: upstream.address() }),
        };
        let wait = backoff.next_delay().max(Duration::from_millis(1));
        if wait >= deadline.remaining() {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
    }
}

/// One try, at each of the upstream's addresses in turn.
pub(crate) async fn connect_once(upstream: &Upstream) -> Result<TcpStream, ConnectError> {
    let failed = |source| ConnectError::Connect { address: upstream.address(), source };
    let stream = match addresses(upstream) {
        Some(addresses) => TcpStream::connect(addresses.as_slice()).await.map_err(failed)?,
        None => {
            let found = tokio::net::lookup_host((upstream.host.as_str(), upstream.port)).await;
            let found: Vec<SocketAddr> = found
                .map_err(|source| ConnectError::Resolve { host: upstream.host.clone(), source })?
                .collect();
            TcpStream::connect(found.as_slice()).await.map_err(failed)?
        }
    };
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// The addresses that need no resolver: literal ones, and `localhost` (RFC 6761 6.3).
fn addresses(upstream: &Upstream) -> Option<Vec<SocketAddr>> {
    let ips = match upstream.host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) if upstream.host.eq_ignore_ascii_case("localhost") => {
            vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        }
        Err(_) => return None,
    };
    Some(ips.into_iter().map(|ip| SocketAddr::new(ip, upstream.port)).collect())
}
