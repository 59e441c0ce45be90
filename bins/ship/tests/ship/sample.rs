//! `check --file`: the requests that a sample would make, offline, without a trace.

use std::collections::BTreeSet;
use std::path::PathBuf;

use podkit_testkit::{Run, pod};
use serde_json::Value;

use crate::backends::elasticsearch::Elasticsearch;
use crate::receiver::Receiver;
use crate::setup::Volume;

const SAMPLE: &str = "2026-03-04T05:06:07Z ERROR cannot pay, password=hunter2\n\
    GET /healthz\n\
    {\"timestamp\":\"2026-03-04T05:06:08Z\",\"level\":\"warn\",\"message\":\"slow\",\"n\":1.50}\n";
const SOURCE: &str =
    r"fields: {service: shop}, drop: [healthz], redact: [{regex: 'password=\S+', with: 'password=***'}]";

fn check(volume: &Volume, sample: &str) -> Run {
    let run = pod("ship").arg("check").arg("--config").arg(volume.file("ship.yaml")).show(volume.path());
    run.arg("--file").arg(volume.file(sample))
}

fn tree(volume: &Volume) -> BTreeSet<PathBuf> {
    let path = volume.path().display();
    let found = glob::glob(&format!("{path}/**/*")).unwrap();
    found.chain(glob::glob(&format!("{path}/**/.*")).unwrap()).map(Result::unwrap).collect()
}

/// What is printed for a destination: the lines that are no comment.
fn requests<'a>(stdout: &'a str, destination: &str) -> Vec<&'a str> {
    let mut lines = stdout.lines().skip_while(|line| !line.starts_with(&format!("# to {destination}")));
    assert!(lines.next().is_some(), "nothing for {destination} in {stdout}");
    lines.take_while(|line| !line.starts_with('#')).collect()
}

#[test]
fn each_destination_shows_its_requests_offline_and_leaves_no_trace() {
    let volume = Volume::new();
    volume.write("app.log", SAMPLE);
    std::fs::create_dir(volume.file("archive")).unwrap();
    let out = volume.file("archive/out.ndjson").display().to_string();
    let all = [
        // A name that resolves nowhere, and files that are not there.
        "elasticsearch: {name: es, url: \"https://es.invalid\", index: \"logs-%Y.%m.%d\", auth: {api_key_file: /none}}",
        "loki: {name: loki, url: \"http://loki.invalid\", labels: [service, level]}",
        "otlp: {name: otlp, url: \"http://otlp.invalid\"}",
        "splunk: {name: splunk, url: \"http://splunk.invalid\", token_file: /none}",
        "http: {name: array, url: \"http://sink.invalid\", format: json, tls: {ca: /none}}",
        &format!("file: {{name: archive, path: {out}}}"),
        "stdout: {name: out}",
    ];
    let _ = volume.configured_as(SOURCE, &all, "memory: 64MiB");
    let before = tree(&volume);
    let finished = check(&volume, "app.log").expect_exit(0);
    assert_eq!(tree(&volume), before);
    let stdout = &finished.stdout;
    assert!(!stdout.contains("hunter2") && !stdout.contains("healthz"), "{stdout}");
    assert_eq!(stdout.matches("# 1 event held back by filters").count(), all.len(), "{stdout}");
    let json = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let bulk = requests(stdout, "es/_bulk");
    assert_eq!(bulk.len(), 4, "{stdout}");
    assert_eq!(json(bulk[0])["create"]["_index"], "logs-2026.03.04");
    assert_eq!(json(bulk[3])["@timestamp"], "2026-03-04T05:06:08.000Z");
    for destination in ["archive", "out"] {
        let records = requests(stdout, destination);
        assert_eq!((records.len(), &json(records[0])["level"]), (2, &"error".into()));
        assert!(records[1].contains("\"n\":1.50"), "{}", records[1]);
    }
    assert_eq!(json(&requests(stdout, "array").concat()).as_array().map(Vec::len), Some(2));
    assert!(requests(stdout, "splunk/services/collector").concat().contains("\"event\":"));
    let loki = requests(stdout, "loki/loki/api/v1/push").join("\n");
    for part in [
        "streams {\n  labels: \"{level=\\\"error\\\", service=\\\"shop\\\"}\"\n  entries {\n    timestamp {\n",
        "      seconds: 1772600767\n      nanos: 0\n",
        "    line: \"2026-03-04T05:06:07Z ERROR cannot pay, password=***\"\n",
    ] {
        assert!(loki.contains(part), "{part:?} in {loki}");
    }
    let otlp = requests(stdout, "otlp/v1/logs").join("\n");
    for part in [
        "      key: \"service.name\"\n      value {\n        string_value: \"shop\"\n",
        "      time_unix_nano: 1772600768000000000\n",
        "      severity_text: \"warn\"\n",
        "          double_value: 1.5\n",
    ] {
        assert!(otlp.contains(part), "{part:?} in {otlp}");
    }
}

