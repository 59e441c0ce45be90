//! Clients that are slow, deaf, or gone.

use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::{Origin, PATIENCE, Proxy};

/// Empty lines are ignored, and no way to stay for ever.
#[test]
fn empty_lines_without_end_are_cut_off_too() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "timeouts: {header: 300ms, idle: 20s}", "");
    let mut client = proxy.connect();
    let begun = Instant::now();
    while client.stream.write_all(b"\r\n").is_ok() {
        assert!(begun.elapsed() < PATIENCE, "still there after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_slow_body_is_carried_as_long_as_it_moves() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let timeouts = "timeouts: {header: 3s, idle: 3s, body: 3s}";
    let proxy = Proxy::yaml(origin.address, dir.path(), timeouts, "");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(300));
        client.send(format!("c8\r\n{}\r\n", "x".repeat(200)));
    }
    assert_eq!(client.send("0\r\n\r\n").response().text(), "hello");
}

/// The answer fills every buffer on the way; the client takes none of it.
#[test]
fn a_client_that_never_reads_is_let_go_and_the_origin_with_it() {
    let (stopped, wait) = mpsc::channel();
    let origin = Origin::start(move |mut connection| {
        connection.request();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
        let mut stream = &connection.stream;
        let chunk = vec![0; 1 << 20];
        let mut sent = stream.write_all(head.as_bytes());
        while sent.is_ok() {
            sent = stream.write_all(&chunk);
        }
        let _ = stopped.send(());
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "timeouts: {idle: 300ms, write: 300ms}", "");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait.recv_timeout(PATIENCE).expect("the origin is let go");
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
    let end = client.stream.read_to_end(&mut Vec::new());
    assert!(end.is_err(), "what was cut must not look whole: {end:?}");
}

#[test]
fn a_client_that_vanishes_within_its_upload_leaves_half_a_message_at_the_origin() {
    let (ended, wait) = mpsc::channel();
    let origin = Origin::start(move |connection| {
        let bytes = connection.drain();
        let _ = ended.send(bytes);
    });
    let proxy = Proxy::http(origin.address);
    for (fields, begun) in [("Content-Length: 10", "abc"), ("Transfer-Encoding: chunked", "5\r\nabc")] {
        for by_reset in [true, false] {
            let mut client = proxy.connect();
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{begun}"));
            proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
            if by_reset {
                SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            let seen = wait.recv_timeout(PATIENCE).expect("the origin is told");
            assert!(seen.ends_with(begun.as_bytes()), "{:?}", String::from_utf8_lossy(&seen));
            proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
        }
    }
}

#[test]
fn a_client_that_vanishes_within_its_download_ends_it_at_the_origin() {
    let (stopped, wait) = mpsc::channel();
    let origin = Origin::start(move |mut connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut stream = &connection.stream;
        while stream.write_all(b"5\r\nhello\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = stopped.send(());
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").until(b"hello").unwrap();
    drop(client);
    wait.recv_timeout(PATIENCE).expect("the origin is told");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.process.id())).unwrap().count()
}

/// Clients that come, say half a word and go, in any way, hold nothing.
#[test]
fn a_crowd_of_rude_clients_leaves_nothing_behind() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let before = descriptors(&proxy);
    let words: [&[u8]; 6] = [
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
        b"\x16\x03\x01",
        b"\r\n",
    ];
    for n in 0..300 {
        let mut client = proxy.connect();
        let _ = client.stream.write_all(words[n % words.len()]);
        if n % 2 == 0 {
            SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
    assert_eq!(proxy.connect().get("/").text(), "hello");
    // What the pool keeps for its idle time is all.
    let after = descriptors(&proxy);
    assert!(after <= before + 64 + 4, "{before} descriptors before, {after} after");
}
