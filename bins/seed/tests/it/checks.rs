//! What checks let pass, what a program is given, and how long it may take.

use std::fs;

use crate::kit::Sandbox;
use crate::packed::{Tar, gzip};

#[test]
fn what_passes_its_checks_is_written() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "schemas/app.json",
        r#"{"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "common.yaml#/definitions/app"}"#,
    );
    sandbox.write("schemas/common.yaml", "definitions: {app: {type: object, required: [port]}}\n");
    sandbox.run(
        "files:\n\
         - {path: app.yaml, inline: \"port: 1\\n---\\nport: 2\\n\", check: [yaml, {schema: '@/schemas/app.json'}, nonempty]}\n\
         - {path: app.json, inline: '{\"port\": 1}', check: [json, {schema: '@/schemas/app.json'}]}\n\
         - {path: app.toml, inline: 'a = 1', check: toml}\n\
         - {path: app.ini, inline: '[a]', check: ini}\n\
         - {path: app.xml, inline: '<a/>', check: xml}\n\
         - {path: app.properties, inline: 'a=b', check: properties}\n",
    );
    assert_eq!(sandbox.read("app.yaml"), "port: 1\n---\nport: 2\n");
}

/// What this writes, this must take for good.
#[test]
fn variables_pass_the_check_of_their_format() {
    let sandbox = Sandbox::new();
    sandbox.config(
        "files:\n\
         - {path: a.env, env: {only: ['T_*']}, check: dotenv}\n\
         - {path: a.properties, env: {only: ['T_*'], format: properties}, check: properties}\n",
    );
    let values = ["", "plain", "two words", "qu\"o'te", "$HOME", "#x", "a\\b", "üñ😀", "tab\there", "x=y"];
    let run =
        values.iter().enumerate().fold(sandbox.seed(), |run, (n, value)| run.env(format!("T_{n}"), value));
    run.expect_exit(0);
    assert!(sandbox.read("a.env").contains("T_9"));
}

#[test]
fn all_is_checked_before_anything_is_visible_and_every_file_of_a_directory() {
    let sandbox = Sandbox::new();
    sandbox.write("in/good.json", "{}");
    sandbox.write("in/sub/bad.json", "{");
    sandbox.write("packed", gzip(&Tar::default().file("good.json", "{}").file("bad.json", "[").end()));
    for source in ["copy: '@/in'", "archive: '@/packed'"] {
        sandbox.run("files: [{path: first, inline: old}]\n");
        let before = sandbox.picture();
        sandbox
            .config(&format!("files: [{{path: first, inline: new}}, {{path: d/, {source}, check: json}}]\n"));
        sandbox
            .seed()
            .expect_exit(1)
            .expect_stderr("bad.json\" does not pass the check `json`: line 1 column 1");
        assert_eq!(sandbox.picture(), before, "{source}");
    }
}

/// In memory or on the disk: the content under its own name, and on standard input.
#[test]
fn a_program_finds_the_file_under_its_name_and_on_standard_input() {
    let sandbox = Sandbox::new();
    sandbox.write("tmp/.keep", "");
    for size in [10, 3 << 20] {
        let text = "x".repeat(size);
        sandbox.write("in", &text);
        sandbox.config(
            "files:\n  - path: d/app.yaml\n    copy: '@/in'\n    check:\n      run: [sh, -c, 'cat > @/stdin; cat $1 > @/named; cat $1 > @/again; \
             echo $1 $HOME > @/args', sh, '{}']\n",
        );
        sandbox.seed().env("TMPDIR", sandbox.path("tmp")).env("HOME", "home").expect_exit(0);
        for file in ["stdin", "named", "again"] {
            assert!(fs::read_to_string(sandbox.path(file)).unwrap() == text, "{file} {size}");
        }
        let args = fs::read_to_string(sandbox.path("args")).unwrap();
        let (path, home) = args.trim().split_once(' ').unwrap();
        assert!(
            path.starts_with(sandbox.path("tmp").to_str().unwrap()) && path.ends_with("/app.yaml"),
            "{path}"
        );
        assert_eq!(home, "home");
        // Nothing of it is left.
        assert_eq!(fs::read_dir(sandbox.path("tmp")).unwrap().count(), 1);
        assert!(sandbox.read("d/app.yaml") == text);
    }
}

#[test]
fn a_program_needs_no_writable_disk() {
    let sandbox = Sandbox::new();
    sandbox.config("files: [{path: a, inline: text, check: {run: [grep, -qx, text, '{}']}}]\n");
    sandbox.seed().env("TMPDIR", "/nowhere").expect_exit(0);
    sandbox.config("files: [{path: a, inline: other, check: {run: [grep, -qx, text, '{}']}}]\n");
    sandbox
        .seed()
        .env("TMPDIR", "/nowhere")
        .expect_exit(1)
        .expect_stderr("\"grep\" ended with exit code 1\n");
}

/// The process whose number stands in the file `pid` of the sandbox ends.
fn expect_gone(sandbox: &Sandbox) {
    let pid = fs::read_to_string(sandbox.path("pid")).unwrap();
    let command_line = || fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    podkit_testkit::eventually("the sleeper is gone", || command_line().is_empty().then_some(()));
}

