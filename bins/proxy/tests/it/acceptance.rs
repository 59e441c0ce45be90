//! What users were promised and no other test shows: features that meet each other, from end to end.

use std::io::{Read as _, Write as _};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use podkit_testkit::eventually;
use socket2::SockRef;

use crate::support::authority::{Authority, connect};
use crate::support::frames::{ACK, Fate, GOAWAY, HEADERS, PING, Raw, get};
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, frame, request, section};
use crate::support::{Origin, Proxy, ok};

#[test]
fn a_websocket_passes_over_tls_both_ways() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("authority"));
    authority.issue("localhost").write(dir.path(), "tls");
    let origin = Origin::start(|mut connection| {
        let head = connection.head().unwrap();
        assert!(head.contains("\r\nUpgrade: websocket\r\n"), "{head}");
        connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nserver first");
        while connection.more().is_some() {}
    });
    let path = dir.path().display();
    let tls = format!("tls: {{cert: {path}/tls.crt, key: {path}/tls.key}}");
    let proxy = Proxy::yaml(origin.address, dir.path(), &tls, "health: off");
    let mut client = connect(proxy.address(), authority.client(None));
    client.send("GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.exactly(12).unwrap(), b"server first");
    client.stream.write_all(b"\x81\x85then the client").unwrap();
    origin.wait_for("then the client");
    // A WebSocket is work that a drain does not end.
    proxy.ask("POST", "/drain?lease=60s");
    assert_eq!(proxy.drain_state()["in_flight"], 1);
    client.stream.write_all(b"and on").unwrap();
    origin.wait_for("and on");
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    let _ = client.stream.read(&mut [0]);
    eventually("nothing is in flight", || (proxy.drain_state()["in_flight"] == 0).then_some(()));
}

/// What the app gets of a client that claims to speak for another.
fn told(trust: &str) -> String {
    let (origin, dir) = (Origin::hello(), tempfile::tempdir().unwrap());
    let proxy = Proxy::yaml(origin.address, dir.path(), &format!("forwarded: both, {trust}"), "health: off");
    let mut client = proxy.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 192.0.2.9\r\nForwarded: for=192.0.2.9\r\n\
         X-Real-IP: 192.0.2.9\r\nX-Request-ID: theirs\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    origin.seen().concat()
}

#[test]
fn only_those_on_the_trust_list_speak_for_others() {
    let claims = ["192.0.2.9", "theirs", "0af7651916cd43dd8448eb211c80319c"];
    for trust in ["", "trust: [127.0.0.0/8]", "trust: [\"::1\", 127.0.0.1]"] {
        let told = told(trust);
        assert!(claims.iter().all(|claim| told.contains(claim)), "{trust}: {told}");
        assert!(told.contains("X-Forwarded-For: 192.0.2.9, 127.0.0.1\r\n"), "{told}");
        assert_eq!(told.matches("traceparent").count(), 1, "{told}");
    }
    for trust in ["trust: []", "trust: [10.0.0.0/8]"] {
        let told = told(trust);
        assert!(!claims.iter().any(|claim| told.contains(claim)), "{trust}: {told}");
        for own in [
            "X-Forwarded-For: 127.0.0.1\r\n",
            "Forwarded: for=127.0.0.1;",
            "X-Request-ID: ",
            "traceparent: 00-",
        ] {
            assert_eq!(told.matches(own).count(), 1, "{trust}, {own}: {told}");
        }
    }
}

/// An origin that answers once it is told to.
fn held() -> (Origin, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel();
    let held = Mutex::new(held);
    let origin = Origin::http(move |_, _| {
        let _ = held.lock().unwrap().recv();
        ok("hello")
    });
    (origin, release)
}

