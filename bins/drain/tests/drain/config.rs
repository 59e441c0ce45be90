//! What is refused before anything is done, and what `check` shows.

use std::fs;
use std::path::PathBuf;

use crate::support::drain;

fn file(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("drain.yaml");
    fs::write(&path, text).expect("the directory is writable");
    path
}

#[test]
fn bad_values_are_refused_with_their_place() {
    for (args, message) in [
        (vec!["--grace", "30"], "--grace: \"30\" has no unit"),
        (vec!["--grace", "0s"], "--grace: \"0s\" must be longer than zero"),
        (vec!["--quiet", "3sec"], "--quiet: \"3sec\" has an unknown unit"),
        (vec!["--min-delay=-1s"], "--min-delay: \"-1s\" is not a duration"),
        (vec!["--grace", "5s", "--reserve", "5s"], "--reserve: 5s is not shorter than the grace period, 5s"),
        (vec!["--port", "0"], "--port: \"0\" is not a port"),
        (vec!["--port", "70000"], "--port: \"70000\" is not a port"),
        (vec!["--port", "http"], "--port: \"http\" is not a port"),
        (vec!["--proxy", "127.0.0.1:9802"], "--proxy: \"127.0.0.1:9802\" is not a URL in this pod"),
        (vec!["--proxy", "https://127.0.0.1:9802"], "it must start with http://"),
        (vec!["--ship", "http://ship:9801"], "its host must be an IP address or localhost"),
        (vec!["--ship", "http://127.0.0.1:9801/flush"], "--ship: \"http://127.0.0.1:9801/flush\" has a path"),
        (vec!["--then", "http://127.0.0.1/x"], "--then: \"http://127.0.0.1/x\" is not `METHOD URL`"),
        (vec!["--then", "post http://127.0.0.1/x"], "has no method in capitals"),
        (vec!["--then", "POST http://127.0.0.1:99999/"], "its port is not a number from 1 to 65535"),
        (vec!["--signal", "TERM"], "--signal: \"TERM\" is not `SIGNAL:PROCESS`"),
        (vec!["--signal", "NOPE:app"], "--signal: \"NOPE\" is no signal"),
        (vec!["--run", " "], "--run: names no program"),
        (vec!["--report", ""], "--report: the path is empty"),
        (vec!["check", "--dry-run"], "`--dry-run`"),
        (vec!["watch", "--for", "x"], "--for: \"x\" is not a duration"),
        (vec!["--ignore-peer", "10.0.0.0/40"], "--ignore-peer: \"10.0.0.0/40\" is neither a network nor"),
        (vec!["--ignore-peer", "node"], "--ignore-peer: \"node\" is neither a network nor"),
        (vec!["--count-loopback=yes"], "--count-loopback: \"yes\" is not a switch"),
        (vec!["--log", ""], "--log: the path is empty"),
        (vec!["--sleep", "15s"], "unexpected argument '--sleep'"),
        (vec!["--admin", "off"], "unexpected argument '--admin'"),
        (vec!["status"], "status"),
    ] {
        drain(&args).expect_exit(64).expect_stderr("podkit-drain: ").expect_stderr(message);
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let finished = drain(&[
        "--grace",
        "3s",
        "--reserve",
        "4s",
        "--port",
        "x",
        "--port",
        "y",
        "--proxy",
        "z",
        "--then",
        "POST",
    ]);
    let finished = finished.expect_exit(64);
    assert_eq!(
        finished.stderr.lines().filter(|line| line.starts_with("podkit-drain: --")).count(),
        5,
        "{}",
        finished.stderr
    );
}

#[test]
fn faults_of_a_file_have_lines_and_near_names() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        file(&dir, "grace: 40s\nmin_dealy: 1s\nport: [8080, web]\nproxy: ${PODKIT_TEST_SURELY_UNSET}\n");
    drain(&["check", "--config"])
        .arg(path)
        .expect_exit(64)
        .expect_stderr("drain.yaml:2: min_dealy: unknown key\nhint: did you mean `min_delay`?")
        .expect_stderr("drain.yaml:3: port[1]: \"web\" is not a port")
        .expect_stderr("drain.yaml:4: proxy: the variable `PODKIT_TEST_SURELY_UNSET` is not set");
}

