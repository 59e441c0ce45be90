//! `--watch`: what is followed, what a failure leaves, the admin port, and the end.

mod downloads;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use podkit_testkit::{Signal, eventually, program};

use crate::kit::{Sandbox, generation, is_possible, seed};
use crate::watcher::{Watcher, swap};

#[test]
fn each_kind_of_input_is_followed() {
    let sandbox = Sandbox::new();
    let motd = sandbox.write("in/motd", "m1");
    sandbox.write("in/app.j2", format!("{{{{ values.v }}}} {{{{ file('{}') }}}}", motd.display()));
    sandbox.write("in/values.yaml", "v: v1\n");
    sandbox.write("in/plain", "p1");
    sandbox.write("in/dir/sub/deep", "d1");
    let watcher = Watcher::seeded(
        &sandbox,
        "values: '@/in/values.yaml'\nfiles:\n  - {path: app, template: '@/in/app.j2'}\n  \
         - {path: plain, copy: '@/in/plain'}\n  - {path: dir/, copy: '@/in/dir'}\n",
    );
    assert_eq!(sandbox.read("app"), "v1 m1");
    sandbox.write("in/values.yaml", "v: v2\n");
    watcher.expect(&sandbox, "app", "v2 m1");
    sandbox.write("in/motd", "m2");
    watcher.expect(&sandbox, "app", "v2 m2");
    sandbox.write("in/app.j2", "text");
    watcher.expect(&sandbox, "app", "text");
    sandbox.write("in/plain", "p2");
    watcher.expect(&sandbox, "plain", "p2");
    sandbox.write("in/dir/sub/deep", "d2");
    watcher.expect(&sandbox, "dir/sub/deep", "d2");
    sandbox.write("in/dir/new/file", "n1");
    watcher.expect(&sandbox, "dir/new/file", "n1");
    fs::remove_dir_all(sandbox.path("in/dir/sub")).unwrap();
    eventually("the removed file is gone", || (!sandbox.target().join("dir/sub").exists()).then_some(()));
    watcher.end();
}

#[test]
fn a_mounted_volume_is_followed_from_swap_to_swap() {
    let sandbox = Sandbox::new();
    let volume = sandbox.path("volume");
    swap(&volume, "..v0", &[("a", "0"), ("b", "0")]);
    let watcher = Watcher::seeded(
        &sandbox,
        "files:\n  - {path: all/, copy: '@/volume'}\n  - {path: one, template: '@/volume/a'}\n",
    );
    for version in 1..=4 {
        let text = version.to_string();
        swap(&volume, &format!("..v{version}"), &[("a", &text), ("b", &text)]);
        watcher.expect(&sandbox, "one", &text);
        assert_eq!((sandbox.read("all/a"), sandbox.read("all/b")), (text.clone(), text));
    }
    // A file is seen before its pass ends.
    eventually("all passes are counted", || (watcher.passes("changed") >= 5.0).then_some(()));
    watcher.end();
}

#[test]
fn plain_files_are_kept_up_as_well() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "one");
    let watcher = Watcher::seeded(&sandbox, "layout: plain\nfiles: [{path: d/a, copy: '@/in/a'}]\n");
    sandbox.write("in/a", "two");
    watcher.expect(&sandbox, "d/a", "two");
    assert!(!sandbox.target().join("d/a").is_symlink());
    assert!(watcher.status()["generation"].is_null());
    watcher.end();
}

#[test]
fn a_burst_is_taken_together() {
    const WRITES: u32 = 200;
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "0");
    let watcher = Watcher::seeded(&sandbox, "files: [{path: a, copy: '@/in/a'}]\n");
    for n in 1..=WRITES {
        sandbox.write("in/a", n.to_string());
    }
    watcher.expect(&sandbox, "a", &WRITES.to_string());
    let passes = watcher.passes("changed") + watcher.passes("unchanged");
    assert!(passes < f64::from(WRITES / 4), "{passes} passes for {WRITES} writes");
    watcher.end();
}

#[test]
fn what_is_written_anew_with_the_same_content_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "x");
    let watcher = Watcher::seeded(&sandbox, "files: [{path: a, copy: '@/in/a'}]\n");
    let before = (generation(&sandbox.target()), sandbox.picture());
    sandbox.write("in/a", "x");
    eventually("a pass finds nothing new", || (watcher.passes("unchanged") >= 1.0).then_some(()));
    assert_eq!((generation(&sandbox.target()), sandbox.picture()), before);
    watcher.end();
}

