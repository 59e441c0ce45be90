//! Delivery by OTLP: where the facts of an event go, and what partial success means.

use serde_json::json;

use crate::backends::Answer;
use crate::backends::otlp::Collector;
use crate::setup::{Volume, lines, messages, missing};

fn to(collector: &Collector) -> String {
    format!("otlp: {{url: \"{}\"}}", collector.url())
}

#[test]
fn the_facts_are_where_the_semantic_conventions_put_them() {
    let (volume, collector) = (Volume::new(), Collector::start());
    volume.write(
        "app.log",
        "{\"time\":\"2026-03-04T05:06:07Z\",\"level\":\"error\",\"message\":\"boom\"}\nplain\n",
    );
    let (run, _) = volume.configured(&to(&collector));
    let _ = run.arg("--once").expect_exit(0);
    let taken = collector.with(|collector| collector.taken().to_vec());
    assert_eq!(taken.len(), 2);
    assert_eq!((taken[0].time, taken[0].severity), (1_772_600_767_000_000_000, 17));
    assert!(!taken[0].severity_text.is_empty() && taken[0].observed > 0, "{:?}", taken[0]);
    assert_eq!(taken[1].body, json!("plain"));
    let file = json!(volume.file("app.log").display().to_string());
    for record in &taken {
        let facts: Vec<_> = record.resource.iter().chain(&record.attributes).collect();
        assert!(facts.iter().any(|(key, value)| *key == "log.file.path" && **value == file), "{record:?}");
        assert_eq!(record.resource.get("service.name"), Some(&json!("shop")), "{record:?}");
    }
    assert_eq!(collector.complaints(), [""; 0]);
}

#[test]
fn what_is_refused_of_a_request_is_not_sent_again_and_not_forgotten() {
    let (volume, collector) = (Volume::new(), Collector::start());
    collector.with(|collector| collector.refuse_of_next(2, "no room for these"));
    volume.write("app.log", &lines(0..10));
    let (run, _) = volume.configured(&to(&collector));
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!(collector.messages(), messages(2..10));
    let letters = volume.dead_letters();
    assert!(!letters.is_empty());
    assert!(
        letters.iter().all(|l| l["reason"].as_str().unwrap().contains("no room for these")),
        "{letters:?}"
    );
}

#[test]
fn a_warning_is_no_refusal() {
    let (volume, collector) = (Volume::new(), Collector::start());
    collector.with(|collector| collector.warn_next("this field will go"));
    volume.write("app.log", &lines(0..10));
    let (run, _) = volume.configured(&to(&collector));
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!(collector.messages(), messages(0..10));
    assert!(volume.dead_letters().is_empty());
}

#[test]
fn a_collector_that_is_busy_is_waited_for() {
    let (volume, collector) = (Volume::new(), Collector::start());
    // The retryable ones of the specification, and a proxy's own.
    collector.script([429, 502, 503, 504, 500].map(|status| Answer::Status(status, "")));
    volume.write("app.log", &lines(0..10));
    let (run, _) = volume.configured(&to(&collector));
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!(missing(10, &collector.messages()), [0; 0]);
    assert!(volume.dead_letters().is_empty());
}
