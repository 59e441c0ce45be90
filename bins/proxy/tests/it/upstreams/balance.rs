//! Who gets the next request.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use podkit_testkit::{eventually, free_port};

use super::{Fleet, endpoint, reached, shares, wait_ready};
use crate::support::{Origin, Proxy, ok};

#[test]
fn a_slow_endpoint_gets_less() {
    let fleet = Fleet::new(3);
    let slow = fleet.with(0, || {
        std::thread::sleep(Duration::from_millis(50));
        ok("slow")
    });
    let quick = [fleet.well(1), fleet.well(2)];
    let proxy = fleet.proxy("balance: p2c-ewma");
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = proxy.connect();
            std::thread::spawn(move || (0..50).for_each(|_| assert_eq!(client.get("/").status, 200)))
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let got = |origin| reached(origin, "GET /");
    assert_eq!(got(&slow) + got(&quick[0]) + got(&quick[1]), 200);
    assert!(got(&slow) < 20, "of 200 the slow one got {}", got(&slow));
    assert!(endpoint(&proxy, 0).unwrap()["ewma_ms"].as_f64().unwrap() > 10.0);
}

#[test]
fn the_idlest_endpoint_is_next_where_requests_are_counted() {
    let fleet = Fleet::new(2);
    let (held, wait) = (AtomicBool::new(false), AtomicBool::new(false));
    let (release, released) = mpsc::channel::<()>();
    let (held, wait, released) = (Arc::new(held), Arc::new(wait), std::sync::Mutex::new(released));
    let (is_held, must_wait) = (Arc::clone(&held), Arc::clone(&wait));
    let _held = fleet.with(0, move || {
        if must_wait.load(Ordering::SeqCst) {
            is_held.store(true, Ordering::SeqCst);
            released.lock().unwrap().recv().unwrap();
        }
        ok("0")
    });
    let _other = fleet.well(1);
    let proxy = fleet.proxy("balance: least-request");
    assert_eq!(shares(&proxy, &["0", "1"], 10), [5, 5]);
    wait.store(true, Ordering::SeqCst);
    let mut clients = [proxy.connect(), proxy.connect()];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("one endpoint is at work", || held.load(Ordering::SeqCst).then_some(()));
    proxy.wait_for_metric("podkit_proxy_upstream_in_flight_requests", "", 1.0);
    assert_eq!(shares(&proxy, &["0", "1"], 10), [0, 10]);
    release.send(()).unwrap();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn an_endpoint_that_is_killed_under_load_fails_no_request_that_can_be_repeated() {
    let fleet = Fleet::new(3);
    let origins = [fleet.well(0), fleet.well(1), fleet.well(2)];
    let proxy = fleet.proxy("balance: round-robin, eject: {failures: 1, for: 60s}");
    static DONE: AtomicUsize = AtomicUsize::new(0);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = proxy.connect();
            std::thread::spawn(move || {
                for _ in 0..100 {
                    assert_eq!(client.get("/").status, 200);
                    DONE.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    eventually("the load runs", || (DONE.load(Ordering::Relaxed) > 50).then_some(()));
    origins[1].kill();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(proxy.metric("podkit_proxy_requests_total", "code=\"5xx\""), 0.0);
}

#[test]
fn an_endpoint_that_takes_no_connection_is_passed_over() {
    let fleet = Fleet::new(3);
    let _only = fleet.well(1);
    let proxy = fleet.proxy("balance: round-robin");
    for _ in 0..6 {
        // Each is seen by the app once, so also what must not be repeated may look for an endpoint that is there.
        let response =
            proxy.connect().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok").response();
        assert_eq!(response.text(), "1");
    }
    assert!(proxy.metric("podkit_proxy_upstream_connect_failures_total", "reason=\"connect\"") >= 4.0);
}

#[test]
fn an_endpoint_that_swallows_packets_does_not_take_all_the_time() {
    // A listener whose queue is full takes no more connections, and refuses none.
    let fleet = Fleet::new(2);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&fleet.address(0).into()).unwrap();
    socket.listen(0).unwrap();
    let _full: Vec<socket2::Socket> = (0..4)
        .map(|_| {
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&fleet.address(0).into());
            client
        })
        .collect();
    let _good = fleet.well(1);
    let proxy = fleet.proxy("balance: round-robin, connect_timeout: 2s");
    assert_eq!(shares(&proxy, &["1"], 2), [2]);
    assert_eq!(
        proxy.metric("podkit_proxy_upstream_connect_failures_total", "reason=\"connect_timeout\""),
        1.0
    );
}

#[test]
fn tcp_connections_are_balanced_and_look_for_an_endpoint_that_is_there() {
    let fleet = Fleet::new(3);
    let speaks = |index: u8| {
        Origin::on(fleet.address(index), move |mut connection| {
            connection.more();
            connection.send(index.to_string());
        })
    };
    let _origins = [speaks(0), speaks(2)];
    let upstream = format!("balance: round-robin, {}", fleet.dns.yaml(600));
    let address = format!("shop.test:{}", fleet.port);
    let proxy = Proxy::yaml(address, fleet.dir.path(), "protocol: tcp", &upstream);
    let mut answers: Vec<Vec<u8>> = (0..6).map(|_| proxy.connect().send("?").rest().unwrap()).collect();
    answers.sort();
    assert!(answers.contains(&b"0".to_vec()) && answers.contains(&b"2".to_vec()), "{answers:?}");
    assert!(answers.iter().all(|answer| answer.len() == 1), "{answers:?}");
}

#[test]
fn an_app_on_localhost_is_found_on_either_family() {
    let port = free_port();
    let Ok(v6) = std::net::TcpListener::bind(("::1", port)) else {
        eprintln!("there is no IPv6 here");
        return;
    };
    drop(v6);
    let origin = Origin::on(format!("[::1]:{port}").parse().unwrap(), |mut connection| {
        connection.request();
        connection.ok("v6");
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(format!("localhost:{port}"), dir.path(), "", "");
    assert_eq!(proxy.connect().get("/").text(), "v6");
    assert_eq!(origin.connections(), 1);
    wait_ready(&proxy, 200);
}