#[test]
fn check_shows_what_is_in_force_and_its_answer_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let text = "grace: 60s\nport: [8080, 8443, 8080]\nthen: ['POST http://127.0.0.1:8080/shutdown']\nignore_peer: [10.0.0.0/8]\n\
                proxy: [http://127.0.0.1:9802, 'http://[::1]:9812']\nsignal: [TERM:app, {signal: SIGHUP, pid_file: /run/x, wait: 3s}]\n\
                run: [[/bin/stop, --now now], /bin/other -x]\nreport: /shared/drain.json\n";
    let path = file(&dir, text);
    let first = drain(&["check", "--reserve", "10s", "--config"])
        .arg(&path)
        .env("PODKIT_DRAIN_QUIET", "4s")
        .env("PODKIT_DRAIN_GRACE", "50s")
        .expect_exit(0)
        .expect_stdout("grace: 50s\nreserve: 10s\n")
        .expect_stdout("quiet: 4s\nmin_delay: 2s\n")
        .expect_stdout("port:\n  - 8080\n  - 8443\n")
        .expect_stdout("then:\n  - \"POST http://127.0.0.1:8080/shutdown\"\n")
        .expect_stdout("10.0.0.0/8")
        .expect_stdout("proxy:\n  - http://127.0.0.1:9802\n  - \"http://[::1]:9812\"\n")
        .expect_stdout(
            "  - signal: TERM\n    process: app\n  - signal: HUP\n    pid_file: /run/x\n    wait: 3s\n",
        )
        .expect_stdout("report: /shared/drain.json\n");
    fs::write(&path, &first.stdout).unwrap();
    let second = drain(&["check", "--config"]).arg(&path).expect_exit(0);
    assert_eq!(first.stdout, second.stdout);
}

#[test]
fn the_environment_gives_lists_and_the_node() {
    drain(&["check"])
        .env("PODKIT_DRAIN_PORT", "8080, 9090")
        .env("HOST_IP", "192.0.2.7")
        .expect_exit(0)
        .expect_stdout("port:\n  - 8080\n  - 9090\n")
        .expect_stdout("ignore_peer: []");
    let no_clients = |args: &[&str], node: &str, told: &str| {
        drain(&["--dry-run"])
            .args(args)
            .env("HOST_IP", node)
            .expect_exit(0)
            .expect_stdout(&format!("        {told}\n"));
    };
    no_clients(&[], "192.0.2.7", "no clients: the node 192.0.2.7 (HOST_IP), loopback");
    no_clients(&["--count-loopback"], "not ours to judge", "every peer is a client");
    let named = ["--ignore-peer", "10.0.0.0/8"];
    let told = "no clients: at a proxy the probes of the node 192.0.2.7 (HOST_IP), loopback, 10.0.0.0/8";
    no_clients(&named, "192.0.2.7", told);
}

#[test]
fn no_more_peers_are_named_than_a_proxy_takes() {
    let peers = |count: usize| (0..count).map(|host| format!("10.0.0.{host}")).collect::<Vec<_>>().join(",");
    let check = |count| drain(&["check"]).env("PODKIT_DRAIN_IGNORE_PEER", peers(count));
    check(64).expect_exit(0);
    check(65).expect_exit(64).expect_stderr(
        "PODKIT_DRAIN_IGNORE_PEER: 65 are more peers than a proxy is told of, 64\nhint: give larger",
    );
}

#[test]
fn help_has_examples_and_every_flag() {
    let help = drain(&["--help"]).expect_exit(0).expect_stdout("Examples:").expect_stdout("Exit codes:");
    for flag in [
        "grace",
        "reserve",
        "port",
        "proxy",
        "ship",
        "quiet",
        "min-delay",
        "then",
        "signal",
        "run",
        "report",
        "dry-run",
        "ignore-peer",
        "count-loopback",
        "log",
        "config",
    ] {
        assert!(help.stdout.contains(&format!("--{flag}")), "{flag} is not in\n{}", help.stdout);
    }
}

#[test]
fn a_short_grace_period_keeps_a_part_for_the_app_by_itself() {
    for (grace, reserve) in [("30s", "5s"), ("6s", "5s"), ("5s", "1s250ms"), ("2s", "500ms")] {
        let _ = drain(&["check", "--grace", grace])
            .expect_exit(0)
            .expect_stdout(&format!("reserve: {reserve}\n"));
    }
}

#[test]
fn the_config_of_the_readme_is_accepted() {
    let readme = include_str!("../../README.md");
    let text = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(&dir, text.expect("the README has a config"));
    let path = path.to_str().expect("a plain path");
    drain(&["check", "--config", path]).env("TOKEN", "t").expect_exit(0);
}

#[test]
fn the_settings_of_the_readme_are_those_that_there_are() {
    let readme = include_str!("../../README.md");
    let table =
        readme.split("## Settings").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a table");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut told: Vec<&str> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
        .collect();
    told.sort_unstable();
    // `check` prints each one that is set.
    let shown = drain(&["check", "--log", "/x", "--report", "/y"]).expect_exit(0).stdout;
    let mut keys: Vec<&str> = shown
        .lines()
        .filter(|line| !line.starts_with([' ', '-']))
        .filter_map(|line| line.split(':').next())
        .filter(|key| !["log_level", "log_format"].contains(key))
        .collect();
    keys.sort_unstable();
    assert_eq!(told, keys);
}
