//! Messages that two servers could read differently: refused, and shown by what reached the origin, or the client.
//!
//! Each case is raw bytes; `tape` runs it. The lists follow RFC 9110 and 9112 and what is publicly known of request
//! smuggling: the HTTP desync papers, and the differences that the HTTP Garden has found between servers.

mod chunks;
mod early;
mod fields;
mod framing;
mod heads;
mod limits;
mod responses;
mod script;
mod tape;

use std::time::Duration;

use crate::support::{Origin, Proxy};

#[test]
fn a_slow_head_is_cut_off_and_a_slow_body_too() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy =
        Proxy::yaml(origin.address, dir.path(), "timeouts: {header: 300ms, body: 600ms, idle: 600ms}", "");
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
