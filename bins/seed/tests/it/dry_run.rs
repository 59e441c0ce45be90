//! `--dry-run`: what would change is shown, and nothing is changed.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::{Command, Stdio};

use podkit_testkit::Finished;

use crate::kit::Sandbox;

fn dry(sandbox: &Sandbox, yaml: &str) -> Finished {
    sandbox.config(yaml);
    sandbox.seed().arg("--dry-run").finish()
}

#[test]
fn the_same_is_0_and_prints_nothing() {
    let sandbox = Sandbox::new();
    let yaml = "files: [{path: a, inline: x}, {path: d/b, inline: x, mode: '0600'}]\n";
    sandbox.run(yaml);
    let before = sandbox.picture();
    let same = dry(&sandbox, yaml).expect_exit(0);
    assert_eq!(same.stdout, "");
    assert_eq!(sandbox.picture(), before);
}

#[test]
fn all_that_differs_is_2_and_a_diff_and_nothing_is_touched() {
    let sandbox = Sandbox::new();
    sandbox.run(
        "files:\n  - {path: app, inline: \"a\\nb\\nc\\n\"}\n  - {path: gone, inline: was-secret-once}\n  \
         - {path: mode, inline: x}\n  - {path: same, inline: x}\n",
    );
    let before = sandbox.picture();
    let differs = dry(
        &sandbox,
        "files:\n  - {path: app, inline: \"a\\nB\\nc\\n\"}\n  - {path: d/new, inline: \"n\\n\", mode: '0600'}\n  \
         - {path: mode, inline: x, mode: '0640'}\n  - {path: same, inline: x}\n",
    )
    .expect_exit(2);
    assert_eq!(
        differs.stdout,
        "--- a/app\n+++ b/app\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n\
         b/d/new: mode 0600\n--- /dev/null\n+++ b/d/new\n@@ -0,0 +1 @@\n+n\n\
         --- a/gone\n+++ /dev/null\nFiles differ (removed, 15 -> 0 bytes)\n\
         b/mode: mode 0644 -> 0640\n"
    );
    let differs = differs.expect_stderr("\"created\":1,\"changed\":2,\"unchanged\":1,\"removed\":1");
    assert!(differs.stderr.contains("this was a dry run"));
    assert_eq!(sandbox.picture(), before);
}

#[test]
fn a_name_that_is_missing_is_a_difference_though_no_file_is() {
    let sandbox = Sandbox::new();
    let yaml = "files: [{path: a, inline: x}]\n";
    sandbox.run(yaml);
    fs::remove_file(sandbox.target().join("a")).unwrap();
    dry(&sandbox, yaml)
        .expect_exit(2)
        .expect_stdout("All files are the same; names in the target would be made anew\n");
    assert!(sandbox.target().join("a").symlink_metadata().is_err());
    sandbox.run(yaml);
    dry(&sandbox, yaml).expect_exit(0);
    dry(&sandbox, &format!("layout: plain\n{yaml}")).expect_exit(2);
}

#[test]
fn a_target_that_is_not_there_is_not_made() {
    let sandbox = Sandbox::new();
    dry(&sandbox, "files: [{path: a, inline: x}]\n").expect_exit(2).expect_stdout("+++ b/a\n");
    assert!(!sandbox.target().exists());
    dry(&sandbox, "target: '@/no/such/out'\nfiles: [{path: a, inline: x}]\n")
        .expect_exit(1)
        .expect_stderr("cannot use the target");
}

#[test]
fn what_is_secret_or_no_text_is_not_shown() {
    let sandbox = Sandbox::new();
    sandbox.write("bin", b"\0\x01");
    sandbox.run("files: [{path: key, inline: hunter2}, {path: bin, inline: text}]\n");
    let differs = dry(
        &sandbox,
        "files: [{path: key, inline: hunter3, secret: true}, {path: bin, copy: '@/bin', mode: '0644'}]\n",
    )
    .expect_exit(2);
    assert_eq!(
        differs.stdout,
        "Binary files a/bin and b/bin differ (4 -> 2 bytes)\n\
         --- a/key\n+++ b/key\nFiles differ (secret, 7 -> 7 bytes)\n"
    );
}

