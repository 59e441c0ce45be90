//! Upstreams that speak HTTP/2: what reaches them, over how many connections, and what is tried again.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use podkit_testkit::eventually;
use tempfile::TempDir;

use crate::support::frames::{DATA, END_HEADERS, GOAWAY, HEADERS, RST_STREAM, frame};
use crate::support::h2::{H2, answer, body, request, upload, wait};
use crate::support::h2_origin::{H2Origin, RawServer, begin, map};
use crate::support::{Origin, Proxy, pattern};

/// A proxy that speaks HTTP/2 to its upstream, and has no connections but for requests.
fn proxy_to(address: std::net::SocketAddr, dir: &TempDir) -> Proxy {
    Proxy::yaml(address, dir.path(), "", "protocol: http2, health: off")
}

/// An origin that answers `hello`.
fn hello() -> H2Origin {
    H2Origin::start(|_, mut respond| async move {
        let mut stream = begin(&mut respond, &[("content-length", "5")], false);
        stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    })
}

/// An origin that sends back what it is sent, without a length.
fn echo() -> H2Origin {
    H2Origin::start(|request, mut respond| async move {
        let mut incoming = request.into_body();
        let sent = body(&mut incoming).await.unwrap_or_default();
        let trailers = incoming.trailers().await.ok().flatten();
        upload(begin(&mut respond, &[], false), &sent, Some(trailers.unwrap_or_default())).await;
    })
}

#[test]
fn a_request_reaches_it_with_its_pseudo_fields_and_none_of_the_connection() {
    let (origin, dir) = (hello(), TempDir::new().unwrap());
    let proxy = proxy_to(origin.address, &dir);
    let mut client = proxy.connect();
    client.send(
        "GET /a?b HTTP/1.1\r\nHost: shop:1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
         Cookie: a=1; b=2\r\nX-Mine: 1\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(
        (response.status, response.text(), response.field("content-length")),
        (200, "hello", Some("5"))
    );
    let seen = origin.seen().remove(0);
    assert_eq!((seen.method.as_str(), &*seen.uri.to_string()), ("GET", "http://shop:1/a?b"));
    let field = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap());
    for (name, value) in [("x-mine", "1"), ("cookie", "a=1; b=2"), ("x-forwarded-for", "127.0.0.1")] {
        assert_eq!(field(name), Some(value), "{seen:?}");
    }
    for name in ["connection", "x-hop", "te", "host", "transfer-encoding"] {
        assert_eq!(field(name), None, "{seen:?}");
    }
}

#[test]
fn requests_share_a_connection_whatever_their_clients_speak() {
    let (origin, dir) = (hello(), TempDir::new().unwrap());
    let proxy = proxy_to(origin.address, &dir);
    let mut one = proxy.connect();
    for _ in 0..3 {
        assert_eq!(one.get("/").text(), "hello");
    }
    assert_eq!(proxy.connect().get("/").text(), "hello");
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let all: Vec<_> = (0..20).map(|_| client.get("/")).collect();
        for got in all {
            assert_eq!(got.await.unwrap().text(), "hello");
        }
    });
    assert_eq!((origin.connections(), origin.seen().len()), (1, 24));
}

#[test]
fn many_requests_at_once_wait_for_one_connection() {
    let (origin, dir) = (hello(), TempDir::new().unwrap());
    let proxy = proxy_to(origin.address, &dir);
    let mut clients: Vec<_> = (0..30).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "hello");
    }
    assert_eq!((origin.connections(), origin.seen().len()), (1, 30));
}

