//! What is done between quiet and the flush: calls, signals, programs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::{Answer, Neighbour, drain, quick, ship};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use podkit_testkit::{Run, Signal, eventually, free_port};

/// A process of the app's, with a name of its own; it ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        symlink("/bin/sleep", &path).expect("the directory is writable");
        Self(Command::new(path).arg("600").spawn().expect("there is a sleep"))
    }

    /// A shell that does not end on SIGTERM.
    fn stubborn(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        symlink("/bin/sh", &path).expect("the directory is writable");
        let mut child = Command::new(path)
            .args(["-c", "trap '' TERM HUP; echo ready; while :; do sleep 0.05; done"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        // The trap is set once the first byte has come.
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().expect("stdout is piped"), &mut byte)
            .expect("the shell says that it is ready");
        Self(child)
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it is our child").is_some()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("the directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the directory is writable");
    path
}

/// With this config, and nobody to wait for.
fn with_config(dir: &Path, yaml: &str, ship: &Neighbour) -> Run {
    let path = dir.join("drain.yaml");
    fs::write(&path, yaml).expect("the directory is writable");
    quick(&["--ship", &ship.url(), "--config"]).arg(path)
}

#[test]
fn a_call_may_have_headers_a_body_and_statuses_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let ship = ship(200, "");
    let app = Neighbour::new(|line| match line {
        "PUT /stop" => Answer::Reply(418, String::new()),
        "POST /plain" => Answer::Reply(200, String::new()),
        _ => Answer::Unknown,
    });
    let url = app.url();
    let yaml = format!(
        "then:\n  - call: PUT {url}/stop\n    headers: {{X-Token: hidden-token, Content-Type: application/json}}\n    \
         body: '{{\"now\": \"hidden-body\"}}'\n    status: [202, 418]\n    timeout: 20s\n  - POST {url}/plain\n"
    );
    let finished = with_config(dir.path(), &yaml, &ship)
        .expect_exit(0)
        .expect_stderr("/stop was answered with 418")
        .refuse_stderr("hidden");
    assert!(finished.stderr.contains("/plain was answered with 200"), "{}", finished.stderr);
    let request = &app.requests()[0];
    assert_eq!(request.body, "{\"now\": \"hidden-body\"}");
    for field in ["X-Token: hidden-token", "Content-Type: application/json"] {
        assert!(request.head.iter().any(|line| line == field), "{:?}", request.head);
    }
    let checked = drain(&["check", "--config"]).arg(dir.path().join("drain.yaml")).expect_exit(0);
    assert!(!checked.stdout.contains("hidden") && checked.stdout.contains("X-Token"), "{}", checked.stdout);
}

#[test]
fn a_status_that_was_not_expected_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (app, ship) = (Neighbour::new(|_| Answer::Reply(200, String::new())), ship(200, ""));
    let yaml = format!("then: {{call: GET {}/, status: 202}}\n", app.url());
    with_config(dir.path(), &yaml, &ship)
        .expect_exit(1)
        .expect_stderr("podkit-drain: the traffic has left, but GET ")
        .expect_stderr("was answered with 200");
}

#[test]
fn a_call_ends_at_its_own_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let (app, ship) = (Neighbour::new(|_| Answer::Silence), ship(200, ""));
    let yaml = format!("then: {{call: GET {}/, timeout: 100ms}}\n", app.url());
    let finished =
        with_config(dir.path(), &yaml, &ship).expect_exit(1).expect_stderr("got no answer in time");
    let line = finished.stderr.lines().find(|line| line.contains("\"step\":\"then\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(line["spent"].as_str().unwrap().ends_with("ms"), "{line}");
    assert_eq!(ship.count("POST /flush"), 1);
}

#[test]
fn a_token_in_a_url_is_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let ship = ship(200, "");
    let app = Neighbour::new(|line| match line {
        "POST /silent?token=hidden" => Answer::Silence,
        _ => Answer::Reply(500, String::new()),
    });
    let url = app.url();
    let gone = format!("http://127.0.0.1:{}", free_port());
    let yaml = format!(
        "then:\n  - {{call: 'POST {url}/silent?token=hidden', timeout: 100ms}}\n  - POST {url}/bad?token=hidden\n  \
         - POST {gone}/gone?token=hidden\nreport: {}\n",
        dir.path().join("report").display()
    );
    let finished = with_config(dir.path(), &yaml, &ship)
        .expect_exit(1)
        .expect_stderr(&format!(
            "but POST {url}/silent got no answer in time; POST {url}/bad?token=*** was answered with 500; \
             POST {gone}/gone?token=*** failed: cannot connect to {gone}: "
        ))
        .refuse_stderr("hidden");
    assert!(!finished.stdout.contains("hidden"));
    assert!(!fs::read_to_string(dir.path().join("report")).unwrap().contains("hidden"));
}

