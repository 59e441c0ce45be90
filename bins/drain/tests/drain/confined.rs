//! The sources and the log under the restricted profile: another user than the app's, without a capability, in network
//! and PID namespaces of their own, and where the kernel refuses what a source needs.
//!
//! Each test runs itself again within new namespaces (`unshare`), as root by right, as anyone else in a user namespace.
//! Where a machine permits neither, it says so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::unistd::Uid;
use podkit_testkit::{Finished, Run, eventually, is_possible, program};

use crate::kernel;
use crate::support::{Answer, App, Neighbour, Proxy, Traffic, lease_of, slow_proxy};

/// Set within the namespaces, so that the inner tests do nothing elsewhere.
const INSIDE: &str = "DRAIN_TEST_INSIDE";
/// What [`becomes_a_program_without_netlink`] becomes, one word a line.
const BECOME: &str = "DRAIN_TEST_BECOME";
/// Neither the app's user, which runs the test, nor root.
const OTHER: &str = "65532";

/// What makes a process root in new namespaces.
fn become_root() -> &'static [&'static str] {
    if Uid::effective().is_root() { &[] } else { &["--user", "--map-root-user"] }
}

/// `unshare` with these namespaces.
fn unshare(namespaces: &[&str]) -> Run {
    program("unshare").args(become_root()).args(namespaces).arg("--")
}

/// Whether this command can be run in such namespaces here.
fn can(namespaces: &[&str], command: &[&str]) -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(become_root()).args(namespaces).arg("--").args(command);
    let done = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    is_possible(
        &format!("`unshare {} {}`", namespaces.join(" "), command.join(" ")),
        done.is_ok_and(|status| status.success()),
    )
}

/// Runs the test `name` again, inside.
fn inside(namespaces: &[&str], name: &str) {
    let words = confine(Uid::effective().is_root());
    let mut command: Vec<&str> = words.iter().map(String::as_str).collect();
    command.push("true");
    if !can(namespaces, &command) {
        return;
    }
    let own = std::env::current_exe().expect("the kernel knows this program");
    let is_root = if Uid::effective().is_root() { "root" } else { "mapped" };
    let finished = unshare(namespaces)
        .arg(own)
        .args(["--exact", &format!("confined::{name}"), "--ignored", "--nocapture", "--test-threads", "1"])
        .env(INSIDE, is_root)
        .finish();
    let ran = finished.stdout.contains("1 passed");
    let finished = finished.expect_exit(0);
    assert!(ran, "{name} did not run: {finished:?}");
}

/// The binary where any user may run it.
fn public_copy(dir: &Path) -> PathBuf {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
    let path = dir.join("podkit-drain");
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_podkit-drain"))
        .arg(&path)
        .status()
        .expect("there is a cp");
    assert!(copied.success());
    path
}

/// The words that run the rest without a capability, as another user where the test may choose.
fn confine(is_root: bool) -> Vec<String> {
    let mut words = vec!["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"];
    if is_root {
        words.extend(["--reuid", OTHER, "--regid", OTHER, "--clear-groups"]);
    }
    words.into_iter().map(str::to_owned).collect()
}

/// Whether the namespaces are real root's.
fn is_root_inside() -> bool {
    std::env::var(INSIDE).is_ok_and(|is| is == "root")
}

/// A drain as a hook in the app's container would run it, with a line in the log only where it is told to.
fn confined(dir: &Path, args: &[&str]) -> Run {
    let mut words = confine(is_root_inside());
    words.push(public_copy(dir).display().to_string());
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    let name = words.remove(0);
    settings(program(name).args(words))
}

/// The same where the kernel refuses netlink.
fn without_netlink(dir: &Path, args: &[&str]) -> Run {
    let mut words = confine(is_root_inside());
    words.push(public_copy(dir).display().to_string());
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    let own = std::env::current_exe().expect("the kernel knows this program");
    let run = program(own)
        .args(["--exact", "confined::becomes_a_program_without_netlink", "--ignored", "--nocapture"])
        .env(BECOME, words.join("\n"));
    settings(run)
}

