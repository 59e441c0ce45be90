//! What `check` shows of the conditions, and what nothing ever shows.

use std::fs;

use podkit_testkit::free_port;

use crate::kit::{Sandbox, seed};
use crate::server::{Answer, Server};

#[test]
fn check_prints_all_that_is_in_force_and_reads_it_back() {
    let sandbox = Sandbox::new();
    let config = sandbox.write(
        "a.yaml",
        "wait:\n\
         - tcp: '[::1]:5432'\n\
         - http: https://auth/healthz\n\
         - http:\n\
         \x20   url: https://auth/\n\
         \x20   method: POST\n\
         \x20   status: [200, 4xx]\n\
         \x20   body: ^ok$$\n\
         \x20   headers: {X-Key: hunter2}\n\
         \x20   auth: {bearer_file: /token}\n\
         \x20   tls: {ca: /ca.pem, cert: /cert.pem, key: /key.pem}\n\
         \x20 until: gone\n\
         \x20 deadline: 1m30s\n\
         \x20 interval: 250ms\n\
         \x20 timeout: 2s\n\
         - dns: db\n\
         - file: {path: /ready, nonempty: true, newer_than: 5m}\n\
         - file: /ready\n\
         - port_free: 8080\n\
         - command: [pg_isready, -h, db]\n",
    );
    let shown = seed().args(["check", "--config"]).arg(config).expect_exit(0).stdout;
    let wait = shown.split_once("wait:\n").unwrap().1.split_once("values:").unwrap().0;
    assert_eq!(
        wait,
        "  - tcp: \"[::1]:5432\"\n    until: there\n    interval: 1s\n    timeout: 3s\n\
         \x20 - http:\n      url: https://auth/healthz\n      method: GET\n      status:\n        - 2xx\n\
         \x20   until: there\n    interval: 1s\n    timeout: 5s\n\
         \x20 - http:\n      url: https://auth/\n      method: POST\n      status:\n        - 200\n        - 4xx\n\
         \x20     body: \"^ok$$\"\n      headers:\n        x-key: \"***\"\n      auth:\n        bearer_file: /token\n\
         \x20     tls:\n        ca: /ca.pem\n        cert: /cert.pem\n        key: /key.pem\n\
         \x20   until: gone\n    deadline: 1m30s\n    interval: 250ms\n    timeout: 2s\n\
         \x20 - dns: db\n    until: there\n    interval: 1s\n    timeout: 5s\n\
         \x20 - file:\n      path: /ready\n      nonempty: true\n      newer_than: 5m\n\
         \x20   until: there\n    interval: 1s\n\
         \x20 - file:\n      path: /ready\n      nonempty: false\n    until: there\n    interval: 1s\n\
         \x20 - port_free: \"8080\"\n    until: there\n    interval: 1s\n\
         \x20 - command:\n      - pg_isready\n      - \"-h\"\n      - db\n\
         \x20   until: there\n    interval: 1s\n    timeout: 10s\n"
    );
    let again = sandbox.write("b.yaml", &shown);
    assert_eq!(seed().args(["check", "--config"]).arg(again).expect_exit(0).stdout, shown);
}

#[test]
fn what_the_config_calls_a_secret_is_not_told_by_a_program_either() {
    let sandbox = Sandbox::new();
    sandbox.config(
        "deadline: 2s\nlog_level: debug\nsecrets: [env.PIN_OF_TEST, values.x]\nfiles: []\n\
         wait: [{command: [sh, -c, 'echo ${PIN_OF_TEST} is wrong; exit 1']}]\n",
    );
    let run = sandbox.seed().env("PIN_OF_TEST", "hunter2").expect_exit(75);
    run.refuse_stderr("hunter2")
        .expect_stderr("waiting for command sh -c echo *** is wrong; exit 1 (exit code 1: *** is wrong)\n");
    let check = sandbox.seed().arg("check").env("PIN_OF_TEST", "hunter2").expect_exit(0);
    assert!(
        check.stdout.contains("echo *** is wrong") && !check.stdout.contains("hunter2"),
        "{}",
        check.stdout
    );
}

#[test]
fn no_secret_is_ever_told() {
    let sandbox = Sandbox::new();
    let server = Server::to_wait_for(|_| Answer::status("401 Unauthorized").body("hunter2 is wrong"));
    let (address, port) = (server.address, free_port());
    let yaml = format!(
        "deadline: 2s\nlog_level: debug\nwait:\n\
         - http: http://me:hunter2@{address}/?token=hunter2\n\
         - http: http://hunter2@127.0.0.1:{port}/\n\
         - http: {{url: 'http://{address}/', body: x, status: 401, headers: {{X-Key: hunter2}}}}\n\
         - http: {{url: 'http://{address}/', auth: {{bearer: hunter2}}}}\n\
         - command: ['false', --password, hunter2, API_KEY=hunter2, 'http://a:hunter2@b/']\n"
    );
    let config = sandbox.path("secret.yaml");
    fs::write(&config, yaml).unwrap();
    let run = seed().arg("--config").arg(&config).expect_exit(75);
    for reason in ["status 401 and not 2xx", "the body does not match", "connection refused", "exit code 1"] {
        assert!(run.stderr.contains(reason), "{reason}: {}", run.stderr);
    }
    let check = seed().args(["check", "--config"]).arg(&config).expect_exit(0);
    for text in [&run.stderr, &run.stdout, &check.stdout, &check.stderr] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
