//! Requests and responses, carried whole both ways.

use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use podkit_testkit::free_port;

use crate::support::{Client, Origin, Proxy, ok, pattern};

#[test]
fn a_request_and_its_answer_pass_with_all_end_to_end_fields() {
    let origin = Origin::http(|_, _| {
        b"HTTP/1.1 201 Made\r\nX-One: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("GET /a?b HTTP/1.1\r\nHost: shop\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nX-Mine: 1\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.text()), (201, "ok"));
    assert_eq!(response.head.matches("Set-Cookie").count(), 2);
    let seen = &origin.seen()[0];
    assert!(seen.starts_with("GET /a?b HTTP/1.1\r\nHost: shop\r\n"), "{seen}");
    for field in [
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "X-Mine: 1",
        "X-Forwarded-For: 127.0.0.1",
        "X-Request-ID: ",
    ] {
        assert!(seen.contains(field), "{field:?} is not in {seen:?}");
    }
}

#[test]
fn connections_are_used_again_on_both_sides() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "hello");
    }
    let mut other = proxy.connect();
    assert_eq!(other.get("/").text(), "hello");
    assert_eq!(origin.connections(), 1, "21 requests took one upstream connection");
    assert_eq!(proxy.metric("podkit_proxy_connections_total", ""), 2.0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::http(|head, _| ok(head.split(' ').nth(1).unwrap()));
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    let all: String =
        (0..50).map(|n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")).collect();
    client.send(all);
    for n in 0..50 {
        assert_eq!(client.response().text(), format!("/{n}"));
    }
}

#[test]
fn large_bodies_pass_unchanged_both_ways() {
    let origin = Origin::echo();
    let proxy = Proxy::http(origin.address);
    let body = pattern(8 << 20);
    let mut client = proxy.connect();
    let mut sender = client.stream.try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        sender
            .write_all(
                format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", sent.len()).as_bytes(),
            )
            .unwrap();
        sender.write_all(&sent).unwrap();
    });
    let response = client.response();
    sending.join().unwrap();
    assert!(response.body == body, "{} of {} bytes, or other bytes", response.body.len(), body.len());
    assert_eq!(client.get("/").status, 200, "the connection goes on");
}

