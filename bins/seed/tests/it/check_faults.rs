//! Files that are not what they must be, one a row: the exact message, the exit code, and a target that stays
//! untouched.

use crate::kit::Sandbox;

/// A name for the row, the file (`@` is the sandbox), its check with the keys beside it, and what is said after
/// `"app" does not pass the check `.
type Row = (&'static str, &'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    (
        "yaml",
        "a: 1\na: 2\n",
        "check: yaml",
        "`yaml`: line 2 column 1: the key `a` stands here and in line 1: `a: 2`",
    ),
    ("json", "{\"a\": 1,}\n", "check: json", "`json`: line 1 column 9: trailing comma: `{\"a\": 1,}`"),
    ("toml", "[t\n", "check: toml", "`toml`: line 1 column 3: unclosed table, expected `]`: `[t`"),
    (
        "ini",
        "[a]\nno value\n",
        "check: ini",
        "`ini`: line 2 column 1: neither a section, nor `name = value`, nor a comment: `no value`",
    ),
    ("xml", "<a>\n</b>", "check: xml", "`xml`: line 2 column 1: expected 'a' tag, not 'b': `</b>`"),
    (
        "xml with a DTD",
        "<!DOCTYPE a SYSTEM 'http://x/x.dtd'><a/>",
        "check: xml",
        "`xml`: it has a DTD (`<!DOCTYPE`), and none is read",
    ),
    (
        "properties",
        "a=\\u12\n",
        "check: properties",
        "`properties`: line 1: a `\\u` without four hexadecimal digits: `a=\\u12`",
    ),
    (
        "dotenv",
        "A=1\nB=two words\n",
        "check: dotenv",
        "`dotenv`: line 2 column 7: neither `NAME=value` nor a comment; a value with blanks needs quotes: `B=two words`",
    ),
    ("nonempty", " \n", "check: nonempty", "`nonempty`: it is empty"),
    (
        "the second check",
        "[]",
        "check: [json, nonempty, toml]",
        "`toml`: line 1 column 2: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`: `[]`",
    ),
    (
        "a secret",
        "a: hunter2\na: 2\n",
        "check: yaml\n    secret: true",
        "`yaml`: line 2 column 1: no more is shown, for the file is secret",
    ),
    (
        "a secret in a file that is none",
        "p: 1\np: hunter2\n",
        "check: yaml",
        "`yaml`: line 2 column 1: the key `p` stands here and in line 1: `p: ***`",
    ),
    (
        "schema",
        "{port: '80', name: 1, extra: x}",
        "check: {schema: '@/schema.json'}",
        "`schema @/schema.json`: missing properties 'host'; /port: want integer, but got string; \
         /name: want string, but got number; additionalProperties 'extra' not allowed",
    ),
    (
        "schema in many documents",
        "{port: 1, host: a}\n---\n{port: x, host: a}\n",
        "check: {schema: '@/schema.json'}",
        "`schema @/schema.json`: document 2 /port: want integer, but got string",
    ),
    (
        "schema with much that is wrong",
        "{a: 1, list: [1, 2, 3, 4, 5, 6, 7]}",
        "check: {schema: '@/list.yaml'}",
        "`schema @/list.yaml`: /list/0: want string, but got number; /list/1: want string, but got number; \
         /list/2: want string, but got number; /list/3: want string, but got number; \
         /list/4: want string, but got number (and 2 more)",
    ),
    (
        "schema of a secret",
        "{port: hunter2, host: a}",
        "check: {schema: '@/schema.json'}\n    secret: true",
        "`schema @/schema.json`: breaks the schema at \"/properties/port\"",
    ),
    (
        "schema of what is no YAML",
        "a: [",
        "check: {schema: '@/schema.json'}",
        "`schema @/schema.json`: line 2 column 1: while parsing a node, did not find expected node content",
    ),
    (
        "exit code",
        "x",
        "check: {run: [sh, -c, 'echo looking; echo no good >&2; exit 3']}",
        "`run sh`: \"sh\" ended with exit code 3: no good",
    ),
    (
        "what a program says of a secret",
        "hunter2",
        "check: {run: [sh, -c, 'cat; exit 3']}\n    secret: true",
        "`run sh`: \"sh\" ended with exit code 3, and what it says is not shown, for the file is secret",
    ),
    ("signal", "x", "check: {run: [sh, -c, 'kill -9 $$$$']}", "`run sh`: \"sh\" was ended by signal 9"),
    (
        "no such program",
        "x",
        "check: {run: [nginx-of-another-image, -t]}",
        "`run nginx-of-another-image`: this image has no \"nginx-of-another-image\"",
    ),
    (
        "no program",
        "x",
        "check: {run: ['@/schema.json']}",
        "`run @/schema.json`: cannot run \"@/schema.json\": permission denied",
    ),
    (
        "a program that writes",
        "x",
        "check: {run: [sh, -c, 'echo y > {} && exit 0; exit 7']}",
        "`run sh`: \"sh\" ended with exit code 7: ",
    ),
];

