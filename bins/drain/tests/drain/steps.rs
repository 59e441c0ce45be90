//! The steps after the watch, the budget and the log.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::support::{Answer, App, Neighbour, Proxy, Traffic, drain, quick, ship, timed};
use podkit_testkit::{Run, Signal, eventually, free_port, program};

/// Short delays and a budget of two seconds.
fn brief(args: &[&str]) -> Run {
    quick(args).env("PODKIT_DRAIN_GRACE", "3s")
}

fn quiet_proxy() -> Proxy {
    Proxy::new(Traffic::default())
}

#[test]
fn calls_are_sent_in_order_after_the_watch_and_before_the_flush() {
    let (proxy, ship) = (quiet_proxy(), ship(200, ""));
    let app = Neighbour::new(|line| match line {
        "POST /first" | "PUT /second?x=1" | "GET /" => Answer::Reply(204, String::new()),
        _ => Answer::Unknown,
    });
    let url = app.url();
    quick(&["--proxy", &proxy.url(), "--ship", &ship.url()])
        .args(["--then", &format!("POST {url}/first"), "--then", &format!("PUT {url}/second?x=1")])
        .args(["--then", &format!("GET {url}")])
        .expect_exit(0)
        .expect_stderr("/first was answered with 204");
    assert_eq!(app.lines(), ["POST /first", "PUT /second?x=1", "GET /"]);
    let (calls, polls) = (app.requests(), proxy.server.requests());
    let last_poll = polls.iter().rfind(|request| request.line == "GET /drain").unwrap().at;
    assert!(last_poll < calls[0].at && calls[2].at < ship.requests()[0].at);
}

#[test]
fn a_failed_call_stops_nothing_and_is_exit_1() {
    let (proxy, ship) = (quiet_proxy(), ship(200, ""));
    let app = Neighbour::new(|line| Answer::Reply(if line == "POST /a" { 500 } else { 200 }, String::new()));
    let gone = free_port();
    quick(&["--proxy", &proxy.url(), "--ship", &ship.url(), "--then", &format!("POST {}/a", app.url())])
        .args([
            "--then",
            &format!("POST http://127.0.0.1:{gone}/b"),
            "--then",
            &format!("POST {}/c", app.url()),
        ])
        .expect_exit(1)
        .expect_stderr("podkit-drain: the traffic has left, but POST http://127.0.0.1:")
        .expect_stderr("/a was answered with 500; POST ")
        .expect_stderr("/b failed: cannot connect to ");
    assert_eq!(app.lines(), ["POST /a", "POST /c"]);
    assert_eq!(ship.count("POST /flush"), 1);
}

#[test]
fn a_stuck_call_leaves_ship_its_share() {
    let (proxy, ship, app) = (quiet_proxy(), ship(200, ""), Neighbour::new(|_| Answer::Silence));
    let call = format!("POST {}/stop", app.url());
    brief(&["--proxy", &proxy.url(), "--ship", &ship.url(), "--then", &call])
        .expect_exit(1)
        .expect_stderr("/stop got no answer in time");
    assert_eq!(ship.count("POST /flush"), 1);
}

/// What the watch leaves to them on a small budget is for all of them.
#[test]
fn each_call_has_a_share_where_traffic_never_left() {
    let (proxy, ship) = (Proxy::new(Traffic { in_flight: 1, open: 1, last: None }), ship(200, ""));
    let app = Neighbour::new(|_| Answer::Reply(200, String::new()));
    let then = |path| format!("POST {}/{path}", app.url());
    quick(&["--grace", "9s", "--proxy", &proxy.url(), "--ship", &ship.url()])
        .args(["--then", &then("a"), "--then", &then("b"), "--then", &then("c")])
        .expect_exit(75)
        .expect_stderr("1 connection still open\n");
    assert_eq!(app.lines(), ["POST /a", "POST /b", "POST /c"]);
}

#[test]
fn ship_is_given_what_is_left() {
    let (proxy, ship) = (quiet_proxy(), ship(200, "{}"));
    quick(&["--proxy", &proxy.url(), "--ship", &ship.url()])
        .expect_exit(0)
        .expect_stderr("has delivered every whole line that the logs held");
    let line = &ship.lines()[0];
    let wait: u64 =
        line.strip_prefix("POST /flush?wait=").unwrap().strip_suffix("ms").unwrap().parse().unwrap();
    assert!((10_000..24_000).contains(&wait), "{line}");
}

