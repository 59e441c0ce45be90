//! Bad inputs, one a row: the exact message, the exit code, and a target that stays untouched.

use crate::kit::Sandbox;

/// A name for the row, the config below `target:` (`@` is the sandbox), the exit code, and stderr without the
/// prefix `podkit-seed: ` and, for faults of the config, the path of its file.
type Row = (&'static str, &'static str, i32, &'static str);

const CONFIG: &[Row] = &[
    ("unknown key", "files: []\nfils: []\n", 64, ":3: fils: unknown key\nhint: did you mean `files`?"),
    (
        "unknown key below",
        "files: [{path: a, inlin: x, copy: /x}]\n",
        64,
        ":2: files[0].inlin: unknown key\nhint: did you mean `inline`?",
    ),
    (
        "no unit",
        "deadline: 5\nfiles: []\n",
        64,
        ":2: deadline: \"5\" has no unit\nhint: write a duration like `250ms`, `5s`, `2m` or `1m30s`",
    ),
    (
        "unknown unit",
        "deadline: 5sec\nfiles: []\n",
        64,
        ":2: deadline: \"5sec\" has an unknown unit\nhint: write a duration like `250ms`, `5s`, `2m` or `1m30s`",
    ),
    ("no time at all", "deadline: 0s\nfiles: []\n", 64, ":2: deadline: \"0s\" must be longer than zero"),
    (
        "unset variable",
        "files:\n  - path: a\n    inline: ${PODKIT_SURELY_UNSET}\n",
        64,
        ":4: files[0].inline: the variable `PODKIT_SURELY_UNSET` is not set\nhint: set it, or give a default: `${PODKIT_SURELY_UNSET:-default}`",
    ),
    (
        "nothing to do",
        "deadline: 1s\n",
        64,
        ":1: files: there is nothing to do: neither files nor anything to wait for\nhint: give `files` or `wait` in a config file: `--config seed.yaml`",
    ),
    ("not a list", "files: {path: a}\n", 64, ":2: files: must be a list, and is a mapping"),
    ("no path", "files: [{inline: a}]\n", 64, ":2: files[0].path: is required"),
    ("empty path", "files: [{path: '', inline: a}]\n", 64, ":2: files[0].path: the path is empty"),
    (
        "path upwards",
        "files: [{path: ../a, inline: a}]\n",
        64,
        ":2: files[0].path: \"../a\" has \"..\" in it\nhint: a path is relative to the target and stays below it",
    ),
    (
        "path up and down",
        "files: [{path: a/../../b, inline: a}]\n",
        64,
        ":2: files[0].path: \"a/../../b\" has \"..\" in it\nhint: a path is relative to the target and stays below it",
    ),
    (
        "absolute path",
        "files: [{path: /etc/passwd, inline: a}]\n",
        64,
        ":2: files[0].path: \"/etc/passwd\" is absolute\nhint: a path is relative to the target and stays below it",
    ),
    (
        "the target itself",
        "files: [{path: ./, copy: /a}]\n",
        64,
        ":2: files[0].path: \"./\" names the target itself",
    ),
    (
        "NUL in a path",
        "files: [{path: \"a\\0b\", inline: a}]\n",
        64,
        ":2: files[0].path: \"a\\0b\" has a NUL in it",
    ),
    (
        "line break in a path",
        "files: [{path: \"a\\nb\", inline: a}]\n",
        64,
        ":2: files[0].path: \"a\\nb\" has a line break in it",
    ),
    (
        "our own names",
        "files: [{path: ..data/a, inline: a}]\n",
        64,
        ":2: files[0].path: \"..data/a\" begins with \"..\", which is kept for generations",
    ),
    (
        "the same path twice",
        "files:\n  - {path: a, inline: a}\n  - {path: ./a, inline: b}\n",
        64,
        ":4: files[1].path: \"a\" is also the path of files[0]",
    ),
    (
        "a path in another",
        "files:\n  - {path: a, inline: a}\n  - {path: a/b, inline: b}\n",
        64,
        ":4: files[1].path: \"a/b\" lies in \"a\", which is the path of files[0]",
    ),
    (
        "a path above another",
        "files:\n  - {path: a/b/c, inline: a}\n  - {path: a, inline: b}\n",
        64,
        ":4: files[1].path: \"a\" is a directory of \"a/b/c\", the path of files[0]",
    ),
    (
        "a directory from a text",
        "files: [{path: a/, inline: a}]\n",
        64,
        ":2: files[0].path: \"a/\" names a directory, and only `copy` and `archive` make one",
    ),
    (
        "two checks in one item",
        "files: [{path: a, inline: a, check: {schema: /s, run: [x]}}]\n",
        64,
        ":2: files[0].check.run: stands beside `schema`, and an item is one check\n\
         hint: give each its own item, with its own `-`",
    ),
    (
        "a check of nothing, beside another fault",
        "files: [{path: '', inline: a, check: {run: []}}]\n",
        64,
        ":2: files[0].check: names no check\n\
         hint: write `{schema: /schemas/app.json}` or `{run: [program, \"{}\"]}`\n\
         podkit-seed: @/seed.yaml:2: files[0].path: the path is empty",
    ),
    (
        "no source",
        "files: [{path: a}]\n",
        64,
        ":2: files[0]: has no source\nhint: give it one of `template`, `inline`, `envsubst`, `copy`, `url`, `archive`, `env`",
    ),
    (
        "two sources",
        "files: [{path: a, template: /a, copy: /b}]\n",
        64,
        ":2: files[0].copy: stands beside `template`, and a file has one source",
    ),
    (
        "setuid",
        "files: [{path: a, inline: a, mode: '4755'}]\n",
        64,
        ":2: files[0].mode: \"4755\" is not a file mode\nhint: write it in octal: \"0640\"",
    ),
    (
        "mode in words",
        "files: [{path: a, inline: a, mode: rw-r--r--}]\n",
        64,
        ":2: files[0].mode: \"rw-r--r--\" is not a file mode\nhint: write it in octal: \"0640\"",
    ),
    (
        "no value",
        "files: [{path: a, inline: }]\n",
        64,
        ":2: files[0].inline: has no value\nhint: give it one, or remove the key",
    ),
    (
        "a download that may be anything",
        "files: [{path: a, url: 'https://x/a'}]\n",
        64,
        ":2: files[0].sha256: is required: what is downloaded must be what was meant\n\
         hint: give the checksum (`sha256sum FILE` prints it), or `unverified: true`",
    ),
    ("unknown layout", "layout: flat\nfiles: []\n", 64, ":2: layout: \"flat\" is not one of links, plain"),
    (
        "a condition without a key",
        "wait: [db]\nfiles: []\n",
        64,
        ":2: wait[0]: must be a mapping, and is a single value",
    ),
    ("broken YAML", "files: [\n", 64, ":3: while parsing a node, did not find expected node content"),
];

const INPUTS: &[Row] = &[
    (
        "no template",
        "files: [{path: a, template: '@/none.j2'}]\n",
        1,
        "cannot read \"@/none.j2\": no such file or directory\nhint: check the path, and that the volume is mounted into this container",
    ),
    (
        "a directory as template",
        "files: [{path: a, template: '@/dir'}]\n",
        1,
        "cannot use \"@/dir\": it is not a regular file",
    ),
    (
        "a device as source",
        "files: [{path: a, copy: /dev/zero}]\n",
        1,
        "cannot use \"/dev/zero\": it is not a regular file",
    ),
    (
        "a template that is no text",
        "files: [{path: a, template: '@/binary'}]\n",
        1,
        "cannot use \"@/binary\": it is not UTF-8 text (line 2)",
    ),
    (
        "nothing to copy",
        "files: [{path: a, copy: '@/none'}]\n",
        1,
        "cannot read \"@/none\": no such file or directory\nhint: check the path, and that the volume is mounted into this container",
    ),
    (
        "a file for a directory",
        "files: [{path: a/, copy: '@/text'}]\n",
        1,
        "cannot place \"a/\": it names a directory, and \"@/text\" is a file",
    ),
    (
        "a directory that never ends",
        "files: [{path: a, copy: '@/loop'}]\n",
        1,
        "cannot use \"@/loop/up\": the directory contains itself through a link",
    ),
    (
        "no values",
        "values: '@/none.yaml'\nfiles: []\n",
        1,
        "cannot read \"@/none.yaml\": no such file or directory\nhint: check the path, and that the volume is mounted into this container",
    ),
    (
        "values that are a list",
        "values: '@/list.yaml'\nfiles: []\n",
        1,
        "cannot use \"@/list.yaml\": values must be a mapping of names",
    ),
    (
        "undefined variable",
        "files: [{path: a, inline: \"x\\n{{ y }}\"}]\n",
        1,
        "cannot render \"a\" from its inline template line 2 column 4: `y` is undefined\nhint: line 2: {{ y }}",
    ),
    (
        "undefined environment",
        "files: [{path: a, inline: '{{ env.PODKIT_SURELY_UNSET }}'}]\n",
        1,
        "cannot render \"a\" from its inline template line 1 column 4: `env.PODKIT_SURELY_UNSET` is undefined\nhint: line 1: {{ env.PODKIT_SURELY_UNSET }} (set the environment variable PODKIT_SURELY_UNSET, or write `env.PODKIT_SURELY_UNSET | default('…')`)",
    ),
    (
        "unknown filter",
        "files: [{path: a, inline: '{{ 1 | nosuch }}'}]\n",
        1,
        "cannot render \"a\" from its inline template line 1 column 8: there is no filter `nosuch`\nhint: line 1: {{ 1 | nosuch }}",
    ),
    (
        "unknown function",
        "files: [{path: a, inline: '{{ nosuch() }}'}]\n",
        1,
        "cannot render \"a\" from its inline template line 1 column 4: there is no function `nosuch`\nhint: line 1: {{ nosuch() }}",
    ),
    (
        "open expression",
        "files: [{path: a, inline: '{{ 1'}]\n",
        1,
        "cannot render \"a\" from its inline template line 1 column 4: syntax error: unexpected end of input, expected end of variable block\nhint: line 1: {{ 1",
    ),
    (
        "no file in a template",
        "files: [{path: a, inline: \"{{ file('/no/such') }}\"}]\n",
        1,
        "cannot render \"a\" from its inline template line 1 column 4: cannot read \"/no/such\": no such file or directory\nhint: line 1: {{ file('/no/such') }}",
    ),
    (
        "no parent of the target",
        "target: '@/none/out'\nfiles: []\n",
        1,
        "cannot use the target \"@/none/out\": no such file or directory\nhint: the target's parent directory must exist: mount the shared volume there",
    ),
    (
        "a file as target",
        "target: '@/text'\nfiles: []\n",
        1,
        "cannot use the target \"@/text\": not a directory\nhint: the target must be a directory, such as an emptyDir's mount",
    ),
    (
        "a target that nobody can write",
        "target: /proc/podkit-seed\nfiles: [{path: a, inline: x}]\n",
        1,
        "cannot use the target \"/proc/podkit-seed\": no such file or directory\nhint: the target's parent directory must exist: mount the shared volume there",
    ),
];

fn check(row: &Row, prefix: &str) {
    let (name, yaml, exit, message) = *row;
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: old, inline: old}]\n");
    let before = sandbox.picture();
    sandbox.write("text", "text");
    sandbox.write("dir/file", "text");
    sandbox.write("binary", b"text\n\xff\xfe");
    sandbox.write("list.yaml", "[1, 2]\n");
    sandbox.write("loop/file", "text");
    sandbox.link("loop/up", sandbox.path("loop"));
    sandbox.config(yaml);
    let finished = sandbox.seed().expect_exit(exit);
    let root = sandbox.path("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    let expected = format!("podkit-seed: {prefix}{message}\n").replace('@', root);
    assert_eq!(finished.stderr, expected, "{name}");
    assert_eq!(sandbox.picture(), before, "{name}");
}