/// Schemas that are of no use: the text of the schema, and what is said after `cannot use "…": `.
const SCHEMAS: &[(&str, &str, &str)] = &[
    ("not JSON", "{a: [", "line 2 column 1: while parsing a node, did not find expected node content"),
    ("two documents", "a: 1\n---\nb: 1\n", "it is no JSON Schema: it must be one document"),
    ("no schema", "{type: 5}", "it is no JSON Schema: /type: none of the alternatives fits"),
    (
        "a reference to a server",
        "{$ref: 'https://example.com/a.json'}",
        "it refers to https://example.com/a.json, which is not in its directory, and nothing is downloaded for a check",
    ),
    (
        "a reference elsewhere",
        "{$ref: '../../etc/passwd'}",
        "it refers to file:///etc/passwd, which is not in its directory",
    ),
    ("a reference to nothing", "{$ref: 'nothing.json'}", "no such file or directory"),
    ("a reference to no place", "{$ref: '#/nowhere'}", "nowhere"),
];

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write(
        "schema.json",
        r#"{"type": "object", "required": ["host"], "additionalProperties": false, "properties":
            {"port": {"type": "integer"}, "host": {"type": "string"}, "name": {"$ref": "defs/name.json#/name"}}}"#,
    );
    sandbox.write("defs/name.json", r#"{"name": {"type": "string"}}"#);
    sandbox.write("list.yaml", "properties: {list: {items: {type: string}}}\n");
    sandbox.run("files: [{path: app, inline: old}]\n");
    sandbox
}

#[test]
fn what_does_not_pass_is_told_and_changes_nothing() {
    let sandbox = sandbox();
    let before = sandbox.picture();
    let here = sandbox.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let mut wrong = String::new();
    for (name, text, check, why) in ROWS {
        sandbox.write("in", text);
        sandbox.config(&format!(
            "secrets: [env.PASSWORD]\nfiles:\n  - path: app\n    copy: '@/in'\n    {check}\n"
        ));
        let failed = sandbox.seed().env("PASSWORD", "hunter2").finish();
        let expected = format!("podkit-seed: \"app\" does not pass the check {}", why.replace('@', &here));
        let is_whole = *name == "a program that writes" || failed.stderr == format!("{expected}\n");
        if failed.status.code() != Some(1) || !failed.stderr.starts_with(&expected) || !is_whole {
            wrong.push_str(&format!(
                "{name}: {}\n  expected {expected}\n  said     {}",
                failed.status, failed.stderr
            ));
        }
        assert!(!failed.stderr.contains("hunter2"), "{name}: {}", failed.stderr);
        assert_eq!(sandbox.picture(), before, "{name}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_schema_that_is_none_is_told_as_such() {
    let sandbox = sandbox();
    let before = sandbox.picture();
    let mut wrong = String::new();
    for (name, schema, why) in SCHEMAS {
        let path = sandbox.write("bad.json", schema);
        sandbox.config("files: [{path: app, inline: '{}', check: {schema: '@/bad.json'}}]\n");
        let failed = sandbox.seed().finish();
        let start = format!("podkit-seed: cannot use {path:?}: ");
        if failed.status.code() != Some(1)
            || !failed.stderr.starts_with(&start)
            || !failed.stderr.contains(why)
        {
            wrong.push_str(&format!(
                "{name}: {}\n  expected {why}\n  said     {}",
                failed.status, failed.stderr
            ));
        }
        assert_eq!(sandbox.picture(), before, "{name}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}
