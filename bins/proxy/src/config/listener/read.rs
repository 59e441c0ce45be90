//! From the keys of one listener to what they mean, each fault with its place.

use std::time::Duration;

use podkit_cli::{Invalid, Item, Section, units};

use super::super::{UpstreamProtocol, Upstreams, values};
use super::{
    AccessLog, ClientCerts, Direction, Forwarded, Limits, ListenAddress, Listener, ListenerTls, MAX_HEADERS,
    Protocol, Timeouts,
};

const DIRECTIONS: &[(&str, Direction)] =
    &[("inbound", Direction::Inbound), ("outbound", Direction::Outbound)];
const PROTOCOLS: &[(&str, Protocol)] = &[("http", Protocol::Http), ("tcp", Protocol::Tcp)];
pub(in crate::config) const FORWARDED: &[(&str, Forwarded)] = &[
    ("x-forwarded", Forwarded { x_forwarded: true, rfc7239: false }),
    ("rfc7239", Forwarded { x_forwarded: false, rfc7239: true }),
    ("both", Forwarded { x_forwarded: true, rfc7239: true }),
    ("off", Forwarded { x_forwarded: false, rfc7239: false }),
];
/// Whether a request without `traceparent` is given one.
pub(in crate::config) const TRACE: &[(&str, bool)] = &[("start", true), ("pass", false)];
/// Whether a client must have a certificate.
pub(in crate::config) const CLIENT: &[(&str, bool)] = &[("required", true), ("optional", false)];
/// The forms of an access log, and whether it is written.
const ACCESS_LOG: &[(&str, bool)] = &[("off", false), ("json", true)];
const ACCESS_LOG_FORMATS: &[(&str, ())] = &[("json", ())];

/// What only requests have; on a TCP listener it would be silently not in force.
const HTTP_KEYS: &[&str] = &["forwarded", "trace"];
const HTTP_LIMITS: &[&str] =
    &["in_flight", "queue", "queue_timeout", "header_size", "headers", "body", "streams"];
const HTTP_TIMEOUTS: &[&str] = &["header", "body", "write", "request"];

impl Listener {
    /// Reads one item of `listeners`; `None` where there are faults.
    pub(in crate::config) fn read(section: &Section<'_>, upstreams: &Upstreams) -> Option<Self> {
        let name = section.required("name", units::text);
        let direction = section.value("direction", units::choice(DIRECTIONS));
        let protocol = section.value_or("protocol", units::choice(PROTOCOLS), Protocol::Http);
        let listen = section.required("listen", values::listen);
        let upstream = upstreams.named_in(section);
        let tls = values::mapping(section, "tls", "{cert: /tls/tls.crt, key: /tls/tls.key}");
        let tls = tls.map(|tls| ListenerTls::read(&tls));
        let proxy_protocol = section.switch("proxy_protocol");
        let trust = section.list("trust", values::network);
        let trust = section.has("trust").then_some(trust);
        let forwarded = section.value("forwarded", units::choice(FORWARDED));
        let start_trace = section.value_or("trace", units::choice(TRACE), true);
        let access_log = AccessLog::read(section);
        let limits_section = section.section("limits");
        let limits = Limits::read(&limits_section, protocol);
        let timeouts = Timeouts::read(&section.section("timeouts"), protocol);
        only_for_http(section, HTTP_KEYS, protocol);
        if protocol == Protocol::Tcp && section.has("trust") && !proxy_protocol {
            let what = "needs `proxy_protocol: true`: there is nothing else that a TCP client could claim";
            section.fault("trust", Invalid::new(what).hint("add it, or remove the key"));
        }
        let (name, listen, upstream) = (name?, listen?, upstream?);
        if direction == Some(Direction::Outbound) {
            check_outbound(section, &listen);
        }
        let direction = direction.unwrap_or_else(|| Direction::between(&listen, &upstream));
        let told_by = format!("listener {name:?}");
        let listener = Self {
            tls: tls.flatten(),
            proxy_protocol,
            trust,
            forwarded: forwarded.unwrap_or_default(),
            start_trace,
            access_log,
            limits,
            timeouts,
            ..Self::new(name, told_by, (direction, protocol), listen, upstream)
        };
        if forwarded.is_some_and(|told| told.x_forwarded || told.rfc7239) && direction == Direction::Outbound
        {
            let what = "is for inbound listeners: nobody outside is told which process of the pod asked";
            section.fault("forwarded", Invalid::new(what).hint("remove the key"));
        }
        listener.check(section, &limits_section);
        Some(listener)
    }

    /// Faults that show only with several settings in view.
    fn check(&self, section: &Section<'_>, limits: &Section<'_>) {
        if self.protocol == Protocol::Tcp && self.upstream.protocol == UpstreamProtocol::Http2 {
            let what = format!(
                "a tcp listener carries bytes as they are, and the upstream {:?} has `protocol: http2`",
                self.upstream.name
            );
            section.fault("to", Invalid::new(what).hint("remove one of the two `protocol` keys"));
        }
        let has_no_address = matches!(self.listen, ListenAddress::Unix(_)) && !self.proxy_protocol;
        if self.limits.peer_rate.is_some() && has_no_address {
            let what = "limits each client's address, and the clients of a unix socket have none";
            limits.fault("peer_rate", Invalid::new(what).hint("use `rate`"));
        }
        let (request, queue) = (self.timeouts.request, self.limits.queue_timeout);
        if self.limits.queue > 0 && !request.is_zero() && queue >= request {
            let (queue, request) = (units::show_duration(queue), units::show_duration(request));
            let what = format!("{queue} is not shorter than `timeouts.request`, {request}");
            let hint = "a request that had to wait could never be answered: lower the one or raise the other";
            limits.fault("queue_timeout", Invalid::new(what).hint(hint));
        }
    }
}

