//! When the watch ends, by each source of knowledge.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Answer, App, Neighbour, Proxy, Traffic, drain, lease_of, quick, ship, slow_proxy, timed,
};
use podkit_testkit::Signal;

/// What `quick` sets.
const QUIET: Duration = Duration::from_millis(300);

fn traffic(in_flight: u64, open: u64) -> Traffic {
    Traffic { in_flight, open, last: Some(Instant::now()) }
}

#[test]
fn the_lease_is_taken_first_and_renewed_while_the_drain_works() {
    let (proxy, ship) = (Proxy::new(traffic(1, 1)), ship(200, ""));
    let run = drain(&["--grace", "20s", "--reserve", "17s", "--quiet", "0s", "--min-delay", "0s"]);
    let run = run.args(["--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.server.wait_for("POST /drain", 2);
    proxy.set(traffic(0, 1));
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
    let (proxy, ship) = (Proxy::new(traffic(1, 1)), ship(200, ""));
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
    let (proxy, ship) = (Proxy::new(traffic(2, 5)), ship(200, ""));
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
    let (proxy, ship) = (Proxy::new(traffic(0, 7)), ship(200, ""));
    let args = ["--quiet", "20s", "--proxy", &proxy.url(), "--ship", &ship.url()];
    let run = quick(&args).start();
    proxy.server.wait_for("GET /drain", 2);
    run.terminate()
        .expect_exit(75)
        .expect_stderr("7 connections still open (none in flight), but the quiet time was not over");
    let run = quick(&args).args(["--grace", "3s"]).start();
    let looks = proxy.server.count("GET /drain");
    proxy.server.wait_for("GET /drain", looks + 1);
    proxy.set(traffic(0, 7));
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
fn a_proxy_that_goes_away_makes_way_for_the_socket_table() {
    let (app, ship, proxy) = (App::new(), ship(200, ""), Proxy::new(traffic(1, 1)));
    let connection = app.connect();
    let args = ["--port", &app.port, "--count-loopback", "--proxy", &proxy.url(), "--ship", &ship.url()];
    let run = quick(&args).args(["--idle", "1h"]).start();
    proxy.server.wait_for("GET /drain", 2);
    drop(proxy);
    run.wait_for_stderr("going on with the kernel's socket table");
    assert_eq!(ship.count("POST"), 0, "it went on with a connection open");
    drop(connection);
    run.wait().expect_exit(0).expect_stderr("\"source\":\"the kernel's socket table (INET_DIAG)\"");
}

/// Between the two nobody looked, so that what came meanwhile was not seen.
#[test]
fn the_quiet_time_counts_anew_for_the_source_that_takes_over() {
    let quiet = Duration::from_secs(1);
    let busy = Traffic { in_flight: 1, open: 1, last: None };
    let (app, ship, proxy) = (App::new(), ship(200, ""), Proxy::new(busy));
    let args = ["--quiet", "1s", "--port", &app.port, "--proxy", &proxy.url(), "--ship", &ship.url()];
    let started = Instant::now();
    let run = quick(&args).start();
    proxy.server.wait_for("GET /drain", 1);
    std::thread::sleep(quiet * 2);
    let lost = Instant::now();
    drop(proxy);
    run.wait().expect_exit(0).expect_stderr("\"source\":\"the kernel's socket table (INET_DIAG)\"");
    let flushed = ship.requests()[0].at;
    assert!(flushed - lost >= quiet, "{:?} after {:?}", flushed - lost, lost - started);
}

#[test]
fn a_proxy_that_comes_back_is_told_to_drain_and_asked_again() {
    let quiet = Duration::from_secs(1);
    let (app, ship) = (App::new(), ship(200, ""));
    let connection = app.connect();
    let port = podkit_testkit::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let args = ["--quiet", "1s", "--idle", "1h", "--port", &app.port, "--count-loopback"];
    let run = quick(&args).args(["--proxy", &url, "--ship", &ship.url()]).start();
    run.wait_for_stderr("cannot connect to http://127.0.0.1:");
    std::thread::sleep(quiet * 2);
    let proxy = Neighbour::on(port, |line| match line {
        "GET /drain" => Answer::Reply(200, r#"{"in_flight":0,"ms_since_last_connection":null}"#.to_owned()),
        line if line.starts_with("POST /drain?lease=") => Answer::Reply(200, "{}".to_owned()),
        _ => Answer::Unknown,
    });
    run.wait().expect_exit(0).expect_stderr("can be told from").expect_stderr("quiet: nothing active");
    let requests = proxy.requests();
    assert!(requests[0].line.starts_with("POST /drain?lease="), "{requests:?}");
    let first = requests.iter().find(|request| request.line == "GET /drain").unwrap();
    let quiet_for = ship.requests()[0].at - first.at;
    assert!(quiet_for >= quiet, "the quiet time counts anew: {quiet_for:?}");
    drop(connection);
}

/// A starved proxy takes longer than the drain has patience.
#[test]
fn a_proxy_whose_first_answer_is_late_still_holds_the_drain() {
    let is_busy = Arc::new(AtomicBool::new(true));
    let (proxy, ship) = (slow_proxy(0, &is_busy), ship(200, ""));
    let run = quick(&["--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.wait_for("GET /drain", 3);
    assert_eq!(ship.count("POST"), 0, "it went on with a request in flight");
    is_busy.store(false, Ordering::Release);
    run.wait()
        .expect_exit(0)
        .expect_stderr("got no answer in time")
        .expect_stderr("quiet: nothing active")
        .refuse_stderr("no traffic to watch");
}

#[test]
fn a_proxy_that_is_away_at_first_is_asked_again_soon() {
    let (port, ship) = (podkit_testkit::free_port(), ship(200, ""));
    let url = format!("http://127.0.0.1:{port}");
    // A lease that is held would be renewed every 5 s.
    let run = quick(&["--grace", "60s", "--proxy", &url, "--ship", &ship.url()]).start();
    run.wait_for_stderr("cannot connect to http://127.0.0.1:");
    let (is_busy, back) = (Arc::new(AtomicBool::new(true)), Instant::now());
    let proxy = slow_proxy(port, &is_busy);
    proxy.wait_for("POST /drain?lease=", 1);
    assert!(back.elapsed() < Duration::from_millis(2_500), "{:?}", back.elapsed());
    proxy.wait_for("GET /drain", 2);
    assert_eq!(ship.count("POST"), 0, "it went on with a request in flight");
    is_busy.store(false, Ordering::Release);
    run.wait().expect_exit(0).expect_stderr("can be told from").refuse_stderr("no traffic to watch");
}

/// What is in flight at the proxy is loopback's in the socket table, which is quiet from the first look on.
#[test]
fn a_proxy_that_failed_is_asked_once_more_before_the_traffic_counts_as_gone() {
    let is_busy = Arc::new(AtomicBool::new(true));
    let (app, proxy, ship) = (App::new(), slow_proxy(0, &is_busy), ship(200, ""));
    let args = ["--quiet", "0s", "--min-delay", "0s", "--port", &app.port];
    let run = quick(&args).args(["--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.wait_for("GET /drain", 3);
    assert_eq!(ship.count("POST"), 0, "it went on with a request in flight");
    is_busy.store(false, Ordering::Release);
    run.wait().expect_exit(0).expect_stderr("can be told from").expect_stderr("quiet: nothing active");
}

#[test]
fn a_proxy_that_was_named_and_is_not_there_is_a_warning() {
    let (app, ship) = (App::new(), ship(200, ""));
    let gone = format!("http://127.0.0.1:{}", podkit_testkit::free_port());
    let finished = quick(&["--port", &app.port, "--proxy", &gone, "--ship", &ship.url()]).expect_exit(0);
    let line = finished.stderr.lines().find(|line| line.contains("cannot connect")).unwrap();
    assert!(line.contains("WARN") && line.contains("connection refused"), "{line}");
}

#[test]
fn a_stuck_proxy_costs_some_of_the_budget_and_no_more() {
    let (app, ship, proxy) = (App::new(), ship(200, ""), Neighbour::new(|_| Answer::Silence));
    drain(&["--grace", "6s", "--reserve", "1s", "--quiet", "300ms", "--min-delay", "100ms"])
        .args(["--port", &app.port, "--proxy", &proxy.url(), "--ship", &ship.url()])
        .expect_exit(0)
        .expect_stderr("got no answer in time")
        .expect_stderr("\"source\":\"the kernel's socket table (INET_DIAG)\"");
}

/// It still has its lease, so that it would not be asked for it again within 4 s.
#[test]
fn a_proxy_that_was_lost_is_asked_once_more_before_the_traffic_counts_as_gone() {
    let (is_busy, mut looks) = (Arc::new(AtomicBool::new(true)), 0);
    let busy = Arc::clone(&is_busy);
    let proxy = Neighbour::new(move |line| {
        looks += usize::from(line == "GET /drain");
        let in_flight = u8::from(busy.load(Ordering::Acquire));
        match (line, looks) {
            ("GET /drain", 3..=5) => Answer::Reply(500, String::new()),
            ("GET /drain", _) => {
                Answer::Reply(200, format!(r#"{{"in_flight":{in_flight},"ms_since_last_connection":null}}"#))
            }
            (line, _) if lease_of(line).is_some() => Answer::Reply(200, "{}".to_owned()),
            _ => Answer::Unknown,
        }
    });
    let (app, ship) = (App::new(), ship(200, ""));
    let run = quick(&["--port", &app.port, "--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.wait_for("GET /drain", 8);
    assert_eq!(ship.count("POST"), 0, "it went on with a request in flight");
    is_busy.store(false, Ordering::Release);
    run.wait()
        .expect_exit(0)
        .expect_stderr("cannot tell the traffic from")
        .expect_stderr("can be told from")
        .expect_stderr("quiet: nothing active");
}

/// The last look is at a proxy that hangs, and the call takes a third of what it is promised.
#[test]
fn a_proxy_that_hangs_at_the_end_of_the_watch_leaves_the_steps_their_share() {
    let mut began = None;
    let proxy = Neighbour::new(move |line| match line {
        // The watch ends at 6.95 s: 10 s less a second for the call, two for ship, and the way out.
        _ if began.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(6_750) => {
            Answer::Silence
        }
        "GET /drain" => Answer::Reply(200, r#"{"in_flight":1,"ms_since_last_connection":null}"#.to_owned()),
        line if lease_of(line).is_some() => Answer::Reply(200, "{}".to_owned()),
        _ => Answer::Unknown,
    });
    let app = Neighbour::new(|_| {
        std::thread::sleep(Duration::from_millis(300));
        Answer::Reply(200, String::new())
    });
    let ship = ship(200, "");
    let call = format!("POST {}/stop", app.url());
    quick(&["--grace", "11s", "--proxy", &proxy.url(), "--ship", &ship.url(), "--then", &call])
        .expect_exit(75)
        .expect_stderr(&format!("{call} was answered with 200"))
        .expect_stderr("1 connection still open");
}

#[test]
fn a_single_failed_poll_changes_nothing() {
    let mut looks = 0;
    let proxy = Neighbour::new(move |line| {
        looks += usize::from(line == "GET /drain");
        match looks {
            _ if line.starts_with("POST") => Answer::Reply(200, String::new()),
            2 => Answer::Reply(500, String::new()),
            3 => Answer::Reply(200, "not JSON".to_owned()),
            _ => Answer::Reply(200, r#"{"in_flight":0,"ms_since_last_connection":null}"#.to_owned()),
        }
    });
    let ship = ship(200, "");
    quick(&["--quiet", "1s", "--proxy", &proxy.url(), "--ship", &ship.url()])
        .expect_exit(0)
        .refuse_stderr("any more")
        .expect_stderr("quiet: nothing active");
    assert!(proxy.count("GET /drain") >= 4);
}

#[test]
fn with_no_source_left_it_holds_all_the_time_there_is_and_warns() {
    let (ship, proxy) = (ship(200, ""), Proxy::new(traffic(1, 1)));
    let run = drain(&["--grace", "6s", "--reserve", "1s", "--proxy", &proxy.url(), "--ship", &ship.url()]);
    let started = Instant::now();
    let run = run.start();
    proxy.server.wait_for("GET /drain", 1);
    drop(proxy);
    run.wait().expect_exit(0).expect_stderr("held all the time there was");
    let flushed = ship.requests()[0].at - started;
    assert!((Duration::from_secs(3)..Duration::from_secs(6)).contains(&flushed), "{flushed:?}");
}

#[test]
fn sigint_gives_the_lease_back() {
    let (proxy, ship) = (Proxy::new(traffic(1, 1)), ship(200, ""));
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
    let (proxy, ship) = (Proxy::new(traffic(1, 4)), ship(200, ""));
    let run = quick(&["--proxy", &proxy.url(), "--ship", &ship.url()]).start();
    proxy.server.wait_for("GET /drain", 2);
    run.terminate()
        .expect_exit(75)
        .expect_stderr("ended by SIGTERM")
        .expect_stderr("4 connections still open");
    assert_eq!(proxy.server.count("DELETE"), 0);
}

#[test]
fn a_proxy_that_refuses_the_lease_is_still_asked_for_its_figures() {
    let proxy = Neighbour::new(|line| match line {
        "GET /drain" => Answer::Reply(200, r#"{"in_flight":0,"ms_since_last_connection":null}"#.to_owned()),
        _ => Answer::Reply(503, String::new()),
    });
    let ship = ship(200, "");
    quick(&["--proxy", &proxy.url(), "--ship", &ship.url()])
        .expect_exit(0)
        .expect_stderr("was answered with 503")
        .expect_stderr("quiet: nothing active");
}
