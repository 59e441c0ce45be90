//! The command line: `check`, `install`, `--help`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use podkit_testkit::program;

use crate::kit::{Sandbox, seed};

#[test]
fn install_gives_a_binary_that_runs() {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("bin");
    fs::create_dir(&dir).unwrap();
    for _ in 0..2 {
        seed().arg("install").arg(&dir).expect_exit(0);
    }
    let installed = dir.join("podkit-seed");
    assert_eq!(fs::metadata(&installed).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    sandbox.config("files: [{path: a, inline: x}]\n");
    program(installed).arg("--config").arg(sandbox.path("seed.yaml")).expect_exit(0);
    assert_eq!(sandbox.read("a"), "x");
    seed()
        .arg("install")
        .arg(sandbox.path("none"))
        .expect_exit(1)
        .expect_stderr("podkit-seed: cannot write ");
}

#[test]
fn check_prints_the_settings_in_force_and_no_inline_text() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "seed.yaml",
        "target: /out\nwait: [{tcp: 'db:5432'}, {file: /ready}]\nvalues: [/v.yaml]\nfiles:\n  \
         - {path: a, inline: 'password=${PASSWORD}', mode: '0600'}\n  - {path: b, template: /b.j2}\n  \
         - {path: tls/, copy: /tls}\n",
    );
    let checked = sandbox.seed().arg("check").env("PASSWORD", "hunter2").expect_exit(0);
    assert_eq!(
        checked.stdout,
        "target: /out\nlayout: links\ndurable: true\ndeadline: 2m\nwait:\n  - tcp: db:5432\n    until: there\n    \
         interval: 1s\n    timeout: 3s\n  - file:\n      path: /ready\n      nonempty: false\n    until: there\n    \
         interval: 1s\nfiles:\n  - path: a\n    \
         inline: \"(16 bytes)\"\n    mode: \"0600\"\n  - path: b\n    template: /b.j2\n  - path: tls/\n    \
         copy: /tls\nvalues:\n  - /v.yaml\nwatch: false\nlog_level: info\nlog_format: json\n"
    );
    assert_eq!(checked.stderr, "");
}

#[test]
fn check_looks_at_nothing_but_the_config() {
    let sandbox = Sandbox::new();
    sandbox.config("target: /no/such/parent/out\nfiles: [{path: a, copy: /no/such/file}]\n");
    sandbox.seed().arg("check").expect_exit(0);
}

#[test]
fn help_shows_flags_and_a_config_file() {
    seed()
        .arg("--help")
        .expect_exit(0)
        .expect_stdout("--target <DIR>")
        .expect_stdout("\n  podkit-seed --config seed.yaml ")
        .expect_stdout("template: /templates/app.yaml.j2");
}
