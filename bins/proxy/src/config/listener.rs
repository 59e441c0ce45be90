//! One listener: where it listens, what it speaks, what it allows, and what it tells.

pub(super) mod read;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::Upstream;

/// The most fields that `limits.headers` can allow: so many are parsed on the stack.
pub(crate) const MAX_HEADERS: usize = 256;

/// A TCP connection may be silent for hours and be well (a database pool); only a forgotten one is longer.
const TCP_IDLE: Duration = Duration::from_secs(3600);

/// Which way traffic goes; inbound drains first (contract 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    /// From loopback to elsewhere is outbound; everything else is inbound.
    pub(super) fn between(listen: &ListenAddress, upstream: &Upstream) -> Self {
        let is_private = match listen {
            ListenAddress::Tcp(address) => address.ip().is_loopback(),
            ListenAddress::Unix(_) => true,
        };
        if is_private && !upstream.address.is_local() { Self::Outbound } else { Self::Inbound }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1, and HTTP/2 by ALPN or by its preface.
    Http,
    Tcp,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(to, "{address}"),
            Self::Unix(path) => write!(to, "unix:{}", path.display()),
        }
    }
}

/// All settings of a listener. Two that are equal serve alike, so a reload leaves such a one alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listener {
    pub(crate) name: String,
    /// What the user wrote, for messages: ``--forward `http://…` `` or `listener "web"`.
    pub(crate) told_by: String,
    pub(crate) direction: Direction,
    pub(crate) protocol: Protocol,
    pub(crate) listen: ListenAddress,
    pub(crate) tls: Option<ListenerTls>,
    /// Each connection begins with a PROXY protocol header, version 1 or 2.
    pub(crate) proxy_protocol: bool,
    pub(crate) upstream: Arc<Upstream>,
    /// The peers whose PROXY protocol header is taken, and the clients whose `X-Forwarded-*`, `Forwarded`,
    /// `X-Request-ID` and `traceparent` are believed; `None` is all.
    pub(crate) trust: Option<Vec<IpNet>>,
    pub(crate) forwarded: Forwarded,
    /// Whether a request without `traceparent` is given one.
    pub(crate) start_trace: bool,
    pub(crate) access_log: AccessLog,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
}

/// TLS of a listener. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerTls {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client: Option<ClientCerts>,
}

/// Which clients' certificates are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCerts {
    pub(crate) ca: PathBuf,
    /// A client without a certificate is refused.
    pub(crate) required: bool,
}

/// Which fields tell the upstream of the client (inbound only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// `X-Forwarded-For`, `-Host`, `-Proto`.
    pub(crate) x_forwarded: bool,
    /// `Forwarded` (RFC 7239).
    pub(crate) rfc7239: bool,
}

impl Default for Forwarded {
    fn default() -> Self {
        Self { x_forwarded: true, rfc7239: false }
    }
}

/// How many requests are logged: so many of 10,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AccessLog {
    pub(crate) per_10_000: u16,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// Open connections; accepting pauses at the limit.
    pub(crate) connections: NonZeroUsize,
    /// Requests being served; `None` is no limit.
    pub(crate) in_flight: Option<NonZeroUsize>,
    /// Requests that wait for one of `in_flight` to end; more are answered 503.
    pub(crate) queue: usize,
    /// The longest that one waits.
    pub(crate) queue_timeout: Duration,
    /// Bytes of a head.
    pub(crate) header_size: usize,
    /// Fields of a head, at most [`MAX_HEADERS`].
    pub(crate) headers: usize,
    /// Bytes of a request's body; `None` is no limit.
    pub(crate) body: Option<u64>,
    /// Requests (TCP: connections) of all clients together.
    pub(crate) rate: Option<Rate>,
    /// Requests (TCP: connections) of one client address.
    pub(crate) peer_rate: Option<Rate>,
    /// Streams of one HTTP/2 connection at a time.
    pub(crate) streams: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
        // As RFC 9113 6.5.2 recommends at least.
        const STREAMS: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
        Self {
            connections: CONNECTIONS,
            in_flight: None,
            queue: 0,
            queue_timeout: Duration::from_secs(1),
            header_size: 64 << 10,
            headers: 100,
            body: None,
            rate: None,
            peer_rate: None,
            streams: STREAMS,
        }
    }
}

/// `500/s`: events in a time, evenly spread; as many at once as come in one second, or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) events: NonZeroU32,
    pub(crate) per: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// Of a TLS handshake, and of a PROXY protocol header.
    pub(crate) handshake: Duration,
    /// From the first byte of a head to its last.
    pub(crate) header: Duration,
    /// Without a byte moving: between requests, on a TCP connection.
    pub(crate) idle: Duration,
    /// Without a byte of a request's body, before its answer has begun; on average a body must also have 240 bytes a
    /// second. Not for gRPC, whose streams may be silent.
    pub(crate) body: Duration,
    /// Without a client taking a piece of its answer, or an upstream one of a request: a piece has 16 KiB at most.
    pub(crate) write: Duration,
    /// From a request's head to the end of its answer; zero is no limit.
    pub(crate) request: Duration,
}

impl Timeouts {
    pub(crate) fn default_for(protocol: Protocol) -> Self {
        let idle = match protocol {
            Protocol::Http => Duration::from_secs(75),
            Protocol::Tcp => TCP_IDLE,
        };
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            idle,
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            request: Duration::ZERO,
        }
    }
}

impl Listener {
    /// One with defaults for all that need not be told.
    pub(crate) fn new(
        name: String,
        told_by: String,
        (direction, protocol): (Direction, Protocol),
        listen: ListenAddress,
        upstream: Arc<Upstream>,
    ) -> Self {
        Self {
            name,
            told_by,
            direction,
            protocol,
            listen,
            tls: None,
            proxy_protocol: false,
            upstream,
            trust: None,
            forwarded: Forwarded::default(),
            start_trace: true,
            access_log: AccessLog::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default_for(protocol),
        }
    }

    /// Whether a peer's PROXY protocol header is taken, and whether a client is believed what it says about where a
    /// request came from. One on a Unix socket has no address: who may open the socket is trusted with it.
    pub(crate) fn trusts(&self, client: Option<IpAddr>) -> bool {
        match (&self.trust, client) {
            (Some(trusted), Some(ip)) => trusted.iter().any(|net| net.contains(&ip.to_canonical())),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_addresses_speak_for_others() {
        let mut web = Listener::of_forward("http://0.0.0.0:80=http://127.0.0.1:81");
        let stranger = Some("192.0.2.1".parse().unwrap());
        assert!(web.trusts(stranger) && web.trusts(None), "by default all are trusted");
        web.trust = Some(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()]);
        for (ip, is_trusted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::1", true),
            ("192.0.2.1", false),
            ("2001:db8::2", false),
        ] {
            assert_eq!(web.trusts(Some(ip.parse().unwrap())), is_trusted, "{ip}");
        }
        assert!(web.trusts(None));
        web.trust = Some(Vec::new());
        assert!(!web.trusts(stranger));
    }
}