#[test]
fn a_flag_replaces_the_calls_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (app, ship) = (Neighbour::new(|_| Answer::Reply(200, String::new())), ship(200, ""));
    let yaml = format!("then:\n  - call: POST {}/file\n    body: x\n", app.url());
    with_config(dir.path(), &yaml, &ship)
        .args(["--then", &format!("POST {}/flag", app.url())])
        .expect_exit(0);
    assert_eq!(app.lines(), ["POST /flag"]);
}

#[test]
fn a_signal_is_sent_by_name_and_the_end_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let ship = ship(200, "");
    let mut app = Sleeper::start(dir.path(), "drain-t-name");
    quick(&["--ship", &ship.url(), "--signal", "TERM:drain-t-name"])
        .expect_exit(0)
        .expect_stderr("SIGTERM to \\\"drain-t-name\\\" was sent: process ")
        .expect_stderr(" has ended");
    assert!(app.has_ended(), "it was waited for");
}

#[test]
fn a_signal_is_sent_by_pid_file() {
    let dir = tempfile::tempdir().unwrap();
    let ship = ship(200, "");
    let mut app = Sleeper::start(dir.path(), "drain-t-file");
    let pid_file = dir.path().join("app.pid");
    fs::write(&pid_file, app.0.id().to_string()).unwrap();
    let yaml = format!("signal: {{signal: SIGKILL, pid_file: {}}}\n", pid_file.display());
    with_config(dir.path(), &yaml, &ship).expect_exit(0).expect_stderr("has ended");
    assert!(app.has_ended());
}

#[test]
fn a_process_that_does_not_end_is_a_failure_after_its_wait() {
    let dir = tempfile::tempdir().unwrap();
    let ship = ship(200, "");
    let mut app = Sleeper::stubborn(dir.path(), "drain-t-stub");
    let yaml = "signal:\n  - {signal: TERM, process: drain-t-stub, wait: 150ms}\n  - HUP:drain-t-stub\n";
    with_config(dir.path(), yaml, &ship)
        .expect_exit(1)
        .expect_stderr("SIGTERM to \\\"drain-t-stub\\\" was sent, but process ")
        .expect_stderr("has not ended in time")
        .expect_stderr("SIGHUP to \\\"drain-t-stub\\\" was sent to process ");
    assert!(!app.has_ended());
    assert_eq!(ship.count("POST /flush"), 1, "the flush is not held up");
}

#[test]
fn waiting_for_an_end_leaves_ship_its_share() {
    let dir = tempfile::tempdir().unwrap();
    let ship = ship(200, "");
    let _app = Sleeper::stubborn(dir.path(), "drain-t-long");
    quick(&["--grace", "3s", "--ship", &ship.url(), "--signal", "TERM:drain-t-long"])
        .expect_exit(1)
        .expect_stderr("has not ended in time");
    assert_eq!(ship.count("POST /flush"), 1);
}

#[test]
fn a_process_that_is_not_there_is_named() {
    let ship = ship(200, "");
    quick(&["--ship", &ship.url(), "--signal", "TERM:drain-t-nobody"])
        .expect_exit(1)
        .expect_stderr("no process \\\"drain-t-nobody\\\" is here")
        .expect_stderr("shareProcessNamespace");
    assert_eq!(ship.count("POST /flush"), 1);
}

