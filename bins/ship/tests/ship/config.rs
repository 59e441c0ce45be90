//! Bad input: each mistake one clear line, the right exit code.

use podkit_testkit::{Run, free_port, pod};

use crate::setup::Volume;

fn minimal() -> Run {
    pod("ship")
        .args(["--include", "/tmp/podkit-none/*.log", "--to", "stdout:"])
        .env("PODKIT_SHIP_ADMIN", "off")
}

#[test]
fn bad_flags_are_refused_with_the_fix() {
    for (args, message, hint) in [
        (&["--batch-age", "5"][..], "--batch-age: \"5\" has no unit", "hint: write a duration like"),
        (&["--memory", "16"], "--memory: \"16\" has no unit", "hint: write a size like"),
        (&["--batch-size", "0B"], "--batch-size: 0B is not between 1B and 256MiB", "hint: backends take"),
        (&["--batch-size", "8589934591GiB"], "--batch-size: 8589934591GiB is not between", ""),
        (
            &["--to", "file:/tmp/podkit-none/out.log"],
            "--to: file:/tmp/podkit-none/out.log is a file that `include` finds",
            "hint: write to another directory",
        ),
        (&["--memory", "1MiB"], "--memory: 1MiB is too small for 1 destination", "hint: give at least 4MiB"),
        (&["--compression", "gzp"], "--compression: \"gzp\" is not one of", "hint: did you mean `gzip`?"),
        (
            &["--includ", "x"],
            "unexpected argument '--includ' found",
            "hint: a similar argument exists: '--include'",
        ),
        (&["--to", "lokki+http://loki"], "--to: \"lokki+http://loki\" is not a destination", "`loki+…`"),
        (&["--to", "ftp://x"], "--to: \"ftp://x\" is not a destination", "hint: write `http://"),
        (&["--to", "stdout:"], "--to: stdout: is given twice", ""),
        (
            &["--include", "a.log"],
            "--include: \"a.log\" is not an absolute path",
            "hint: write the whole path",
        ),
        (&["--batch-lines", "0"], "--batch-lines: \"0\" is not a whole number of at least 1", ""),
        (
            &["--done-file", "done"],
            "--done-file: \"done\" is not an absolute path",
            "hint: write the whole path",
        ),
        (&["--done-file", "/x/done", "--once"], "--done-file: does not go with `once`", "leave out one"),
        (&["--admin", "nonsense"], "--admin: \"nonsense\" is not an address", "or `off`"),
        (&["--log-level", "inf"], "--log-level: \"inf\" is not one of", "hint: did you mean `info`?"),
        (
            &["--config", "/none.yaml"],
            "cannot read the config file \"/none.yaml\": no such file",
            "hint: check `--config`",
        ),
    ] {
        let _ = minimal().args(args).expect_exit(64).expect_stderr(message).expect_stderr(hint);
    }
}

#[test]
fn many_destinations_share_the_memory_by_smaller_batches() {
    let to: Vec<String> = (1..=6).map(|number| format!("--to=http://sink-{number}/")).collect();
    let finished = minimal().arg("check").args(to).args(["--memory", "14MiB"]).expect_exit(0);
    // With stdout they are seven, and each has four buffers.
    let _ = finished.expect_stdout("size: 512KiB");
}

#[test]
fn the_config_in_the_readme_is_valid() {
    let volume = Volume::new();
    let readme = include_str!("../../README.md");
    let (_, yaml) = readme.split_once("```yaml\n").unwrap();
    volume.write("ship.yaml", yaml.split_once("```").unwrap().0);
    let run = pod("ship").arg("check").arg("--config").arg(volume.file("ship.yaml"));
    let _ = run.env("POD_NAME", "shop-0").env("POD_NAMESPACE", "shop").expect_exit(0);
}

#[test]
fn what_is_required_is_named() {
    let finished = pod("ship").expect_exit(64);
    let _ = finished
        .expect_stderr("podkit-ship: --include: is required")
        .expect_stderr("podkit-ship: --to: is required");
}

#[test]
fn empty_lists_are_missing_and_empty_variables_are_not_set() {
    let volume = Volume::new();
    for yaml in ["include: []\nto: []\n", "sources: []\ndestinations: []\n", ""] {
        volume.write("ship.yaml", yaml);
        let run = pod("ship").arg("check").arg("--config").arg(volume.file("ship.yaml"));
        let run = run.env("PODKIT_SHIP_INCLUDE", "").env("PODKIT_SHIP_TO", "").env("PODKIT_SHIP_MEMORY", "");
        let finished = run.expect_exit(64).expect_stderr("include: is required");
        let _ = finished.refuse_stderr("PODKIT_SHIP_MEMORY");
    }
}

#[test]
fn destinations_that_differ_in_a_secret_only_are_refused_and_no_secret_is_told() {
    let two = ["--to", "http://u:hunter2@sink/", "--to", "http://u:hunter3@sink/"];
    let finished = pod("ship").args(["check", "--include", "/tmp/*.log"]).args(two).expect_exit(64);
    let _ = finished.expect_stderr("http://u:***@sink/ is given twice").refuse_stderr("hunter");
    for to in [
        "loki+http://u:hunter2@x",
        "u:hunter2@x",
        "http://u:hunter2@",
        "http://hunter2@x",
        "ftp://x/?a=hunter2",
    ] {
        let finished = minimal().args(["check", "--to", to]).finish();
        assert!(!finished.stderr.contains("hunter2") && !finished.stdout.contains("hunter2"), "{finished:?}");
    }
}