#[test]
fn a_program_that_hangs_is_ended_with_all_that_it_started_and_named() {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: a, inline: old}]\n");
    let before = sandbox.picture();
    // The sleeper would outlive a shell that is ended alone.
    let script = "sleep 600 & echo $! > @/pid; echo looking; wait";
    sandbox.config(&format!(
        "files: [{{path: a, inline: x, check: {{run: [sh, -c, '{script}'], timeout: 2s}}}}]\n"
    ));
    sandbox.seed().expect_exit(1).expect_stderr(
        "podkit-seed: \"a\" does not pass the check `run sh`: \"sh\" did not end within 2s: looking\n",
    );
    expect_gone(&sandbox);
    assert_eq!(sandbox.picture(), before);
    let temporary = fs::read_dir(sandbox.path("")).unwrap().count();
    assert_eq!(temporary, 3, "only the config, the pid and the target are there");
}

#[test]
fn the_time_of_a_program_is_shown_and_is_for_a_program_only() {
    let sandbox = Sandbox::new();
    let run = "{run: [sh, -c, 'exit 0']}";
    sandbox.config(&format!(
        "files: [{{path: a, inline: x, check: [{run}, {{run: ['true'], timeout: 1m}}]}}]\n"
    ));
    let shown = sandbox.seed().arg("check").expect_exit(0);
    let shown = shown
        .expect_stdout("          - \"exit 0\"\n        timeout: 30s\n")
        .expect_stdout("          - \"true\"\n        timeout: 1m\n");
    sandbox.write("seed.yaml", &shown.stdout);
    let again = sandbox.seed().arg("check").expect_exit(0);
    assert_eq!(again.stdout, shown.stdout.replace("(1 bytes)", "(9 bytes)"), "all of it is read back");
    for (check, fault) in [
        (
            "{schema: /s.json, timeout: 1s}",
            "check[0].timeout: stands beside `schema`, and is for a program\n",
        ),
        ("{timeout: 1s}", "check[0]: names no check\n"),
        ("{run: ['true'], timeout: 0s}", "check[0].timeout: \"0s\" must be longer than zero\n"),
    ] {
        sandbox.config(&format!("files: [{{path: a, inline: x, check: [{check}]}}]\n"));
        sandbox.seed().expect_exit(64).expect_stderr(fault);
    }
}

#[test]
fn the_runs_deadline_ends_a_program_and_all_that_it_started() {
    let sandbox = Sandbox::new();
    sandbox.config("deadline: 500ms\nfiles: [{path: a, inline: x, check: {run: [sh, -c, 'sleep 600 & echo $! > @/pid; wait']}}]\n");
    sandbox.seed().expect_exit(75).expect_stderr("the deadline of 500ms passed while \"a\" was checked\n");
    expect_gone(&sandbox);
}

#[test]
fn a_signal_ends_a_program() {
    let sandbox = Sandbox::new();
    sandbox.config("files: [{path: a, inline: x, check: {run: [sh, -c, 'echo > @/begun; sleep 600']}}]\n");
    let seed = sandbox.seed().start();
    podkit_testkit::eventually("it has begun", || sandbox.path("begun").exists().then_some(()));
    let ended = seed.terminate().expect_exit(1);
    ended.expect_stderr("stopped by a signal while \"a\" was checked; nothing was changed\n");
}

/// In memory it is refused to a program that tries; on the disk only root can, and is found out.
#[test]
fn no_program_changes_what_it_checks() {
    let sandbox = Sandbox::new();
    for size in [10, 3 << 20] {
        sandbox.write("in", "x".repeat(size));
        let run = "check: {run: [sh, -c, 'echo more >> {} || exit 7']}";
        sandbox.config(&format!("files: [{{path: a, copy: '@/in', {run}}}]\n"));
        let failed = sandbox.seed().expect_exit(1);
        let said = ["\"sh\" ended with exit code 7", "\"sh\" has changed the file, and a check must not"];
        assert!(said.iter().any(|said| failed.stderr.contains(said)), "{}", failed.stderr);
    }
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    let sandbox = Sandbox::new();
    for schema in [
        "{$ref: '#'}",
        "{allOf: [{$ref: '#'}]}",
        "{$defs: {a: {$ref: '#/$defs/b'}, b: {$ref: '#/$defs/a'}}, $ref: '#/$defs/a'}",
    ] {
        sandbox.write("schema", schema);
        sandbox.config("files: [{path: a, inline: '{}', check: {schema: '@/schema'}}]\n");
        let ended = sandbox.seed().finish();
        assert!(ended.status.code().is_some(), "{schema}: {}", ended.status);
    }
}

#[test]
fn what_is_too_large_to_look_at_is_refused() {
    let sandbox = Sandbox::new();
    let file = fs::File::create(sandbox.path("in")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    sandbox.config("files: [{path: a, copy: '@/in', check: json}]\n");
    sandbox
        .seed()
        .expect_exit(1)
        .expect_stderr("`json`: it is larger than 64MiB, the most that is looked at\n");
    file.set_len((8 << 20) + 1).unwrap();
    sandbox.write("schema", "{}");
    sandbox.config("files: [{path: a, copy: '@/in', check: {schema: '@/schema'}}]\n");
    sandbox.seed().expect_exit(1).expect_stderr("it is larger than 8MiB, the most that is looked at\n");
    sandbox.run("files: [{path: a, copy: '@/in', check: nonempty}]\n");
}
