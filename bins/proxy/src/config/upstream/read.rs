//! From the keys of one upstream to what they mean, each fault with its place.

use podkit_cli::{Invalid, Section, units};
use rustls::pki_types::ServerName;

use super::super::values::{self, Switchable};
use super::{
    Address, Balance, CONNECT_TIMEOUT, Dns, Eject, Health, Identity, Pool, ProxyProtocol, Retries, Upstream,
    UpstreamProtocol, UpstreamTls,
};

pub(in crate::config) const PROTOCOLS: &[(&str, UpstreamProtocol)] = &[
    ("auto", UpstreamProtocol::Auto),
    ("http1", UpstreamProtocol::Http1),
    ("http2", UpstreamProtocol::Http2),
];
pub(in crate::config) const BALANCES: &[(&str, Balance)] = &[
    ("p2c-ewma", Balance::P2cEwma),
    ("round-robin", Balance::RoundRobin),
    ("least-request", Balance::LeastRequest),
];
pub(in crate::config) const PROXY_PROTOCOLS: &[(&str, ProxyProtocol)] =
    &[("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];

/// More would only multiply the load on an upstream that is down.
const MAX_ATTEMPTS: u32 = 10;

impl Upstream {
    /// Reads one item of `upstreams` but for its name; `None` where there are faults.
    pub(in crate::config) fn read(section: &Section<'_>, name: &str) -> Option<Self> {
        let address = section.required("address", values::address);
        let dns = Dns::read(&section.section("dns"));
        let tls = values::mapping(section, "tls", "{ca: /tls/ca.crt}")
            .map(|tls| UpstreamTls::read(&tls, address.as_ref()));
        let protocol = section.value_or("protocol", units::choice(PROTOCOLS), UpstreamProtocol::default());
        let balance = section.value_or("balance", units::choice(BALANCES), Balance::default());
        let connect_timeout = section.value_or("connect_timeout", units::positive_duration, CONNECT_TIMEOUT);
        let pool = Pool::read(&section.section("pool"));
        let retries = Retries::read(&section.section("retries"));
        let is_local = address.as_ref().is_some_and(Address::is_local);
        let health = match values::switchable(section, "health", "{path: /healthz}") {
            Switchable::Absent | Switchable::Off => None,
            Switchable::On(health) => Some(Health::read(&health, is_local)),
        };
        let eject = match values::switchable(section, "eject", "{failures: 5, for: 10s}") {
            Switchable::Absent | Switchable::Off => None,
            Switchable::On(eject) => Some(Eject::read(&eject)),
        };
        let proxy_protocol = section.value("proxy_protocol", units::choice(PROXY_PROTOCOLS));
        if proxy_protocol.is_some() && protocol == UpstreamProtocol::Http2 {
            let what = "names one client for each connection, and with `protocol: http2` many share one";
            section.fault("proxy_protocol", Invalid::new(what).hint("remove one of the two keys"));
        }
        Some(Self {
            dns,
            tls,
            protocol,
            balance,
            connect_timeout,
            pool,
            retries,
            health,
            eject,
            proxy_protocol,
            ..Self::new(name.to_owned(), address?)
        })
    }
}

impl Dns {
    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let min_ttl = section.value("min_ttl", units::positive_duration);
        let max_ttl = section.value("max_ttl", units::positive_duration);
        // Of one that is given alone, the other follows.
        let dns = Self {
            min_ttl: min_ttl.unwrap_or_else(|| default.min_ttl.min(max_ttl.unwrap_or(default.max_ttl))),
            max_ttl: max_ttl.unwrap_or_else(|| default.max_ttl.max(min_ttl.unwrap_or(default.min_ttl))),
            servers: section.list("servers", values::name_server),
        };
        if dns.min_ttl > dns.max_ttl {
            let (min, max) = (units::show_duration(dns.min_ttl), units::show_duration(dns.max_ttl));
            let what = Invalid::new(format!("{min} is longer than `max_ttl`, {max}"));
            section.fault("min_ttl", what.hint("lower the one or raise the other"));
        }
        dns
    }
}

impl UpstreamTls {
    fn read(section: &Section<'_>, address: Option<&Address>) -> Self {
        let server_name = section.value("server_name", server_name);
        let ca = section.value("ca", units::path);
        let tls = Self { server_name, ca, identity: Identity::read(section) };
        if !section.has("server_name") && address.is_some_and(|address| tls.name(address).is_none()) {
            let what = "needs `server_name`: no certificate is made out to the upstream's address";
            let hint = "add the name that the certificate has: `server_name: db.prod`";
            section.fault_here(Invalid::new(what).hint(hint));
        }
        tls
    }
}

fn server_name(text: &str) -> Result<String, Invalid> {
    let what = || Invalid::new(format!("{text:?} is neither a host name nor an IP address"));
    let hint = "write it as the certificate has it, without scheme and port: `db.prod`";
    ServerName::try_from(text).map(|_| text.to_owned()).map_err(|_| what().hint(hint))
}

impl Identity {
    fn read(section: &Section<'_>) -> Option<Self> {
        let cert = section.value("cert", units::path);
        let key = section.value("key", units::path);
        for (given, missing) in [("cert", "key"), ("key", "cert")] {
            if section.has(given) && !section.has(missing) {
                let what = format!("needs `{missing}`: neither serves without the other");
                section.fault(given, Invalid::new(what).hint(format!("add `{missing}: /tls/…`")));
            }
        }
        Some(Self { cert: cert?, key: key? })
    }
}

impl Pool {
    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        Self {
            idle_timeout: section.value_or("idle_timeout", units::positive_duration, default.idle_timeout),
            max_idle: section.value_or("max_idle", units::count, default.max_idle),
        }
    }
}

impl Retries {
    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let attempts = |text: &str| match values::count_or_none(text)? {
            attempts if attempts <= MAX_ATTEMPTS => Ok(attempts),
            _ => Err(Invalid::new(format!("{text:?} is more than {MAX_ATTEMPTS}"))),
        };
        Self {
            attempts: section.value_or("attempts", attempts, default.attempts),
            budget_percent: section.value_or("budget", values::percent, default.budget_percent),
        }
    }
}

impl Health {
    fn read(section: &Section<'_>, is_local: bool) -> Self {
        let default = Self::connect(is_local);
        let interval = section.value_or("interval", units::positive_duration, default.interval);
        let health = Self {
            path: section.value("path", values::request_path),
            interval,
            timeout: section.value_or("timeout", units::positive_duration, default.timeout.min(interval)),
            healthy: section.value_or("healthy", values::small_count, default.healthy),
            unhealthy: section.value_or("unhealthy", values::small_count, default.unhealthy),
        };
        if health.timeout > health.interval {
            let (timeout, interval) = (units::show_duration(health.timeout), units::show_duration(interval));
            let what = Invalid::new(format!("{timeout} is longer than the interval, {interval}"));
            let hint = "a check must be over before the next begins: lower the one or raise the other";
            section.fault("timeout", what.hint(hint));
        }
        health
    }
}

impl Eject {
    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        Self {
            failures: section.value_or("failures", values::small_count, default.failures),
            for_time: section.value_or("for", units::positive_duration, default.for_time),
        }
    }
}
