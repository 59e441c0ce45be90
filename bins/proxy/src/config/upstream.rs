//! One upstream: where it is, how it is spoken to, and when it is given up.

pub(super) mod read;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;

/// The app on this side answers at once or not at all; who is farther away is worth a wait of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// All settings of an upstream. Two that are equal serve alike, so a reload leaves such a one alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) dns: Dns,
    pub(crate) tls: Option<UpstreamTls>,
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) balance: Balance,
    /// How long to try to connect, all tries together.
    pub(crate) connect_timeout: Duration,
    pub(crate) pool: Pool,
    pub(crate) retries: Retries,
    pub(crate) health: Option<Health>,
    pub(crate) eject: Option<Eject>,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
}

/// Where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host:port`; all addresses of a name are used.
    Host { host: String, port: u16 },
    /// `srv:_http._tcp.shop.default.svc`: hosts, ports and weights by DNS.
    Srv(String),
    /// `unix:/path`
    Unix(PathBuf),
}

/// `host:port`, with brackets where the host is an IPv6 address.
impl fmt::Display for Address {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } if host.contains(':') => write!(to, "[{host}]:{port}"),
            Self::Host { host, port } => write!(to, "{host}:{port}"),
            Self::Srv(name) => write!(to, "srv:{name}"),
            Self::Unix(path) => write!(to, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// On this side of the pod's network: the app, as far as can be told.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Host { host, .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
            Self::Srv(_) => false,
            Self::Unix(_) => true,
        }
    }
}

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dns {
    /// Bounds on how long an answer of the DNS is used, whatever its TTL.
    pub(crate) min_ttl: Duration,
    pub(crate) max_ttl: Duration,
    /// In place of the system's name servers; names asked of them are complete.
    pub(crate) servers: Vec<SocketAddr>,
}

impl Default for Dns {
    /// CoreDNS gives cluster names 5 s; a TTL of 0 must not become a query for each connection.
    fn default() -> Self {
        Self { min_ttl: Duration::from_secs(1), max_ttl: Duration::from_secs(60), servers: Vec::new() }
    }
}

/// TLS to an upstream. The files are read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UpstreamTls {
    /// The name that the certificate must have, and that SNI asks for; `None` is that of the address.
    pub(crate) server_name: Option<String>,
    /// In place of the public roots.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) identity: Option<Identity>,
}

impl UpstreamTls {
    /// The name that the certificate of the upstream at `address` must have: the host's, of an SRV record that of the
    /// domain, for the DNS may name any host. None is made out to a socket; such a config is refused.
    pub(crate) fn name(&self, address: &Address) -> Option<ServerName<'static>> {
        let name = match (&self.server_name, address) {
            (Some(name), _) => name,
            (None, Address::Host { host, .. }) => host,
            (None, Address::Srv(name)) => name.splitn(3, '.').nth(2)?,
            (None, Address::Unix(_)) => return None,
        };
        // With its root's dot it is the same name; certificates and SNI have none (RFC 6066 section 3).
        ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned()).ok()
    }
}

/// What we show to an upstream that asks for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The HTTP version that an upstream is spoken to in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum UpstreamProtocol {
    /// With TLS as ALPN says; else HTTP/2 for gRPC, which knows no other, and HTTP/1.1 for all else.
    #[default]
    Auto,
    Http1,
    Http2,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Balance {
    #[default]
    P2cEwma,
    RoundRobin,
    LeastRequest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    /// Shorter than the app's own keep-alive (Node has 5 s), so that it is us who closes an idle connection.
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: NonZeroUsize,
}

impl Default for Pool {
    fn default() -> Self {
        /// A bound, not an aim: what is not needed for `idle_timeout` is closed, and what a burst would have to
        /// connect anew costs more than it takes to keep it until then.
        const MAX_IDLE: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
        Self { idle_timeout: Duration::from_secs(4), max_idle: MAX_IDLE }
    }
}

/// When a request is sent again: only if it was not seen, or is idempotent and no byte of an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retries {
    /// Tries of one request beyond the first.
    pub(crate) attempts: u32,
    /// Retries per hundred requests, over the last ten seconds.
    pub(crate) budget_percent: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 2, budget_percent: 20 }
    }
}

/// Active checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// A GET that must be answered 2xx or 3xx; `None` is a connect.
    pub(crate) path: Option<String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Good checks in a row that make an address healthy again.
    pub(crate) healthy: NonZeroU32,
    /// Bad checks in a row that make it unhealthy.
    pub(crate) unhealthy: NonZeroU32,
}

impl Health {
    /// A connect: often where it costs next to nothing.
    pub(crate) fn connect(is_local: bool) -> Self {
        const ONE: NonZeroU32 = NonZeroU32::MIN;
        const THREE: NonZeroU32 = NonZeroU32::new(3).expect("not zero");
        Self {
            path: None,
            interval: Duration::from_secs(if is_local { 1 } else { 5 }),
            timeout: Duration::from_secs(1),
            healthy: ONE,
            unhealthy: THREE,
        }
    }
}

/// Passive ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Eject {
    /// Failures (no connection, no answer, 502 to 504) in a row.
    pub(crate) failures: NonZeroU32,
    /// How long an address is left out the first time; each further time so much longer, up to ten times.
    pub(crate) for_time: Duration,
}

impl Default for Eject {
    fn default() -> Self {
        const FAILURES: NonZeroU32 = NonZeroU32::new(5).expect("not zero");
        Self { failures: FAILURES, for_time: Duration::from_secs(10) }
    }
}

/// The PROXY protocol header that an upstream is sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    V1,
    V2,
}

impl Upstream {
    /// One with defaults for all that need not be told.
    pub(crate) fn new(name: String, address: Address) -> Self {
        Self {
            name,
            address,
            dns: Dns::default(),
            tls: None,
            protocol: UpstreamProtocol::default(),
            balance: Balance::default(),
            connect_timeout: CONNECT_TIMEOUT,
            pool: Pool::default(),
            retries: Retries::default(),
            health: None,
            eject: None,
            proxy_protocol: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_checked_by_a_name_that_the_dns_cannot_choose() {
        let host = |host: &str| Address::Host { host: host.into(), port: 443 };
        for (address, name) in [
            (host("api.example.com"), Some("api.example.com")),
            (host("api.example.com."), Some("api.example.com")),
            (host("10.0.0.1"), Some("10.0.0.1")),
            (host("::1"), Some("::1")),
            (host("-x-"), None),
            (Address::Srv("_https._tcp.shop.svc".into()), Some("shop.svc")),
            (Address::Unix("/run/app.sock".into()), None),
        ] {
            let (default, mut given) = (UpstreamTls::default(), UpstreamTls::default());
            assert_eq!(default.name(&address).map(|name| name.to_str().into_owned()).as_deref(), name);
            given.server_name = Some("db.prod".into());
            assert_eq!(given.name(&address), ServerName::try_from("db.prod").ok());
        }
    }
}
