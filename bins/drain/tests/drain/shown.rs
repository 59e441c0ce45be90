//! What people read: the report, the dry run, the live view.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use crate::support::{Answer, App, Neighbour, Proxy, drain, quick, ship, timed, traffic};
use podkit_testkit::{Finished, Signal, eventually, free_port, program};
use serde_json::Value;

/// The last JSON line of the log.
fn report(finished: &Finished) -> Value {
    let line = finished.stderr.lines().rfind(|line| line.starts_with("{\"report\"")).unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {:?}", finished.stderr))
}

#[test]
fn the_report_has_all_figures() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("drain.json");
    let (proxy, ship) = (Proxy::new(traffic(2, 5)), ship(200, ""));
    let run =
        quick(&["--proxy", &proxy.url(), "--ship", &ship.url(), "--report", file.to_str().unwrap()]).start();
    proxy.server.wait_for("GET /drain", 3);
    proxy.set(traffic(0, 1));
    let finished = run.wait().expect_exit(0);
    let report = report(&finished);
    assert_eq!(report["source"], proxy.url());
    for (key, want) in [
        ("connections_at_start", 5),
        ("connections_at_end", 1),
        ("in_flight_at_start", 2),
        ("in_flight_at_end", 0),
        ("exit_code", 0),
    ] {
        assert_eq!(report[key], want, "{key} in {report}");
    }
    assert_eq!(
        (&report["outcome"], &report["version"], report["budget_seconds"].as_f64()),
        (&Value::from("drained"), &Value::from(env!("CARGO_PKG_VERSION")), Some(24.0))
    );
    let steps = report["steps"].as_array().unwrap();
    let named: Vec<_> = steps.iter().map(|step| (step["step"].as_str(), step["result"].as_str())).collect();
    let done = |step| (Some(step), Some("done"));
    assert_eq!(named, [done("lease"), done("quiet"), done("flush")]);
    assert!(steps[1]["seconds"].as_f64().unwrap() > 0.2, "{report}");
    assert!(report["spent_seconds"].as_f64().unwrap() >= steps[1]["seconds"].as_f64().unwrap(), "{report}");

    assert!(report["looks"].as_u64() >= Some(3), "{report}");
    let first = report["first_look_seconds"].as_f64().unwrap();
    assert!(first > 0.0 && first < report["spent_seconds"].as_f64().unwrap(), "{report}");
    let readme = include_str!("../../README.md");
    for key in report.as_object().unwrap().keys().filter(|key| *key != "report") {
        let told = key.strip_suffix("_at_end").unwrap_or(key);
        assert!(readme.contains(&format!("`{told}")), "{key} is not in the README");
    }

    let left: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(left, report, "the file has the same");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn the_report_says_what_was_left() {
    let (app, ship) = (App::new(), ship(504, "3 lines"));
    let _connection = app.connect();
    let finished = drain(&["--grace", "2s", "--reserve", "1s", "--port", &app.port, "--count-loopback"])
        .args(["--ship", &ship.url()])
        .expect_exit(75);
    let report = report(&finished);
    assert_eq!((&report["outcome"], &report["exit_code"]), (&Value::from("deadline"), &Value::from(75)));
    assert_eq!(report["left"], "1 connection still open; logs not delivered: 3 lines");
    assert_eq!(report["connections_at_end"], 1);
}

#[test]
fn a_drain_that_is_ended_reports_too() {
    for (signal, code, outcome) in [(Signal::SIGTERM, 75, "terminated"), (Signal::SIGINT, 1, "cancelled")] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("drain.json");
        let proxy = Proxy::new(traffic(1, 4));
        let run = quick(&["--proxy", &proxy.url(), "--report", file.to_str().unwrap()]).start();
        proxy.server.wait_for("GET /drain", 2);
        run.signal(signal);
        run.wait().expect_exit(code);
        let left: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!((&left["outcome"], &left["connections_at_end"]), (&Value::from(outcome), &Value::from(4)));
    }
}

#[test]
fn a_report_that_cannot_be_left_is_a_warning() {
    let ship = ship(200, "");
    quick(&["--ship", &ship.url(), "--report", "/nowhere/drain.json"])
        .expect_exit(0)
        .expect_stderr("WARN")
        .expect_stderr("cannot leave the report at \\\"/nowhere/drain.json\\\": no such file or directory");
}

