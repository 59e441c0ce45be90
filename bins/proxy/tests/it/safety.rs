//! Messages that two servers could read differently: refused, and shown by what reached the origin.

use std::time::Duration;

use crate::support::{Origin, Proxy, ok};

/// A message that must be refused, with the reason that is counted.
const SMUGGLING: &[(&str, &str)] = &[
    (
        "length_with_encoding",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "length_with_encoding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    ),
    ("length_duplicate", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    ("length_duplicate", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab"),
    ("length_invalid", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\nab"),
    ("length_invalid", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nab"),
    ("transfer_encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
    ("transfer_encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n"),
    (
        "transfer_encoding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n",
    ),
    ("space_before_colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("folded_field", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n"),
    ("bare_lf", "GET / HTTP/1.1\nHost: a\n\n"),
    ("bare_lf", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2\r\n\r\n"),
    ("nul", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
    ("field", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rGET /evil HTTP/1.1\r\n\r\n"),
    ("host_missing", "GET / HTTP/1.1\r\n\r\n"),
    ("host_duplicate", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("host_invalid", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("host_mismatch", "GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("request_line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("connect_method", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
    ("version", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
];

#[test]
fn nothing_of_an_ambiguous_message_reaches_the_origin() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    for (reason, raw) in SMUGGLING {
        let before = proxy.metric("podkit_proxy_refused_requests_total", &format!("reason=\"{reason}\""));
        let mut client = proxy.connect();
        // Behind it stands the request that a smuggler wants to have answered.
        client.send(raw).send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert!((400..=505).contains(&response.status) && response.closes(), "{raw:?} got {response:?}");
        assert_eq!(client.rest().unwrap(), b"", "{raw:?} is answered once, and the connection closed");
        let after = proxy.metric("podkit_proxy_refused_requests_total", &format!("reason=\"{reason}\""));
        assert_eq!(after, before + 1.0, "{raw:?} is counted as {reason}");
    }
    assert_eq!(origin.seen(), Vec::<String>::new());
}

#[test]
fn a_bad_chunk_ends_the_message_and_nothing_behind_it_is_a_request() {
    let chunks = [
        "x\r\n",
        "5\r\nhelloX",
        "5 \r\nhello\r\n",
        "-1\r\n",
        "5\nhello",
        "ffffffffffffffff1\r\n",
        "5;a\nb\r\nhello\r\n",
        "0\r\nX : 1\r\n\r\n",
    ];
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    for bad in chunks {
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.send(bad).send("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.closes()), (400, true), "{bad:?}");
        assert_eq!(client.rest().unwrap(), b"", "{bad:?}");
    }
    assert_eq!(proxy.metric("podkit_proxy_refused_requests_total", "reason=\"chunk\""), chunks.len() as f64);
    for seen in origin.seen() {
        assert!(
            !seen.contains("smuggled") && !seen.ends_with("0\r\n\r\n"),
            "the origin took {seen:?} for whole"
        );
    }
}

#[test]
fn what_reaches_the_origin_is_stripped_of_its_hop() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 9\r\nProxy-Connection: x\r\n\
         TE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nX-Kept: 1\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let seen = origin.seen().remove(0);
    for field in ["Connection", "X-Hop", "Keep-Alive", "TE:", "Upgrade", "HTTP2-Settings"] {
        assert!(!seen.contains(field), "{field} is in {seen:?}");
    }
    assert!(seen.contains("X-Kept: 1\r\n"), "{seen:?}");
}

#[test]
fn sizes_are_limited() {
    let origin = Origin::http(|_, _| ok("hello"));
    let dir = tempfile::tempdir().unwrap();
    let limits = "limits: {header_size: 2KiB, headers: 5, body: 10B}";
    let proxy = Proxy::yaml(origin.address, dir.path(), limits, "");
    let long = "x".repeat(3000);
    for (status, raw) in [
        (431, format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}")),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(5))),
        (413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n".to_owned()),
        (
            413,
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n".to_owned(),
        ),
    ] {
        let mut client = proxy.connect();
        client.send(&raw);
        let response = client.response();
        assert_eq!((response.status, response.closes()), (status, true), "{raw:?}");
    }
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789");
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_slow_head_is_cut_off_and_a_slow_body_too() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "timeouts: {header: 300ms, idle: 600ms}", "");
    let mut slow = proxy.connect();
    slow.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    assert_eq!(slow.response().status, 408);
    assert_eq!(proxy.metric("podkit_proxy_refused_requests_total", "reason=\"header_timeout\""), 1.0);
    let mut slow = proxy.connect();
    slow.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    assert_eq!(slow.response().status, 408);
    let mut idle = proxy.connect();
    assert_eq!(idle.get("/").status, 200);
    assert_eq!(idle.rest().unwrap(), b"", "an idle connection is closed without a word");
}

/// The header timeout began with the connection once, since tokio calls a fresh connection readable.
#[test]
fn a_client_that_has_not_begun_is_idle_and_not_slow() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "timeouts: {header: 200ms, idle: 20s}", "");
    let mut client = proxy.connect();
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(client.get("/").text(), "hello");
    }
}

#[test]
fn blank_lines_before_a_request_may_come_in_pieces() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    for (at, piece) in ["\r", "\n", "\r", "\n\r\n"].into_iter().enumerate() {
        client.send(piece);
        let seen = [1.0, 2.0, 3.0, 6.0][at];
        proxy.wait_for_metric("podkit_proxy_received_bytes_total", "", seen);
    }
    assert_eq!(client.get("/").text(), "hello");
}
