//! What was typed becomes what is meant: listeners, upstreams, limits and times, all checked.
//!
//! `--forward` and the YAML lists end in the same values. Nothing past this module sees a raw string.

mod forward;
mod show;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use podkit_cli::{Invalid, Section, units};

use forward::Forward;

/// The most fields that `limits.headers` can allow: so many are parsed on the stack.
pub(crate) const MAX_HEADERS: usize = 256;

/// A TCP connection may be silent for hours and be well (a database pool); only a forgotten one is longer.
const TCP_IDLE: Duration = Duration::from_secs(3600);

/// Everything `podkit-proxy` was told.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) shutdown: Shutdown,
}

/// Which way traffic goes; inbound drains first (contract 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
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

#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) name: String,
    /// What the user wrote, for messages: ``--forward `http://…` `` or `listener "web"`.
    pub(crate) told_by: String,
    pub(crate) direction: Direction,
    pub(crate) protocol: Protocol,
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
}

impl Listener {
    fn own_upstream(&self) -> Invalid {
        Invalid::new(format!("{} is its own upstream: each request would come back for ever", self.listen))
    }

    fn is_own_upstream(&self) -> bool {
        let (listen, upstream) = (self.listen.ip(), &self.upstream);
        self.listen.port() == upstream.port
            && (upstream.host.parse() == Ok(listen)
                || (upstream.is_loopback() && listen.is_unspecified())
                || (upstream.host.eq_ignore_ascii_case("localhost") && listen.is_loopback()))
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Open connections; accepting pauses at the limit.
    pub(crate) connections: NonZeroUsize,
    /// Bytes of a head.
    pub(crate) header_size: usize,
    /// Fields of a head, at most [`MAX_HEADERS`].
    pub(crate) headers: usize,
    /// Bytes of a request's body; `None` is no limit.
    pub(crate) body: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
        Self { connections: CONNECTIONS, header_size: 64 << 10, headers: 100, body: None }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// From the first byte of a head to its last.
    pub(crate) header: Duration,
    /// Without a byte moving: between requests, within a body, on a TCP connection.
    pub(crate) idle: Duration,
    /// From a request's head to the end of its answer; zero is no limit.
    pub(crate) request: Duration,
}

impl Timeouts {
    fn default_for(protocol: Protocol) -> Self {
        let idle = match protocol {
            Protocol::Http => Duration::from_secs(75),
            Protocol::Tcp => TCP_IDLE,
        };
        Self { header: Duration::from_secs(10), idle, request: Duration::ZERO }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// How long to try to connect, all tries together.
    pub(crate) connect_timeout: Duration,
    pub(crate) pool: Pool,
}

impl Upstream {
    fn new(name: String, host: String, port: u16) -> Self {
        Self { name, host, port, connect_timeout: Duration::from_secs(1), pool: Pool::default() }
    }

