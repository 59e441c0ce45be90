//! README.md is the reference: it has every flag and every key, no other, and the defaults that are in force.

use std::collections::{BTreeMap, BTreeSet};

use podkit_testkit::{Finished, program};
use serde_json::{Value, json};

const README: &str = include_str!("../../README.md");

/// No key is near enough to it to be offered in its place.
const STRANGER: &str = "zzzz";

/// The config file of the reference.
fn reference() -> Value {
    let yaml = README.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    podkit_cli::parse_yaml(yaml).unwrap()
}

fn check(config: &Value, exit: i32) -> Finished {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("proxy.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let args = ["check", "--config", file.to_str().unwrap()];
    program(env!("CARGO_BIN_EXE_podkit-proxy")).args(args).expect_exit(exit)
}

/// The keys of each mapping, by its path without the numbers of list items: `listeners[].limits`.
type Keys = BTreeMap<String, BTreeSet<String>>;

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn keys(value: &Value, path: &str, found: &mut Keys) {
    match value {
        Value::Object(map) => {
            found.entry(path.to_owned()).or_default().extend(map.keys().cloned());
            map.iter().for_each(|(key, value)| keys(value, &join(path, key), found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{path}[]"), found)),
        _ => {}
    }
}

fn with_strangers(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let known = map.into_iter().map(|(key, value)| (key, with_strangers(value)));
            known.chain([(STRANGER.to_owned(), json!(1))]).collect()
        }
        Value::Array(items) => items.into_iter().map(with_strangers).collect(),
        value => value,
    }
}

/// What the parser says it knows, when it is asked about a stranger in each mapping.
fn known() -> Keys {
    let told = check(&with_strangers(reference()), 64).stderr;
    let mut known = Keys::new();
    let mut lines = told.lines();
    while let Some(line) = lines.next() {
        let field = line.strip_suffix(": unknown key").and_then(|line| line.rsplit(": ").next()).unwrap();
        let path = field.strip_suffix(STRANGER).unwrap().trim_end_matches('.');
        let path: String = path.chars().filter(|c| !c.is_ascii_digit()).collect();
        let hint = lines.next().and_then(|hint| hint.strip_prefix("hint: known here: ")).unwrap();
        known.entry(path).or_default().extend(hint.split(", ").map(str::to_owned));
    }
    known
}

#[test]
fn the_reference_has_each_key_that_the_parser_knows_and_no_other() {
    check(&reference(), 0);
    let mut told = Keys::new();
    keys(&reference(), "", &mut told);
    let mut known = known();
    // What makes one `--forward` is told with the flags.
    known
        .get_mut("")
        .unwrap()
        .retain(|key| told[""].contains(key) || !README.contains(&format!("`--{} ", key.replace('_', "-"))));
    assert_eq!(told, known);
}

#[test]
fn the_reference_has_each_flag() {
    let help = program(env!("CARGO_BIN_EXE_podkit-proxy")).arg("--help").expect_exit(0).stdout;
    let is_name = |c: char| c.is_ascii_lowercase() || c == '-';
    let flags = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    let missing: BTreeSet<&str> = flags
        .map(|flag| flag.split(|c| !is_name(c)).next().unwrap_or_default())
        .filter(|flag| !["help", "version", "config"].contains(flag))
        .filter(|flag| !README.contains(&format!("`--{flag}")))
        .collect();
    assert_eq!(missing, BTreeSet::new());
}

/// Each single value by its path, of the first item where there is a list.
fn values(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| values(value, &join(path, key), found)),
        Value::Array(items) => items.iter().take(1).for_each(|item| values(item, path, found)),
        value => {
            found.insert(path.to_owned(), value.clone());
        }
    }
}

#[test]
fn the_reference_shows_the_defaults() {
    let own = ["name", "to", "log_format"];
    let forward = ["check", "--forward", "http://0.0.0.0:8443=127.0.0.1:8080"];
    let shown = program(env!("CARGO_BIN_EXE_podkit-proxy")).args(forward).expect_exit(0).stdout;
    let (mut in_force, mut told) = (BTreeMap::new(), BTreeMap::new());
    values(&podkit_cli::parse_yaml(&shown).unwrap(), "", &mut in_force);
    values(&reference(), "", &mut told);
    in_force.retain(|path, _| !own.contains(&path.rsplit('.').next().unwrap()));
    assert!(in_force.len() > 30, "{in_force:?}");
    for (path, value) in in_force {
        // What is off has its keys told in its place.
        let is_off = value == "off" && told.keys().any(|other| other.starts_with(&format!("{path}.")));
        assert!(is_off || told.get(&path) == Some(&value), "{path} is {value} by default");
    }
}