#[test]
fn a_question_to_an_instance_leaves_no_termination_message_and_names_its_address() {
    let port = free_port();
    let finished =
        pod("ship").args(["probe", "live", "--admin", &format!("127.0.0.1:{port}")]).expect_exit(1);
    let _ = finished.expect_stderr(&format!(
        "podkit-ship: cannot connect to http://127.0.0.1:{port}: connection refused"
    ));
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let volume = Volume::new();
    let yaml = "\
state_dri: /x
sources:
  - include: [/tmp/*.log]
    fields: {pod: \"${PODKIT_TEST_UNSET}\", message: x}
    max_line: 5
destinations:
  - htpp: {url: http://x}
  - http: {}
  - {loki: {url: http://loki}, http: {url: http://x}}
batch: {age: 5}
";
    volume.write("ship.yaml", yaml);
    let finished = pod("ship").arg("check").arg("--config").arg(volume.file("ship.yaml")).expect_exit(64);
    for fault in [
        "ship.yaml:1: state_dri: unknown key\nhint: did you mean `state_dir`?",
        "ship.yaml:4: sources[0].fields.pod: the variable `PODKIT_TEST_UNSET` is not set",
        "sources[0].fields: `message` is a member that every record has already",
        "ship.yaml:5: sources[0].max_line: \"5\" has no unit",
        "ship.yaml:7: destinations[0].htpp: unknown key\nhint: did you mean `http`?",
        "ship.yaml:8: destinations[1].http.url: is required",
        "ship.yaml:9: destinations[2]: must be one destination, one of elasticsearch, loki",
        "ship.yaml:10: batch.age: \"5\" has no unit",
    ] {
        assert!(finished.stderr.contains(fault), "{fault:?} is missing in\n{}", finished.stderr);
    }
    assert!(finished.stdout.is_empty());
}

#[test]
fn check_prints_settings_that_read_back_and_no_secret() {
    let volume = Volume::new();
    let args = [
        "--to",
        "http://user:hunter2@sink:8080/logs",
        "--memory",
        "32MiB",
        "--include",
        "/var/log/app/**/*.log",
        "--done-file",
        "/var/log/app/done",
    ];
    let first = pod("ship").arg("check").args(args).expect_exit(0).expect_stdout("user:***@sink:8080");
    assert!(!first.stdout.contains("hunter2"));
    volume.write("ship.yaml", &first.stdout);
    let second = pod("ship").arg("check").arg("--config").arg(volume.file("ship.yaml")).expect_exit(0);
    assert_eq!(first.stdout.replace("***", ""), second.stdout.replace("***", ""));
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let volume = Volume::new();
    volume.write("ship.yaml", "memory: 31MiB\ncompression: zstd\nbatch: {age: 3s}\n");
    let run = || minimal().arg("check").arg("--config").arg(volume.file("ship.yaml"));
    let _ = run().expect_exit(0).expect_stdout("memory: 31MiB").expect_stdout("age: 3s");
    let run = || run().env("PODKIT_SHIP_MEMORY", "32MiB").env("PODKIT_SHIP_BATCH_AGE", "4s");
    let _ =
        run().expect_exit(0).expect_stdout("memory: 32MiB").expect_stdout("age: 4s").expect_stdout("zstd");
    let _ = run().args(["--memory", "33MiB"]).expect_exit(0).expect_stdout("memory: 33MiB");
    let bad = run().env("PODKIT_SHIP_MEMORY", "1").expect_exit(64);
    let _ = bad.expect_stderr("podkit-ship: PODKIT_SHIP_MEMORY: \"1\" has no unit");
}

#[test]
fn a_state_directory_that_cannot_be_written_ends_the_start() {
    let volume = Volume::new();
    volume.write("file", "x");
    for (dir, why) in
        [("file", "not a directory"), ("file/below", "not a directory"), ("none/below", "no such file")]
    {
        let finished = minimal().arg("--state-dir").arg(volume.file(dir)).expect_exit(1);
        let _ = finished
            .expect_stderr("podkit-ship: cannot write the state directory")
            .expect_stderr(why)
            .expect_stderr("hint: `--state-dir`");
    }
}

#[test]
fn an_admin_port_in_use_is_named() {
    let volume = Volume::new();
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let run = pod("ship").arg("--include").arg(volume.file("*.log")).args(["--to", "stdout:", "--admin"]);
    let finished = run.arg(format!("127.0.0.1:{port}")).expect_exit(1);
    let _ = finished
        .expect_stderr(&format!(
            "podkit-ship: cannot listen on 127.0.0.1:{port} for --admin: address already in use"
        ))
        .expect_stderr("hint: another process");
}

#[test]
fn an_unreadable_file_is_told_once_and_stops_nothing() {
    let volume = Volume::new();
    // A link to itself: even root cannot read it, and it is no file; a plain file beside it is shipped.
    std::os::unix::fs::symlink(volume.file("loop.log"), volume.file("loop.log")).unwrap();
    volume.write("app.log", "line 0\n");
    let finished = volume.ship("stdout:").arg("--once").expect_exit(0);
    let _ = finished.expect_stdout("line 0");
}

#[test]
fn help_and_version_are_for_people() {
    let help = pod("ship").arg("--help").expect_exit(0);
    let _ = help
        .expect_stdout("Examples:")
        .expect_stdout("--include <GLOB>")
        .expect_stdout("Exit codes:")
        .expect_stdout("PODKIT_SHIP_LOG_LEVEL");
    let _ = pod("ship").arg("--version").expect_exit(0).expect_stdout("podkit-ship 0.");
}
