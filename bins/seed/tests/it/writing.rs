//! What a good run leaves in the target, and what it says.

use std::fs;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use podkit_testkit::{Finished, Signal};

use crate::kit::{Sandbox, generation};

fn said(finished: &Finished) -> Vec<(String, String, u64)> {
    let lines = finished.stderr.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter_map(|line| {
            let text = |key: &str| Some(line[key].as_str()?.to_owned());
            Some((text("path")?, text("message")?, line["size"].as_u64()?))
        })
        .collect()
}

fn line(path: &str, what: &str, size: u64) -> (String, String, u64) {
    (path.to_owned(), what.to_owned(), size)
}

#[test]
fn a_first_run_writes_one_generation_with_links_into_it_whatever_the_umask() {
    let sandbox = Sandbox::new();
    sandbox.config(
        "files:\n  - {path: app.yaml, inline: a}\n  - {path: d/e/x, inline: b, mode: '0604'}\n  \
         - {path: d/y, inline: c, mode: '755'}\n",
    );
    let finished = sandbox.seed_after("umask 077").expect_exit(0);
    assert_eq!(sandbox.names(), ["..GENERATION", "..data", "app.yaml", "d"]);
    assert_eq!(fs::read_link(sandbox.target().join("app.yaml")).unwrap().to_str(), Some("..data/app.yaml"));
    assert_eq!(fs::read_link(sandbox.target().join("d")).unwrap().to_str(), Some("..data/d"));
    let name = generation(&sandbox.target());
    assert_eq!(name.len(), "..2026_11_22_05_10_00.123456789".len());
    assert_eq!(["app.yaml", "d/e/x", "d/y"].map(|path| sandbox.mode(path)), [0o644, 0o604, 0o755]);
    assert_eq!([&name, "d", "d/e"].map(|path| sandbox.mode(path)), [0o755; 3]);
    assert_eq!(
        said(&finished),
        [line("app.yaml", "created", 1), line("d/e/x", "created", 1), line("d/y", "created", 1)]
    );
}

#[test]
fn the_same_again_writes_nothing_and_says_so() {
    let sandbox = Sandbox::new();
    let yaml = "files:\n  - {path: a, inline: text}\n  - {path: d/b, inline: '', mode: '0600'}\n";
    sandbox.run(yaml);
    let before = sandbox.picture();
    let finished = sandbox.run(yaml);
    assert_eq!(sandbox.picture(), before);
    assert_eq!(said(&finished), [line("a", "unchanged", 4), line("d/b", "unchanged", 0)]);
    finished
        .expect_stderr("\"message\":\"unchanged\",\"created\":0,\"changed\":0,\"unchanged\":2,\"removed\":0");
}

#[test]
fn an_unchanged_run_is_faster_than_a_first_one() {
    const FILES: usize = 300;
    let sandbox = Sandbox::new();
    for n in 0..FILES {
        sandbox.write(&format!("in/{n}"), "x".repeat(4096));
    }
    sandbox.config("files: [{path: all, copy: '@/in'}]\n");
    let time = || {
        let start = Instant::now();
        sandbox.seed().expect_exit(0);
        start.elapsed()
    };
    // The best of several runs says what the work takes; the others say how busy the machine is.
    let best = |first: bool| {
        let runs = (0..5).map(|_| {
            if first && sandbox.target().exists() {
                fs::remove_dir_all(sandbox.target()).unwrap();
            }
            time()
        });
        runs.min().unwrap_or(Duration::MAX)
    };
    let (first, again) = (best(true), best(false));
    assert!(again < first, "{again:?} again, {first:?} at first");
}

#[test]
fn a_change_of_content_or_mode_makes_a_new_generation() {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: a, inline: one}, {path: b, inline: same}]\n");
    let first = generation(&sandbox.target());
    let finished = sandbox.run("files: [{path: a, inline: two!}, {path: b, inline: same}]\n");
    assert_eq!(said(&finished), [line("a", "changed", 4), line("b", "unchanged", 4)]);
    finished.expect_stderr(
        "\"message\":\"seeded\",\"created\":0,\"changed\":1,\"unchanged\":1,\"removed\":0,\"bytes\":8",
    );
    let second = generation(&sandbox.target());
    assert_ne!(first, second);
    assert_eq!((sandbox.read("a"), sandbox.read("b")), ("two!".to_owned(), "same".to_owned()));

    let finished = sandbox.run("files: [{path: a, inline: two!, mode: '0600'}, {path: b, inline: same}]\n");
    assert_eq!(said(&finished), [line("a", "changed", 4), line("b", "unchanged", 4)]);
    assert_ne!(second, generation(&sandbox.target()));
    assert_eq!(sandbox.mode("a"), 0o600);
    assert_eq!(sandbox.names(), ["..GENERATION", "..data", "a", "b"]);
}

