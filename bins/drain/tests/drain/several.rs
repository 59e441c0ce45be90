//! Several proxies and several ships.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Answer, App, Neighbour, Proxy, drain, quick, ship, slow_proxy, traffic};
use podkit_testkit::{Signal, free_port};

#[test]
fn all_proxies_must_be_quiet() {
    let (a, b, ship) = (Proxy::new(traffic(0, 0)), Proxy::new(traffic(1, 2)), ship(200, ""));
    let run = quick(&["--proxy", &a.url(), "--proxy", &b.url(), "--ship", &ship.url()]).start();
    b.server.wait_for("GET /drain", 5);
    assert_eq!(ship.count("POST"), 0, "it went on with a request in flight");
    b.set(traffic(0, 2));
    run.wait().expect_exit(0).expect_stderr(&format!("\"source\":\"{}, {}\"", a.url(), b.url()));
    for proxy in [&a, &b] {
        assert!(
            proxy.server.lines()[0].starts_with("POST /drain?lease="),
            "the lease is taken at all of them"
        );
    }
}

#[test]
fn what_is_left_at_all_proxies_is_added_up() {
    let (a, b, ship) = (Proxy::new(traffic(1, 2)), Proxy::new(traffic(2, 5)), ship(200, ""));
    drain(&["--grace", "2s", "--reserve", "1s", "--ship", &ship.url()])
        .args(["--proxy", &a.url(), "--proxy", &b.url()])
        .expect_exit(75)
        .expect_stderr("7 connections still open (3 in flight)");
}

#[test]
fn one_proxy_that_was_never_there_leaves_the_others_to_tell() {
    let (a, ship) = (Proxy::new(traffic(1, 1)), ship(200, ""));
    let gone = format!("http://127.0.0.1:{}", free_port());
    let run = quick(&["--proxy", &gone, "--proxy", &a.url(), "--ship", &ship.url()]).start();
    a.server.wait_for("GET /drain", 5);
    assert_eq!(ship.count("POST"), 0, "it went on with a request in flight");
    a.set(traffic(0, 0));
    run.wait().expect_exit(0).expect_stderr(&format!("cannot connect to {gone}"));
}

#[test]
fn one_proxy_that_failed_is_asked_once_more_before_the_others_are_enough() {
    let is_busy = Arc::new(AtomicBool::new(true));
    let (a, b, ship) = (Proxy::new(traffic(0, 0)), slow_proxy(0, &is_busy), ship(200, ""));
    let run = quick(&["--quiet", "0s", "--min-delay", "0s"])
        .args(["--proxy", &a.url(), "--proxy", &b.url(), "--ship", &ship.url()])
        .start();
    b.wait_for("GET /drain", 3);
    assert_eq!(ship.count("POST"), 0, "it went on with a request in flight");
    is_busy.store(false, Ordering::Release);
    run.wait().expect_exit(0).expect_stderr(&format!("\"source\":\"{}, {}\"", a.url(), b.url()));
}

/// It is asked for its lease nearly all the time, and each of these questions takes 2 s.
#[test]
fn one_proxy_that_hangs_from_the_start_leaves_the_others_their_looks() {
    let (a, hangs, ship) = (Proxy::new(traffic(1, 1)), Neighbour::new(|_| Answer::Silence), ship(200, ""));
    let run = quick(&["--proxy", &a.url(), "--proxy", &hangs.url(), "--ship", &ship.url()]).start();
    a.server.wait_for("GET /drain", 14);
    let requests = a.server.requests();
    let mut looks = requests.iter().filter(|request| request.line == "GET /drain").map(|request| request.at);
    let (first, last) = (looks.next().unwrap(), looks.nth(12).unwrap());
    assert!(last - first < Duration::from_secs(15), "13 pauses of up to 500 ms: {:?}", last - first);
    a.set(traffic(0, 1));
    run.wait().expect_exit(0);
}

#[test]
fn one_proxy_that_goes_away_makes_way_for_the_socket_table() {
    let (a, b, ship, app) = (Proxy::new(traffic(0, 0)), Proxy::new(traffic(1, 1)), ship(200, ""), App::new());
    let run = quick(&["--proxy", &a.url(), "--proxy", &b.url(), "--ship", &ship.url(), "--port", &app.port])
        .start();
    b.server.wait_for("GET /drain", 2);
    drop(b);
    run.wait_for_stderr("going on with the kernel's socket table");
    run.wait().expect_exit(0);
}

#[test]
fn all_leases_are_given_back() {
    let (a, b) = (Proxy::new(traffic(1, 1)), Proxy::new(traffic(1, 1)));
    let run = quick(&["--proxy", &a.url(), "--proxy", &b.url()]).start();
    b.server.wait_for("GET /drain", 1);
    run.signal(Signal::SIGINT);
    run.wait().expect_exit(1).expect_stderr(&format!(
        "the lease was given back to {}; the lease was given back to {}",
        a.url(),
        b.url()
    ));
    assert_eq!((a.server.count("DELETE /drain"), b.server.count("DELETE /drain")), (1, 1));
}

#[test]
fn ships_flush_at_the_same_time_and_each_is_told() {
    let (stuck, fine) = (Neighbour::new(|_| Answer::Silence), ship(200, ""));
    let started = Instant::now();
    quick(&["--grace", "4s", "--ship", &stuck.url(), "--ship", &fine.url()])
        .expect_exit(75)
        .expect_stderr(&format!("{} has delivered every whole line", fine.url()))
        .expect_stderr("logs not delivered: POST ");
    let flushed = fine.requests()[0].at;
    assert!(flushed - stuck.requests()[0].at < Duration::from_secs(1), "one does not wait for the other");
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn what_several_ships_could_not_deliver_is_all_named() {
    let (a, b) = (ship(504, "3 lines"), ship(504, "5 lines"));
    quick(&["--ship", &a.url(), "--ship", &b.url()])
        .expect_exit(75)
        .expect_stderr("logs not delivered: 3 lines; logs not delivered: 5 lines");
}

#[test]
fn the_lease_is_renewed_while_ship_flushes() {
    let proxy = Proxy::new(traffic(0, 0));
    let stuck = Neighbour::new(|_| Answer::Silence);
    let run = drain(&["--grace", "20s", "--reserve", "16s", "--quiet", "0s", "--min-delay", "0s"])
        .args(["--proxy", &proxy.url(), "--ship", &stuck.url()])
        .start();
    stuck.wait_for("POST /flush", 1);
    let before = proxy.server.count("POST /drain?lease=");
    proxy.server.wait_for("POST /drain?lease=", before + 2);
    assert_eq!(stuck.count("POST /flush"), 1, "the flush was under way all the time");
    run.wait().expect_exit(75);
}
