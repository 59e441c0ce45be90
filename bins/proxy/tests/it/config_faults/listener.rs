//! Keys of a listener that is sound without them, and what is wrong with each.

use super::Row;

pub(super) const LISTENER: &[Row] = &[
    ("unknown key", "protocl: http", ":1: listeners[0].protocl: unknown key\nhint: did you mean `protocol`?"),
    (
        "a key of another section",
        "header_size: 1KiB",
        ":1: listeners[0].header_size: unknown key\nhint: known here: access_log, direction, forwarded, limits, listen, name, protocol, proxy_protocol, timeouts, tls, to, trace, trust",
    ),
    ("no such protocol", "protocol: udp", ":1: listeners[0].protocol: \"udp\" is not one of http, tcp"),
    (
        "no such direction",
        "direction: both",
        ":1: listeners[0].direction: \"both\" is not one of inbound, outbound",
    ),
    (
        "outbound, open to the network",
        "direction: outbound",
        ":1: listeners[0].listen: an outbound listener must listen on loopback, and 0.0.0.0:8080 is open to the network\nhint: listen on 127.0.0.1:8080 or on a unix socket",
    ),
    (
        "a switch in words",
        "proxy_protocol: yes",
        ":1: listeners[0].proxy_protocol: \"yes\" is not a switch\nhint: write `true` or `false`",
    ),
    (
        "TLS in one word",
        "tls: /tls/tls.crt",
        ":1: listeners[0].tls: must be a mapping, and is a single value\nhint: write `tls: {cert: /tls/tls.crt, key: /tls/tls.key}`",
    ),
    ("TLS without a key", "tls: {cert: /tls/tls.crt}", ":1: listeners[0].tls.key: is required"),
    ("TLS without a certificate", "tls: {key: /tls/tls.key}", ":1: listeners[0].tls.cert: is required"),
    (
        "TLS with nothing",
        "tls: {}",
        ":1: listeners[0].tls.cert: is required\n:1: listeners[0].tls.key: is required",
    ),
    ("no value for TLS", "tls:", ":1: listeners[0].tls: has no value\nhint: give it one, or remove the key"),
    (
        "clients without a CA",
        "tls: {cert: /c, key: /k, client: optional}",
        ":1: listeners[0].tls.client: needs `client_ca`: there is nothing to check the clients' certificates by\nhint: add `client_ca: /tls/ca.crt`",
    ),
    (
        "no such rule for clients",
        "tls: {cert: /c, key: /k, client_ca: /a, client: maybe}",
        ":1: listeners[0].tls.client: \"maybe\" is not one of required, optional",
    ),
    (
        "a name in the trust list",
        "trust: [gateway]",
        ":1: listeners[0].trust[0]: \"gateway\" is neither a network nor an address\nhint: write `10.0.0.0/8`, `fd00::/8` or `10.0.0.1`",
    ),
    (
        "an address with a prefix",
        "trust: [10.0.0.1/8]",
        ":1: listeners[0].trust[0]: \"10.0.0.1/8\" is an address within a network\nhint: write `10.0.0.0/8` for the network",
    ),
    (
        "a prefix that is too long",
        "trust: [10.0.0.0/33]",
        ":1: listeners[0].trust[0]: \"10.0.0.0/33\" is neither a network nor an address\nhint: write `10.0.0.0/8`, `fd00::/8` or `10.0.0.1`",
    ),
    (
        "no such form of forwarded",
        "forwarded: x_forwarded",
        ":1: listeners[0].forwarded: \"x_forwarded\" is not one of x-forwarded, rfc7239, both, off\nhint: did you mean `x-forwarded`?",
    ),
    ("no such trace", "trace: on", ":1: listeners[0].trace: \"on\" is not one of start, pass"),
    (
        "no such access log",
        "access_log: text",
        ":1: listeners[0].access_log: \"text\" is not one of off, json",
    ),
    (
        "no such form of access log",
        "access_log: {format: text}",
        ":1: listeners[0].access_log.format: \"text\" is not one of json",
    ),
    (
        "a share without a unit",
        "access_log: {sample: 0.1}",
        ":1: listeners[0].access_log.sample: \"0.1\" is not a share of 0% to 100%, in steps of 0.01%\nhint: write `20%` or `0.5%`",
    ),
    (
        "a share over all",
        "access_log: {sample: 101%}",
        ":1: listeners[0].access_log.sample: \"101%\" is not a share of 0% to 100%, in steps of 0.01%\nhint: write `20%` or `0.5%`",
    ),
    (
        "a share too fine",
        "access_log: {sample: 0.001%}",
        ":1: listeners[0].access_log.sample: \"0.001%\" is not a share of 0% to 100%, in steps of 0.01%\nhint: write `20%` or `0.5%`",
    ),
    (
        "no connections",
        "limits: {connections: 0}",
        ":1: listeners[0].limits.connections: \"0\" is not a whole number of at least 1",
    ),
    (
        "a queue without a limit",
        "limits: {queue: 10}",
        ":1: listeners[0].limits.queue: needs `in_flight`: without it no request ever waits\nhint: add `in_flight: 100`, or remove the key",
    ),
    (
        "a queue's time without a queue",
        "limits: {in_flight: 10, queue_timeout: 1s}",
        ":1: listeners[0].limits.queue_timeout: needs `queue`: without it no request ever waits\nhint: add `queue: 100`, or remove the key",
    ),
    (
        "a queue longer than the request",
        "limits: {in_flight: 10, queue: 10, queue_timeout: 5s}, timeouts: {request: 5s}",
        ":1: listeners[0].limits.queue_timeout: 5s is not shorter than `timeouts.request`, 5s\nhint: a request that had to wait could never be answered: lower the one or raise the other",
    ),
    (
        "less than no queue",
        "limits: {in_flight: 10, queue: -1}",
        ":1: listeners[0].limits.queue: \"-1\" is not a whole number",
    ),
    (
        "a size without a unit",
        "limits: {body: 10}",
        ":1: listeners[0].limits.body: \"10\" has no unit\nhint: write a size like `64KiB`, `1MiB` or `10MB`",
    ),
    (
        "a head too small",
        "limits: {header_size: 100B}",
        ":1: listeners[0].limits.header_size: \"100B\" is not between 1KiB and 1MiB",
    ),
    (
        "too many fields",
        "limits: {headers: 257}",
        ":1: listeners[0].limits.headers: \"257\" is more than 256",
    ),
    (
        "a rate without a time",
        "limits: {rate: 500}",
        ":1: listeners[0].limits.rate: \"500\" is not a rate\nhint: write `500/s`, `30/m` or `10/h`",
    ),
    (
        "a rate of nothing",
        "limits: {rate: 0/s}",
        ":1: listeners[0].limits.rate: \"0/s\" is not a rate\nhint: write `500/s`, `30/m` or `10/h`",
    ),
    (
        "a rate in odd units",
        "limits: {peer_rate: 5/min}",
        ":1: listeners[0].limits.peer_rate: \"5/min\" is not a rate\nhint: write `500/s`, `30/m` or `10/h`",
    ),
    (
        "too many streams",
        "limits: {streams: 4294967296}",
        ":1: listeners[0].limits.streams: \"4294967296\" is more than 4294967295",
    ),
    (
        "a time without a unit",
        "timeouts: {idle: 60}",
        ":1: listeners[0].timeouts.idle: \"60\" has no unit\nhint: write a duration like `250ms`, `5s`, `2m` or `1m30s`",
    ),
    (
        "no time at all",
        "timeouts: {header: 0s}",
        ":1: listeners[0].timeouts.header: \"0s\" must be longer than zero",
    ),
    (
        "requests on TCP",
        "protocol: tcp, trust: [], forwarded: off, trace: pass, limits: {body: 1MiB, headers: 10}, timeouts: {request: 1s}",
        ":1: listeners[0].forwarded: is for `protocol: http`: a tcp listener knows of no requests\nhint: remove the key\n:1: listeners[0].limits.body: is for `protocol: http`: a tcp listener knows of no requests\nhint: remove the key\n:1: listeners[0].limits.headers: is for `protocol: http`: a tcp listener knows of no requests\nhint: remove the key\n:1: listeners[0].timeouts.request: is for `protocol: http`: a tcp listener knows of no requests\nhint: remove the key\n:1: listeners[0].trace: is for `protocol: http`: a tcp listener knows of no requests\nhint: remove the key\n:1: listeners[0].trust: needs `proxy_protocol: true`: there is nothing else that a TCP client could claim\nhint: add it, or remove the key",
    ),
];
