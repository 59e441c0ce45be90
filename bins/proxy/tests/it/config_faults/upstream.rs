//! Keys of an upstream that is sound without them, and what is wrong with each.

use super::Row;

pub(super) const UPSTREAM: &[Row] = &[
    (
        "unknown key",
        "pool: {idle: 4s}",
        ":2: upstreams[0].pool.idle: unknown key\nhint: did you mean `idle_timeout`?",
    ),
    (
        "a floor above the cap",
        "dns: {min_ttl: 2m, max_ttl: 1m}",
        ":2: upstreams[0].dns.min_ttl: 2m is longer than `max_ttl`, 1m\nhint: lower the one or raise the other",
    ),
    (
        "a cap of nothing",
        "dns: {max_ttl: 0s}",
        ":2: upstreams[0].dns.max_ttl: \"0s\" must be longer than zero",
    ),
    (
        "a name server by name",
        "dns: {servers: [dns.google]}",
        ":2: upstreams[0].dns.servers[0]: \"dns.google\" is not the address of a name server\nhint: write `10.96.0.10`, or `10.96.0.10:5353` with a port",
    ),
    (
        "a name as name server",
        "dns: {servers: [kube-dns]}",
        ":2: upstreams[0].dns.servers[0]: \"kube-dns\" is not the address of a name server\nhint: write `10.96.0.10`, or `10.96.0.10:5353` with a port",
    ),
    (
        "a URL as server name",
        "tls: {server_name: \"https://db.prod\"}",
        ":2: upstreams[0].tls.server_name: \"https://db.prod\" is neither a host name nor an IP address\nhint: write it as the certificate has it, without scheme and port: `db.prod`",
    ),
    (
        "a certificate without a key",
        "tls: {cert: /c}",
        ":2: upstreams[0].tls.cert: needs `key`: neither serves without the other\nhint: add `key: /tls/…`",
    ),
    (
        "a key without a certificate",
        "tls: {key: /k}",
        ":2: upstreams[0].tls.key: needs `cert`: neither serves without the other\nhint: add `cert: /tls/…`",
    ),
    (
        "TLS in one word",
        "tls: on",
        ":2: upstreams[0].tls: must be a mapping, and is a single value\nhint: write `tls: {ca: /tls/ca.crt}`",
    ),
    (
        "no such protocol",
        "protocol: h2",
        ":2: upstreams[0].protocol: \"h2\" is not one of auto, http1, http2",
    ),
    (
        "no such balance",
        "balance: random",
        ":2: upstreams[0].balance: \"random\" is not one of p2c-ewma, round-robin, least-request",
    ),
    (
        "no time to connect",
        "connect_timeout: 0s",
        ":2: upstreams[0].connect_timeout: \"0s\" must be longer than zero",
    ),
    (
        "a pool of nothing",
        "pool: {max_idle: 0}",
        ":2: upstreams[0].pool.max_idle: \"0\" is not a whole number of at least 1",
    ),
    (
        "too many attempts",
        "retries: {attempts: 11}",
        ":2: upstreams[0].retries.attempts: \"11\" is more than 10",
    ),
    (
        "a budget without a unit",
        "retries: {budget: 0.2}",
        ":2: upstreams[0].retries.budget: \"0.2\" is not a share of 0% to 100%, in steps of 0.01%\nhint: write `20%` or `0.5%`",
    ),
    (
        "a budget too fine",
        "retries: {budget: 0.5%}",
        ":2: upstreams[0].retries.budget: \"0.5%\" is not a whole number of percent",
    ),
    (
        "a health check in words",
        "health: /healthz",
        ":2: upstreams[0].health: \"/healthz\" is neither a mapping nor `off`\nhint: write `health: {path: /healthz}`",
    ),
    (
        "a path without a slash",
        "health: {path: healthz}",
        ":2: upstreams[0].health.path: \"healthz\" is not the path of a request\nhint: write a path that begins with `/`, such as `/healthz`; odd bytes as `%20`",
    ),
    (
        "a path with a space",
        "health: {path: \"/health z\"}",
        ":2: upstreams[0].health.path: \"/health z\" is not the path of a request\nhint: write a path that begins with `/`, such as `/healthz`; odd bytes as `%20`",
    ),
    (
        "checks that overlap",
        "health: {interval: 1s, timeout: 2s}",
        ":2: upstreams[0].health.timeout: 2s is longer than the interval, 1s\nhint: a check must be over before the next begins: lower the one or raise the other",
    ),
    (
        "never healthy",
        "health: {healthy: 0}",
        ":2: upstreams[0].health.healthy: \"0\" is not a whole number of at least 1",
    ),
    (
        "ejected after nothing",
        "eject: {failures: 0}",
        ":2: upstreams[0].eject.failures: \"0\" is not a whole number of at least 1",
    ),
    (
        "ejected for no time",
        "eject: {for: 0s}",
        ":2: upstreams[0].eject.for: \"0s\" must be longer than zero",
    ),
    (
        "no such PROXY protocol",
        "proxy_protocol: v3",
        ":2: upstreams[0].proxy_protocol: \"v3\" is not one of v1, v2",
    ),
    (
        "one connection for many clients",
        "proxy_protocol: v1, protocol: http2",
        ":2: upstreams[0].proxy_protocol: names one client for each connection, and with `protocol: http2` many share one\nhint: remove one of the two keys",
    ),
];
