//! The conditions of this pod: ports, files, names and programs, there and gone.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use podkit_testkit::{Signal, eventually, free_port};

use crate::kit::Sandbox;

const DEBUG: [&str; 2] = ["--log-level", "debug"];

#[test]
fn a_port_that_closes_is_waited_for_until_it_is_gone() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    sandbox.config(&format!("wait: [{{tcp: '{address}', until: gone}}]\nfiles: []\n"));
    let run = sandbox.seed().args(DEBUG).start();
    run.wait_for_stderr(&format!(
        "\"not gone yet\",\"condition\":\"tcp {address}\",\"error\":\"accepts connections\""
    ));
    drop(listener);
    run.wait().expect_exit(0).expect_stderr(&format!("\"is gone\",\"condition\":\"tcp {address}\""));
}

#[test]
fn a_port_is_free_when_nobody_listens() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = free_port();
    sandbox
        .config(&format!("wait: [{{port_free: {port}}}, {{port_free: '127.0.0.1:{other}'}}]\nfiles: []\n"));
    let run = sandbox.seed().args(DEBUG).start();
    run.wait_for_stderr(&format!(
        "\"condition\":\"port_free {port}\",\"error\":\"0.0.0.0:{port} is in use\""
    ));
    run.wait_for_stderr(&format!("\"is there\",\"condition\":\"port_free 127.0.0.1:{other}\""));
    drop(listener);
    run.wait().expect_exit(0);
    // The other way round: until somebody does.
    let port = free_port();
    sandbox.config(&format!("wait: [{{port_free: '127.0.0.1:{port}', until: gone}}]\nfiles: []\n"));
    let run = sandbox.seed().args(DEBUG).start();
    run.wait_for_stderr("\"error\":\"nobody listens on it\"");
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    run.wait().expect_exit(0);
}

#[test]
fn a_file_is_waited_for_until_it_is_whole_and_new() {
    let sandbox = Sandbox::new();
    sandbox.write("empty", "");
    sandbox.write("old", "x");
    sandbox.write("stamp", "x");
    let past = std::time::SystemTime::now() - Duration::from_secs(600);
    for name in ["old", "stamp"] {
        fs::File::options().write(true).open(sandbox.path(name)).unwrap().set_modified(past).unwrap();
    }
    sandbox.config(
        "wait:\n\
         - file: {path: '@/empty', nonempty: true}\n\
         - file: {path: '@/old', newer_than: 5m}\n\
         - file: {path: '@/old', newer_than: '@/stamp'}\n\
         - {file: '@/lock', until: gone}\n\
         files: []\n",
    );
    let lock = sandbox.write("lock", "");
    let run = sandbox.seed().args(DEBUG).start();
    for error in [
        "it is empty",
        "it was not changed within 5m",
        &format!("it is not newer than {}", sandbox.path("stamp").display()),
        "it is there",
    ] {
        run.wait_for_stderr(&format!("\"error\":\"{error}\""));
    }
    sandbox.write("empty", "now");
    sandbox.write("old", "now");
    fs::remove_file(lock).unwrap();
    let run = run.wait().expect_exit(0).expect_stderr("\"is gone\"");
    assert_eq!(run.stderr.matches("\"is there\"").count(), 3, "{}", run.stderr);
}

#[test]
fn names_are_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.config("deadline: 2s\nwait: [{dns: localhost}, {dns: podkit-surely-not.invalid, timeout: 500ms}]\nfiles: []\n");
    let begun = Instant::now();
    sandbox
        .seed()
        .expect_exit(75)
        .expect_stderr("\"is there\",\"condition\":\"dns localhost\"")
        .expect_stderr("the deadline of 2s passed while waiting for dns podkit-surely-not.invalid (");
    // The same name for a port; whatever the name servers do, the deadline holds.
    sandbox.config("deadline: 1s\nwait: [{tcp: 'podkit-surely-not.invalid:80'}]\nfiles: []\n");
    sandbox.seed().expect_exit(75).expect_stderr("waiting for tcp podkit-surely-not.invalid:80 (");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_program_is_run_until_it_ends_well() {
    let sandbox = Sandbox::new();
    let script = "test -e @/flag && exit; echo out; echo no flag >&2; exit 3";
    sandbox.config(&format!(
        "wait: [{{command: [sh, -c, '{script}']}}, {{command: 'true'}}, {{command: [sh, -c, 'test ! -e @/flag'], \
         until: gone}}, {{command: '@/later'}}]\nfiles: []\n"
    ));
    let run = sandbox.seed().args(DEBUG).start();
    run.wait_for_stderr("\"error\":\"exit code 3: no flag\"");
    run.wait_for_stderr("\"error\":\"it ends with 0\"");
    run.wait_for_stderr("\"is there\",\"condition\":\"command true\"");
    let later = sandbox.path("later");
    run.wait_for_stderr(&format!(
        "\"error\":\"cannot run \\\"{}\\\": no such file or directory\"",
        later.display()
    ));
    sandbox.write("flag", "");
    sandbox.link("later", "/bin/true");
    let run = run.wait().expect_exit(0);
    assert_eq!(run.stdout, "", "what programs print is theirs");
}

/// The processes that the program told the numbers of; at least one.
fn told(sandbox: &Sandbox) -> Vec<String> {
    eventually("the program has started", || {
        let pids = fs::read_to_string(sandbox.path("pids")).ok()?;
        pids.ends_with('\n').then(|| pids.lines().map(ToOwned::to_owned).collect())
    })
}

/// A process that is dead has no command line, whether it is reaped or not.
fn is_running(pid: &str) -> bool {
    !fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty()
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let sandbox = Sandbox::new();
    sandbox.config(
        "deadline: 4s\nwait: [{command: [sh, -c, 'sleep 600 & echo $! >>@/pids; echo hangs; wait'], timeout: 1s}]\n\
         files: []\n",
    );
    sandbox.seed().expect_exit(75).expect_stderr(" (killed: it did not end in time: hangs)\n");
    for pid in told(&sandbox) {
        eventually("what was killed is gone", || (!is_running(&pid)).then_some(()));
    }
}

#[test]
fn a_program_does_not_outlive_a_signal() {
    let sandbox = Sandbox::new();
    sandbox.config("wait: [{command: [sh, -c, 'sleep 600 & echo $! >>@/pids; wait']}]\nfiles: []\n");
    let run = sandbox.seed().start();
    let pid = told(&sandbox).remove(0);
    assert!(is_running(&pid));
    let begun = Instant::now();
    run.signal(Signal::SIGTERM);
    run.wait()
        .expect_exit(1)
        .expect_stderr("stopped by a signal while waiting for command sh -c sleep 600 & echo");
    assert!(begun.elapsed() < Duration::from_secs(9), "not at the end of the try");
    eventually("the program is gone", || (!is_running(&pid)).then_some(()));
}
