//! What a download may be configured to be, and how `check` shows it.

use super::sha256;
use crate::kit::Sandbox;

#[test]
fn each_fault_is_told_with_its_place() {
    let sum = sha256("x");
    let cases = [
        ("url: 'https://x/a'", "sha256: is required: what is downloaded must be what was meant"),
        (
            "archive: 'https://x/a', path: b/",
            "sha256: is required: what is downloaded must be what was meant",
        ),
        ("url: 'https://x/a', sha256: SUM, unverified: true", "unverified: stands beside `sha256`"),
        ("url: 'https://x/a', sha256: abc", "sha256: \"abc\" is no SHA-256"),
        ("url: 'https://x/a', sha256: gggg", "sha256: \"gggg\" is no SHA-256"),
        ("url: 'ftp://u:s3cret@x/a', sha256: SUM", "url: \"ftp://u:***@x/a\" is no HTTP URL"),
        ("url: 'files/a', sha256: SUM", "url: \"files/a\" is no URL (relative URL without a base)"),
        ("url: 'https://x/a', sha256: SUM, max_size: 5", "max_size: \"5\" has no unit"),
        ("url: 'https://x/a', sha256: SUM, timeout: 0s", "timeout: "),
        ("url: 'https://x/a', sha256: SUM, auth: {user: me}", "auth: has a `user` without `password_file`"),
        (
            "url: 'https://x/a', sha256: SUM, auth: {bearer: a, bearer_file: /b}",
            "auth.bearer: is given beside `bearer_file`",
        ),
        ("url: 'https://x/a', sha256: SUM, auth: {}", "auth: must be one of `user` with `password_file`"),
        ("url: 'https://x/a', sha256: SUM, tls: {cert: /c}", "tls: needs `cert` and `key` together"),
        ("url: 'https://x/a', sha256: SUM, retries: 3", "retries: unknown key"),
        ("inline: x, sha256: SUM", "sha256: "),
    ];
    for (keys, message) in cases {
        let sandbox = Sandbox::new();
        let path = if keys.contains("path:") { "" } else { "path: b, " };
        sandbox
            .write("seed.yaml", format!("target: /out\nfiles:\n- {{{path}{}}}\n", keys.replace("SUM", &sum)));
        let finished = sandbox.seed().expect_exit(64);
        let first = finished.stderr.lines().next().unwrap();
        assert!(first.contains(&format!("seed.yaml:3: files[0].{message}")), "{keys}\n{}", finished.stderr);
        assert!(!finished.stderr.contains("s3cret"), "{}", finished.stderr);
    }
}

#[test]
fn check_shows_no_secret_and_what_it_shows_is_read_back() {
    let sandbox = Sandbox::new();
    let sum = sha256("x");
    sandbox.write(
        "seed.yaml",
        format!(
            "target: /out\nfiles:\n\
             - {{path: a, url: 'https://u:s3cret@x/a?t=s3cret', sha256: {sum}}}\n\
             - {{path: b, url: 'http://x/b', unverified: true, max_size: 5MiB, timeout: 10s, auth: {{bearer: s3cret}}}}\n\
             - {{path: c/, archive: 'http://x/c', unverified: true, auth: {{user: me, password_file: /p}}, \
                tls: {{ca: /ca, cert: /cert, key: /key}}}}\n"
        ),
    );
    let checked = sandbox.seed().arg("check").expect_exit(0);
    let files = checked.stdout.split_once("files:\n").unwrap().1;
    let wanted = format!(
        "  - path: a
    url: \"https://x/a?t=***\"
    sha256: {sum}
    auth:
      user: u
      password: \"***\"
    max_size: 100MiB
    timeout: 1m
  - path: b
    url: http://x/b
    unverified: true
    auth:
      bearer: \"***\"
    max_size: 5MiB
    timeout: 10s
  - path: c/
    archive: http://x/c
    unverified: true
    auth:
      user: me
      password_file: /p
    tls:
      ca: /ca
      cert: /cert
      key: /key
    max_size: 100MiB
    timeout: 1m
"
    );
    assert!(files.starts_with(&wanted), "{files}");
    let shown = format!("target: /out\nfiles:\n{wanted}");
    sandbox.write("seed.yaml", shown);
    let again = sandbox.seed().arg("check").expect_exit(0);
    assert_eq!(again.stdout, checked.stdout);
}
