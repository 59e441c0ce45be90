//! HTTP/2 clients before an HTTP/1.1 origin: what they get, and what reaches the origin.

mod conformance;
mod downgrade;
mod ending;
mod floods;

use std::sync::mpsc;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue};

use crate::support::h2::{H2, answer, get, interim, request, upload, wait};
use crate::support::{Client, Origin, Proxy, ok, pattern};

#[test]
fn a_request_and_its_answer_pass_with_all_end_to_end_fields() {
    let origin = Origin::http(|_, _| {
        b"HTTP/1.1 201 Made\r\nX-One: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    });
    let proxy = Proxy::http(origin.address);
    let mut asked = get("/a?b");
    for (name, value) in [("x-mine", "1"), ("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")] {
        asked.headers_mut().append(name, HeaderValue::from_static(value));
    }
    let got = wait(async { H2::connect(proxy.address()).await.ask(asked, b"").await }).unwrap();
    assert_eq!((got.status, got.text(), got.field("x-one")), (201, "ok", Some("1")));
    assert_eq!(got.fields.get_all("set-cookie").iter().count(), 2);
    for field in ["connection", "transfer-encoding", "keep-alive"] {
        assert_eq!(got.field(field), None);
    }
    let seen = &origin.seen()[0];
    assert!(seen.starts_with("GET /a?b HTTP/1.1\r\nHost: shop\r\n"), "{seen}");
    for field in ["x-mine: 1\r\n", "cookie: a=1; b=2\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "X-Request-ID: "]
    {
        assert!(seen.contains(field), "{field:?} is not in {seen:?}");
    }
    assert!(!seen.to_lowercase().contains("\r\nte:"), "{seen:?}");
}

#[test]
fn both_versions_are_spoken_at_one_port() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        for _ in 0..3 {
            assert_eq!(client.get("/").await.unwrap().text(), "hello");
        }
    });
    assert_eq!(proxy.connect().get("/").text(), "hello");
    assert_eq!(origin.connections(), 1, "four requests took one upstream connection");
    assert_eq!(proxy.metric("podkit_proxy_connections_total", ""), 2.0);
    assert_eq!(proxy.metric("podkit_proxy_requests_total", "code=\"2xx\""), 4.0);
}

#[test]
fn a_preface_may_come_in_pieces() {
    let proxy = Proxy::http(Origin::hello().address);
    let mut client = Client::connect(proxy.address());
    for (at, piece) in
        ["PRI * HT", "TP/2.0\r\n\r", "\nSM\r\n", "\r\n\0\0\0\x04\0\0\0\0\0"].into_iter().enumerate()
    {
        client.send(piece);
        if at == 0 {
            proxy.wait_for_metric("podkit_proxy_received_bytes_total", "", 8.0);
        }
    }
    // Its own SETTINGS, and then the acknowledgement of ours.
    let length = client.exactly(3).unwrap();
    let rest = client.exactly(6 + usize::from(length[2])).unwrap();
    assert_eq!((&length[..2], rest[0]), (&[0, 0][..], 4));
    let mut frames = client.exactly(9).unwrap();
    while frames[3..5] != [4, 1] {
        let length = usize::from(frames[2]);
        client.exactly(length).unwrap();
        frames = client.exactly(9).unwrap();
    }
}

#[test]
fn a_slow_stream_holds_up_no_other() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::http(move |head, _| {
        if head.starts_with("GET /slow") {
            let _ = held.lock().unwrap().recv();
        }
        ok(head.split(' ').nth(1).unwrap())
    });
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (slow, _) = client.begin(get("/slow"), true).await;
        for n in 0..50 {
            let path = format!("/{n}");
            assert_eq!(client.get(&path).await.unwrap().text(), path);
        }
        release.send(()).unwrap();
        assert_eq!(answer(slow).await.unwrap().text(), "/slow");
    });
}

