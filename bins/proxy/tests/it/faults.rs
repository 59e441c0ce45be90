//! Origins that end, hang, lie and come back; clients that do; and limits of our own.

mod clients;
mod origins;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use podkit_testkit::{PATIENCE, eventually, free_port};

use crate::support::{Origin, Proxy};

/// Answers one request a connection, as if to be used again, and closes it when the next one has come.
fn closes_at_the_worst_moment() -> Origin {
    Origin::start(|mut connection| {
        if connection.request().is_some() {
            connection.ok("hello");
            connection.more();
        }
    })
}

#[test]
fn a_request_on_a_dead_pooled_connection_is_sent_again() {
    let origin = closes_at_the_worst_moment();
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "hello");
    }
    assert_eq!(proxy.metric("podkit_proxy_upstream_retries_total", ""), 4.0);
    assert_eq!(proxy.metric("podkit_proxy_requests_total", "code=\"5xx\""), 0.0);
}

#[test]
fn a_post_is_never_sent_twice() {
    let origin = closes_at_the_worst_moment();
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "hello");
    client.send("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(client.response().status, 502);
    let posts: usize = origin.seen().iter().map(|seen| seen.matches("POST /pay").count()).sum();
    assert_eq!(posts, 1);
    assert_eq!(proxy.metric("podkit_proxy_upstream_errors_total", "reason=\"closed\""), 1.0);
}

#[test]
fn a_connection_that_the_origin_closed_is_not_used_again() {
    let (closed, closings) = mpsc::channel();
    let origin = Origin::start(move |mut connection| {
        connection.request();
        connection.ok("hello");
        drop(connection);
        closed.send(()).unwrap();
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    // On loopback the kernel has told the proxy of the end when the origin's close returns.
    for n in 0..5 {
        assert_eq!(client.get("/").text(), "hello");
        closings.recv_timeout(PATIENCE).unwrap();
        client.send(format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"));
        assert_eq!(client.response().status, 200);
        closings.recv_timeout(PATIENCE).unwrap();
    }
}

#[test]
fn a_cut_response_never_looks_whole() {
    for path in ["/length", "/chunked"] {
        let origin = Origin::start(move |mut connection| {
            connection.head();
            connection.send(match path {
                "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
                _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            });
        });
        let proxy = Proxy::http(origin.address);
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let error = client.try_response(false).expect_err("the answer is not whole");
        assert!(error.contains("ended"), "{path}: {error}");
        assert_eq!(proxy.metric("podkit_proxy_upstream_errors_total", "reason=\"truncated\""), 1.0);
    }
}

#[test]
fn a_reset_within_a_body_without_length_is_a_reset_for_the_client() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\n\r\nsome of it");
        // The reset must come behind the bytes, not in their place.
        std::thread::sleep(Duration::from_millis(200));
        socket2::SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    client.rest().expect_err("a clean end would say that this was all");
}

#[test]
fn a_malformed_answer_is_a_502() {
    for raw in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let origin = Origin::http(move |_, _| raw.as_bytes().to_vec());
        let proxy = Proxy::http(origin.address);
        assert_eq!(proxy.connect().get("/").status, 502, "{raw:?}");
        assert_eq!(proxy.metric("podkit_proxy_upstream_errors_total", "reason=\"bad_response\""), 1.0);
    }
}

#[test]
fn bytes_behind_an_answer_are_nobodys_answer() {
    let origin = Origin::http(|_, _| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
            .to_vec()
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "x");
    }
    assert_eq!(origin.connections(), 3, "such a connection is not used again");
}

#[test]
fn an_app_that_is_not_there_is_a_502_after_the_connect_timeout() {
    let nobody: std::net::SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(nobody, dir.path(), "", "connect_timeout: 300ms");
    let mut client = proxy.connect();
    let response = client.get("/");
    assert_eq!(response.status, 502);
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert_eq!(client.get("/").status, 502, "the connection goes on");
    assert_eq!(proxy.metric("podkit_proxy_upstream_errors_total", "reason=\"connect\""), 2.0);
    assert_eq!((proxy.ask("GET", "/readyz").status, proxy.ask("GET", "/livez").status), (503, 200));
}