#[test]
fn each_fault_of_the_config_is_told_with_its_place_and_nothing_is_touched() {
    for row in CONFIG {
        check(row, "@/seed.yaml");
    }
}

#[test]
fn each_fault_of_an_input_is_told_in_one_line_and_nothing_is_touched() {
    for row in INPUTS {
        check(row, "");
    }
}

#[test]
fn all_faults_of_a_config_are_told_at_once() {
    let sandbox = Sandbox::new();
    sandbox.config("deadline: 5\nwait: [{tcp: db}]\nfiles:\n  - {path: ../a, inline: x}\n  - {path: b}\n");
    for verb in ["run", "check"] {
        let finished = sandbox.seed().arg(verb).expect_exit(64);
        let faults: Vec<_> = finished
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("podkit-seed: ")?.split("seed.yaml:").nth(1))
            .collect();
        assert_eq!(
            faults,
            [
                "2: deadline: \"5\" has no unit",
                "3: wait[0].tcp: \"db\" is not `host:port`",
                "5: files[0].path: \"../a\" has \"..\" in it",
                "6: files[1]: has no source",
            ]
        );
    }
    assert!(!sandbox.target().exists());
}

#[test]
fn a_config_file_that_is_not_there_is_told() {
    let sandbox = Sandbox::new();
    sandbox.seed().expect_exit(64).expect_stderr("podkit-seed: cannot read the config file ");
}
