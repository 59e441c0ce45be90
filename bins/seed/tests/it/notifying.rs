//! `on_change`: the app is told of a change, and of nothing else.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use podkit_testkit::{PATIENCE, Process, eventually, program};

use crate::kit::Sandbox;
use crate::watcher::Watcher;

/// An app that writes a line to `told` for each SIGUSR1, under a name that no other test uses. Not SIGHUP: under nohup a
/// shell cannot trap it.
fn app(sandbox: &Sandbox, name: &str) -> Process {
    let shell = sandbox.path(name);
    symlink("/bin/sh", &shell).unwrap();
    let told = sandbox.path("told");
    let script = "trap 'echo told >> \"$0\"' USR1; echo $$ > \"$0.pid\"; while :; do sleep 0.02; done";
    let app = program(shell).args(["-c", script]).arg(&told).start();
    eventually("the app runs", || {
        fs::read_to_string(sandbox.path("told.pid")).ok().filter(|pid| pid.ends_with('\n'))
    });
    app
}

fn times_told(sandbox: &Sandbox) -> usize {
    fs::read_to_string(sandbox.path("told")).unwrap_or_default().lines().count()
}

fn expect_told(sandbox: &Sandbox, times: usize) {
    eventually(&format!("the app is told {times} times"), || (times_told(sandbox) >= times).then_some(()));
    assert_eq!(times_told(sandbox), times);
}

#[test]
fn a_process_is_told_by_name_of_each_change_and_of_nothing_else() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "one");
    let _app = app(&sandbox, "seed-test-named");
    let watcher = Watcher::seeded(
        &sandbox,
        "files: [{path: a, copy: '@/in/a'}]\non_change: {signal: SIGUSR1, process: seed-test-named}\n",
    );
    assert_eq!(times_told(&sandbox), 0, "there was nothing before the first seeding");
    sandbox.write("in/a", "one");
    eventually("a pass finds nothing new", || (watcher.passes("unchanged") >= 1.0).then_some(()));
    sandbox.write("in/a", "two");
    watcher.process.wait_for_stderr("\"told the app\",\"how\":\"SIGUSR1 to seed-test-named\"");
    expect_told(&sandbox, 1);
    watcher.expect_notifications("delivered", 1.0);
    watcher.end();

    // What changed while nobody watched is told too.
    sandbox.write("in/a", "three");
    let watcher = Watcher::start(&sandbox);
    expect_told(&sandbox, 2);
    watcher.end();
}

#[test]
fn a_process_is_told_by_its_pid_file() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "one");
    let _app = app(&sandbox, "seed-test-pid");
    let watcher = Watcher::seeded(
        &sandbox,
        "files: [{path: a, copy: '@/in/a'}]\non_change: {signal: USR1, pid_file: '@/told.pid'}\n",
    );
    sandbox.write("in/a", "two");
    expect_told(&sandbox, 1);
    watcher.end();
}

#[test]
fn nobody_to_tell_is_a_warning_with_what_to_do_and_no_failure() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "one");
    let watcher = Watcher::seeded(
        &sandbox,
        "files: [{path: a, copy: '@/in/a'}]\non_change:\n  - {signal: SIGUSR1, process: seed-test-nobody}\n  \
         - {signal: SIGUSR1, pid_file: '@/none.pid'}\n",
    );
    sandbox.write("in/a", "two");
    watcher.expect(&sandbox, "a", "two");
    for text in ["there is no such process", "no such file or directory"] {
        let line = watcher.process.wait_for_stderr(text);
        assert!(line.contains("WARN") && line.contains("shareProcessNamespace: true"), "{line}");
    }
    watcher.process.wait_for_stderr("\"tries\":\"2 of 5\"");
    // Whoever comes in time is told after all, and once.
    let _app = app(&sandbox, "seed-test-nobody");
    expect_told(&sandbox, 1);
    assert!(watcher.metric("podkit_seed_failing") < 0.5);
    watcher.end();
}

/// A server that answers each request with the next status, and tells the request lines.
fn server(statuses: &'static [u16]) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            let head = String::from_utf8(head).unwrap();
            tell.send(head.lines().next().unwrap().to_owned()).unwrap();
        }
    });
    (port, told)
}

#[test]
fn a_server_is_told_and_told_again_until_it_takes_it() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "one");
    let (port, told) = server(&[503, 200, 204]);
    // Written by hand: the kit takes `@` for the sandbox.
    let yaml = format!(
        "target: {:?}\nfiles: [{{path: a, copy: {:?}}}]\n\
         on_change: {{http: 'PUT http://user:hunter2@127.0.0.1:{port}/-/reload'}}\n",
        sandbox.target(),
        sandbox.path("in/a")
    );
    sandbox.write("seed.yaml", yaml);
    let watcher = Watcher::start(&sandbox);
    watcher.expect(&sandbox, "a", "one");
    sandbox.write("in/a", "two");
    for _ in 0..2 {
        let line = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{}", watcher.process.stderr()));
        assert_eq!(line, "PUT /-/reload HTTP/1.1");
    }
    watcher.expect_notifications("delivered", 1.0);
    watcher.expect_notifications("failed", 1.0);
    watcher.process.wait_for_stderr("the answer was 503");
    sandbox.write("in/a", "three");
    told.recv_timeout(PATIENCE).unwrap();
    watcher.expect_notifications("delivered", 2.0);
    watcher.end().refuse_stderr("hunter2");
}