/// Each single value by its path.
fn places(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| places(value, &join(path, key), found)),
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(at, item)| places(item, &format!("{path}[{at}]"), found));
        }
        value => {
            found.insert(path.to_owned(), value.clone());
        }
    }
}

#[test]
fn check_shows_every_value_of_every_key_as_a_config_that_reads_back() {
    let full = podkit_cli::parse_yaml(include_str!("reference_full.yaml")).unwrap();
    let (mut has, mut all) = (Keys::new(), Keys::new());
    keys(&full, "", &mut has);
    keys(&reference(), "", &mut all);
    assert_eq!(has, all, "the example has every key");

    let shown = podkit_cli::parse_yaml(&check(&full, 0).stdout).unwrap();
    let (mut wanted, mut found) = (BTreeMap::new(), BTreeMap::new());
    places(&full, "", &mut wanted);
    places(&shown, "", &mut found);
    for (path, value) in wanted {
        assert_eq!(found.get(&path), Some(&value), "{path}");
    }
    assert_eq!(podkit_cli::parse_yaml(&check(&shown, 0).stdout).unwrap(), shown);
}

const METRICS: [&str; 3] = [
    include_str!("../../src/metrics.rs"),
    include_str!("../../src/metrics/listener.rs"),
    include_str!("../../src/metrics/upstream.rs"),
];

/// The part of the reference below a heading.
fn chapter(heading: &str) -> &'static str {
    README.split("\n## ").find(|chapter| chapter.starts_with(heading)).unwrap()
}

/// The words in backquotes within the tables of a chapter.
fn words(chapter: &'static str) -> BTreeSet<&'static str> {
    let rows = chapter.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect()
}

/// The names of all metrics, without their prefix.
pub(crate) fn metrics() -> BTreeSet<&'static str> {
    words(chapter("Metrics")).into_iter().map(|name| name.split('{').next().unwrap()).collect()
}

#[test]
fn the_reference_has_each_metric_and_no_other() {
    let calls = METRICS.iter().flat_map(|source| source.split("families")).map(str::trim_start);
    let kinds = [".counter(", ".gauge(", ".duration("];
    let declared: BTreeSet<&str> = calls
        .filter(|call| kinds.iter().any(|kind| call.starts_with(kind)))
        .map(|call| call.split('"').nth(1).unwrap())
        .collect();
    assert!(declared.len() > 20, "{declared:?}");
    assert_eq!(metrics(), declared);
}

#[test]
fn the_reference_has_each_member_of_an_access_log_line_and_no_other() {
    let members = |text: &'static str| -> BTreeSet<&str> {
        let rows = text.lines().filter_map(|line| line.trim_start_matches("//! ").strip_prefix("| `"));
        rows.flat_map(|row| row.split(" | ").next().unwrap().split('`').step_by(2))
            .filter(|name| *name != ", ")
            .collect()
    };
    let declared = members(include_str!("../../src/access_log.rs"));
    assert!(declared.len() > 15, "{declared:?}");
    assert_eq!(members(chapter("The access log")), declared);
}

/// What tells why something is not carried.
const REASONS: [&str; 3] = [
    include_str!("../../src/http/refusal.rs"),
    include_str!("../../src/arrival/header.rs"),
    include_str!("../../src/proxy_protocol.rs"),
];

/// Where HTTP/2 is refused, each reason where it is counted.
const HTTP2: &str = include_str!("../../src/http2/server.rs");

#[test]
fn the_reference_has_each_reason_of_a_refusal_and_no_other() {
    let functions = REASONS.iter().map(|source| source.split("fn reason(").nth(1).unwrap());
    let functions = functions.map(|rest| rest.split("\n    }\n").next().unwrap());
    let counts = HTTP2.lines().filter(|line| line.contains("refused.count("));
    let declared: BTreeSet<&str> =
        functions.chain(counts).flat_map(|text| text.split('"').skip(1).step_by(2)).collect();
    assert!(declared.len() > 30, "{declared:?}");
    assert_eq!(words(chapter("What is refused")), declared);
}

/// What decides about the values of labels, from where to where.
const LABELS: [(&str, &str, &str); 6] = [
    (include_str!("../../src/tls/server.rs"), "fn failure(", "\n}\n"),
    (include_str!("../../src/tls/client.rs"), "impl Failure {", "fn of_name("),
    (include_str!("../../src/upstream/connect.rs"), "fn reason(", "fn "),
    (include_str!("../../src/upstream/check.rs"), "fn result(", "fn "),
    (include_str!("../../src/upstream/resolve.rs"), "fn result(", "fn "),
    (include_str!("../../src/http/retry.rs"), "fn reason(", "fn "),
];

