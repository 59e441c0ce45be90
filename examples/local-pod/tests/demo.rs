//! The demo as its users run it: the whole life of a pod, calm and in chaos, and its command line.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use podkit_testkit::eventually;

/// A run of the demo, explained when it was not what it should be.
#[derive(Debug)]
struct Demo {
    output: Output,
}

impl Demo {
    fn run(args: &[&str]) -> Self {
        let output = Command::new(env!("CARGO_BIN_EXE_local-pod")).args(args).output();
        Self { output: output.expect("the demo starts") }
    }

    fn expect_exit(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "{}{}", self.stdout(), self.stderr());
        self
    }

    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The value behind a name in the closing table.
    fn value(&self, name: &str) -> String {
        let table = self.stdout();
        let row = table.lines().find_map(|line| line.trim_start().strip_prefix(name));
        let value = row.and_then(|row| row.split("   ").map(str::trim).find(|part| !part.is_empty()));
        value.unwrap_or_else(|| panic!("no {name:?} in\n{table}")).to_owned()
    }

    fn number(&self, name: &str) -> u64 {
        let value = self.value(name);
        value.parse().unwrap_or_else(|_| panic!("{name:?} is {value:?} in\n{}", self.stdout()))
    }

    /// Nothing failed, nothing lost, and there was something to lose.
    fn expect_whole(&self) {
        assert_eq!(self.number("requests failed"), 0, "{}", self.stdout());
        assert_eq!(self.number("lines lost"), 0, "{}", self.stdout());
        assert_eq!(self.number("lines delivered"), self.number("lines written"), "{}", self.stdout());
        // Each request is a line, and the app has a few words of its own.
        assert!(self.number("lines written") > self.number("requests sent"), "{}", self.stdout());
        for process in ["install", "seed", "ship", "proxy", "app", "drain"] {
            assert_eq!(self.number(&format!("exit of {process}")), 0, "{}", self.stdout());
        }
    }
}

#[test]
fn a_calm_life_loses_nothing_and_repeats_nothing() {
    let kept = tempfile::tempdir().expect("a directory");
    let dir = kept.path().join("pod");
    let demo = Demo::run(&["--seconds", "2", "--keep", dir.to_str().expect("UTF-8")]).expect_exit(0);
    demo.expect_whole();
    assert!(demo.number("requests sent") >= 400, "{}", demo.stdout());
    assert_eq!(demo.number("lines duplicated"), 0, "{}", demo.stdout());
    for phase in ["init", "start", "load", "preStop", "stop"] {
        assert!(demo.value(&format!("phase {phase}")).ends_with(" s"), "{}", demo.stdout());
    }
    for file in [
        "config/app.json",
        "logs/app.log",
        "logs/app.log.1",
        "log/proxy.log",
        "log/drain.log",
        "bin/podkit-drain",
    ] {
        assert!(dir.join(file).exists(), "no {file}\n{}", demo.stdout());
    }
}

#[test]
fn chaos_loses_nothing_and_explains_what_it_repeats() {
    let demo = Demo::run(&["--chaos", "--seconds", "4"]).expect_exit(0);
    demo.expect_whole();
    let table = demo.stdout();
    assert_eq!(table.matches("ship is killed (SIGKILL)").count(), 2, "{table}");
    assert!(table.contains("the backend answers 503 from now on"), "{table}");
    assert!(table.contains("in flight at kill 2") && !table.contains("without a kill"), "{table}");
}

