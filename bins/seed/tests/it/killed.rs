//! Runs that are killed: readers never notice, and the next run cleans up.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use podkit_testkit::Signal;

use crate::atomic::{Reader, expect_clean, expect_clean_plain, paired_config, read_generation, read_names};
use crate::kit::{Sandbox, generation};

/// All in one layout, spread over sandboxes that work side by side: a run mostly waits for its readers.
fn kill_at_random_moments(layout: &str, read_once: fn(&Path), expect_clean: fn(&Sandbox, &str)) {
    const SANDBOXES: u32 = 5;
    const RUNS: u32 = 20;
    let config = |word: &str| format!("layout: {layout}\n{}", paired_config(word));
    let killed = AtomicU32::new(0);
    let one = |first: u32| {
        let sandbox = Sandbox::new();
        sandbox.run(&config("one"));
        // How long the part of a run takes in which something can be half done.
        let start = Instant::now();
        sandbox.run(&config("two"));
        let whole = start.elapsed();
        let reader = Reader::of(&sandbox.target(), read_once);
        for n in 0..RUNS {
            let words = if n.is_multiple_of(2) { ["one", "two"] } else { ["two", "one"] };
            sandbox.config(&config(words[0]));
            let run = sandbox.seed().start();
            // The moment is what this test is about: spread over all of a run, a different one each time.
            thread::sleep(whole * (n * SANDBOXES + first) / (RUNS * SANDBOXES));
            if run.kill().status.signal() == Some(Signal::SIGKILL as i32) {
                killed.fetch_add(1, Ordering::Relaxed);
            }
            // Every other kill falls on what the one before has left.
            if n % 2 == 1 {
                let word = words[n as usize / 2 % 2];
                sandbox.run(&config(word));
                expect_clean(&sandbox, word);
            }
        }
        assert!(reader.finish() > 0);
    };
    let one = &one;
    thread::scope(|scope| {
        for first in 0..SANDBOXES {
            scope.spawn(move || one(first));
        }
    });
    assert!(killed.into_inner() > 0, "no run was killed in time");
}

#[test]
fn runs_killed_at_random_moments_never_show_a_reader_a_mix_a_gap_or_half_a_file() {
    let read_once = |target: &Path| {
        read_names(target);
        read_generation(target);
    };
    kill_at_random_moments("links", read_once, expect_clean);
}

#[test]
fn runs_killed_at_random_moments_never_show_a_reader_of_plain_files_a_gap_or_half_a_file() {
    kill_at_random_moments("plain", read_names, expect_clean_plain);
}

/// A file may have 512 or 1024 bytes; the kernel kills with SIGXFSZ in the middle of the second file's write.
#[test]
fn a_run_killed_in_the_middle_of_a_file_leaves_the_old_generation_in_force() {
    let sandbox = Sandbox::new();
    sandbox.run(&paired_config("one"));
    let before = generation(&sandbox.target());
    sandbox.config(&paired_config("two"));
    let killed = sandbox.seed_after("ulimit -c 0; ulimit -f 1").finish();
    assert_eq!(killed.status.signal(), Some(Signal::SIGXFSZ as i32), "{}", killed.stderr);
    assert_eq!(generation(&sandbox.target()), before);
    assert_eq!(sandbox.read("d/e/b"), "one".repeat(3000));
    assert_eq!(sandbox.names().iter().filter(|name| *name == "..GENERATION").count(), 2, "it left debris");

    sandbox.run(&paired_config("two"));
    expect_clean(&sandbox, "two");
}

/// The states in which a kill at each step of the writing leaves the target, in the order of the steps.
#[test]
fn whatever_step_a_run_was_killed_at_the_next_run_ends_clean() {
    const NEXT: &str = "..2026_01_02_03_04_05.000000006";
    type Step = fn(&Path);
    let steps: [(&str, Step); 8] = [
        ("the generation is made", |out| fs::create_dir(out.join(NEXT)).unwrap()),
        ("a directory is made", |out| fs::create_dir_all(out.join(NEXT).join("d/e")).unwrap()),
        ("half a file is written", |out| fs::write(out.join(NEXT).join("a"), "tw").unwrap()),
        ("all files are written", |out| {
            for name in ["a", "d/e/b", "only-two"] {
                fs::write(out.join(NEXT).join(name), "two".repeat(3000)).unwrap();
            }
            fs::write(out.join(NEXT).join("only-two"), "x").unwrap();
        }),
        ("new names are linked", |out| symlink("..data/only-two", out.join("only-two")).unwrap()),
        ("the next link is made", |out| symlink(NEXT, out.join("..data_tmp")).unwrap()),
        ("the next link is renamed", |out| fs::rename(out.join("..data_tmp"), out.join("..data")).unwrap()),
        ("old names are unlinked", |out| fs::remove_file(out.join("only-one")).unwrap()),
    ];
    for killed_after in 0..steps.len() {
        for word in ["one", "two", "three"] {
            let sandbox = Sandbox::new();
            sandbox.run(&paired_config("one"));
            for (_, step) in &steps[..=killed_after] {
                step(&sandbox.target());
            }
            println!("killed after {}, then a run of {word}", steps[killed_after].0);
            // Readers saw one generation or the other.
            let seen = sandbox.read("a");
            assert!(seen == "one".repeat(3000) || seen == "two".repeat(3000));
            sandbox.run(&paired_config(word));
            expect_clean(&sandbox, word);
            let before = sandbox.picture();
            sandbox.run(&paired_config(word));
            assert_eq!(sandbox.picture(), before);
        }
    }
}

#[test]
fn a_first_run_that_was_killed_shows_nothing_until_the_next_is_whole() {
    const NEXT: &str = "..2026_01_02_03_04_05.000000006";
    let sandbox = Sandbox::new();
    sandbox.write(&format!("out/{NEXT}/a"), "tw");
    sandbox.link("out/a", "..data/a");
    sandbox.link("out/only-two", "..data/only-two");
    sandbox.link("out/..data_tmp", NEXT);
    assert!(!sandbox.target().join("a").exists());
    // Not even a failing run may make use of it.
    sandbox.config("files: [{path: a, inline: '{{ nope }}'}]\n");
    sandbox.seed().expect_exit(1);
    assert!(!sandbox.target().join("a").exists());
    sandbox.run(&paired_config("one"));
    expect_clean(&sandbox, "one");
}
