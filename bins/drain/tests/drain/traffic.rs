//! When the watch ends, by each source of knowledge.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::support::{App, Proxy, Traffic, drain, fresh_traffic, lease_of, quick, ship, timed};
use podkit_testkit::Signal;

/// What `quick` sets.
const QUIET: Duration = Duration::from_millis(300);

#[test]
fn the_lease_is_taken_first_and_renewed_while_the_drain_works() {
    let (proxy, ship) = (Proxy::new(fresh_traffic(1, 1)), ship(200, ""));
    let run = drain(&["--grace", "20s", "--reserve", "17s", "--quiet", "0s", "--min-delay", "0s"]);
    let run = run.args(["--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.server.wait_for("POST /drain", 2);
    proxy.set(fresh_traffic(0, 1));
    run.wait().expect_exit(0);

    let lines = proxy.server.lines();
    assert!(lines[0].starts_with("POST /drain?lease="), "{lines:?}");
    let leases: Vec<u64> = lines.iter().filter_map(|line| lease_of(line)).collect();
    assert!(leases.is_sorted_by(|a, b| a >= b), "all end at the same time: {leases:?}");
    assert!((21..=26).contains(&leases[0]), "a little longer than the grace period: {leases:?}");
    assert_eq!(proxy.server.count("DELETE"), 0, "the proxy has to stay unready until its SIGTERM");
}

#[test]
fn it_waits_while_a_request_is_in_flight_and_then_for_quiet() {
    let (proxy, ship) = (Proxy::new(fresh_traffic(1, 1)), ship(200, ""));
    let run = quick(&["--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.server.wait_for("GET /drain", 5);
    let last = Instant::now();
    proxy.set(Traffic { in_flight: 0, open: 0, last: Some(last) });
    let finished = run.wait().expect_exit(0);
    assert!(last.elapsed() >= QUIET, "{:?} after the last connection", last.elapsed());
    finished.expect_stderr("quiet: nothing active, nothing new for 300ms").expect_stderr(&proxy.url());
    assert!(ship.requests()[0].at - last >= QUIET, "ship flushes once traffic has left");
}

#[test]
fn idle_connections_at_the_proxy_hold_nothing() {
    let (proxy, ship) = (Proxy::new(Traffic { in_flight: 0, open: 3, last: None }), ship(200, ""));
    quick(&["--proxy", &proxy.url(), "--ship", &ship.url()]).expect_exit(0);
}

#[test]
fn the_least_delay_is_held_even_if_all_is_quiet() {
    let long_ago = Instant::now().checked_sub(Duration::from_secs(5));
    let (proxy, ship) = (Proxy::new(Traffic { in_flight: 0, open: 0, last: long_ago }), ship(200, ""));
    let run = quick(&["--min-delay", "700ms", "--proxy", &proxy.url(), "--ship", &ship.url()]);
    let (finished, took) = timed(run);
    finished.expect_exit(0);
    assert!(took >= Duration::from_millis(700), "{took:?}");
}

#[test]
fn requests_that_never_end_are_named_at_the_deadline() {
    let (proxy, ship) = (Proxy::new(fresh_traffic(2, 5)), ship(200, ""));
    let run = drain(&["--grace", "2s", "--reserve", "500ms", "--proxy", &proxy.url(), "--ship", &ship.url()]);
    let (finished, took) = timed(run);
    finished
        .expect_exit(75)
        .expect_stderr("podkit-drain: the deadline passed after 1.")
        .expect_stderr("5 connections still open (2 in flight)");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(ship.count("POST /flush?wait="), 1, "ship has its share of the budget even so");
}

#[test]
fn idle_connections_are_told_as_open_where_the_quiet_time_was_not_over() {
    let (proxy, ship) = (Proxy::new(fresh_traffic(0, 7)), ship(200, ""));
    let args = ["--quiet", "20s", "--proxy", &proxy.url(), "--ship", &ship.url()];
    let run = quick(&args).start();
    proxy.server.wait_for("GET /drain", 2);
    run.terminate()
        .expect_exit(75)
        .expect_stderr("7 connections still open (none in flight), but the quiet time was not over");
    let run = quick(&args).args(["--grace", "3s"]).start();
    let looks = proxy.server.count("GET /drain");
    proxy.server.wait_for("GET /drain", looks + 1);
    proxy.set(fresh_traffic(0, 7));
    run.wait()
        .expect_exit(75)
        .expect_stderr("7 connections still open (none in flight), but the last one came only ");
}

#[test]
fn a_connection_on_the_port_holds_until_it_is_closed() {
    let (app, ship) = (App::new(), ship(200, ""));
    let connection = app.connect();
    let args = ["--idle", "1h", "--port", &app.port, "--count-loopback", "--ship", &ship.url()];
    let run = quick(&args).start();
    // Longer than the quiet time: only the open connection holds.
    std::thread::sleep(QUIET * 3);
    assert_eq!(ship.count("POST"), 0, "it went on with a connection open");
    let closed = Instant::now();
    drop(connection);
    run.wait().expect_exit(0).expect_stderr("INET_DIAG");
    assert!(closed.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_idle_keep_alive_connection_holds_no_longer_than_it_is_idle() {
    let (app, ship) = (App::new(), ship(200, ""));
    let (mut client, mut server) = app.connect();
    client.write_all(b"request").unwrap();
    server.read_exact(&mut [0; 7]).unwrap();
    let answered = Instant::now();
    server.write_all(b"answer").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    let args = ["--idle", "1s", "--port", &app.port, "--count-loopback", "--ship", &ship.url()];
    quick(&args).expect_exit(0).expect_stderr("quiet: nothing active");
    let waited = ship.requests()[0].at - answered;
    // The kernel counts in ticks of up to 10 ms.
    assert!(waited >= Duration::from_millis(980), "{waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}

/// Its socket stays in `CLOSE_WAIT` for as long as the app lives.
#[test]
fn an_app_that_never_closes_what_its_client_has_closed_does_not_hold() {
    let (app, ship) = (App::new(), ship(200, ""));
    let (mut client, mut leaked) = app.connect();
    client.write_all(b"request").unwrap();
    leaked.read_exact(&mut [0; 7]).unwrap();
    leaked.write_all(b"answer").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    drop(client);
    let args = ["--idle", "200ms", "--port", &app.port, "--count-loopback", "--ship", &ship.url()];
    quick(&args).expect_exit(0).expect_stderr("quiet: nothing active").expect_stderr("INET_DIAG");
    drop(leaked);
}

#[test]
fn a_request_in_flight_holds_however_long_it_takes() {
    let (app, ship) = (App::new(), ship(200, ""));
    // The first request of its connection, and one that followed an answer.
    let (mut first, mut served_first) = app.connect();
    let (mut second, mut served_second) = app.connect();
    second.write_all(b"?").unwrap();
    served_second.read_exact(&mut [0]).unwrap();
    served_second.write_all(b"!").unwrap();
    second.read_exact(&mut [0]).unwrap();
    // Not within the same tick of the kernel's clock, which tells them apart.
    std::thread::sleep(Duration::from_millis(50));
    for (client, server) in [(&mut first, &mut served_first), (&mut second, &mut served_second)] {
        client.write_all(b"long request").unwrap();
        server.read_exact(&mut [0; 12]).unwrap();
    }
    let args = ["--idle", "100ms", "--port", &app.port, "--count-loopback", "--ship", &ship.url()];
    let run = quick(&args).start();
    // Many times the idle time and the quiet time.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(ship.count("POST"), 0, "it went on with two requests in flight");
    served_first.write_all(b"answer").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ship.count("POST"), 0, "it went on with a request in flight");
    served_second.write_all(b"answer").unwrap();
    run.wait().expect_exit(0).expect_stderr("quiet: nothing active").expect_stderr("INET_DIAG");
}

#[test]
fn connections_that_stay_are_counted_at_the_deadline() {
    let (app, ship) = (App::new(), ship(200, ""));
    let args =
        ["--grace", "2s", "--reserve", "1s", "--port", &app.port, "--count-loopback", "--ship", &ship.url()];
    let first = app.connect();
    drain(&args).expect_exit(75).expect_stderr("1 connection still open");
    let second = app.connect();
    drain(&args).expect_exit(75).expect_stderr("2 connections still open");
    drop((first, second));
}

#[test]
fn new_connections_start_the_quiet_time_anew() {
    let (app, ship) = (App::new(), ship(200, ""));
    let run =
        quick(&["--quiet", "600ms", "--port", &app.port, "--count-loopback", "--ship", &ship.url()]).start();
    let started = Instant::now();
    let mut last = started;
    while started.elapsed() < Duration::from_millis(1500) {
        let (client, server) = app.connect();
        last = Instant::now();
        // The side that closes first keeps the TIME_WAIT: a server that does not keep alive. What its client closes
        // between two looks leaves nothing to see.
        drop(server);
        drop(client);
        std::thread::sleep(Duration::from_millis(100));
    }
    run.wait().expect_exit(0);
    let flushed = ship.requests()[0].at;
    // A connection is seen at the next poll, so the time counts from there or, at the earliest, from its coming.
    assert!(flushed - last >= Duration::from_millis(600), "{:?} after the last connection", flushed - last);
}

#[test]
fn peers_that_are_no_clients_do_not_hold() {
    let (app, ship) = (App::new(), ship(200, ""));
    let connection = app.connect();
    let base = ["--idle", "1h", "--port", &app.port, "--ship", &ship.url()];
    quick(&base).expect_exit(0);
    quick(&base).args(["--count-loopback", "--ignore-peer", "127.0.0.0/8"]).expect_exit(0);
    for node in ["127.0.0.1", "2001:db8::7, 127.0.0.1"] {
        quick(&base).arg("--count-loopback").env("HOST_IP", node).expect_exit(0);
    }
    drop(connection);
}

#[test]
fn an_ignored_peer_that_is_given_replaces_the_node() {
    let (app, ship) = (App::new(), ship(200, ""));
    let connection = app.connect();
    drain(&[
        "--grace",
        "2s",
        "--reserve",
        "1s",
        "--port",
        &app.port,
        "--count-loopback",
        "--ship",
        &ship.url(),
    ])
    .args(["--ignore-peer", "10.0.0.0/8"])
    .env("HOST_IP", "127.0.0.1")
    .expect_exit(75)
    .expect_stderr("1 connection still open");
    drop(connection);
}

#[test]
fn sigint_gives_the_lease_back() {
    let (proxy, ship) = (Proxy::new(fresh_traffic(1, 1)), ship(200, ""));
    let run = quick(&["--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.server.wait_for("GET /drain", 1);
    run.signal(Signal::SIGINT);
    run.wait().expect_exit(1).expect_stderr("cancelled by SIGINT").expect_stderr("the lease was given back");
    let lines = proxy.server.lines();
    let given_back = lines.iter().position(|line| line.starts_with("DELETE /drain?holder=")).unwrap();
    assert!(lines[given_back..].iter().all(|line| !line.starts_with("POST")), "{lines:?}");
    assert_eq!(ship.count("POST"), 0);
}

#[test]
fn sigterm_ends_the_drain_and_leaves_the_proxy_unready() {
    let (proxy, ship) = (Proxy::new(fresh_traffic(1, 4)), ship(200, ""));
    let run = quick(&["--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.server.wait_for("GET /drain", 2);
    run.terminate()
        .expect_exit(75)
        .expect_stderr("ended by SIGTERM")
        .expect_stderr("4 connections still open");
    assert_eq!(proxy.server.count("DELETE"), 0);
}