#[test]
fn one_termination_is_drawn_against_time() {
    let demo = Demo::run(&["--drain", "--seed", "3"]).expect_exit(0);
    let told = demo.stdout();
    let (_, picture) = told.split_once("  seconds").expect("the ruler");
    assert!(picture.lines().all(|line| line.chars().count() <= 100), "too wide:\n{told}");
    assert!(!told.contains('\x1b'), "no colours where there is no terminal");
    let bar = |name: &str| {
        let line = picture.lines().find_map(|line| line.strip_prefix("  ")?.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name:?} in\n{told}")).to_owned()
    };
    let column = |name: &str, mark: char| {
        let bar = bar(name);
        bar.find(mark).unwrap_or_else(|| panic!("no {mark:?} in {bar:?}\n{told}")) + name.len()
    };
    assert!(column("the pod is ready", '.') < column("app", 'T'), "{told}");
    // The last `x` of a container is its end.
    let ends = ["app", "proxy", "ship"].map(|name| (column(name, 'T'), column(name, 'x')));
    assert!(ends.is_sorted() && ends.iter().all(|(term, end)| term <= end), "{told}");
    for what in ["new connections", "requests in flight", "long requests", "WebSockets"] {
        assert!(bar(what).chars().any(|mark| mark != ' ' && mark != '.'), "{what} is empty\n{told}");
    }
    assert!(bar("lines not delivered").contains('#') && bar("the log backend").contains('x'), "{told}");
    assert!(bar("podkit-drain").contains("qqq"), "{told}");

    let story = [
        "preStop starts",
        "the proxy is unready",
        "the last new connection",
        "podkit-drain, quiet",
        "podkit-drain has ended with 0",
        "SIGTERM to app",
        "app has ended with 0",
        "SIGTERM to proxy",
        "proxy has ended with 0",
        "SIGTERM to ship",
        "ship has ended with 0",
        "from preStop to the last exit:",
        "with a fixed `sleep 15`:",
    ];
    for what in story {
        assert!(picture.contains(what), "no {what:?} in\n{told}");
    }
    assert!(picture.contains("requests and 0 failed"), "{told}");
}

#[test]
fn no_process_outlives_the_demo() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let kept = tempfile::tempdir().expect("a directory");
        let mark = kept.path().to_str().expect("UTF-8");
        let mut demo = Command::new(env!("CARGO_BIN_EXE_local-pod"))
            .args(["--seconds", "60", "--keep", mark])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let stdout = BufReader::new(demo.stdout.take().expect("stdout is piped"));
        let loaded = stdout.lines().map_while(Result::ok).find(|line| line.contains("load"));
        assert!(loaded.is_some(), "the demo ended early");
        assert!(processes_with(mark) >= 4, "demo, ship, proxy and app name the directory");

        kill(Pid::from_raw(demo.id().cast_signed()), signal).expect("the demo runs");
        let status = demo.wait().expect("the demo ends");
        assert_eq!(status.code(), (signal == Signal::SIGTERM).then_some(1), "{status}");
        eventually(&format!("all processes are gone after {signal}"), || {
            (processes_with(mark) == 0).then_some(())
        });
    }
}

/// How many processes have `mark` on their command line.
fn processes_with(mark: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = all.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(mark)).count()
}

#[test]
fn bad_flags_are_one_line_and_64() {
    let demo = Demo::run(&["--chaoss"]).expect_exit(64);
    assert_eq!(demo.stderr().lines().count(), 1, "{}", demo.stderr());
    assert!(demo.stderr().starts_with("local-pod: unexpected argument '--chaoss'"), "{}", demo.stderr());
}

#[test]
fn help_is_for_strangers() {
    let demo = Demo::run(&["--help"]).expect_exit(0);
    let help = demo.stdout();
    let flags =
        ["--seconds", "--rate", "--keep", "--chaos", "--drain", "--terminations", "--at-once", "--seed"];
    for word in ["Usage: cargo demo", "Examples:", "Exit codes:"].into_iter().chain(flags) {
        assert!(help.contains(word), "no {word:?} in\n{help}");
    }
}

#[test]
fn a_strangers_directory_is_refused_untouched() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("thesis.txt"), "years").expect("a file");
    let demo = Demo::run(&["--keep", dir.path().to_str().expect("UTF-8")]).expect_exit(64);
    assert!(demo.stderr().contains("not the demo's"), "{}", demo.stderr());
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 1);
}