#[test]
fn what_is_shown_is_what_is_sent() {
    let (volume, receiver, cluster) = (Volume::new(), Receiver::start(), Elasticsearch::start());
    volume.write("app.log", SAMPLE);
    let all = [
        format!("http: {{name: sink, url: \"{}\"}}", receiver.url()),
        format!("elasticsearch: {{name: es, url: \"{}\", index: \"logs-%Y\"}}", cluster.url()),
    ];
    let (run, _) = volume.configured_as(SOURCE, &all.each_ref().map(String::as_str), "");
    let shown = check(&volume, "app.log").expect_exit(0).stdout;
    assert_eq!((receiver.requests(), cluster.requests()), (0, 0));
    let _ = run.arg("--once").expect_exit(0);
    let json = |line: &&str| serde_json::from_str::<Value>(line).unwrap();
    let records: Vec<Value> = requests(&shown, "sink").iter().map(json).collect();
    assert_eq!(records, receiver.records());
    let bulk: Vec<Value> = requests(&shown, "es").iter().map(json).collect();
    let documents = bulk.chunks(2).map(|pair| (pair[0]["create"]["_index"].clone(), pair[1].clone()));
    let sent = cluster.with(|cluster| cluster.documents().to_vec());
    let sent = sent.into_iter().map(|(index, _, source)| (Value::from(index), source));
    assert_eq!(documents.collect::<Vec<_>>(), sent.collect::<Vec<_>>());
}

#[test]
fn faults_of_the_config_come_first() {
    let volume = Volume::new();
    volume.write("app.log", SAMPLE);
    let _ = volume.configured_as("formt: json", &["http: {url: nonsense}"], "");
    let finished = check(&volume, "app.log").expect_exit(64);
    let finished = finished.expect_stderr("formt: unknown key").expect_stderr("destinations[0].http.url");
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_sample_that_is_not_there_or_empty_is_told() {
    let volume = Volume::new();
    let _ = volume.configured_as("", &["stdout: {}"], "");
    let finished = check(&volume, "none.log").expect_exit(1);
    let _ = finished.expect_stderr("cannot read").expect_stderr("none.log");
    volume.write("empty.log", "");
    let _ = check(&volume, "empty.log").expect_exit(0).expect_stdout("# 0 events held back by filters");
}

#[test]
fn large_samples_come_in_the_batches_that_would_be_sent() {
    let volume = Volume::new();
    volume.write("app.log", &crate::setup::lines(0..25));
    // No rate holds them back: how fast they would come is not known.
    let _ = volume.configured_as("rate_limit: 1/h", &["stdout: {}"], "batch: {lines: 10}");
    let finished = check(&volume, "app.log").expect_exit(0);
    assert_eq!(finished.stdout.matches("# to stdout:: 10 events").count(), 2, "{}", finished.stdout);
    assert_eq!(finished.stdout.matches("# to stdout:: 5 events").count(), 1, "{}", finished.stdout);
}