#[test]
fn the_reference_has_each_value_of_a_label() {
    let told = words(chapter("What the labels say"));
    let is_label = |text: &&str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let decided = LABELS.iter().flat_map(|(source, from, to)| {
        let rest = source.split(from).nth(1).unwrap_or_else(|| panic!("there is no {from}"));
        rest.split(to).next().unwrap().split('"').skip(1).step_by(2).filter(is_label)
    });
    let decided: BTreeSet<&str> = decided.collect();
    assert!(decided.len() > 20, "{decided:?}");
    let missing: Vec<_> = decided.difference(&told).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The settings in force for a config, as JSON.
fn settings(yaml: &str) -> Value {
    podkit_cli::parse_yaml(&check(&podkit_cli::parse_yaml(yaml).unwrap(), 0).stdout).unwrap()
}

#[test]
fn only_the_app_on_this_side_is_checked_by_default() {
    let health = |listener: &str, upstream: &str| {
        let settings = settings(&format!(
            "listeners: [{{name: web, to: app, {listener}}}]\nupstreams: [{{name: app, {upstream}}}]\n"
        ));
        settings["upstreams"][0]["health"].clone()
    };
    let connect = json!({"interval": "1s", "timeout": "1s", "healthy": 1, "unhealthy": 3});
    let inbound = "listen: '0.0.0.0:8080'";
    assert_eq!(health(inbound, "address: '127.0.0.1:80'"), connect);
    assert_eq!(health(inbound, "address: 'unix:/run/app.sock'"), connect);
    assert_eq!(health(inbound, "address: '127.0.0.1:80', health: off"), json!("off"));
    assert_eq!(health(inbound, "address: 'app:80'"), json!("off"));
    let outbound = "listen: '127.0.0.1:8080', direction: outbound";
    assert_eq!(health(outbound, "address: '127.0.0.1:80'"), json!("off"));
    let asked = health(inbound, "address: 'app:80', health: {path: /}");
    assert_eq!((&asked["interval"], &asked["timeout"]), (&json!("5s"), &json!("1s")));
    let often = health(inbound, "address: 'app:80', health: {interval: 200ms}");
    assert_eq!((&often["interval"], &often["timeout"]), (&json!("200ms"), &json!("200ms")));
}

#[test]
fn one_bound_of_the_time_to_live_takes_the_other_along() {
    for (given, min, max) in
        [("min_ttl: 2m", "2m", "2m"), ("max_ttl: 500ms", "500ms", "500ms"), ("min_ttl: 5s", "5s", "1m")]
    {
        let settings = settings(&format!(
            "listeners: [{{name: web, to: app, listen: ':80'}}]\n\
             upstreams: [{{name: app, address: 'app:80', dns: {{{given}}}}}]\n"
        ));
        let dns = &settings["upstreams"][0]["dns"];
        assert_eq!((&dns["min_ttl"], &dns["max_ttl"]), (&json!(min), &json!(max)));
    }
}

#[test]
fn a_forward_joins_what_the_file_has() {
    let settings = settings(
        "forward: ['https://0.0.0.0:443=http://127.0.0.1:80', 'http://127.0.0.1:8443=https://api:443']\n\
         tls_cert: /tls/tls.crt\ntls_key: /tls/tls.key\ntls_client_ca: /tls/ca.crt\n\
         listeners: [{name: https-443, listen: ':444', to: http-8443}]\n\
         upstreams: [{name: http-8443, address: '127.0.0.1:80'}]\n",
    );
    let names = |list: &str| -> Vec<String> {
        let items = settings[list].as_array().unwrap().iter();
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("listeners"), ["https-443", "https-443-2", "http-8443-2"]);
    assert_eq!(names("upstreams"), ["http-8443", "https-443-2", "http-8443-2"]);
    let tls = json!({"cert": "/tls/tls.crt", "key": "/tls/tls.key", "client_ca": "/tls/ca.crt", "client": "required"});
    assert_eq!((&settings["listeners"][1]["tls"], &settings["listeners"][2]["tls"]), (&tls, &Value::Null));
    assert_eq!(
        (&settings["upstreams"][1]["tls"], &settings["upstreams"][2]["tls"]),
        (&Value::Null, &json!({}))
    );
}
