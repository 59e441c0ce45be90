//! The config in force, under the keys it was read from, for `check`.

use std::path::Path;

use podkit_cli::Effective;
use podkit_cli::units::{show_duration, show_size};
use serde_json::{Map, Value, json};

use super::listener::read as listener_keys;
use super::upstream::read as upstream_keys;
use super::values::{name_of, show_rate, show_share};
use super::{AccessLog, Config, Direction, Health, Limits, Listener, Protocol, Timeouts, Upstream};

impl Effective for Config {
    /// A `--forward` shows as the listener and upstream that it stands for, so the output is a config file.
    fn effective(&self) -> Value {
        json!({
            "workers": self.workers.map_or_else(|| json!("auto"), |workers| json!(workers)),
            "admin": self.admin.map_or_else(|| "off".to_owned(), |address| address.to_string()),
            "listeners": self.listeners.iter().map(listener).collect::<Vec<_>>(),
            "upstreams": self.upstreams.iter().map(|one| upstream(one)).collect::<Vec<_>>(),
            "shutdown": {
                "deadline": show_duration(self.shutdown.deadline),
                "quiet": show_duration(self.shutdown.quiet),
            },
        })
    }
}

/// Pairs of a key and its value, without those that are not set.
fn set<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Value {
    let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn text(text: impl Into<String>) -> Option<Value> {
    Some(Value::String(text.into()))
}

fn path(path: &Path) -> Option<Value> {
    text(path.display().to_string())
}

fn listener(listener: &Listener) -> Value {
    let is_http = listener.protocol == Protocol::Http;
    let tls = listener.tls.as_ref().map(|tls| {
        set([
            ("cert", path(&tls.cert)),
            ("key", path(&tls.key)),
            ("client_ca", tls.client.as_ref().and_then(|client| path(&client.ca))),
            (
                "client",
                tls.client.as_ref().and_then(|client| text(name_of(listener_keys::CLIENT, &client.required))),
            ),
        ])
    });
    let trust = listener.trust.as_ref().map(|nets| nets.iter().map(ToString::to_string).collect());
    let tells = is_http && listener.direction == Direction::Inbound;
    let forwarded = text(name_of(listener_keys::FORWARDED, &listener.forwarded));
    set([
        ("name", text(&listener.name)),
        ("direction", text(listener.direction.as_str())),
        ("listen", text(listener.listen.to_string())),
        ("protocol", text(listener.protocol.as_str())),
        ("to", text(&listener.upstream.name)),
        ("tls", tls),
        ("proxy_protocol", Some(json!(listener.proxy_protocol))),
        ("trust", trust),
        ("forwarded", forwarded.filter(|_| tells)),
        ("trace", text(name_of(listener_keys::TRACE, &listener.start_trace)).filter(|_| is_http)),
        ("access_log", Some(access_log(listener.access_log))),
        ("limits", Some(limits(&listener.limits, is_http))),
        ("timeouts", Some(timeouts(&listener.timeouts, is_http))),
    ])
}

fn access_log(log: AccessLog) -> Value {
    match log.per_10_000 {
        0 => json!("off"),
        10_000 => json!("json"),
        share => json!({"format": "json", "sample": show_share(share)}),
    }
}

fn limits(limits: &Limits, is_http: bool) -> Value {
    let http = |value: Value| is_http.then_some(value);
    let queues = limits.in_flight.is_some();
    set([
        ("connections", Some(json!(limits.connections))),
        ("in_flight", limits.in_flight.map(|count| json!(count))),
        ("queue", queues.then(|| json!(limits.queue))),
        ("queue_timeout", text(show_duration(limits.queue_timeout)).filter(|_| queues)),
        ("header_size", http(show_size(limits.header_size as u64).into())),
        ("headers", http(json!(limits.headers))),
        ("body", limits.body.map(|body| show_size(body).into())),
        ("rate", limits.rate.map(|rate| show_rate(rate).into())),
        ("peer_rate", limits.peer_rate.map(|rate| show_rate(rate).into())),
        ("streams", http(json!(limits.streams))),
    ])
}

fn timeouts(timeouts: &Timeouts, is_http: bool) -> Value {
    let http = |time| text(show_duration(time)).filter(|_| is_http);
    set([
        ("handshake", text(show_duration(timeouts.handshake))),
        ("header", http(timeouts.header)),
        ("idle", text(show_duration(timeouts.idle))),
        ("body", http(timeouts.body)),
        ("write", http(timeouts.write)),
        ("request", http(timeouts.request)),
    ])
}

fn upstream(upstream: &Upstream) -> Value {
    let tls = upstream.tls.as_ref().map(|tls| {
        set([
            ("server_name", tls.server_name.as_ref().and_then(text)),
            ("ca", tls.ca.as_deref().and_then(path)),
            ("cert", tls.identity.as_ref().and_then(|identity| path(&identity.cert))),
            ("key", tls.identity.as_ref().and_then(|identity| path(&identity.key))),
        ])
    });
    let eject = upstream.eject.map_or_else(
        || json!("off"),
        |eject| json!({"failures": eject.failures, "for": show_duration(eject.for_time)}),
    );
    let proxy_protocol =
        upstream.proxy_protocol.and_then(|version| text(name_of(upstream_keys::PROXY_PROTOCOLS, &version)));
    set([
        ("name", text(&upstream.name)),
        ("address", text(upstream.address.to_string())),
        (
            "dns",
            Some(set([
                ("min_ttl", text(show_duration(upstream.dns.min_ttl))),
                ("max_ttl", text(show_duration(upstream.dns.max_ttl))),
                ("servers", (!upstream.dns.servers.is_empty()).then(|| json!(upstream.dns.servers))),
            ])),
        ),
        ("tls", tls),
        ("protocol", text(name_of(upstream_keys::PROTOCOLS, &upstream.protocol))),
        ("balance", text(name_of(upstream_keys::BALANCES, &upstream.balance))),
        ("connect_timeout", text(show_duration(upstream.connect_timeout))),
        (
            "pool",
            Some(json!({
                "idle_timeout": show_duration(upstream.pool.idle_timeout),
                "max_idle": upstream.pool.max_idle,
            })),
        ),
        (
            "retries",
            Some(json!({
                "attempts": upstream.retries.attempts,
                "budget": format!("{}%", upstream.retries.budget_percent),
            })),
        ),
        ("health", Some(upstream.health.as_ref().map_or_else(|| json!("off"), health))),
        ("eject", Some(eject)),
        ("proxy_protocol", proxy_protocol),
    ])
}

fn health(health: &Health) -> Value {
    set([
        ("path", health.path.as_ref().and_then(text)),
        ("interval", text(show_duration(health.interval))),
        ("timeout", text(show_duration(health.timeout))),
        ("healthy", Some(json!(health.healthy))),
        ("unhealthy", Some(json!(health.unhealthy))),
    ])
}
