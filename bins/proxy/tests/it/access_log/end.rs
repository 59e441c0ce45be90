//! Every line is there at the end, unless nobody reads them: then nobody waits.

use std::path::Path;

use podkit_testkit::{Signal, eventually};
use serde_json::json;

use super::{LOG, assert_members, parse};
use crate::support::{Client, Origin, Proxy};

const DROPPED: &str = "podkit_proxy_access_log_dropped_total";

#[test]
fn at_the_end_every_line_is_there() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml_with(origin.address, dir.path(), LOG, "", &["--workers", "2"]);
    let address = proxy.address();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..500 {
                    assert_eq!(client.get("/").status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    proxy.process.signal(Signal::SIGTERM);
    let ended = proxy.process.wait().expect_exit(0);
    assert_eq!(parse(&ended.stdout).len(), 2000);
}

#[test]
fn a_request_that_the_stop_cuts_off_is_told() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.drain();
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml_with(origin.address, dir.path(), LOG, "", &["--shutdown-deadline", "200ms"]);
    let mut client = proxy.connect();
    client.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for("/long");
    proxy.process.signal(Signal::SIGTERM);
    let ended = proxy.process.wait().expect_exit(75);
    assert_members(&parse(&ended.stdout)[0], json!({"path": "/long", "status": null, "reason": "cut_off"}));
}

/// A pipe whose other end is open and not read.
fn pipe(dir: &Path) -> (std::fs::File, String) {
    let path = dir.join("log");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let end = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    (end, format!("exec \"$@\" > {}", path.display()))
}

#[test]
fn nobody_waits_for_a_log_that_is_not_read() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let (_end, shell) = pipe(dir.path());
    let proxy = Proxy::yaml_under(&["sh", "-c", &shell, "sh"], origin.address, dir.path(), LOG);
    let mut client = proxy.connect();
    let path = format!("/{}", "x".repeat(1900));
    eventually("lines are dropped", || {
        for _ in 0..100 {
            assert_eq!(client.get(&path).text(), "hello");
        }
        (proxy.metric(DROPPED, "") > 0.0).then_some(())
    });
    // The end does not hang on it either.
    proxy.process.signal(Signal::SIGTERM);
    proxy.process.wait().expect_exit(0);
}

#[test]
fn a_log_that_nobody_will_ever_read_is_told_of_once_and_counted() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let shell = format!("exec \"$@\" > {}", dir.path().join("full").display());
    std::os::unix::fs::symlink("/dev/full", dir.path().join("full")).unwrap();
    let proxy = Proxy::yaml_under(&["sh", "-c", &shell, "sh"], origin.address, dir.path(), LOG);
    let mut client = proxy.connect();
    for count in 1..=3 {
        client.get("/");
        proxy.wait_for_metric(DROPPED, "", f64::from(count));
    }
    let stderr = proxy.process.wait_for_stderr("cannot write the access log");
    assert_eq!(stderr.matches("cannot write the access log").count(), 1, "{stderr}");
}