#[test]
fn large_bodies_pass_unchanged_both_ways_and_side_by_side() {
    let origin = Origin::echo();
    let proxy = Proxy::http(origin.address);
    let sent = pattern(2 << 20);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let mut asked = request("PUT", "/");
        asked.headers_mut().insert("content-length", HeaderValue::from(sent.len()));
        let (one, other) = tokio::join!(client.ask(asked.clone(), &sent), client.ask(asked, &sent));
        for got in [one.unwrap(), other.unwrap()] {
            assert_eq!(got.field("content-length"), Some("2097152"));
            assert!(got.body == sent, "the body came back changed");
        }
    });
}

#[test]
fn a_body_without_a_length_comes_in_chunks_and_goes_out_of_them() {
    let origin = Origin::http(|_, body| {
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n".to_vec();
        answer.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        answer.extend_from_slice(body);
        answer.extend_from_slice(b"\r\n0\r\nX-Sum: 7\r\n\r\n");
        answer
    });
    let proxy = Proxy::http(origin.address);
    let got =
        wait(async { H2::connect(proxy.address()).await.ask(request("POST", "/"), b"hello").await }).unwrap();
    assert_eq!(
        (got.text(), got.trailers.get("x-sum").unwrap().to_str().unwrap()),
        ("5\r\nhello\r\n0\r\n\r\n", "7")
    );
    assert_eq!((got.field("transfer-encoding"), got.field("trailer")), (None, Some("X-Sum")));
}

#[test]
fn trailers_of_a_request_reach_the_origin() {
    let origin = Origin::start(|mut connection| {
        connection.until(b"x-sum: 9\r\n\r\n");
        connection.ok("done");
    });
    let proxy = Proxy::http(origin.address);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("9"));
    trailers.insert("content-length", HeaderValue::from_static("1"));
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (response, stream) = client.begin(request("POST", "/"), false).await;
        upload(stream, b"abc", Some(trailers)).await;
        assert_eq!(answer(response).await.unwrap().text(), "done");
    });
    assert!(origin.seen()[0].ends_with("\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 9\r\n\r\n"), "{:?}", origin.seen());
}

#[test]
fn answers_without_a_body_have_none() {
    let origin = Origin::http(|head, _| match head.split(' ').nth(1).unwrap() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: x\r\n\r\n".to_vec(),
        "/empty" => ok(""),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec(),
    });
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        for (method, path, status, length) in [
            ("HEAD", "/", 200, Some("9")),
            ("GET", "/204", 204, None),
            ("GET", "/304", 304, Some("9")),
            ("GET", "/empty", 200, Some("0")),
        ] {
            let got = client.ask(request(method, path), b"").await.unwrap();
            assert_eq!((got.status, got.field("content-length"), got.text()), (status, length, ""), "{path}");
        }
    });
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_answer_that_ends_with_its_connection_ends_with_its_stream() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
    });
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        for _ in 0..2 {
            assert_eq!(client.get("/").await.unwrap().text(), "until the end");
        }
    });
}

#[test]
fn interim_answers_are_handed_on() {
    let origin = Origin::start(|mut connection| {
        while let Some(head) = connection.head() {
            if head.contains("expect: 100-continue") {
                connection.send("HTTP/1.1 100 Continue\r\n\r\n");
                connection.exactly(4);
            }
            connection.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
            connection.ok("hello");
        }
    });
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (mut response, _) = client.begin(get("/"), true).await;
        assert_eq!(interim(&mut response).await, [103]);
        assert_eq!(answer(response).await.unwrap().text(), "hello");

        let mut asked = request("POST", "/");
        asked.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
        asked.headers_mut().insert("content-length", HeaderValue::from_static("4"));
        let (mut response, stream) = client.begin(asked, false).await;
        let (interim, ()) = tokio::join!(interim(&mut response), async {
            origin.wait_for("100-continue");
            upload(stream, b"body", None).await;
        });
        assert_eq!(interim, [100, 103]);
        assert_eq!(answer(response).await.unwrap().text(), "hello");
    });
}