#[test]
fn files_that_are_no_longer_listed_disappear_and_those_of_others_stay() {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: a, inline: a}, {path: d/x, inline: x}, {path: d/y, inline: y}]\n");
    sandbox.write("out/theirs", "keep");
    sandbox.write("out/their-dir/file", "keep");
    sandbox.link("out/their-link", "/nowhere");
    sandbox.write("out/..2026_strange/file", "keep");
    let finished = sandbox.run("files: [{path: d/y, inline: y}]\n");
    assert_eq!(
        said(&finished),
        [line("a", "removed", 1), line("d/x", "removed", 1), line("d/y", "unchanged", 1)]
    );
    // Two: ours, and one whose name only looks like it to this test.
    assert_eq!(
        sandbox.names(),
        ["..GENERATION", "..GENERATION", "..data", "d", "their-dir", "their-link", "theirs"]
    );
    assert!(!sandbox.target().join("d/x").exists());
    assert_eq!(
        (sandbox.read("theirs"), sandbox.read("their-dir/file")),
        ("keep".to_owned(), "keep".to_owned())
    );

    sandbox.run("files: []\n");
    assert!(sandbox.target().join("d").symlink_metadata().is_err());
    assert_eq!(sandbox.read("theirs"), "keep");
}

#[test]
fn a_file_may_become_a_directory_and_back() {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: a, inline: file}]\n");
    sandbox.run("files: [{path: a/b, inline: inside}]\n");
    assert_eq!(sandbox.read("a/b"), "inside");
    sandbox.run("files: [{path: a, inline: file}]\n");
    assert_eq!(sandbox.read("a"), "file");
}

#[test]
fn a_lost_link_is_made_again_without_a_new_generation() {
    let sandbox = Sandbox::new();
    let yaml = "files: [{path: a, inline: a}, {path: b, inline: b}]\n";
    sandbox.run(yaml);
    let before = generation(&sandbox.target());
    fs::remove_file(sandbox.target().join("a")).unwrap();
    sandbox.run(yaml);
    assert_eq!(sandbox.read("a"), "a");
    assert_eq!(generation(&sandbox.target()), before);
}

#[test]
fn a_file_that_was_changed_in_place_is_put_right() {
    let sandbox = Sandbox::new();
    let yaml = "files: [{path: a, inline: good}]\n";
    sandbox.run(yaml);
    fs::write(sandbox.target().join("a"), "evil").unwrap();
    assert_eq!(said(&sandbox.run(yaml)), [line("a", "changed", 4)]);
    assert_eq!(sandbox.read("a"), "good");
}

#[test]
fn the_target_may_be_a_link_of_the_user_and_is_made_if_its_parent_is_there() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("volume")).unwrap();
    sandbox.link("link", "volume");
    sandbox.run("target: '@/link'\nfiles: [{path: a, inline: a}]\n");
    assert_eq!(fs::read_to_string(sandbox.path("volume/a")).unwrap(), "a");
    sandbox.run("target: '@/volume/sub'\nfiles: [{path: a, inline: a}]\n");
    assert_eq!(fs::read_to_string(sandbox.path("volume/sub/a")).unwrap(), "a");
}

#[test]
fn flag_and_environment_win_over_the_file() {
    let sandbox = Sandbox::new();
    sandbox.config("files: [{path: a, inline: a}]\n");
    let (flag, env) = (sandbox.path("flag"), sandbox.path("env"));
    sandbox.seed().env("PODKIT_SEED_TARGET", &env).expect_exit(0);
    sandbox.seed().env("PODKIT_SEED_TARGET", &env).arg("--target").arg(&flag).expect_exit(0);
    assert!(env.join("a").exists() && flag.join("a").exists() && !sandbox.target().exists());
}

/// A second run takes its turn; otherwise it would take the first one's work for debris.
#[test]
fn a_second_run_waits_for_the_first_and_gives_up_at_its_deadline_or_a_signal() {
    let sandbox = Sandbox::new();
    let yaml = "files: [{path: a, inline: one}]\n";
    sandbox.run(yaml);
    let before = sandbox.picture();
    let held = fs::File::open(sandbox.target()).unwrap();
    let held = Flock::lock(held, FlockArg::LockExclusive).unwrap();

    sandbox.config("deadline: 300ms\nfiles: [{path: a, inline: two}]\n");
    sandbox.seed().expect_exit(75).expect_stderr(&format!(
        "podkit-seed: the deadline of 300ms passed while another podkit-seed was at work in {:?}",
        sandbox.target()
    ));
    sandbox.config("files: [{path: a, inline: two}]\n");
    let stopped = sandbox.seed().start();
    stopped.wait_for_stderr("another podkit-seed is at work here");
    stopped.signal(Signal::SIGTERM);
    stopped
        .wait()
        .expect_exit(1)
        .expect_stderr("podkit-seed: stopped by a signal while another podkit-seed was");
    assert_eq!(sandbox.picture(), before);

    let patient = sandbox.seed().start();
    patient.wait_for_stderr("another podkit-seed is at work here");
    drop(held);
    patient.wait().expect_exit(0);
    assert_eq!(sandbox.read("a"), "two");
}
