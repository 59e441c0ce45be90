//! Origins that die, hang, reset, and answer a half.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podkit_testkit::free_port;
use socket2::SockRef;

use crate::support::{Client, Origin, Proxy, ok};

/// Closes with a reset in place of an end.
fn reset(stream: &std::net::TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A client that asks until it is told to stop; the number of answers that were no 200.
fn ask(address: SocketAddr, request: &str, running: &AtomicBool) -> usize {
    let (mut client, mut failed, mut last) = (Client::connect(address), 0, 0);
    while running.load(Ordering::Relaxed) || last != 200 {
        let response = client.send(request).response();
        last = response.status;
        match last {
            200 => assert_eq!(response.text(), "hello"),
            502 => failed += 1,
            other => panic!("{other} is the answer to {request:?}"),
        }
        if response.closes() {
            client = Client::connect(address);
        }
    }
    failed
}

/// What is asked of an app that restarts waits for it; what may have been done by the one that died fails, and is never
/// done twice.
#[test]
fn an_origin_killed_and_started_again_under_load_fails_no_get() {
    let address = ([127, 0, 0, 1], free_port()).into();
    let start = || {
        Origin::on(address, |mut connection| {
            while connection.request().is_some() {
                connection.ok("hello");
            }
        })
    };
    let mut origin = start();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(address, dir.path(), "", "connect_timeout: 20s");
    let running = Arc::new(AtomicBool::new(true));
    let clients: Vec<_> = (0..6)
        .map(|n| {
            let (listen, running) = (proxy.address(), Arc::clone(&running));
            std::thread::spawn(move || match n {
                0..4 => (ask(listen, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &running), 0),
                _ => {
                    (0, ask(listen, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", &running))
                }
            })
        })
        .collect();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(100));
        origin.kill();
        std::thread::sleep(Duration::from_millis(30));
        origin = start();
    }
    std::thread::sleep(Duration::from_millis(100));
    running.store(false, Ordering::Relaxed);
    let (gets, posts) =
        clients.into_iter().map(|client| client.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert_eq!(gets, 0, "GETs that failed");
    // Each kill can meet each of the two clients in one request.
    assert!(posts <= 10, "{posts} POSTs failed");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

#[test]
fn a_reset_in_place_of_an_answer_is_a_502_and_the_client_goes_on() {
    let origin = Origin::start(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if !head.contains("/good") {
                return reset(&connection.stream);
            }
            connection.ok("hello");
        }
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 502);
        assert_eq!(client.get("/good").text(), "hello");
    }
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

#[test]
fn half_a_head_is_a_502_or_a_504_and_nothing_of_it_is_handed_on() {
    let origin = Origin::start(|mut connection| {
        let Some((head, _)) = connection.request() else { return };
        connection.send("HTTP/1.1 200 OK\r\nX-Half: 1\r\nContent-");
        if head.contains("/hang") {
            connection.drain();
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "timeouts: {request: 300ms}", "");
    for (path, status) in [("/end", 502), ("/hang", 504)] {
        let mut client = proxy.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.field("x-half")), (status, None));
    }
}

#[test]
fn a_body_that_stalls_is_cut_at_the_end_of_the_request_s_time() {
    let origin = Origin::start(|mut connection| {
        let Some((head, _)) = connection.request() else { return };
        connection.send(match head.split(' ').nth(1) {
            Some("/length") => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            Some("/chunked") => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            _ => "HTTP/1.1 200 OK\r\n\r\nhalf",
        });
        connection.drain();
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "timeouts: {request: 300ms}", "");
    let clients = ["/length", "/chunked", "/close"].map(|path| {
        let mut client = proxy.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client
    });
    for mut client in clients {
        client.try_response(false).expect_err("the answer is not whole");
    }
    assert_eq!(proxy.metric("podkit_proxy_upstream_errors_total", "reason=\"timeout\""), 3.0);
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

/// Without a limit on the request, silence is the app's right: a long poll is no fault.
#[test]
fn a_long_poll_outlives_every_idle_timeout() {
    let origin = Origin::start(|mut connection| {
        connection.request();
        std::thread::sleep(Duration::from_millis(1500));
        connection.ok("news");
        connection.drain();
    });
    let dir = tempfile::tempdir().unwrap();
    let timeouts = "timeouts: {header: 200ms, idle: 200ms, body: 200ms, write: 200ms}";
    let proxy = Proxy::yaml(origin.address, dir.path(), timeouts, "");
    assert_eq!(proxy.connect().get("/").text(), "news");
}

/// An answer to the head alone, then a close with the body unread, which the kernel makes a reset.
#[test]
fn an_early_answer_and_a_reset_behind_it_still_give_the_answer() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull");
    });
    let proxy = Proxy::http(origin.address);
    for _ in 0..20 {
        let mut client = proxy.connect();
        let mut sender = client.stream.try_clone().unwrap();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n");
        let sending = std::thread::spawn(move || {
            use std::io::Write as _;
            // Until the proxy no longer takes it.
            let _ = sender.write_all(&vec![0; 4_000_000]);
        });
        let status = client.response().status;
        // The reset may have come before the answer was read: the kernel throws it away then.
        assert!(status == 413 || status == 502, "{status}");
        drop(client);
        sending.join().unwrap();
    }
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

/// A request that stands in nobody's way: the origin reads nothing.
#[test]
fn an_origin_that_never_reads_a_body_is_given_up() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        std::thread::park_timeout(crate::support::PATIENCE);
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy =
        Proxy::yaml(origin.address, dir.path(), "timeouts: {idle: 300ms, write: 300ms, body: 300ms}", "");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        use std::io::Write as _;
        let _ = sender.write_all(&vec![0; 100_000_000]);
    });
    assert_eq!(client.response().status, 504);
    drop(client);
    sending.join().unwrap();
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

/// Many answers in one packet, the last of them cut: each client gets its own or none.
#[test]
fn answers_never_change_places_while_connections_break() {
    let origin = Origin::start(|mut connection| {
        let mut served = 0;
        while let Some((head, _)) = connection.request() {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            served += 1;
            let answer = ok(&path);
            match (connection.index + served) % 7 {
                0 => return,
                1 => return connection.send(&answer[..answer.len() - 1]),
                2 => {
                    // One answer too many.
                    connection.send([&answer[..], &ok("evil")].concat());
                }
                3 => {
                    connection.send(answer);
                    return reset(&connection.stream);
                }
                _ => connection.send(answer),
            }
        }
    });
    let proxy = Proxy::http(origin.address);
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let address = proxy.address();
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for m in 0..100 {
                    let path = format!("/{n}/{m}");
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                    match client.try_response(false) {
                        Ok(response) if response.status == 200 => assert_eq!(response.text(), path),
                        Ok(response) => assert_eq!(response.status, 502),
                        Err(_) => client = Client::connect(address),
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("each client gets its own answers");
    }
}
