//! Bad conditions, one a row: the exact message, the exit code, and a target that stays untouched.

use crate::kit::Sandbox;

/// What stands below `wait`, and what is told of it after the line and `wait[0]`; `~` is the sandbox.
type Row = (&'static str, &'static str);

const CONFIG: &[Row] = &[
    ("{}", ": names no condition\nhint: give it one of tcp, http, dns, file, port_free, command"),
    ("{until: gone}", ": names no condition\nhint: give it one of tcp, http, dns, file, port_free, command"),
    ("{tcpp: 'db:1'}", ".tcpp: unknown key\nhint: did you mean `tcp`?"),
    (
        "{grpc: 'db:1'}",
        ".grpc: unknown key\nhint: known here: command, deadline, dns, file, http, interval, port_free, tcp, timeout, until",
    ),
    (
        "{tcp: 'db:1', dns: db}",
        ": names more than one condition\nhint: give each its own item, with its own `-`",
    ),
    ("{tcp: db}", ".tcp: \"db\" is not `host:port`\nhint: write `db:5432` or `[::1]:5432`"),
    ("{tcp: 'db:0'}", ".tcp: \"db:0\" is not `host:port`\nhint: write `db:5432` or `[::1]:5432`"),
    ("{tcp: '::1:80'}", ".tcp: \"::1:80\" is not `host:port`\nhint: write `db:5432` or `[::1]:5432`"),
    (
        "{tcp: 'http://db:80'}",
        ".tcp: \"http://db:80\" is not `host:port`\nhint: write `db:5432` or `[::1]:5432`",
    ),
    ("{tcp: {host: db}}", ".tcp: must be a single value, and is a mapping"),
    (
        "{http: auth/healthz}",
        ".http: \"auth/healthz\" is no URL (relative URL without a base)\nhint: write `http://host/path` or `https://host/path`",
    ),
    (
        "{http: 'ftp://me:hunter2@auth/'}",
        ".http: \"ftp://me:***@auth/\" is no HTTP URL\nhint: write `http://host/path` or `https://host/path`",
    ),
    ("{http: [a]}", ".http: must be a single value, and is a list"),
    ("{http: {status: 200}}", ".http.url: is required"),
    ("{http: {url: 'http://a/', stats: 200}}", ".http.stats: unknown key\nhint: did you mean `status`?"),
    (
        "{http: {url: 'http://a/', status: 20}}",
        ".http.status: \"20\" is no status\nhint: write `200`, `[200, 204]` or `2xx`",
    ),
    (
        "{http: {url: 'http://a/', status: [200, ok]}}",
        ".http.status[1]: \"ok\" is no status\nhint: write `200`, `[200, 204]` or `2xx`",
    ),
    (
        "{http: {url: 'http://a/', status: 9xx}}",
        ".http.status: \"9xx\" is no status\nhint: write `200`, `[200, 204]` or `2xx`",
    ),
    (
        "{http: {url: 'http://a/', body: '(ok'}}",
        ".http.body: \"(ok\" is no regular expression: unclosed group",
    ),
    (
        "{http: {url: 'http://a/', body: ok, method: HEAD}}",
        ".http.body: cannot match: the answer to `HEAD` has no body",
    ),
    (
        "{http: {url: 'http://a/', method: DELETE}}",
        ".http.method: \"DELETE\" is not one of GET, HEAD, POST, OPTIONS",
    ),
    (
        "{http: {url: 'http://a/', method: get}}",
        ".http.method: \"get\" is not one of GET, HEAD, POST, OPTIONS",
    ),
    (
        "{http: {url: 'http://a/', headers: {'a b': c}}}",
        ".http.headers: \"a b\" is no name of an HTTP header",
    ),
    (
        "{http: {url: 'http://a/', headers: {X-Key: \"hunter\\n2\"}}}",
        ".http.headers: the value of \"X-Key\" has characters that no HTTP header may have",
    ),
    (
        "{http: {url: 'http://me:hunter2@a/', headers: {Authorization: x}}}",
        ".http.headers: has `authorization` beside `auth` or a user in the URL\nhint: give one of them",
    ),
    (
        "{http: {url: 'http://a/', auth: {}}}",
        ".http.auth: must be one of `user` with `password_file`, `bearer_file`, `api_key_file`\nhint: a literal takes the key without `_file`",
    ),
    (
        "{http: {url: 'http://a/', tls: {ca: /ca.pem}}}",
        ".http.tls: stands beside an `http` URL\nhint: write `https://…`",
    ),
    ("{http: {url: 'https://a/', tls: {cert: /cert.pem}}}", ".http.tls: needs `cert` and `key` together"),
    (
        "{dns: 10.0.0.1}",
        ".dns: \"10.0.0.1\" is an address, and needs no name server\nhint: write `db` or `db.shop.svc.cluster.local`",
    ),
    (
        "{dns: 'db:5432'}",
        ".dns: \"db:5432\" is no host name\nhint: write `db` or `db.shop.svc.cluster.local`",
    ),
    ("{dns: ''}", ".dns: \"\" is no host name\nhint: write `db` or `db.shop.svc.cluster.local`"),
    ("{file: ''}", ".file: the path is empty"),
    ("{file: {nonempty: true}}", ".file.path: is required"),
    (
        "{file: {path: /a, nonempty: yes}}",
        ".file.nonempty: \"yes\" is not a switch\nhint: write `true` or `false`",
    ),
    (
        "{file: {path: /a, newer_than: 5}}",
        ".file.newer_than: \"5\" has no unit, and no path either\nhint: write `5m`, or `/path/to/another`",
    ),
    ("{file: {path: /a, newer: 5m}}", ".file.newer: unknown key\nhint: did you mean `newer_than`?"),
    (
        "{port_free: 0}",
        ".port_free: \"0\" is no port of this pod\nhint: write `8080`, `127.0.0.1:8080` or `[::1]:8080`",
    ),
    (
        "{port_free: 'localhost:80'}",
        ".port_free: \"localhost:80\" is no port of this pod\nhint: write `8080`, `127.0.0.1:8080` or `[::1]:8080`",
    ),
    (
        "{command: []}",
        ".command: names no program\nhint: write it as a list: `[pg_isready, -h, db]`; there is no shell",
    ),
    (
        "{command: pg_isready -h db}",
        ".command: is one word with spaces in it, and no program\nhint: write it as a list: `[pg_isready, -h, db]`; there is no shell",
    ),
    ("{command: [a, \"b\\0\"]}", ".command[1]: \"b\\0\" has a NUL in it"),
    ("{command: [a, [b]]}", ".command[1]: must be a single value, and is a list"),
    (
        "{dns: db, until: there is}",
        ".until: \"there is\" is not one of there, gone\nhint: did you mean `there`?",
    ),
    (
        "{dns: db, deadline: 30}",
        ".deadline: \"30\" has no unit\nhint: write a duration like `250ms`, `5s`, `2m` or `1m30s`",
    ),
    ("{dns: db, timeout: 0s}", ".timeout: \"0s\" must be longer than zero"),
    ("{dns: db, interval: 5ms}", ".interval: \"5ms\" must be at least 10ms"),
    (
        "{file: /a, timeout: 1s}",
        ".timeout: `file` is looked at in no time: it has no `timeout`\nhint: `deadline` is how long it is waited for",
    ),
    (
        "{port_free: 80, timeout: 1s}",
        ".timeout: `port_free` is looked at in no time: it has no `timeout`\nhint: `deadline` is how long it is waited for",
    ),
];