    /// `host:port`, with brackets where the host is an IPv6 address.
    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool {
    /// Shorter than the app's own keep-alive (Node has 5 s), so that it is us who closes an idle connection.
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: NonZeroUsize,
}

impl Default for Pool {
    fn default() -> Self {
        const MAX_IDLE: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
        Self { idle_timeout: Duration::from_secs(4), max_idle: MAX_IDLE }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Shutdown {
    /// From the signal to the end.
    pub(crate) deadline: Duration,
    /// How long no new connection must have come before the listeners close.
    pub(crate) quiet: Duration,
}

impl Config {
    /// Reads the settings; `None` where there are faults.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        let admin = root.admin();
        let shutdown = read_shutdown(root);
        let mut upstreams = read_upstreams(root);
        let faults = root.fault_count();
        let mut listeners: Vec<Listener> = Vec::new();
        for section in root.sections("listeners") {
            let Some(listener) = read_listener(&section, &upstreams) else { continue };
            if listeners.iter().any(|other| other.name == listener.name) {
                section.fault(
                    "name",
                    Invalid::new(format!("{:?} is the name of another listener", listener.name)),
                );
            } else if let Some(other) = clash(&listeners, listener.listen) {
                section.fault("listen", Invalid::new(format!("{} is taken by {other}", listener.listen)));
            } else if listener.is_own_upstream() {
                section.fault("to", listener.own_upstream());
            }
            listeners.push(listener);
        }
        let asked = root.list("forward", Forward::parse);
        for forward in asked {
            let listener = forward.into_listener(&listeners);
            if let Some(other) = clash(&listeners, listener.listen) {
                root.fault("forward", Invalid::new(format!("{} is taken by {other}", listener.listen)));
            } else if listener.is_own_upstream() {
                root.fault("forward", listener.own_upstream());
            }
            upstreams.push(Arc::clone(&listener.upstream));
            listeners.push(listener);
        }
        if !root.has("forward") && !root.has("listeners") {
            let hint = "give `--forward 'http://0.0.0.0:8080=http://127.0.0.1:8081'`, or `listeners:` in a config file";
            root.fault("forward", Invalid::new("there is nothing to carry").hint(hint));
        } else if listeners.is_empty() && root.fault_count() == faults {
            root.fault("listeners", Invalid::new("there is no listener"));
        }
        Some(Self { admin, listeners, upstreams, shutdown })
    }
}

fn clash(listeners: &[Listener], listen: SocketAddr) -> Option<&str> {
    let same = |other: &&Listener| other.listen == listen && listen.port() != 0;
    listeners.iter().find(same).map(|other| other.told_by.as_str())
}

fn read_shutdown(root: &Section<'_>) -> Shutdown {
    let section = root.section("shutdown");
    let deadline = section.value_or("deadline", units::positive_duration, Duration::from_secs(20));
    // By itself never so long that a short deadline could not be kept.
    let quiet = section.value_or("quiet", units::duration, Duration::from_secs(1).min(deadline / 4));
    if quiet >= deadline {
        let (quiet, deadline) = (units::show_duration(quiet), units::show_duration(deadline));
        let what = Invalid::new(format!("{quiet} is not shorter than the deadline, {deadline}"));
        section.fault("quiet", what.hint("a stop could never end cleanly: lower the one or raise the other"));
    }
    Shutdown { deadline, quiet }
}

fn read_upstreams(root: &Section<'_>) -> Vec<Arc<Upstream>> {
    let mut upstreams: Vec<Arc<Upstream>> = Vec::new();
    for section in root.sections("upstreams") {
        let name = section.required("name", units::text);
        let address = section.required("address", units::host_port);
        let connect_timeout = section.value("connect_timeout", units::positive_duration);
        let pool = section.section("pool");
        let idle_timeout = pool.value("idle_timeout", units::positive_duration);
        let max_idle = pool.value("max_idle", units::count);
        let (Some(name), Some((host, port))) = (name, address) else { continue };
        if upstreams.iter().any(|other| other.name == name) {
            section.fault("name", Invalid::new(format!("{name:?} is the name of another upstream")));
        }
        let mut upstream = Upstream::new(name, host, port);
        upstream.connect_timeout = connect_timeout.unwrap_or(upstream.connect_timeout);
        upstream.pool.idle_timeout = idle_timeout.unwrap_or(upstream.pool.idle_timeout);
        upstream.pool.max_idle = max_idle.unwrap_or(upstream.pool.max_idle);
        upstreams.push(Arc::new(upstream));
    }
    upstreams
}

fn read_listener(section: &Section<'_>, upstreams: &[Arc<Upstream>]) -> Option<Listener> {
    const DIRECTIONS: &[(&str, Direction)] =
        &[("inbound", Direction::Inbound), ("outbound", Direction::Outbound)];
    const PROTOCOLS: &[(&str, Protocol)] = &[("http", Protocol::Http), ("tcp", Protocol::Tcp)];
    let name = section.required("name", units::text);
    let direction = section.value("direction", units::choice(DIRECTIONS));
    let protocol = section.value_or("protocol", units::choice(PROTOCOLS), Protocol::Http);
    let listen = section.required("listen", units::listen_address);
    let to = section.required("to", units::text);
    let limits = read_limits(section);
    let timeouts = read_timeouts(section, protocol);
    let upstream = to.and_then(|to| {
        let found = upstreams.iter().find(|upstream| upstream.name == to);
        if found.is_none() {
            let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
            let hint =
                format!("there are: {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
            section.fault("to", Invalid::new(format!("{to:?} is not the name of an upstream")).hint(hint));
        }
        found
    })?;
    let (name, listen) = (name?, listen?);
    if direction == Some(Direction::Outbound) && !listen.ip().is_loopback() {
        let what =
            format!("an outbound listener must listen on loopback, and {listen} is open to the network");
        section.fault("listen", Invalid::new(what).hint(format!("listen on 127.0.0.1:{}", listen.port())));
    }
    Some(Listener {
        told_by: format!("listener {name:?}"),
        name,
        direction: direction.unwrap_or_else(|| direction_of(listen, upstream)),
        protocol,
        listen,
        upstream: Arc::clone(upstream),
        limits,
        timeouts,
    })
}

/// From loopback to elsewhere is outbound; everything else is inbound.
fn direction_of(listen: SocketAddr, upstream: &Upstream) -> Direction {
    if listen.ip().is_loopback() && !upstream.is_loopback() {
        Direction::Outbound
    } else {
        Direction::Inbound
    }
}

fn read_limits(listener: &Section<'_>) -> Limits {
    let section = listener.section("limits");
    let header_size = |text: &str| match units::size(text)? {
        bytes @ 1024..=1_048_576 => Ok(usize::try_from(bytes).unwrap_or(usize::MAX)),
        _ => Err(Invalid::new(format!("{text:?} is not between 1KiB and 1MiB"))),
    };
    let headers = |text: &str| match units::count(text)?.get() {
        count if count <= MAX_HEADERS => Ok(count),
        _ => Err(Invalid::new(format!("{text:?} is more than {MAX_HEADERS}"))),
    };
    let default = Limits::default();
    Limits {
        connections: section.value_or("connections", units::count, default.connections),
        header_size: section.value_or("header_size", header_size, default.header_size),
        headers: section.value_or("headers", headers, default.headers),
        body: section.value("body", units::size),
    }
}

fn read_timeouts(listener: &Section<'_>, protocol: Protocol) -> Timeouts {
    let section = listener.section("timeouts");
    let default = Timeouts::default_for(protocol);
    Timeouts {
        header: section.value_or("header", units::positive_duration, default.header),
        idle: section.value_or("idle", units::positive_duration, default.idle),
        request: section.value_or("request", units::duration, default.request),
    }
}