#[test]
fn where_no_more_streams_are_allowed_another_connection_is_opened() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let (count, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (counted, held) = (Arc::clone(&count), Arc::clone(&go));
    let origin = H2Origin::with(builder, move |_, mut respond| {
        let (count, held) = (Arc::clone(&counted), Arc::clone(&held));
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            held.acquire().await.unwrap().forget();
            begin(&mut respond, &[], true);
        }
    });
    let dir = TempDir::new().unwrap();
    let proxy = proxy_to(origin.address, &dir);
    // One first, so that the limit is known.
    go.add_permits(1);
    assert_eq!(proxy.connect().get("/").status, 200);
    let mut clients: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("all are under way", || (count.load(Ordering::SeqCst) == 7).then_some(()));
    assert_eq!(origin.connections(), 3);
    go.add_permits(6);
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let (origin, dir) = (echo(), TempDir::new().unwrap());
    let proxy = proxy_to(origin.address, &dir);
    let sent = pattern(1 << 20);
    let mut client = proxy.connect();
    let mut writer = client.stream.try_clone().unwrap();
    let whole = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for chunk in whole.chunks(100_000) {
            writer.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
            writer.write_all(chunk).unwrap();
            writer.write_all(b"\r\n").unwrap();
        }
        writer.write_all(b"0\r\nX-Sum: 7\r\n\r\n").unwrap();
    });
    let response = client.response();
    writing.join().unwrap();
    assert!(response.body == sent, "the body came back changed");
    assert_eq!(response.trailers, "x-sum: 7\r\n");

    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (response, stream) = client.begin(request("POST", "/"), false).await;
        let (got, ()) = tokio::join!(answer(response), upload(stream, &sent, Some(map(&[("x-sum", "8")]))));
        let got = got.unwrap();
        assert!(got.body == sent, "the body came back changed");
        assert_eq!(got.trailers.get("x-sum").unwrap(), "8");
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn answers_without_a_body_and_interim_ones_pass() {
    let origin = H2Origin::start(|request, mut respond| async move {
        let interim = |status: u16| http::Response::builder().status(status).body(()).unwrap();
        match request.uri().path() {
            "/103" => respond.send_informational(interim(103)).unwrap(),
            "/204" => {
                return drop(respond.send_response(interim(204), true).unwrap());
            }
            _ => {}
        }
        begin(&mut respond, &[("content-length", if request.method() == "HEAD" { "9" } else { "0" })], true);
    });
    let dir = TempDir::new().unwrap();
    let proxy = proxy_to(origin.address, &dir);
    let mut client = proxy.connect();
    client.send("GET /103 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 103);
    assert_eq!(client.response().status, 200);
    assert_eq!(client.get("/204").status, 204);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.try_response(true).unwrap();
    assert_eq!((response.status, response.field("content-length")), (200, Some("9")));
    assert_eq!(client.get("/").status, 200, "the connection is used again");
}

#[test]
fn a_wish_to_upgrade_is_not_handed_on() {
    let (origin, dir) = (hello(), TempDir::new().unwrap());
    let proxy = proxy_to(origin.address, &dir);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
    assert_eq!(origin.seen()[0].headers.get("upgrade"), None);
}

#[test]
fn a_client_that_leaves_ends_its_stream_and_no_other() {
    let origin = H2Origin::start(|request, mut respond| async move {
        if request.uri().path() == "/held" {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
            assert_eq!(reason, Reason::CANCEL);
            return;
        }
        begin(&mut respond, &[], true);
    });
    let dir = TempDir::new().unwrap();
    let proxy = proxy_to(origin.address, &dir);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (_response, mut stream) = client.begin(request("GET", "/held"), true).await;
        origin.wait_for(1);
        stream.send_reset(Reason::CANCEL);
        proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
        assert_eq!(client.get("/").await.unwrap().status, 200);
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_answer_that_breaks_off_is_told_as_such() {
    let origin = H2Origin::start(|request, mut respond| async move {
        let fields: &[(&str, &str)] =
            if request.uri().path() == "/length" { &[("content-length", "9")] } else { &[] };
        let mut stream = begin(&mut respond, fields, false);
        stream.send_data(Bytes::from_static(b"part"), false).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    });
    let dir = TempDir::new().unwrap();
    let proxy = proxy_to(origin.address, &dir);
    for path in ["/length", "/chunks"] {
        let mut client = proxy.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.try_response(false).expect_err("the answer is not whole");
    }
    assert_eq!(origin.connections(), 1, "its connection is not to blame");
}

/// It may refuse a stream, and it may go away and name the last one that it has seen (RFC 9113 8.7).
#[test]
fn what_an_upstream_has_not_seen_is_sent_again_with_its_body() {
    let (tell, told) = mpsc::channel();
    let origin = Origin::start(move |connection| {
        let index = connection.index;
        let mut server = RawServer::begin(connection);
        while let Some(asked) = server.next_of(HEADERS) {
            match (index, asked.stream) {
                (0, 1) => server.0.send(frame(RST_STREAM, 0, 1, &[0, 0, 0, 7])),
                (0, 3) => server.0.send(frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])),
                _ => {
                    tell.send(server.next_of(DATA).unwrap().payload).unwrap();
                    server.ok(asked.stream);
                }
            }
        }
    });
    let dir = TempDir::new().unwrap();
    let proxy = proxy_to(origin.address, &dir);
    let mut client = proxy.connect();
    // Not idempotent, so nothing else would allow it.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().status, 200);
    assert_eq!(told.recv().unwrap(), b"hello");
    assert_eq!(origin.connections(), 2);
    assert_eq!(proxy.metric("podkit_proxy_upstream_retries_total", "reason=\"refused\""), 2.0);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nend");
    assert_eq!(client.response().status, 200, "nothing of the first one is left");
    assert_eq!(told.recv().unwrap(), b"end");
}