/// Its end would be that of the drain, too; other signals it may have. This one does no harm to this machine's first
/// process.
#[test]
fn the_end_of_the_first_process_is_left_to_the_kubelet() {
    let dir = tempfile::tempdir().unwrap();
    let (ship, pid_file) = (ship(200, ""), dir.path().join("app.pid"));
    fs::write(&pid_file, "1\n").unwrap();
    let yaml = |wait| format!("signal: {{signal: CONT, pid_file: {}, wait: {wait}}}\n", pid_file.display());
    let told = "it is process 1, and this drain would end with it: leave it to the kubelet, which sends SIGTERM after the \
                hook, or set `shareProcessNamespace: true`";
    with_config(dir.path(), &yaml("1s"), &ship)
        .expect_exit(1)
        .expect_stderr(&format!("could not be sent: {told}"));
    assert_eq!(ship.count("POST /flush"), 1);
    for (wait, told) in [("1s", told), ("0s", "process 1")] {
        with_config(dir.path(), &yaml(wait), &ship)
            .arg("--dry-run")
            .expect_exit(0)
            .expect_stdout(&format!("now: {told}\n"));
    }
}

#[test]
fn programs_run_without_a_shell_and_their_output_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let ship = ship(200, "");
    let stop = script(dir.path(), "stop", "echo \"$# $1 $2\"; echo oops >&2");
    quick(&["--ship", &ship.url(), "--run", &format!("{} $HOME  'x", stop.display())])
        .expect_exit(0)
        .expect_stderr("2 $HOME 'x\n")
        .expect_stderr("oops\n")
        .expect_stderr("stop has ended well");
    let yaml = format!("run: [[{}, 'a b', c], [/bin/false], [/nowhere/x, hidden-token]]\n", stop.display());
    with_config(dir.path(), &yaml, &ship)
        .expect_exit(1)
        .expect_stderr("2 a b c\n")
        .expect_stderr("/bin/false ended with exit status: 1; /nowhere/x could not be run: no such file")
        .refuse_stderr("hidden");
    assert_eq!(ship.count("POST /flush"), 2);
}

/// A helper that is to go on is the program's own business.
#[test]
fn what_a_program_leaves_behind_when_it_ends_well_lives_on() {
    let dir = tempfile::tempdir().unwrap();
    let ship = ship(200, "");
    let pid_file = dir.path().join("pid");
    // It closes the log, or the test would wait for more of that.
    let text = format!("sleep 600 >/dev/null 2>&1 & echo $! >{}", pid_file.display());
    let stop = script(dir.path(), "stop", &text);
    quick(&["--ship", &ship.url(), "--run", stop.to_str().unwrap()])
        .expect_exit(0)
        .expect_stderr("stop has ended well");
    let pid = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it still runs");
}

#[test]
fn a_program_that_does_not_end_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let ship = ship(200, "");
    let pid_file = dir.path().join("pid");
    let stop = script(dir.path(), "stop", &format!("sleep 600 & echo $! >{}; wait", pid_file.display()));
    quick(&["--grace", "3s", "--ship", &ship.url(), "--run", stop.to_str().unwrap()])
        .expect_exit(1)
        .expect_stderr("stop has not ended in time and was killed");
    assert_eq!(ship.count("POST /flush"), 1);
    assert_ended(&pid_file);
}

/// A tenth of the budget is for the second of two programs, as nothing else can end the first.
#[test]
fn a_stuck_program_leaves_the_next_one_its_share() {
    let ship = ship(200, "");
    quick(&["--grace", "7s", "--ship", &ship.url(), "--run", "sleep 600", "--run", "/bin/true"])
        .expect_exit(1)
        .expect_stderr("sleep has not ended in time and was killed")
        .expect_stderr("/bin/true has ended well");
    assert_eq!(ship.count("POST /flush"), 1);
}

#[test]
fn a_program_does_not_outlive_a_drain_that_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let text = format!("sleep 600 & echo $! >{0}.new; mv {0}.new {0}; wait", pid_file.display());
    let stop = script(dir.path(), "stop", &text);
    let run = quick(&["--run", stop.to_str().unwrap()]).start();
    eventually("the program runs", || pid_file.exists().then_some(()));
    run.signal(Signal::SIGTERM);
    let waiting = format!("waiting for {}", stop.display());
    run.wait().expect_exit(75).expect_stderr("ended by SIGTERM").expect_stderr(&waiting);
    assert_ended(&pid_file);
}