#[test]
fn an_app_that_comes_back_within_the_connect_timeout_is_waited_for() {
    let address = ([127, 0, 0, 1], free_port()).into();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(address, dir.path(), "", "connect_timeout: 20s");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
    let _origin = Origin::on(address, |mut connection| {
        connection.request();
        connection.ok("back");
        connection.drain();
    });
    assert_eq!(client.response().text(), "back");
}

#[test]
fn an_app_that_hangs_is_a_504_where_a_limit_is_set() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.drain();
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "timeouts: {request: 300ms}", "");
    let start = Instant::now();
    assert_eq!(proxy.connect().get("/").status, 504);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(proxy.metric("podkit_proxy_upstream_errors_total", "reason=\"timeout\""), 1.0);
}

#[test]
fn a_restarted_origin_fails_no_keep_alive_client() {
    let address: std::net::SocketAddr = ([127, 0, 0, 1], free_port()).into();
    static SERVED: AtomicUsize = AtomicUsize::new(0);
    // Each connection lives for three requests, as if the app were replaced again and again.
    let _origin = Origin::on(address, |mut connection| {
        for _ in 0..3 {
            if connection.request().is_none() {
                return;
            }
            SERVED.fetch_add(1, Ordering::Relaxed);
            connection.ok("hello");
        }
    });
    let proxy = Proxy::http(address);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = proxy.connect();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let response = client.get("/");
                    assert_eq!((response.status, response.text()), (200, "hello"));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn accepting_pauses_at_the_connection_limit_and_goes_on_below() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "limits: {connections: 2}", "");
    let (mut first, mut second) = (proxy.connect(), proxy.connect());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let mut third = proxy.connect();
    third.send("GET /third HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(proxy.metric("podkit_proxy_open_connections", ""), 2.0);
    drop(first);
    assert_eq!(third.response().text(), "hello");
}

/// Lets a running proxy open only so many files.
fn limit_files(proxy: &Proxy, limit: usize) {
    let (pid, limit) = (proxy.process.id().to_string(), format!("--nofile={limit}:"));
    let status = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit (util-linux) is needed here");
}

#[test]
fn without_file_descriptors_accepting_backs_off_and_goes_on() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    limit_files(&proxy, 40);
    let crowd: Vec<_> = (0..60).map(|_| proxy.connect()).collect();
    proxy.process.wait_for_stderr("cannot accept a connection");
    drop(crowd);
    eventually("it serves again", || (proxy.connect().get("/").status == 200).then_some(()));
    assert_eq!(proxy.ask("GET", "/livez").status, 200);
}

#[test]
fn without_a_file_descriptor_for_the_upstream_a_request_is_a_502_and_the_next_one_is_served() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "", "connect_timeout: 300ms");
    let mut client = proxy.connect();
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 1.0);
    limit_files(&proxy, 1);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
    let response = client.response();
    assert_eq!((response.status, response.closes()), (502, true), "a body may be left");
    limit_files(&proxy, 1000);
    assert_eq!(proxy.connect().get("/").text(), "hello");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

#[test]
fn a_crowd_leaves_descriptors_to_the_admin_port_and_waits_for_its_turn() {
    let origin = Origin::hello();
    let proxy = Proxy::http_under(&["prlimit", "--nofile=100:100"], origin.address);
    let mut crowd: Vec<_> = (0..150).map(|_| proxy.connect()).collect();
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 25.0);
    assert_eq!(proxy.ask("GET", "/livez").status, 200);
    for mut client in crowd.drain(..) {
        assert_eq!(client.get("/").text(), "hello");
    }
    assert!(!proxy.process.stderr().contains("cannot accept"), "{}", proxy.process.stderr());
}

#[test]
fn a_client_that_resets_frees_its_request_at_once() {
    let (ended, wait) = std::sync::mpsc::channel();
    let origin = Origin::start(move |mut connection| {
        // Reads the request, and never answers.
        connection.stream.set_read_timeout(None).unwrap();
        while connection.more().is_some() {}
        let _ = ended.send(());
    });
    let proxy = Proxy::http(origin.address);
    for request in
        ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"]
    {
        let mut client = proxy.connect();
        client.send(request);
        proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
        if request.starts_with("POST") {
            client.send("ab");
            origin.wait_for("ab");
        }
        socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
        wait.recv_timeout(crate::support::PATIENCE).expect("the origin is told too");
    }
}