fn settings(run: Run) -> Run {
    run.env("PODKIT_DRAIN_GRACE", "25s")
        .env("PODKIT_DRAIN_RESERVE", "1s")
        .env("PODKIT_DRAIN_QUIET", "300ms")
        .env("PODKIT_DRAIN_MIN_DELAY", "50ms")
        .env("PODKIT_DRAIN_COUNT_LOOPBACK", "true")
        .env("PODKIT_DRAIN_LOG_FORMAT", "text")
        .env("PODKIT_DRAIN_LOG", "/dev/stderr")
}

/// A connection holds the drain until it is closed; the log names this source.
fn holds_by(run: Run, app: &App, source: &str) -> Finished {
    let connection = app.connect();
    let run = run.start();
    // Longer than the quiet time.
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    assert!(
        !run.stderr().contains("quiet: nothing active"),
        "it went on with a connection open: {}",
        run.stderr()
    );
    drop(connection);
    run.wait().expect_exit(0).expect_stderr("quiet: nothing active").expect_stderr(source)
}

macro_rules! inside_only {
    () => {
        if std::env::var_os(INSIDE).is_none() {
            return;
        }
        kernel::raise_loopback();
    };
}

#[test]
fn the_proxy_is_the_best_source() {
    inside(&["--net"], "inside_the_proxy_is_the_best_source");
}

#[test]
#[ignore = "`the_proxy_is_the_best_source` runs it in a network namespace"]
fn inside_the_proxy_is_the_best_source() {
    inside_only!();
    let dir = tempfile::tempdir().unwrap();
    let (app, proxy) = (App::new(), Proxy::new(Traffic { in_flight: 1, open: 1, last: None }));
    let run = confined(dir.path(), &["--port", &app.port, "--proxy", &proxy.url()]).start();
    proxy.server.wait_for("GET /drain", 3);
    assert!(!run.stderr().contains("quiet: nothing"), "{}", run.stderr());
    proxy.set(Traffic::default());
    run.wait().expect_exit(0).expect_stderr(&format!("source=\"{}\"", proxy.url()));
}

/// Where the default port of contract 2 is this test's own.
#[test]
fn a_proxy_that_nobody_named_is_told_from_something_else() {
    inside(&["--net"], "inside_a_proxy_that_nobody_named_is_told");
}

#[test]
#[ignore = "`a_proxy_that_nobody_named_is_told_from_something_else` runs it in a network namespace"]
fn inside_a_proxy_that_nobody_named_is_told() {
    const PORT: u16 = 9802;
    const FIGURES: &str = r#"{"in_flight":0,"ms_since_last_connection":null}"#;
    inside_only!();
    let dir = tempfile::tempdir().unwrap();
    let is_busy = Arc::new(AtomicBool::new(true));
    let late = slow_proxy(PORT, &is_busy);
    let run = confined(dir.path(), &[]).start();
    late.wait_for("GET /drain", 3);
    is_busy.store(false, Ordering::Release);
    run.wait()
        .expect_exit(0)
        .expect_stderr("POST http://127.0.0.1:9802/drain got no answer in time")
        .expect_stderr("quiet: nothing active");
    drop(late);

    for (to_post, to_get) in [(404, 404), (501, 404), (404, 500)] {
        let other = Neighbour::on(PORT, move |line| {
            Answer::Reply(if line.starts_with("POST") { to_post } else { to_get }, String::new())
        });
        let finished = confined(dir.path(), &[]).expect_exit(0).expect_stderr("no traffic to watch");
        finished.expect_stderr("INFO no proxy at http://127.0.0.1:9802: POST ");
        assert!(other.lines().iter().all(|line| line == "GET /drain" || lease_of(line).is_some()));
    }

    let mut asked = 0;
    let stopping = Neighbour::on(PORT, move |line| {
        asked += 1;
        match line {
            // The second question is the look that tells it from something else.
            _ if asked == 2 => Answer::Reply(503, String::new()),
            "GET /drain" => Answer::Reply(200, FIGURES.to_owned()),
            _ => Answer::Reply(503, String::new()),
        }
    });
    confined(dir.path(), &[]).expect_exit(0).expect_stderr("quiet: nothing active");
    assert!(stopping.count("GET /drain") > 1);
}