/// What is missing at the deadline, and why.
const MISSING: &[Row] = &[
    ("{file: '~/none'}", "file ~/none (no such file or directory)"),
    ("{file: {path: '~/text', nonempty: true}, until: gone}", "file ~/text to be gone (it is there)"),
    ("{file: '~/text/below'}", "file ~/text/below (not a directory)"),
    ("{file: {path: '~/text', newer_than: '~/none'}}", "file ~/text (~/none: no such file or directory)"),
    ("{dns: localhost, until: gone}", "dns localhost to be gone (it has an address)"),
    (
        "{port_free: '192.0.2.1:80'}",
        "port_free 192.0.2.1:80 (cannot bind 192.0.2.1:80: cannot assign requested address)",
    ),
    ("{command: 'true', until: gone}", "command true to be gone (it ends with 0)"),
    ("{command: 'false'}", "command false (exit code 1)"),
    ("{command: [sh, -c, 'kill -9 $$$$']}", "command sh -c kill -9 $$ (ended by SIGKILL)"),
    (
        "{command: '~/text', until: gone}",
        "command ~/text to be gone (cannot run \"~/text\": permission denied)",
    ),
    (
        "{http: {url: 'https://localhost:1/', tls: {ca: '~/none'}}}",
        "http https://localhost:1/ (cannot read \"~/none\": no such file or directory)",
    ),
    (
        "{http: {url: 'https://localhost:1/', tls: {ca: '~/text'}}}",
        "http https://localhost:1/ (\"~/text\" holds no certificate in PEM form: no items found)",
    ),
];

fn check(name: &str, yaml: &str, exit: i32, message: &str) {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: old, inline: old}]\n");
    let before = sandbox.picture();
    sandbox.write("text", "text");
    let root = sandbox.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    sandbox.write("seed.yaml", format!("target: ~/out\n{yaml}").replace('~', root));
    let finished = sandbox.seed().expect_exit(exit);
    assert_eq!(finished.stderr, format!("podkit-seed: {message}\n").replace('~', root), "{name}");
    assert_eq!(sandbox.picture(), before, "{name}");
}

#[test]
fn each_fault_of_a_condition_is_told_with_its_place() {
    for (wait, message) in CONFIG {
        let message = format!("~/seed.yaml:2: wait[0]{message}");
        let yaml = format!("wait: [{wait}]\nfiles: []\n");
        check(wait, &yaml, 64, &message);
    }
}

#[test]
fn more_conditions_than_there_may_be_threads_are_refused() {
    let yaml = format!("wait:\n{}files: []\n", "  - dns: db\n".repeat(101));
    check("many", &yaml, 64, "~/seed.yaml:3: wait: has 101 items, and 100 is the most");
}

#[test]
fn each_condition_that_is_not_met_in_time_is_told_with_its_reason() {
    // Each takes as long as its deadline, so all at once.
    std::thread::scope(|rows| {
        for (wait, missing) in MISSING {
            rows.spawn(move || {
                let yaml = format!("deadline: 2s\nwait: [{wait}]\nfiles: []\n");
                check(wait, &yaml, 75, &format!("the deadline of 2s passed while waiting for {missing}"));
            });
        }
    });
}
