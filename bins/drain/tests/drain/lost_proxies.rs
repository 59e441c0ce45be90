//! Proxies that are late, away, stuck or lost: what the drain knows then, and from whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Answer, App, Neighbour, Proxy, Traffic, drain, fresh_traffic, lease_of, quick, ship, slow_proxy,
};

#[test]
fn a_proxy_that_goes_away_makes_way_for_the_socket_table() {
    let (app, ship, proxy) = (App::new(), ship(200, ""), Proxy::new(fresh_traffic(1, 1)));
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
    let (ship, proxy) = (ship(200, ""), Proxy::new(fresh_traffic(1, 1)));
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