fn check_outbound(section: &Section<'_>, listen: &ListenAddress) {
    if let ListenAddress::Tcp(address) = listen
        && !address.ip().is_loopback()
    {
        let what =
            format!("an outbound listener must listen on loopback, and {address} is open to the network");
        let hint = format!("listen on 127.0.0.1:{} or on a unix socket", address.port());
        section.fault("listen", Invalid::new(what).hint(hint));
    }
}

fn only_for_http(section: &Section<'_>, keys: &[&str], protocol: Protocol) {
    for key in keys.iter().filter(|key| protocol == Protocol::Tcp && section.has(key)) {
        let what = "is for `protocol: http`: a tcp listener knows of no requests";
        section.fault(key, Invalid::new(what).hint("remove the key"));
    }
}

impl ListenerTls {
    fn read(section: &Section<'_>) -> Option<Self> {
        let cert = section.required("cert", units::path);
        let key = section.required("key", units::path);
        let ca = section.value("client_ca", units::path);
        let required = section.value("client", units::choice(CLIENT));
        if required.is_some() && !section.has("client_ca") {
            let what = "needs `client_ca`: there is nothing to check the clients' certificates by";
            section.fault("client", Invalid::new(what).hint("add `client_ca: /tls/ca.crt`"));
        }
        let client = ca.map(|ca| ClientCerts { ca, required: required.unwrap_or(true) });
        Some(Self { cert: cert?, key: key?, client })
    }
}

impl AccessLog {
    fn read(listener: &Section<'_>) -> Self {
        const ALL: u16 = 10_000;
        let per_10_000 = match listener.item("access_log") {
            None => 0,
            Some(Item::Text(text)) => match units::choice(ACCESS_LOG)(&text) {
                Ok(true) => ALL,
                Ok(false) => 0,
                Err(what) => {
                    listener.fault("access_log", what);
                    0
                }
            },
            Some(Item::Section(section)) => {
                section.value("format", units::choice(ACCESS_LOG_FORMATS));
                section.value_or("sample", values::share, ALL)
            }
        };
        Self { per_10_000 }
    }
}

impl Limits {
    fn read(section: &Section<'_>, protocol: Protocol) -> Self {
        let header_size = |text: &str| match units::size(text)? {
            bytes @ 1024..=1_048_576 => Ok(usize::try_from(bytes).unwrap_or(usize::MAX)),
            _ => Err(Invalid::new(format!("{text:?} is not between 1KiB and 1MiB"))),
        };
        let headers = |text: &str| match units::count(text)?.get() {
            count if count <= MAX_HEADERS => Ok(count),
            _ => Err(Invalid::new(format!("{text:?} is more than {MAX_HEADERS}"))),
        };
        let queue = |text: &str| values::count_or_none(text).map(|count| count as usize);
        let default = Self::default();
        let limits = Self {
            connections: section.value_or("connections", units::count, default.connections),
            in_flight: section.value("in_flight", units::count),
            queue: section.value_or("queue", queue, default.queue),
            queue_timeout: section.value_or("queue_timeout", units::positive_duration, default.queue_timeout),
            header_size: section.value_or("header_size", header_size, default.header_size),
            headers: section.value_or("headers", headers, default.headers),
            body: section.value("body", units::size),
            rate: section.value("rate", values::rate),
            peer_rate: section.value("peer_rate", values::rate),
            streams: section.value_or("streams", values::small_count, default.streams),
        };
        if section.has("queue") && !section.has("in_flight") {
            let what = "needs `in_flight`: without it no request ever waits";
            section.fault("queue", Invalid::new(what).hint("add `in_flight: 100`, or remove the key"));
        }
        if section.has("queue_timeout") && !section.has("queue") {
            let what = "needs `queue`: without it no request ever waits";
            section.fault("queue_timeout", Invalid::new(what).hint("add `queue: 100`, or remove the key"));
        }
        only_for_http(section, HTTP_LIMITS, protocol);
        limits
    }
}

impl Timeouts {
    fn read(section: &Section<'_>, protocol: Protocol) -> Self {
        let default = Self::default_for(protocol);
        let positive =
            |key: &str, default: Duration| section.value_or(key, units::positive_duration, default);
        let timeouts = Self {
            handshake: positive("handshake", default.handshake),
            header: positive("header", default.header),
            idle: positive("idle", default.idle),
            body: positive("body", default.body),
            write: positive("write", default.write),
            request: section.value_or("request", units::duration, default.request),
        };
        only_for_http(section, HTTP_TIMEOUTS, protocol);
        timeouts
    }
}