#[test]
fn a_silent_ship_that_nobody_named_leaves_the_calls_their_share() {
    inside(&["--net"], "inside_a_silent_ship_that_nobody_named");
}

/// It is asked whether it is there when the watch has to end, and the call takes a third of what it is promised.
#[test]
#[ignore = "`a_silent_ship_that_nobody_named_leaves_the_calls_their_share` runs it in a network namespace"]
fn inside_a_silent_ship_that_nobody_named() {
    inside_only!();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::new(Traffic { in_flight: 1, open: 1, last: None });
    let args = ["--grace", "3s", "--proxy", &proxy.url()];
    let alone = confined(dir.path(), &args).expect_exit(75).expect_stderr("no ship at http://127.0.0.1:9801");
    let report = alone.stderr.lines().find(|line| line.starts_with("{\"report\"")).unwrap();
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    let left = report["steps"][1]["left_seconds"].as_f64().unwrap();
    assert!(left < 0.2, "where there is no ship the watch has its share too: {report}");

    let ship = Neighbour::on(9801, |_| Answer::Silence);
    let app = Neighbour::new(|_| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        Answer::Reply(200, String::new())
    });
    let call = format!("POST {}/stop", app.url());
    confined(dir.path(), &["--grace", "11s", "--proxy", &proxy.url(), "--then", &call])
        .expect_exit(75)
        .expect_stderr(&format!("{call} was answered with 200"));
    assert_eq!(ship.lines()[0], "GET /livez");
}

#[test]
fn the_kernels_table_is_next_and_needs_no_capability() {
    inside(&["--net"], "inside_the_kernels_table_is_next");
}

#[test]
#[ignore = "`the_kernels_table_is_next_and_needs_no_capability` runs it in a network namespace"]
fn inside_the_kernels_table_is_next() {
    inside_only!();
    let dir = tempfile::tempdir().unwrap();
    let app = App::new();
    let run = confined(dir.path(), &["--idle", "1h", "--port", &app.port]);
    holds_by(run, &app, "the kernel's socket table (INET_DIAG)").refuse_stderr("cannot tell the traffic");
}

#[test]
fn where_netlink_is_refused_proc_net_tells() {
    inside(&["--net"], "inside_where_netlink_is_refused");
}

#[test]
#[ignore = "`where_netlink_is_refused_proc_net_tells` runs it in a network namespace"]
fn inside_where_netlink_is_refused() {
    inside_only!();
    let dir = tempfile::tempdir().unwrap();
    let app = App::new();
    let run = without_netlink(dir.path(), &["--port", &app.port]);
    holds_by(run, &app, "/proc/net/tcp")
        .expect_stderr("cannot ask the kernel for its sockets: permission denied");
}

#[test]
fn where_nothing_tells_the_traffic_all_the_time_is_held() {
    if !can(&["--net", "--mount"], &["mount", "-t", "tmpfs", "none", "/proc"]) {
        return;
    }
    // Its own `/proc` is taken away there; `/dev/stderr` leads through it.
    inside(&["--net", "--mount"], "inside_where_nothing_tells_the_traffic");
}

#[test]
#[ignore = "`where_nothing_tells_the_traffic_all_the_time_is_held` runs it in network and mount namespaces"]
fn inside_where_nothing_tells_the_traffic() {
    inside_only!();
    let dir = tempfile::tempdir().unwrap();
    let app = App::new();
    let run = without_netlink(dir.path(), &["--port", &app.port, "--grace", "3s", "--log", "/nowhere/log"]);
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none", "/proc"]).status().unwrap();
    assert!(mounted.success());
    run.expect_exit(0)
        .expect_stderr("cannot read /proc/net/tcp")
        .expect_stderr("going on with no source, only the clock")
        .expect_stderr("nothing could tell the traffic: held all the time there was");
}

