//! Waiting for what must be there first.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use podkit_testkit::{Signal, free_port};

use crate::kit::Sandbox;

#[test]
fn a_port_that_opens_later_and_a_file_that_appears_later_are_waited_for() {
    let sandbox = Sandbox::new();
    let port = free_port();
    sandbox.config(&format!(
        "wait:\n  - tcp: 127.0.0.1:{port}\n  - file: '@/ready'\n  - file: '@/seed.yaml'\n\
         files: [{{path: a, inline: x}}]\n"
    ));
    let run = sandbox.seed().args(["--log-level", "debug"]).start();
    run.wait_for_stderr("seed.yaml\",\"seconds\"");
    run.wait_for_stderr(&format!(
        "\"not there yet\",\"condition\":\"tcp 127.0.0.1:{port}\",\"error\":\"connection refused\""
    ));
    assert!(!sandbox.target().exists());
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    run.wait_for_stderr(&format!("\"is there\",\"condition\":\"tcp 127.0.0.1:{port}\""));
    assert!(!sandbox.target().exists());
    sandbox.write("ready", "");
    run.wait().expect_exit(0);
    assert_eq!(sandbox.read("a"), "x");
}

#[test]
fn a_config_that_only_waits_needs_no_target() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    sandbox.write(
        "only.yaml",
        format!("wait: [{{tcp: 'localhost:{}'}}]\n", listener.local_addr().unwrap().port()),
    );
    crate::kit::seed()
        .arg("--config")
        .arg(sandbox.path("only.yaml"))
        .expect_exit(0)
        .expect_stderr("all conditions are met");
}

#[test]
fn at_the_deadline_all_that_is_missing_is_named_with_its_last_error() {
    let sandbox = Sandbox::new();
    let port = free_port();
    sandbox.config(&format!(
        "deadline: 6s\nwait:\n  - tcp: 127.0.0.1:{port}\n  - file: '@/seed.yaml'\n  - file: /no/such/file\n\
         files: [{{path: a, inline: x}}]\n"
    ));
    let missing =
        format!("tcp 127.0.0.1:{port} (connection refused), file /no/such/file (no such file or directory)");
    sandbox
        .seed()
        .expect_exit(75)
        .expect_stderr(&format!("still waiting for 2 of 3: {missing}"))
        .expect_stderr(&format!("podkit-seed: the deadline of 6s passed while waiting for {missing}\n"));
    assert!(!sandbox.target().exists());
}

#[test]
fn a_signal_ends_the_wait_at_once_and_leaves_the_target_untouched() {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: a, inline: one}]\n");
    let before = sandbox.picture();
    sandbox.config("wait: [{file: /no/such/file}]\nfiles: [{path: a, inline: two}]\n");
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let run = sandbox.seed().args(["--log-level", "debug"]).start();
        run.wait_for_stderr("not there yet");
        let start = Instant::now();
        run.signal(signal);
        let stopped = run.wait().expect_exit(1).expect_stderr(
            "podkit-seed: stopped by a signal while waiting for file /no/such/file (no such file or directory); \
             nothing was changed\n",
        );
        // Well under the 2 minutes that the wait could take.
        assert!(start.elapsed() < Duration::from_secs(20), "{}", stopped.stderr);
        assert_eq!(sandbox.picture(), before);
    }
}

#[test]
fn a_target_that_cannot_be_used_is_told_before_the_wait() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "a file");
    sandbox.config("wait: [{file: /no/such/file}]\nfiles: [{path: a, inline: two}]\n");
    sandbox.seed().expect_exit(1).expect_stderr("podkit-seed: cannot use the target ");
}

#[test]
fn a_condition_with_a_deadline_of_its_own_ends_the_run() {
    let sandbox = Sandbox::new();
    let port = free_port();
    sandbox.config(&format!(
        "wait:\n  - {{file: /no/such/file, deadline: 2s}}\n  - tcp: 127.0.0.1:{port}\n  - {{file: '@/seed.yaml', \
         deadline: 700ms}}\nfiles: [{{path: a, inline: x}}]\n"
    ));
    sandbox.seed().expect_exit(75).expect_stderr(&format!(
        "podkit-seed: the deadline of 2s passed while waiting for file /no/such/file (no such file or directory); \
         also missing: tcp 127.0.0.1:{port} (connection refused)\n"
    ));
    assert!(!sandbox.target().exists());
}

#[test]
fn the_interval_bounds_the_pause_between_tries() {
    let sandbox = Sandbox::new();
    sandbox.config("deadline: 2s\nwait: [{file: /no/such/file, interval: 10ms}]\nfiles: []\n");
    let run = sandbox.seed().args(["--log-level", "debug"]).expect_exit(75);
    // Pauses that grow to a second leave room for a few tries only.
    let tries = run.stderr.matches("not there yet").count();
    assert!(tries >= 30, "{tries}");
}

#[test]
fn many_missing_conditions_are_told_within_bounds() {
    let sandbox = Sandbox::new();
    let files: String = (0..100).map(|n| format!("  - file: /no/such/{}/{n}\n", "x".repeat(200))).collect();
    sandbox.config(&format!("deadline: 1s\nwait:\n{files}files: []\n"));
    let run = sandbox.seed().expect_exit(75);
    let line = run.stderr.lines().last().unwrap();
    assert!(line.len() < 4096 && line.ends_with(" more"), "{line}");
}