#[test]
fn a_drain_says_goaway_twice_while_a_request_is_under_way() {
    let (origin, release) = held();
    let proxy = Proxy::http(origin.address);
    let mut raw = Raw::connect(proxy.address());
    raw.send(get(1, "/1"));
    origin.wait_for("/1");
    proxy.ask("POST", "/drain?lease=60s");
    // First without a number, so that requests on their way are served; then with that of the last one.
    let first = raw.next_of(GOAWAY);
    assert_eq!((&first.payload[..4], &first.payload[4..8]), (&[0x7f, 0xff, 0xff, 0xff][..], &[0; 4][..]));
    raw.send(get(3, "/3"));
    let ping = raw.next_of(PING);
    raw.send(frame(PING, ACK, 0, &ping.payload));
    let second = raw.next_of(GOAWAY);
    assert_eq!((&second.payload[..4], &second.payload[4..8]), (&[0, 0, 0, 3][..], &[0; 4][..]));
    release.send(()).unwrap();
    release.send(()).unwrap();
    let mut answered = [1, 3].map(|_| {
        let data = raw.next_of(DATA);
        (data.stream, data.payload)
    });
    answered.sort();
    assert_eq!(answered, [(1, b"hello".to_vec()), (3, b"hello".to_vec())]);
    raw.end();
}

#[test]
fn an_http_2_client_is_told_to_continue_by_the_origin_alone() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let origin = Origin::start(move |mut connection| {
        let head = connection.head().unwrap();
        assert!(head.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n"), "{head}");
        let _ = held.lock().unwrap().recv();
        connection.send("HTTP/1.1 100 Continue\r\n\r\n");
        connection.exactly(4).unwrap();
        connection.ok("");
    });
    let proxy = Proxy::http(origin.address);
    let mut raw = Raw::connect(proxy.address());
    let fields = request("POST", "/", &[(b"content-length", b"4"), (b"expect", b"100-continue")]);
    raw.send(frame(HEADERS, END_HEADERS, 1, &section(&fields)));
    origin.wait_for("POST /");
    // Whatever was said before this is not the origin's word.
    raw.send(frame(PING, 0, 0, b"until us"));
    while let Some(frame) = raw.next() {
        assert_ne!(frame.kind, HEADERS, "an answer before the origin's");
        if frame.kind == PING && frame.payload == b"until us" {
            break;
        }
    }
    release.send(()).unwrap();
    let interim = raw.next_of(HEADERS);
    assert_eq!((interim.stream, interim.flags & END_STREAM), (1, 0));
    raw.send(frame(DATA, END_STREAM, 1, b"body"));
    assert_eq!(raw.fate(1), Fate::Status(200));
}

#[test]
fn no_more_idle_connections_are_kept_than_the_pool_may_have() {
    let (origin, release) = held();
    let dir = tempfile::tempdir().unwrap();
    let pool = "health: off, pool: {max_idle: 1, idle_timeout: 1m}";
    let proxy = Proxy::yaml(origin.address, dir.path(), "", pool);
    let mut clients = [(); 3].map(|()| proxy.connect());
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    }
    proxy.wait_for_metric("podkit_proxy_upstream_open_connections", "", 3.0);
    (0..3).for_each(|_| release.send(()).unwrap());
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    proxy.wait_for_metric("podkit_proxy_upstream_open_connections", "", 1.0);
    release.send(()).unwrap();
    clients[0].send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_eq!(clients[0].response().status, 200);
    assert_eq!(origin.connections(), 3, "the one that is kept is used");
}

#[test]
fn a_cut_answer_never_looks_whole_over_tls() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new("authority"));
    authority.issue("localhost").write(dir.path(), "tls");
    // Its end is the end of the connection, which comes as a reset.
    let (reset, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\n\r\nhalf an answer");
        SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)).unwrap();
        // Else the reset could take what was sent along.
        let _ = wait.lock().unwrap().recv();
    });
    let path = dir.path().display();
    let tls = format!("tls: {{cert: {path}/tls.crt, key: {path}/tls.key}}");
    let proxy = Proxy::yaml(origin.address, dir.path(), &tls, "health: off");
    let mut client = connect(proxy.address(), authority.client(None));
    client.send("GET / HTTP/1.0\r\nHost: shop\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(client.exactly(14).unwrap(), b"half an answer");
    reset.send(()).unwrap();
    client.rest().expect_err("neither the end of TLS nor that of the connection");
}
