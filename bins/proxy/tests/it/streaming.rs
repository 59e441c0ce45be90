//! What lasts: upgraded connections, bodies that are waited for, and streams in both directions.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;

use socket2::SockRef;

use crate::support::{Origin, PATIENCE, Proxy, pattern};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn an_upgraded_connection_carries_bulk_both_ways_at_once() {
    const LENGTH: usize = 8 << 20;
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.send(SWITCHING);
        connection.mirror();
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send(UPGRADE);
    client.head().unwrap();
    let data = pattern(LENGTH);
    let (mut sender, sent) = (client.stream.try_clone().unwrap(), data.clone());
    let sending = std::thread::spawn(move || sender.write_all(&sent).unwrap());
    assert!(client.exactly(LENGTH).unwrap() == data, "other bytes");
    sending.join().unwrap();
}

#[test]
fn an_upgraded_connection_ends_from_either_side_and_a_reset_is_one_for_the_other() {
    let (got, wait) = mpsc::channel();
    let origin = Origin::start(move |mut connection| {
        let head = connection.head().unwrap();
        connection.send(SWITCHING);
        match head.split(' ').nth(1).unwrap() {
            "/origin-ends" => {
                connection.shutdown().unwrap();
                got.send(connection.until(b"late").is_some()).unwrap();
            }
            "/origin-resets" => {
                connection.until(b"ready").unwrap();
                SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            _ => {
                connection.send("ready");
                let mut byte = [0];
                let end = loop {
                    match (&connection.stream).read(&mut byte) {
                        Ok(1) => {}
                        end => break end,
                    }
                };
                got.send(end.is_err()).unwrap();
            }
        }
    });
    let proxy = Proxy::http(origin.address);
    let open = |path: &str| {
        let mut client = proxy.connect();
        client.send(UPGRADE.replace("/ws", path));
        client.head().unwrap();
        client
    };
    let mut client = open("/origin-ends");
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "the origin's end comes through");
    client.send("late").stream.shutdown(Shutdown::Write).unwrap();
    assert!(wait.recv_timeout(PATIENCE).unwrap(), "the other direction goes on");

    let mut client = open("/origin-resets");
    client.send("ready");
    client.rest().expect_err("a reset must not look like an end");

    let mut client = open("/client-resets");
    client.until(b"ready").unwrap();
    SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert!(wait.recv_timeout(PATIENCE).unwrap(), "nor for the origin");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

#[test]
fn an_upgrade_that_the_origin_does_not_grant_is_a_request_like_any_other() {
    let origin = Origin::http(|head, _| {
        let path = head.split(' ').nth(1).unwrap();
        format!("HTTP/1.1 426 Upgrade Required\r\nUpgrade: x/2\r\nConnection: upgrade\r\nContent-Length: {}\r\n\r\n{path}", path.len()).into()
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    for _ in 0..2 {
        let response = client.send(UPGRADE).response();
        assert_eq!((response.status, response.text(), response.field("upgrade")), (426, "/ws", Some("x/2")));
    }
    assert_eq!(client.get("/plain").text(), "/plain");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_final_answer_in_place_of_100_continue_ends_the_connection_and_no_body_follows() {
    let origin = Origin::start(|mut connection| {
        while let Some(head) = connection.head() {
            if head.starts_with("POST") {
                connection.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
            } else {
                connection.ok("hello");
            }
        }
    });
    let proxy = Proxy::http(origin.address);
    for fields in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nExpect: 100-continue\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.text(), response.closes()), (403, "no", true), "{fields}");
        assert_eq!(client.rest().unwrap(), b"", "{fields}");
        assert_eq!(proxy.connect().get("/").text(), "hello");
    }
    assert!(origin.seen().iter().all(|seen| !seen.contains("hello")), "{:?}", origin.seen());
}

/// The client may tire of waiting, or never have meant to (RFC 9110 10.1.1).
#[test]
fn a_body_that_comes_before_100_continue_is_carried_and_the_100_too() {
    let origin = Origin::start(|mut connection| {
        while let Some(head) = connection.head() {
            assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
            let body = connection.exactly(5).unwrap();
            connection.send("HTTP/1.1 100 Continue\r\n\r\n");
            connection.ok(std::str::from_utf8(&body).unwrap());
        }
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
        assert_eq!(client.response().status, 100);
        let response = client.response();
        assert_eq!((response.text(), response.closes()), ("hello", false));
    }
    assert_eq!(origin.connections(), 1);
}

/// Server-sent events as most servers send them: each a chunk, each at once.
#[test]
fn events_in_chunks_arrive_as_they_are_sent_and_the_connection_goes_on() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |mut connection| {
        while connection.request().is_some() {
            connection.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            );
            for n in 0..3 {
                connection.send(format!("9\r\ndata: {n}\n\n\r\n"));
                wait.lock().unwrap().recv().unwrap();
            }
            connection.send("0\r\n\r\n");
        }
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.head().unwrap();
        for n in 0..3 {
            assert_eq!(client.until(b"\n\n\r\n").unwrap(), format!("9\r\ndata: {n}\n\n\r\n"));
            go.send(()).unwrap();
        }
        assert_eq!(client.exactly(5).unwrap(), b"0\r\n\r\n");
    }
}