#[test]
fn a_dry_run_asks_and_changes_nothing() {
    let (proxy, ship, app) = (Proxy::new(traffic(2, 5)), ship(200, ""), App::new());
    let _connection = app.connect();
    let call = Neighbour::new(|_| Answer::Unknown);
    let gone = format!("http://127.0.0.1:{}", free_port());
    let (finished, took) = timed(
        quick(&[
            "--dry-run",
            "--port",
            &app.port,
            "--count-loopback",
            "--proxy",
            &proxy.url(),
            "--proxy",
            &gone,
        ])
        .args(["--ship", &ship.url(), "--then", &format!("POST {}/stop", call.url())])
        .args(["--signal", "TERM:drain-t-nobody", "--run", "/bin/stop hidden-token"]),
    );
    let finished = finished
        .expect_exit(0)
        .expect_stdout("budget  24.0s: 25s of grace less 1s for the app\n")
        .expect_stdout(&format!("lease   POST {}/drain\n        now: 5 open, 2 active\n", proxy.url()))
        .expect_stdout(&format!("now: cannot connect to {gone}: connection refused\n"))
        .expect_stdout("quiet   until nothing is active and nothing new has come for 300ms; not before 50ms")
        .expect_stdout("now: the kernel's socket table (INET_DIAG): 1 open, 1 active\n")
        .expect_stdout("now: /proc/net/tcp: 1 open, 1 active\n")
        .expect_stdout(&format!("then    POST {}/stop\n", call.url()))
        .expect_stdout("signal  SIGTERM to \"drain-t-nobody\", and wait for its end\n        now: no process")
        .expect_stdout("run     /bin/stop\n")
        .expect_stdout(&format!("flush   POST {}/flush", ship.url()))
        .expect_stdout("now: GET /livez is answered with 200\n");
    assert!(!finished.stdout.contains("hidden"), "{}", finished.stdout);
    assert_eq!(call.lines(), [] as [&str; 0]);
    assert_eq!(proxy.server.lines(), ["GET /drain"]);
    assert_eq!(ship.lines(), ["GET /livez"]);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn the_live_view_shows_connections_by_peer() {
    let (app, proxy) = (App::new(), Proxy::new(traffic(1, 3)));
    let args = ["watch", "--once", "--idle", "0s", "--port", &app.port, "--proxy", &proxy.url()];
    drain(&args).expect_exit(0).expect_stdout("0 active, 0 idle, 0 ending, 0 new\n");
    let (mut client, mut server) = app.connect();
    let _second = app.connect();
    client.write_all(b"?").unwrap();
    server.read_exact(&mut [0]).unwrap();
    let shown = drain(&args)
        .expect_exit(0)
        .expect_stdout("after ")
        .expect_stdout(&format!("{}: 3 open, 1 in flight, none came yet\n", proxy.url()))
        .expect_stdout("the kernel's socket table (INET_DIAG): 1 active, 1 idle, 0 ending, 0 new\n")
        .expect_stdout("(no client)");
    let line = shown.stdout.lines().find(|line| line.contains("127.0.0.1  ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().take(6).collect();
    assert_eq!(words, [app.port.as_str(), "127.0.0.1", "1", "1", "0", "0"], "{}", shown.stdout);
    assert_eq!(proxy.server.count("POST"), 0);
}

#[test]
fn the_live_view_goes_on_and_tells_new_ones_and_quiet_time() {
    let app = App::new();
    let gone = format!("http://127.0.0.1:{}", free_port());
    let run =
        drain(&["watch", "--idle", "0s", "--port", &app.port, "--count-loopback", "--proxy", &gone]).start();
    eventually("the first look", || run.stdout().contains("0 idle, 0 ending, 0 new").then_some(()));
    let _connection = app.connect();
    eventually("it is new", || run.stdout().contains("1 idle, 0 ending, 1 new").then_some(()));
    eventually("it is quiet again", || {
        let text = run.stdout();
        let after = text.split("1 new").nth(1)?;
        after.contains("quiet for ").then_some(())
    });
    run.signal(Signal::SIGINT);
    run.wait().expect_exit(0);
}

#[test]
fn the_live_view_ends_by_itself_when_told_so() {
    let (finished, took) = timed(drain(&["watch", "--for", "1500ms", "--port", "1"]));
    let finished = finished.expect_exit(0);
    assert_eq!(finished.stdout.matches("after ").count(), 2, "{}", finished.stdout);
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&took), "{took:?}");
    drain(&["watch", "--for", "9"])
        .expect_exit(64)
        .expect_stderr("--for: \"9\" has no unit\nhint: write a duration like");
}

#[test]
fn the_live_view_says_where_it_cannot_write() {
    let watch = format!("exec {} watch --once --port 1 >/dev/full", env!("CARGO_BIN_EXE_podkit-drain"));
    program("/bin/sh")
        .args(["-c", &watch])
        .expect_exit(1)
        .expect_stderr("podkit-drain: cannot write to stdout: no space left on device\n");
}

/// `podkit-drain watch | head -1`
#[test]
fn the_live_view_ends_well_with_its_reader() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut watch = Command::new(env!("CARGO_BIN_EXE_podkit-drain"));
    let mut child = watch.args(["watch", "--port", "1"]).stdout(writer).spawn().unwrap();
    drop((watch, reader));
    let status = eventually("it has ended", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}