/// Refuses netlink sockets to this thread as a strict seccomp profile would, then becomes the program.
#[test]
#[ignore = "the tests where netlink is refused run it"]
fn becomes_a_program_without_netlink() {
    let Ok(words) = std::env::var(BECOME) else { return };
    let words: Vec<&str> = words.lines().collect();
    let error = kernel::become_without_netlink(&words, BECOME);
    panic!("cannot become the program: {error}");
}

/// A PID namespace and its `/proc`.
const OWN_PROCESSES: &[&str] = &["--pid", "--fork", "--mount-proc"];

/// The first process's standard output is the container's log; the hook's own output goes nowhere.
#[test]
fn by_default_the_log_and_the_report_go_to_the_first_process() {
    if !can(OWN_PROCESSES, &["true"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = public_copy(dir.path());
    // A shell may redirect itself for a moment; one that has forked does not.
    let script = "(exec \"$0\" \"$@\" >\"$OUT\" 2>&1); echo \"exit $?\"";
    let out = dir.path().join("out");
    unshare(OWN_PROCESSES)
        .args(["/bin/sh", "-c", script])
        .arg(path)
        .args(["--grace", "5s", "--min-delay", "50ms", "--log-format", "text"])
        .env("OUT", &out)
        .expect_exit(0)
        .expect_stdout("no traffic to watch")
        .expect_stdout("{\"report\":\"podkit-drain\"")
        .expect_stdout("exit 0\n");
    assert_eq!(fs::read_to_string(out).unwrap(), "", "nothing goes where nobody looks");
}

/// As in a pod with `shareProcessNamespace`: the first process is `pause`, which writes to nowhere.
#[test]
fn where_the_first_process_writes_to_nowhere_standard_error_is_the_log() {
    if !can(OWN_PROCESSES, &["true"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    unshare(OWN_PROCESSES)
        .args(["/bin/sh", "-c", "exec >/dev/null; \"$0\" \"$@\" 2>\"$OUT\"; true"])
        .arg(public_copy(dir.path()))
        .args(["--grace", "5s", "--min-delay", "50ms"])
        .env("OUT", &out)
        .expect_exit(0);
    assert!(fs::read_to_string(out).unwrap().contains("no traffic to watch"));
}

#[test]
fn a_volume_that_runs_no_programs_is_told_at_the_installation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    if !can(&["--mount"], &["mount", "-t", "tmpfs", "-o", "noexec", "none", path]) {
        return;
    }
    let script =
        "mount -t tmpfs -o noexec none \"$1\" && \"$0\" install \"$1\"; code=$?; ls -A \"$1\"; exit $code";
    let finished = unshare(&["--mount"])
        .args(["/bin/sh", "-c", script, env!("CARGO_BIN_EXE_podkit-drain")])
        .arg(dir.path())
        .expect_exit(1)
        .expect_stderr("podkit-drain\" cannot be run: permission denied")
        .expect_stderr("hint: the volume must not be mounted `noexec`");
    assert_eq!(finished.stdout, "", "what cannot be run is not left there");
    // The wait for the mount to go with its namespace.
    eventually("the volume is gone", || fs::read_dir(dir.path()).ok()?.next().is_none().then_some(()));
}

/// Such a test must not look like one that passed.
#[test]
fn what_this_machine_does_not_permit_is_said_aloud() {
    let own = std::env::current_exe().expect("the kernel knows this program");
    for test in ["the_proxy_is_the_best_source", "by_default_the_log_and_the_report_go_to_the_first_process"]
    {
        program(&own)
            .args(["--exact", &format!("confined::{test}")])
            .env("PATH", "/nowhere")
            .expect_exit(0)
            .expect_stderr(&format!("NOT TESTED HERE: confined::{test} needs `unshare --"));
    }
}