#[test]
fn streams_under_way_are_finished_when_it_goes_away() {
    let origin = Origin::start(|connection| {
        let index = connection.index;
        let mut server = RawServer::begin(connection);
        while let Some(asked) = server.next_of(HEADERS) {
            if index == 0 {
                server.0.send(frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
                std::thread::sleep(Duration::from_millis(50));
            }
            server.ok(asked.stream);
        }
    });
    let dir = TempDir::new().unwrap();
    let proxy = proxy_to(origin.address, &dir);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get("/").status, 200);
    assert_eq!(origin.connections(), 2, "what came behind it went elsewhere");
}

#[test]
fn an_idle_connection_is_closed_by_us() {
    let (origin, dir) = (hello(), TempDir::new().unwrap());
    let proxy = Proxy::yaml(
        origin.address,
        dir.path(),
        "",
        "protocol: http2, health: off, pool: {idle_timeout: 200ms}",
    );
    assert_eq!(proxy.connect().get("/").text(), "hello");
    proxy.wait_for_metric("podkit_proxy_upstream_open_connections", "", 0.0);
    assert_eq!(proxy.connect().get("/").text(), "hello");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_answer_against_the_rules_is_no_answer() {
    let origin = Origin::start(|connection| {
        let mut server = RawServer::begin(connection);
        while let Some(asked) = server.next_of(HEADERS) {
            // `:status: 200` and a Transfer-Encoding.
            let section = [&[0x88, 0, 17][..], b"transfer-encoding", &[7], b"chunked"].concat();
            server.0.send(frame(HEADERS, END_HEADERS, asked.stream, &section));
        }
    });
    let dir = TempDir::new().unwrap();
    let proxy = proxy_to(origin.address, &dir);
    assert_eq!(proxy.connect().get("/").status, 502);
}

#[test]
fn what_is_no_uri_or_authority_for_http_2_is_sent_as_well_as_can_be() {
    let (origin, dir) = (hello(), TempDir::new().unwrap());
    let proxy = proxy_to(origin.address, &dir);
    let mut client = proxy.connect();
    client.send("GET /a<b>?c=`d` HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(origin.seen()[0].uri.path_and_query().unwrap().as_str(), "/a%3Cb%3E?c=%60d%60");
}

#[test]
fn an_upstream_that_does_not_speak_it_is_a_bad_gateway() {
    let (origin, dir) = (Origin::hello(), TempDir::new().unwrap());
    let proxy = proxy_to(origin.address, &dir);
    assert_eq!(proxy.connect().get("/").status, 502);
    assert!(origin.seen().iter().all(|seen| !seen.contains("GET")));
}