#[test]
fn an_early_answer_ends_the_stream_without_an_error() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
        connection.drain();
    });
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (response, mut stream) = client.begin(request("POST", "/"), false).await;
        stream.send_data(Bytes::from_static(b"a part"), false).unwrap();
        let got = answer(response).await.unwrap();
        assert_eq!((got.status, got.text()), (403, "no"));
        let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, Reason::NO_ERROR, "what is left of the request is not wanted");
        assert_eq!(client.get("/").await.unwrap().status, 403, "the connection lives on");
    });
}

#[test]
fn a_client_that_gives_up_frees_the_upstream_at_once() {
    let (ended, ends) = mpsc::channel();
    let origin = Origin::start(move |mut connection| {
        connection.head();
        if connection.index == 1 {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
        }
        connection.drain();
        ended.send(()).unwrap();
    });
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        for path in ["/waiting", "/reading"] {
            let (response, mut stream) = client.begin(get(path), true).await;
            origin.wait_for(path);
            if path == "/reading" {
                let mut stream = response.await.unwrap().into_body();
                assert_eq!(stream.data().await.unwrap().unwrap(), "part");
            }
            stream.send_reset(Reason::CANCEL);
        }
    });
    for _ in 0..2 {
        ends.recv_timeout(crate::support::PATIENCE).expect("the upstream connection ends");
    }
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

#[test]
fn an_upstream_that_breaks_is_told_as_far_as_it_can_be() {
    let origin = Origin::start(|mut connection| {
        let head = connection.head().unwrap();
        match head.split(' ').nth(1).unwrap() {
            "/length" => connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"),
            "/chunks" => {
                connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
            }
            _ => {}
        }
    });
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let got = client.get("/nothing").await.unwrap();
        assert_eq!((got.status, got.field("content-type")), (502, Some("application/json")));
        for path in ["/length", "/chunks"] {
            let (response, _) = client.begin(get(path), true).await;
            let error = answer(response).await.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}: {error}");
        }
    });
}

#[test]
fn a_client_that_does_not_read_holds_up_its_own_stream_alone() {
    let origin = Origin::http(|head, _| match head.starts_with("GET /large") {
        true => ok(&"x".repeat(8 << 20)),
        false => ok("small"),
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "timeouts: {write: 500ms, idle: 1s}", "");
    wait(async {
        let mut builder = h2::client::Builder::new();
        let client = H2::connect_with(proxy.address(), builder.initial_connection_window_size(1 << 20)).await;
        let (large, _) = client.begin(get("/large"), true).await;
        let mut unread = large.await.unwrap().into_body();
        assert_eq!(client.get("/small").await.unwrap().text(), "small");
        let error = loop {
            // What is read gives no window back.
            match unread.data().await.expect("the stream is not whole") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error}");
        assert_eq!(client.get("/small").await.unwrap().text(), "small", "the connection lives on");
    });
}

#[test]
fn the_limits_of_all_requests_hold() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let limits = "limits: {header_size: 2KiB, headers: 8, body: 10B}";
    let proxy = Proxy::yaml(origin.address, dir.path(), limits, "");
    let field = |name: &str, value: &str| {
        let mut asked = request("POST", "/");
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        asked.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        asked
    };
    let mut many = request("POST", "/");
    for n in 0..9 {
        many.headers_mut().append("x", HeaderValue::from(n));
    }
    wait(async {
        let client = H2::connect(proxy.address()).await;
        for (status, reason, asked, body) in [
            (431, "head_too_large", field("x", &"x".repeat(2100)), ""),
            (431, "too_many_fields", many, ""),
            (413, "body_too_large", field("content-length", "11"), "hello world"),
            (413, "body_too_large", request("POST", "/"), "hello world"),
        ] {
            let before = proxy.metric("podkit_proxy_refused_requests_total", &format!("reason=\"{reason}\""));
            let got = client.ask(asked, body.as_bytes()).await.unwrap();
            assert_eq!(got.status, status, "{reason}");
            let after = proxy.metric("podkit_proxy_refused_requests_total", &format!("reason=\"{reason}\""));
            assert_eq!(after, before + 1.0, "{reason}");
        }
        assert_eq!(client.ask(field("content-length", "10"), b"0123456789").await.unwrap().status, 200);
    });
}