#[test]
fn a_failure_keeps_what_is_in_force_and_is_told_until_it_is_mended() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a.j2", "one");
    let watcher = Watcher::seeded(&sandbox, "files: [{path: a, template: '@/in/a.j2'}]\n");
    assert!(watcher.metric("podkit_seed_failing") < 0.5);
    let before = sandbox.picture();
    sandbox.write("in/a.j2", "{{ nope }}");
    let line = watcher.process.wait_for_stderr("cannot seed again; what is in force stays");
    assert!(line.contains("`nope` is undefined"), "{line}");
    assert_eq!(sandbox.picture(), before);
    eventually("the failure is told", || (watcher.metric("podkit_seed_failing") > 0.5).then_some(()));
    assert!(watcher.passes("failed") >= 1.0);
    let status = watcher.status();
    assert!(status["last_error"].as_str().unwrap().contains("`nope` is undefined"), "{status}");
    assert!(status["next_retry_seconds"].is_number(), "{status}");
    assert_eq!(watcher.get("/readyz").status, 200);
    assert_eq!(watcher.get("/livez").status, 200);

    sandbox.write("in/a.j2", "two");
    watcher.expect(&sandbox, "a", "two");
    eventually("the failure is over", || (watcher.metric("podkit_seed_failing") < 0.5).then_some(()));
    assert!(watcher.status()["last_error"].is_null());
    watcher.end();
}

#[test]
fn an_input_that_goes_away_is_waited_for_where_it_was() {
    let sandbox = Sandbox::new();
    sandbox.write("in/deep/a", "one");
    let watcher = Watcher::seeded(&sandbox, "files: [{path: a, copy: '@/in/deep/a'}]\n");
    fs::remove_dir_all(sandbox.path("in")).unwrap();
    watcher.process.wait_for_stderr("cannot seed again");
    assert_eq!(sandbox.read("a"), "one");
    sandbox.write("in/deep/a", "two");
    watcher.expect(&sandbox, "a", "two");
    watcher.end();
}

/// What is in the way is no input, so nothing tells that it is gone.
#[test]
fn a_failure_is_tried_again_without_a_change_of_an_input() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "one");
    let watcher = Watcher::seeded(&sandbox, "files: [{path: a, copy: '@/in/a'}]\n");
    fs::remove_file(sandbox.target().join("a")).unwrap();
    fs::write(sandbox.target().join("a"), "theirs").unwrap();
    sandbox.write("in/a", "two");
    watcher.process.wait_for_stderr("cannot seed again");
    assert_eq!(sandbox.read("a"), "theirs");
    fs::remove_file(sandbox.target().join("a")).unwrap();
    watcher.expect(&sandbox, "a", "two");
    watcher.end();
}

#[test]
fn a_new_config_is_taken_and_a_bad_one_is_refused_once() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "A");
    sandbox.write("in/b", "B");
    let watcher = Watcher::seeded(&sandbox, "files: [{path: a, copy: '@/in/a'}]\n");
    sandbox.config("files: [{path: a, copy: '@/in/a'}, {path: b, copy: '@/in/b'}]\n");
    watcher.expect(&sandbox, "b", "B");
    sandbox.write("in/b", "B2");
    watcher.expect(&sandbox, "b", "B2");

    let refused = "podkit_seed_config_reloads_total{result=\"refused\"}";
    for (count, yaml, why) in [
        (1.0, "fiels: []\n", "did you mean `files`"),
        (
            2.0,
            "target: '@/elsewhere'\nfiles: [{path: a, copy: '@/in/a'}]\n",
            "`target` cannot change without a restart",
        ),
    ] {
        sandbox.config(yaml);
        let line = watcher.process.wait_for_stderr(why);
        assert!(line.contains("the new config is refused, the old one stays in force"), "{line}");
        eventually("it is counted", || (watcher.metric(refused) >= count).then_some(()));
    }
    sandbox.write("in/b", "B3");
    watcher.expect(&sandbox, "b", "B3");
    assert!((watcher.metric(refused) - 2.0).abs() < 0.5);
    assert!((watcher.metric("podkit_seed_config_reloads_total{result=\"taken\"}") - 1.0).abs() < 0.5);

    sandbox.config("files: [{path: b, copy: '@/in/b'}]\n");
    eventually("the file that is no longer wanted is gone", || {
        (!sandbox.target().join("a").exists()).then_some(())
    });
    watcher.end();
}

