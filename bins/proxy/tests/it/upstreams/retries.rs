//! Which requests are sent again, and how many; and which connections are used again.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Fleet, reached, shares};
use crate::support::{Client, Origin, Proxy};

/// Reads each request, and closes without an answer.
fn mute(address: SocketAddr) -> Origin {
    Origin::on(address, |mut connection| {
        connection.request();
    })
}

#[test]
fn what_an_endpoint_did_not_answer_is_asked_of_another_if_it_does_no_harm_twice() {
    let fleet = Fleet::new(2);
    let bad = mute(fleet.address(0));
    let good = fleet.well(1);
    let proxy = fleet.proxy("balance: round-robin");
    assert_eq!(shares(&proxy, &["1"], 10), [10]);
    assert_eq!((reached(&bad, "GET /"), reached(&good, "GET /")), (5, 10));
    assert_eq!(proxy.metric("podkit_proxy_upstream_retries_total", "reason=\"no_answer\""), 5.0);
    let mut statuses: Vec<u16> = (0..4)
        .map(|id| {
            let request = format!("POST /{id} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
            proxy.connect().send(request).response().status
        })
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    for id in 0..4 {
        let line = format!("POST /{id} ");
        assert_eq!(reached(&bad, &line) + reached(&good, &line), 1, "{line}");
    }
}

#[test]
fn a_budget_keeps_retries_from_becoming_a_storm() {
    let fleet = Fleet::new(2);
    let origins = [mute(fleet.address(0)), mute(fleet.address(1))];
    let proxy = fleet.proxy("retries: {attempts: 5, budget: 20%}");
    let mut client = proxy.connect();
    for _ in 0..400 {
        assert_eq!(client.get("/").status, 502);
    }
    let tries = reached(&origins[0], "GET /") + reached(&origins[1], "GET /");
    // A fifth of the requests, and ten a second, whatever seconds it took: 400 requests may all be of one window, or
    // of several.
    let retries = proxy.metric("podkit_proxy_upstream_retries_total", "");
    assert_eq!(tries as f64, 400.0 + retries);
    assert!((100.0..=400.0).contains(&retries), "{retries} retries of 400 requests");
    assert!(proxy.metric("podkit_proxy_upstream_retries_denied_total", "") > 0.0);
}

#[test]
fn retries_can_be_off() {
    let fleet = Fleet::new(2);
    let origins = [mute(fleet.address(0)), mute(fleet.address(1))];
    let proxy = fleet.proxy("retries: {attempts: 0}");
    assert_eq!(proxy.connect().get("/").status, 502);
    assert_eq!(reached(&origins[0], "GET /") + reached(&origins[1], "GET /"), 1);
}

#[test]
fn a_connection_is_not_kept_longer_than_the_app_says_it_keeps_it() {
    for (timeout, connections) in [("timeout=1", 3), ("timeout=60", 1)] {
        let origin = Origin::http(move |_, _| {
            format!("HTTP/1.1 200 OK\r\nKeep-Alive: {timeout}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        });
        let proxy = Proxy::http(origin.address);
        let mut client = proxy.connect();
        for _ in 0..3 {
            let response = client.get("/");
            assert_eq!((response.status, response.field("keep-alive")), (200, None));
        }
        assert_eq!(origin.connections(), connections, "{timeout}");
    }
}

#[test]
fn connections_closed_at_the_worst_moment_fail_no_get_and_deliver_no_post_twice() {
    // Closes each connection after a few requests, some time into the pause before the next one.
    let origin = Origin::start(|mut connection| {
        for _ in 0..3 {
            if connection.request().is_none() {
                return;
            }
            connection.ok("hello");
        }
        let pause = Duration::from_micros(fastrand::u64(..1500));
        std::thread::sleep(pause);
    });
    let proxy = Proxy::http(origin.address);
    let clients: Vec<_> = (0..4)
        .map(|client_id| {
            let address = proxy.address();
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut unsure = Vec::new();
                for number in 0..100 {
                    std::thread::sleep(Duration::from_micros(fastrand::u64(..1500)));
                    if number % 2 == 0 {
                        assert_eq!(client.get("/").status, 200, "a GET is sent again");
                        continue;
                    }
                    let id = format!("/{client_id}-{number} ");
                    client.send(format!("POST {id}HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"));
                    match client.response().status {
                        200 => {}
                        502 => {
                            unsure.push(id);
                            client = Client::connect(address);
                        }
                        other => panic!("{id}: {other}"),
                    }
                }
                unsure
            })
        })
        .collect();
    let unsure: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let seen = origin.seen().concat();
    for client_id in 0..4 {
        for number in (1..100).step_by(2) {
            let id = format!("/{client_id}-{number} ");
            let times = seen.matches(&id).count();
            let is_sure = !unsure.contains(&id);
            assert!(times == 1 || (times == 0 && !is_sure), "POST {id} was delivered {times} times");
        }
    }
}