/// Whoever interrupts wants the app to live: what the drain had not begun by then must not come any more, however long
/// the lease takes to be given back.
#[test]
fn a_drain_that_is_cancelled_tells_the_app_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let (ship, told) = (ship(200, ""), dir.path().join("told"));
    let (deleted, is_deleted) = mpsc::channel();
    // Longer than the steps would take to go on.
    let proxy = Neighbour::new(move |line| {
        if line.starts_with("DELETE") {
            deleted.send(()).expect("the test waits for it");
            thread::sleep(Duration::from_secs(1));
        }
        Answer::Reply(200, r#"{"in_flight":0,"ms_since_last_connection":null}"#.to_owned())
    });
    let (answer, answered) = mpsc::channel::<()>();
    let app = Neighbour::new(move |line| {
        if line == "POST /first" {
            answered.recv().expect("the test answers");
        }
        Answer::Reply(200, String::new())
    });
    let mut process = Sleeper::start(dir.path(), "drain-t-cancel");
    let run = quick(&["--proxy", &proxy.url(), "--ship", &ship.url(), "--signal", "TERM:drain-t-cancel"])
        .args(["--then", &format!("POST {}/first", app.url()), "--then", &format!("POST {}/stop", app.url())])
        .args(["--run", script(dir.path(), "stop", &format!("touch {}", told.display())).to_str().unwrap()])
        .start();
    app.wait_for("POST /first", 1);
    run.signal(Signal::SIGINT);
    is_deleted.recv().expect("the lease is given back");
    answer.send(()).expect("the app waits");
    run.wait()
        .expect_exit(1)
        .expect_stderr("cancelled by SIGINT")
        .expect_stderr("the lease was given back")
        .refuse_stderr("\"message\":\"drained\"");
    assert_eq!(app.lines(), ["POST /first"]);
    assert_eq!(ship.count("POST /flush"), 0);
    assert!(!process.has_ended() && !told.exists());
}

/// The process with this number has ended; one that nobody has buried has, too.
fn assert_ended(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).expect("the program has written it");
    eventually("what the program started has ended", || {
        match fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
            Ok(stat) => stat.contains(") Z ").then_some(()),
            Err(_) => Some(()),
        }
    });
}

#[test]
fn calls_come_before_signals_and_signals_before_programs() {
    let dir = tempfile::tempdir().unwrap();
    let (app, ship) = (Neighbour::new(|_| Answer::Reply(200, String::new())), ship(200, ""));
    let _process = Sleeper::start(dir.path(), "drain-t-order");
    let finished = quick(&["--ship", &ship.url(), "--run", "/bin/true", "--signal", "TERM:drain-t-order"])
        .args(["--then", &format!("POST {}/x", app.url())])
        .expect_exit(0);
    let steps: Vec<String> = finished
        .stderr
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(steps, ["lease", "quiet", "then", "signal", "run", "flush"]);
}

#[test]
fn bad_steps_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("drain.yaml");
    let yaml = "then:\n  - {call: POST, status: 999}\n  - {headers: {Host: x, 'a b': y}, call: 'GET http://[::1]/'}\n\
                signal:\n  - {signal: TERM}\n  - {signal: NOPE, process: a}\n  - {signal: HUP, process: a, pid_file: /b}\n\
                run:\n  - []\n";
    fs::write(&path, yaml).unwrap();
    let finished = drain(&["check", "--config"]).arg(path).expect_exit(64);
    for message in [
        "drain.yaml:2: then[0].call: \"POST\" is not `METHOD URL`",
        "drain.yaml:2: then[0].status: \"999\" is not a status from 200 to 599",
        "drain.yaml:3: then[1].headers: \"Host\" is set by podkit-drain itself",
        "drain.yaml:3: then[1].headers: \"a b\" or its value cannot stand in a header",
        "drain.yaml:5: signal[0]: names no process",
        "drain.yaml:6: signal[1].signal: \"NOPE\" is no signal",
        "drain.yaml:7: signal[2]: names a process twice",
        "drain.yaml:9: run[0]: names no program",
    ] {
        assert!(finished.stderr.contains(message), "{message:?} is not in\n{}", finished.stderr);
    }
}