#[test]
fn chunked_bodies_stream_both_ways_with_trailers() {
    let origin = Origin::start(|mut connection| {
        let head = connection.head().unwrap();
        assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n");
        // Each chunk is echoed before the next one is sent: nothing may be held back.
        for _ in 0..3 {
            let chunk = connection.until(b"!\r\n").unwrap();
            connection.send(chunk);
        }
        assert_eq!(connection.until(b"\r\n\r\n").unwrap(), b"0\r\nX-Up: 1\r\n\r\n");
        connection.send("0\r\nX-Sum: 42\r\n\r\n");
        connection.drain();
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("2\r\na!\r\n");
    assert!(client.head().unwrap().contains("Trailer: X-Sum\r\n"));
    assert_eq!(client.until(b"!\r\n").unwrap(), "2\r\na!\r\n");
    for chunk in ["3;ext=1\r\nbb!\r\n", "4\r\nccc!\r\n"] {
        client.send(chunk);
        assert_eq!(client.until(b"!\r\n").unwrap(), chunk.replace(";ext=1", ""));
    }
    client.send("0\r\nX-Up: 1\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(client.until(b"\r\n\r\n").unwrap(), "0\r\nX-Sum: 42\r\n\r\n");
}

#[test]
fn head_204_and_304_have_no_body_and_the_connection_goes_on() {
    let origin = Origin::http(|head, _| match head.split(' ').nth(1).unwrap() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec(),
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.try_response(true).unwrap();
    assert_eq!(response.field("content-length"), Some("1000000"));
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(client.get("/304").status, 304);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn expect_100_continue_waits_for_the_origin() {
    let origin = Origin::start(|mut connection| {
        let head = connection.head().unwrap();
        assert!(head.contains("Expect: 100-continue"), "{head}");
        connection.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(connection.exactly(5).unwrap(), b"hello");
        connection.ok("thanks");
        connection.drain();
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("hello");
    let response = client.response();
    assert_eq!((response.text(), response.closes()), ("thanks", false));
}

#[test]
fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let origin = Origin::start(|mut connection| {
        connection.head().unwrap();
        connection.send("HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull");
        let _ = connection.shutdown();
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\nbegin");
    let response = client.response();
    assert_eq!((response.status, response.text(), response.closes()), (413, "full", true));
}

#[test]
fn early_hints_pass_before_the_answer() {
    let origin = Origin::http(|_, _| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
            .to_vec()
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    let hints = client.get("/");
    assert_eq!((hints.status, hints.field("link")), (103, Some("</a>")));
    assert_eq!(client.response().text(), "x");
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().status, 200, "HTTP/1.0 knows no interim responses");
}

#[test]
fn events_arrive_as_they_are_sent() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |mut connection| {
        connection.head().unwrap();
        connection.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        for n in 0..3 {
            connection.send(format!("data: {n}\n\n"));
            wait.lock().unwrap().recv().unwrap();
        }
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        client.head().unwrap().contains("Connection: close"),
        "the end of the body is the end of the connection"
    );
    for n in 0..3 {
        assert_eq!(client.until(b"\n\n").unwrap(), format!("data: {n}\n\n"));
        go.send(()).unwrap();
    }
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn an_upgrade_becomes_a_pipe() {
    let origin = Origin::start(|mut connection| {
        let head = connection.head().unwrap();
        assert!(head.contains("Connection: upgrade\r\nUpgrade: websocket\r\n"), "{head}");
        assert!(head.contains("Sec-WebSocket-Key: k\r\n"), "{head}");
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst",
        );
        assert_eq!(connection.exactly(5).unwrap(), b"early");
        let ping = connection.exactly(4).unwrap();
        connection.send(ping);
        assert_eq!(connection.more(), None, "the client's end comes through");
        connection.send("last");
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\nearly";
    client.send(request);
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("Upgrade: websocket\r\n"), "{head}");
    assert_eq!(client.exactly(5).unwrap(), b"first");
    assert_eq!(proxy.drain_state()["in_flight"], 1);
    client.send("ping");
    assert_eq!(client.exactly(4).unwrap(), b"ping");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest().unwrap(), b"last");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
    let sent = request.len() + "ping".len();
    assert_eq!(proxy.metric("podkit_proxy_received_bytes_total", ""), sent as f64, "each byte counts once");
}

#[test]
fn http_1_0_clients_get_what_they_can_read() {
    let origin = Origin::http(|head, _| match head.split(' ').nth(1).unwrap() {
        "/chunked" => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: 1\r\n\r\n"
                .to_vec()
        }
        _ => ok("hi"),
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text(), response.field("connection")), ("hi", Some("keep-alive")));
    client.send("GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!(
        (response.text(), response.closes(), response.field("transfer-encoding")),
        ("abcde", true, None)
    );
}

#[test]
fn several_forwards_carry_beside_each_other() {
    let (shop, pay, echo) =
        (Origin::http(|_, _| ok("shop")), Origin::http(|_, _| ok("pay")), Origin::mirror());
    let listen: Vec<std::net::SocketAddr> = (0..3).map(|_| ([127, 0, 0, 1], free_port()).into()).collect();
    let args = [
        format!("http://{}=http://{}", listen[0], shop.address),
        format!("http://{}={}", listen[1], pay.address),
        format!("tcp://{}=tcp://localhost:{}", listen[2], echo.address.port()),
    ];
    let args: Vec<&str> = args.iter().flat_map(|one| ["--forward", one]).collect();
    let proxy = Proxy::start(&args, listen.clone());
    assert_eq!(Client::connect(listen[0]).get("/").text(), "shop");
    assert_eq!(Client::connect(listen[1]).get("/").text(), "pay");
    assert_eq!(Client::connect(listen[2]).send("x").exactly(1).unwrap(), b"x");
    let status = proxy.ask("GET", "/status").json();
    assert_eq!(status["listeners"].as_array().unwrap().len(), 3);
}

#[test]
fn half_closed_clients_get_their_answer() {
    let origin = Origin::start(|mut connection| {
        connection.head().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        connection.ok("still here");
        connection.drain();
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.response().text(), "still here");
}