#[test]
fn logs_that_ship_could_not_deliver_are_named() {
    let (proxy, ship) = (quiet_proxy(), ship(504, r#"{"pending_bytes": 4711}"#));
    quick(&["--proxy", &proxy.url(), "--ship", &ship.url()])
        .expect_exit(75)
        .expect_stderr(r#"logs not delivered: {"pending_bytes": 4711}"#);
}

#[test]
fn a_ship_that_never_answers_is_a_deadline() {
    let (proxy, ship) = (quiet_proxy(), Neighbour::new(|_| Answer::Silence));
    let (finished, took) = timed(brief(&["--proxy", &proxy.url(), "--ship", &ship.url()]));
    finished.expect_exit(75).expect_stderr("logs not delivered: POST").expect_stderr("got no answer in time");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_ship_that_was_named_and_is_not_there_is_a_deadline() {
    let proxy = quiet_proxy();
    let gone = format!("http://127.0.0.1:{}", free_port());
    brief(&["--proxy", &proxy.url(), "--ship", &gone])
        .expect_exit(75)
        .expect_stderr(&format!("logs not delivered: cannot connect to {gone}: connection refused"));
}

#[test]
fn a_ship_that_comes_back_in_time_is_flushed() {
    let proxy = quiet_proxy();
    let port = free_port();
    let run = quick(&["--proxy", &proxy.url(), "--ship", &format!("http://127.0.0.1:{port}")]).start();
    run.wait_for_stderr("quiet: nothing active");
    let mut answers = 0;
    let ship = Neighbour::on(port, move |_| {
        answers += 1;
        Answer::Reply(if answers == 1 { 503 } else { 200 }, String::new())
    });
    run.wait().expect_exit(0);
    assert_eq!(ship.count("POST /flush"), 2, "not ready is not refused");
}

#[test]
fn something_else_where_ship_should_be_is_said_at_once() {
    let (proxy, other) = (quiet_proxy(), Neighbour::new(|_| Answer::Reply(404, String::new())));
    let (finished, took) = timed(quick(&["--proxy", &proxy.url(), "--ship", &other.url()]));
    finished.expect_exit(75).expect_stderr("answered the flush with 404");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn traffic_and_logs_that_were_left_are_both_named() {
    let (app, ship) = (App::new(), ship(504, "3 lines"));
    let connection = app.connect();
    brief(&["--port", &app.port, "--count-loopback", "--ship", &ship.url()])
        .expect_exit(75)
        .expect_stderr("1 connection still open; logs not delivered: 3 lines");
    drop(connection);
}

/// Whatever is stuck, the promise holds. The wall clock has the start of a process on a busy machine in it, so it is
/// only a rough bound; the drain's own clock is the sharper one.
#[test]
fn the_end_is_never_later_than_grace_less_reserve() {
    let app = App::new();
    let connection = app.connect();
    let silent = || Neighbour::new(|_| Answer::Silence);
    let (proxy, ship, call) = (silent(), silent(), silent());
    let then = format!("POST {}/x", call.url());
    let port = ["--port", &app.port, "--count-loopback", "--idle", "1h"];
    for extra in [
        vec!["--proxy", &proxy.url()],
        vec!["--ship", &ship.url()],
        vec!["--then", &then, "--then", &then, "--ship", &ship.url()],
        vec![
            "--proxy",
            &proxy.url(),
            "--ship",
            &ship.url(),
            "--then",
            &then,
            "--quiet",
            "1h",
            "--min-delay",
            "1h",
        ],
    ] {
        let run = drain(&["--grace", "3s", "--reserve", "600ms"]).args(port).args(&extra);
        let (finished, took) = timed(run);
        let finished = finished.expect_exit(75).expect_stderr("1 connection still open");
        assert!(took < Duration::from_secs(8), "{took:?} with {extra:?}");
        let line = finished.stderr.lines().rfind(|line| line.contains("the deadline passed after")).unwrap();
        let after = line.split("after ").nth(1).unwrap().split('s').next().unwrap();
        assert!(after.parse::<f64>().unwrap() <= 3.0, "beyond the grace period: {line}");
    }
    drop(connection);
}

#[test]
fn a_budget_shorter_than_the_delays_is_said_and_is_no_failure() {
    let (app, ship) = (App::new(), ship(200, ""));
    drain(&["--grace", "2s", "--reserve", "1s", "--port", &app.port, "--ship", &ship.url()])
        .expect_exit(0)
        .expect_stderr("--quiet or --min-delay is longer than the budget");
}

/// The default ports are those of contract 2, so some tests need a machine where nobody listens on them.
fn nobody_at_the_default_ports() {
    for port in [9801, 9802] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "something listens on port {port}");
    }
}

#[test]
fn a_ship_that_nobody_named_is_not_missed_at_the_deadline() {
    nobody_at_the_default_ports();
    let app = App::new();
    let connection = app.connect();
    drain(&["--grace", "2s", "--reserve", "1s", "--port", &app.port, "--count-loopback"])
        .expect_exit(75)
        .expect_stderr("s: 1 connection still open\n");
    drop(connection);
}

#[test]
fn with_nothing_around_only_the_least_delay_is_held() {
    nobody_at_the_default_ports();
    let (finished, took) = timed(drain(&["--min-delay", "300ms"]));
    finished
        .expect_exit(0)
        .expect_stderr("no proxy at http://127.0.0.1:9802")
        .expect_stderr("no traffic to watch")
        .expect_stderr("no ship at http://127.0.0.1:9801")
        .refuse_stderr("WARN");
    assert!((Duration::from_millis(300)..Duration::from_secs(15)).contains(&took), "{took:?}");
}

#[test]
fn the_least_delay_is_held_for_no_longer_than_the_budget() {
    nobody_at_the_default_ports();
    drain(&["--grace", "2s", "--reserve", "1s", "--min-delay", "1h"])
        .expect_exit(0)
        .expect_stderr("no traffic to watch");
}

#[test]
fn each_step_has_a_line_in_the_log_and_a_failure_goes_to_stderr_too() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("drain.log");
    fs::write(&log, "what was there before\n").unwrap();
    let (proxy, ship) = (quiet_proxy(), ship(504, "2 lines"));
    let finished = program(env!("CARGO_BIN_EXE_podkit-drain"))
        .args(["--grace", "20s", "--quiet", "100ms", "--min-delay", "50ms", "--log-format", "json"])
        .args(["--proxy", &proxy.url(), "--ship", &ship.url(), "--log", log.to_str().unwrap()])
        .expect_exit(75);
    assert!(finished.stderr.starts_with("podkit-drain: the deadline passed after"), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);

    let text = fs::read_to_string(&log).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("what was there before"), "the log is appended to");
    let mut lines: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let report = lines.pop().unwrap();
    assert_eq!(
        (report["outcome"].as_str(), report["exit_code"].as_u64()),
        (Some("deadline"), Some(75)),
        "{report}"
    );
    let steps: Vec<String> = lines
        .into_iter()
        .map(|line| {
            assert!(
                line["spent"].is_string() && line["left"].is_string() && line["message"].is_string(),
                "{line}"
            );
            line["step"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(steps, ["lease", "quiet", "flush"]);
}

#[test]
fn a_log_that_cannot_be_opened_holds_nothing_up() {
    let (proxy, ship) = (quiet_proxy(), ship(200, ""));
    quick(&["--proxy", &proxy.url(), "--ship", &ship.url(), "--log", "/nowhere/drain.log"])
        .expect_exit(0)
        .expect_stderr(
            "cannot open the log \\\"/nowhere/drain.log\\\": no such file or directory: going on with standard error",
        )
        .expect_stderr("quiet: nothing active");
}

#[test]
fn several_installations_at_once_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..6).map(|_| drain(&["install"]).arg(dir.path()).show(dir.path()).start()).collect();
    for one in all {
        one.wait().expect_exit(0);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no debris");
}

#[test]
fn an_installed_copy_drains() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("podkit-drain");
    for _ in 0..2 {
        drain(&["install"]).arg(dir.path()).show(dir.path()).expect_exit(0).expect_stdout("podkit-drain");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no debris");

    // A restarted init container installs it again while a hook may run.
    let running = program(&path).args(["watch", "--for", "1m", "--port", "1"]).start();
    eventually("it runs", || running.stdout().contains("after ").then_some(()));
    drain(&["install"]).arg(dir.path()).show(dir.path()).expect_exit(0);
    running.signal(Signal::SIGINT);
    running.wait().expect_exit(0);

    let (proxy, ship) = (quiet_proxy(), ship(200, ""));
    let started = Instant::now();
    program(path)
        .args(["--quiet", "100ms", "--min-delay", "50ms", "--log", "/dev/stderr"])
        .args(["--proxy", &proxy.url(), "--ship", &ship.url()])
        .expect_exit(0);
    assert!(started.elapsed() < Duration::from_secs(20));
}