#[test]
fn secrets_in_a_text_are_masked_also_those_of_before() {
    let sandbox = Sandbox::new();
    let yaml = "values: '@/values.yaml'\nsecrets: [values.password, values.pin]\nfiles:\n  \
                - {path: app, inline: \"user: x\\npassword: {{ values.password }}\\n\"}\n  \
                - {path: pin, inline: \"pin: {{ values.pin }}\\n\"}\n";
    sandbox.write("values.yaml", "password: hunter2-old\npin: 123\n");
    sandbox.run(yaml);
    sandbox.write("values.yaml", "password: hunter2-new\npin: 456\n");
    let differs = dry(&sandbox, yaml).expect_exit(2);
    assert_eq!(
        differs.stdout,
        "--- a/app\n+++ b/app\n@@ -1,2 +1,2 @@\n user: x\n-***\n+password: ***\n\
         --- a/pin\n+++ b/pin\nFiles differ (secret, 9 -> 9 bytes)\n"
    );
    differs.refuse_stderr("hunter2");

    // A file that no longer holds any, and a value that nothing names any more.
    let without =
        "files:\n  - {path: app, inline: \"user: y\\n\"}\n  - {path: pin, inline: \"pin: none\\n\"}\n";
    assert_eq!(
        dry(&sandbox, without).expect_exit(2).stdout,
        "--- a/app\n+++ b/app\n@@ -1,2 +1 @@\n-***\n-***\n+user: y\n\
         --- a/pin\n+++ b/pin\n@@ -1 +1 @@\n-***\n+pin: none\n"
    );
}

#[test]
fn no_condition_is_waited_for_and_nobody_stays() {
    let sandbox = Sandbox::new();
    sandbox.config("wait: [{file: /no/such/file}]\nfiles: [{path: a, inline: x}]\n");
    sandbox.seed().args(["run", "--dry-run", "--watch", "--admin", "off"]).expect_exit(2);
}

#[test]
fn a_fault_is_the_same_as_in_a_run() {
    let sandbox = Sandbox::new();
    dry(&sandbox, "files: [{path: a, inline: '{{ nope }}'}]\n")
        .expect_exit(1)
        .expect_stderr("`nope` is undefined");
    fs::create_dir(sandbox.target()).unwrap();
    fs::write(sandbox.target().join("a"), "theirs").unwrap();
    dry(&sandbox, "files: [{path: a, inline: x}]\n").expect_exit(1).expect_stderr("is in the way");
}

/// What a dry run prints on a terminal.
fn on_terminal(sandbox: &Sandbox, no_color: &str) -> String {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_podkit-seed"));
    command.arg("--config").arg(sandbox.path("seed.yaml")).arg("--dry-run").env("NO_COLOR", no_color);
    let mut child = command.stdout(terminal.slave).stderr(Stdio::null()).spawn().unwrap();
    // With it goes our own end of the terminal.
    drop(command);
    let mut printed = Vec::new();
    // Reading ends with an error once nobody has the other end open any more.
    let _ = File::from(terminal.master).read_to_end(&mut printed);
    assert_eq!(child.wait().unwrap().code(), Some(2));
    String::from_utf8(printed).unwrap()
}

#[test]
fn colours_are_for_terminals() {
    let sandbox = Sandbox::new();
    sandbox.config("files: [{path: a, inline: x}]\n");
    assert!(on_terminal(&sandbox, "").contains("\x1b[32m+x\x1b[0m"));
    let plain = on_terminal(&sandbox, "1");
    assert!(plain.contains("+x") && !plain.contains('\x1b'), "{plain:?}");
    assert!(!sandbox.seed().arg("--dry-run").expect_exit(2).stdout.contains('\x1b'));
}