/// A template that only the new config knows how to render must not meet the old one.
#[test]
fn a_config_and_its_templates_in_one_volume_are_taken_together() {
    let sandbox = Sandbox::new();
    let volume = sandbox.path("volume");
    let config = |name: &str| {
        format!(
            "target: {:?}\nfiles: [{{path: {name}, template: {:?}}}]\n",
            sandbox.target(),
            volume.join("t.j2")
        )
    };
    swap(&volume, "..v1", &[("seed.yaml", &config("one")), ("t.j2", "1")]);
    let watcher = Watcher::of(
        seed()
            .args(["--watch", "--admin", "127.0.0.1:0", "--config"])
            .arg(volume.join("seed.yaml"))
            .show(sandbox.path(""))
            .start(),
    );
    watcher.expect(&sandbox, "one", "1");
    swap(&volume, "..v2", &[("seed.yaml", &config("two")), ("t.j2", "2")]);
    watcher.expect(&sandbox, "two", "2");
    assert!(!sandbox.target().join("one").exists());
    // A config file that is only touched holds nothing up for long.
    swap(&volume, "..v3", &[("seed.yaml", &config("two")), ("t.j2", "3")]);
    watcher.expect(&sandbox, "two", "3");
    eventually("all passes are counted", || (watcher.passes("changed") >= 3.0).then_some(()));
    assert!(watcher.passes("changed") < 3.5, "{}", watcher.process.stderr());
    watcher.end();
}

#[test]
fn it_is_ready_after_the_first_seeding_and_not_before() {
    let sandbox = Sandbox::new();
    sandbox.config("wait: [{file: '@/ready'}]\nfiles: [{path: a, inline: x}]\n");
    let watcher = Watcher::start(&sandbox);
    for path in ["/startupz", "/readyz"] {
        let reply = watcher.get(path);
        assert_eq!(reply.status, 503, "{path}");
        assert!(reply.body.contains("nothing is seeded yet"), "{}", reply.body);
    }
    assert_eq!(watcher.get("/livez").status, 200);
    let probe = |which: &str| seed().args(["probe", which, "--admin", &watcher.admin()]);
    probe("ready").expect_exit(1).expect_stderr("not ready: nothing is seeded yet");
    sandbox.write("ready", "");
    eventually("it is ready", || (watcher.get("/startupz").status == 200).then_some(()));
    assert_eq!(sandbox.read("a"), "x");
    for which in ["live", "ready", "startup"] {
        probe(which).expect_exit(0);
    }
    watcher.end();
}

#[test]
fn a_first_seeding_that_fails_ends_it() {
    let sandbox = Sandbox::new();
    sandbox.config("files: [{path: a, inline: '{{ nope }}'}]\n");
    sandbox.seed().args(["--watch", "--admin", "off"]).expect_exit(1).expect_stderr("`nope` is undefined");
    sandbox.config("wait: [{file: /no/such/file}]\nfiles: [{path: a, inline: x}]\n");
    sandbox.seed().args(["--watch", "--admin", "off", "--deadline", "300ms"]).expect_exit(75);
}

#[test]
fn there_must_be_files_to_watch() {
    let sandbox = Sandbox::new();
    sandbox.write("seed.yaml", "wait: [{file: /ready}]\n");
    sandbox.seed().arg("--watch").expect_exit(64).expect_stderr("there are no files to keep");
}

#[test]
fn a_signal_or_a_request_ends_it_well_and_the_files_stay() {
    let sandbox = Sandbox::new();
    for signal in [Some(Signal::SIGTERM), Some(Signal::SIGINT), None] {
        let watcher = Watcher::seeded(&sandbox, "files: [{path: a, inline: x}]\n");
        let start = Instant::now();
        match signal {
            Some(signal) => watcher.process.signal(signal),
            None => assert_eq!(watcher.post("/quit").status, 200),
        }
        watcher.process.wait().expect_exit(0).expect_stderr("stopping; what is in force stays");
        // The promise is a second; a busy machine has its own pace.
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert_eq!(sandbox.read("a"), "x");
    }
    // Before the first seeding as well.
    sandbox.config("wait: [{file: /no/such/file}]\nfiles: [{path: a, inline: y}]\n");
    let watcher = Watcher::start(&sandbox);
    assert_eq!(watcher.post("/quit").status, 200);
    watcher.process.wait().expect_exit(0).expect_stderr("stopped by a signal while waiting for");
    assert_eq!(sandbox.read("a"), "x");
}

#[test]
fn status_shows_files_and_how_they_are_followed() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "12345");
    let watcher =
        Watcher::seeded(&sandbox, "files:\n  - {path: a, copy: '@/in/a'}\n  - {path: d/b, inline: xy}\n");
    let status = watcher.status();
    assert_eq!(status["phase"], "running");
    assert_eq!(status["generation"], generation(&sandbox.target()));
    assert_eq!(status["watching"], "inotify");
    let files = status["files"].as_array().unwrap();
    assert_eq!((&files[0]["path"], &files[0]["size"]), (&"a".into(), &5.into()));
    assert_eq!((&files[1]["path"], &files[1]["size"]), (&"d/b".into(), &2.into()));
    assert!(files[0]["changed_seconds_ago"].is_number());
    let shown = seed().args(["status", "--admin", &watcher.admin()]).expect_exit(0);
    for text in ["phase ", "running", "inotify", "PATH  SIZE  CHANGED_SECONDS_AGO", "d/b   2"] {
        assert!(shown.stdout.contains(text), "{text:?} is not in\n{}", shown.stdout);
    }
    for (name, value) in [
        ("podkit_seed_files", 2.0),
        ("podkit_seed_bytes", 7.0),
        ("podkit_seed_polling", 0.0),
        ("podkit_seed_file_changes_total{change=\"created\"}", 2.0),
        ("podkit_seed_file_changes_total{change=\"removed\"}", 0.0),
    ] {
        assert!((watcher.metric(name) - value).abs() < 0.5, "{name}");
    }
    assert!(watcher.metric("podkit_seed_last_success_timestamp_seconds") > 1.7e9);
    watcher.end();
}

/// In a user namespace of its own, which may have no inotify instance. Not all machines allow one.
#[test]
fn without_inotify_inputs_are_polled() {
    const NONE: &str = "echo 0 > /proc/sys/user/max_inotify_instances";
    let unshare = |script: &str| program("/usr/bin/unshare").args(["-U", "-r", "/bin/sh", "-c", script]);
    let has_own = Path::new("/usr/bin/unshare").exists() && unshare(NONE).finish().status.success();
    if !is_possible("user namespaces", has_own) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "one");
    let config = sandbox.config("files: [{path: a, copy: '@/in/a'}]\n");
    let script = format!("{NONE}; exec \"$0\" --config \"$1\" --watch --admin 127.0.0.1:0");
    let watcher = Watcher::of(unshare(&script).arg(env!("CARGO_BIN_EXE_podkit-seed")).arg(config).start());
    let line = watcher.process.wait_for_stderr("no inotify instance; polling every second");
    assert!(line.contains("WARN"), "{line}");
    watcher.expect(&sandbox, "a", "one");
    sandbox.write("in/a", "two");
    watcher.expect(&sandbox, "a", "two");
    assert_eq!(watcher.status()["watching"], "polling");
    assert!(watcher.metric("podkit_seed_polling") > 0.5);
    watcher.end().expect_stderr("polling");
}

#[test]
fn of_very_many_files_only_those_that_changed_are_told_one_by_one() {
    let sandbox = Sandbox::new();
    for n in 0..=100 {
        sandbox.write(&format!("in/{n}"), "x");
    }
    let yaml = "files: [{path: all/, copy: '@/in'}]\n";
    let lines = |stderr: &str, what: &str| {
        stderr.lines().filter(|line| line.contains(&format!("\"message\":\"{what}\""))).count()
    };
    let first = sandbox.run(yaml);
    assert_eq!(lines(&first.stderr, "created"), 101);
    sandbox.write("in/7", "y");
    let second = sandbox
        .run(yaml)
        .expect_stderr("\"created\":0,\"changed\":1,\"unchanged\":100,\"removed\":0,\"bytes\":101");
    assert_eq!((lines(&second.stderr, "changed"), lines(&second.stderr, "unchanged")), (1, 0));
    fs::remove_file(sandbox.path("in/7")).unwrap();
    let third = sandbox.run(yaml);
    assert_eq!((lines(&third.stderr, "removed"), lines(&third.stderr, "unchanged")), (1, 0));
    // The closing line says it as well.
    assert_eq!(lines(&sandbox.run(yaml).stderr, "unchanged"), 100 + 1);
}

#[test]
fn a_pass_that_finds_nothing_new_is_not_told_at_the_usual_level() {
    let sandbox = Sandbox::new();
    sandbox.write("in/a", "x");
    let watcher = Watcher::seeded(&sandbox, "files: [{path: a, copy: '@/in/a'}, {path: b, inline: x}]\n");
    sandbox.write("in/a", "x");
    eventually("a pass finds nothing new", || (watcher.passes("unchanged") >= 1.0).then_some(()));
    sandbox.write("in/a", "y");
    watcher.expect(&sandbox, "a", "y");
    let ended = watcher.end();
    let told = |text: &str| ended.stderr.lines().filter(|line| line.contains(text)).count();
    assert_eq!(
        (told("\"message\":\"unchanged\""), told("\"message\":\"changed\"")),
        (0, 1),
        "{}",
        ended.stderr
    );
}
