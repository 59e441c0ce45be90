//! Delivery to Elasticsearch: indexes, ids, and answers that differ from item to item.

use podkit_testkit::pod;
use serde_json::Value;

use crate::backends::Answer;
use crate::backends::elasticsearch::{Cluster, Elasticsearch, ItemFate};
use crate::setup::{Volume, lines, missing, started};

fn to(cluster: &Elasticsearch, index: &str) -> String {
    format!("elasticsearch: {{url: \"{}\", index: \"{index}\"}}", cluster.url())
}

/// What must hold however often requests were repeated: each event once, and no id for two of them.
#[track_caller]
fn assert_each_once(cluster: &Elasticsearch, total: usize) {
    let got = cluster.messages();
    assert_eq!((missing(total, &got), got.len()), (Vec::new(), total));
    cluster.with(|cluster| assert!(cluster.clashes().is_empty(), "{:?}", cluster.clashes()));
}

#[test]
fn the_index_and_the_timestamp_are_those_of_the_event() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    volume.write(
        "app.log",
        "{\"timestamp\":\"2026-03-04T05:06:07.500Z\",\"level\":\"warn\",\"msg\":\"a\"}\nplain\n",
    );
    let (run, _) = volume.configured(&to(&cluster, "logs-%Y.%m.%d"));
    let _ = run.arg("--once").expect_exit(0);
    let documents = cluster.with(|cluster| cluster.documents().to_vec());
    let (index, id, source) = &documents[0];
    assert_eq!(index, "logs-2026.03.04");
    assert!(!id.is_empty() && !id.starts_with("auto-"), "{id}");
    assert!(
        source["@timestamp"].as_str().is_some_and(|time| time.starts_with("2026-03-04T05:06:07.5")),
        "{source}"
    );
    assert_eq!((&source["msg"], &source["service"]), (&"a".into(), &"shop".into()));
    assert_eq!(source["file"], volume.file("app.log").display().to_string());
    let (index, _, source) = &documents[1];
    assert!(index.starts_with("logs-2") && !index.contains('%'), "{index}");
    assert_eq!(source["message"], "plain");
    assert!(source.get("timestamp").is_none(), "{source}");
    assert_eq!(cluster.complaints(), [""; 0]);
}

#[test]
fn a_data_stream_takes_them() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.with(|cluster| cluster.data_stream("logs-app-default"));
    volume.write("app.log", &lines(0..50));
    let (run, _) = volume.configured(&to(&cluster, "logs-app-default"));
    let _ = run.arg("--once").expect_exit(0);
    assert_each_once(&cluster, 50);
    assert!(cluster.encodings().iter().all(|encoding| encoding == "gzip"), "{:?}", cluster.encodings());
}

#[test]
fn equal_lines_are_different_events() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    volume.write("a.log", "same\nsame\n");
    volume.write("b.log", "same\nsame\n");
    let (run, _) = volume.configured(&to(&cluster, "logs"));
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!(cluster.messages(), ["same"; 4]);
}

#[test]
fn items_that_are_refused_for_now_are_sent_again_alone() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    let fates =
        [[ItemFate::Take; 10], [ItemFate::Throttle; 10], [ItemFate::Take; 10], [ItemFate::Unavailable; 10]];
    cluster.with(|cluster| cluster.items(fates.into_iter().flatten()));
    volume.write("app.log", &lines(0..100));
    let (run, _) = volume.configured(&to(&cluster, "logs"));
    let _ = run.arg("--once").expect_exit(0);
    assert_each_once(&cluster, 100);
    // What was taken has not come again: no id met itself.
    cluster.with(|cluster| assert_eq!((cluster.conflicts(), cluster.items_left()), (0, 0)));
    assert_eq!(cluster.batches(), [100, 20]);
}

#[test]
fn items_that_are_refused_for_good_are_kept_with_the_reason_and_can_be_sent_again() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    volume.write("app.log", "{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":2}\n");
    let (run, _) = volume.configured(&to(&cluster, "logs"));
    let finished = run.arg("--once").expect_exit(0);
    let numbers =
        |cluster: &Elasticsearch| cluster.records().iter().map(|r| r["n"].clone()).collect::<Vec<_>>();
    assert_eq!(numbers(&cluster), [Value::from(1), 2.into()]);
    let letters = volume.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    assert!(
        letter["reason"].as_str().unwrap().contains("failed to parse field [n] of type [long]"),
        "{letter}"
    );
    assert_eq!((&letter["record"]["n"], &letter["offset"]), (&"x".into(), &8.into()));
    assert_eq!(letter["file"], volume.file("app.log").display().to_string());
    for member in ["time", "destination", "generation"] {
        assert!(letter[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {letter}");
    }
    let ledger = finished.stderr.lines().find(|line| line.starts_with("{\"ledger\"")).unwrap();
    let ledger: Value = serde_json::from_str(ledger).unwrap();
    assert_eq!(ledger["ledger"]["total"]["dead_lettered"], "{\"n\":\"x\"}\n".len(), "{ledger}");
    // The mapping is mended, and the letter sent again under its own id.
    cluster.with(|cluster| *cluster = Cluster::default());
    let resend = |volume: &Volume| {
        let file = volume.file("state/dead-letters.ndjson");
        pod("ship").arg("resend").arg(file).arg("--config").arg(volume.file("ship.yaml"))
    };
    let copy = volume.file("letters.ndjson");
    std::fs::copy(volume.file("state/dead-letters.ndjson"), &copy).unwrap();
    let _ = resend(&volume).expect_exit(0);
    assert_eq!(numbers(&cluster), [Value::from("x")]);
    let again = pod("ship").arg("resend").arg(copy).arg("--config").arg(volume.file("ship.yaml"));
    let _ = again.expect_exit(0);
    cluster.with(|cluster| assert_eq!((cluster.documents().len(), cluster.clashes().len()), (1, 0)));
}

#[test]
fn a_batch_of_bad_items_holds_up_nothing() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.with(|cluster| cluster.items([ItemFate::Refuse; 50]));
    volume.write("app.log", &lines(0..80));
    let (run, _) = volume.configured(&to(&cluster, "logs"));
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!((cluster.messages().len(), volume.dead_letters().len()), (30, 50));
}

#[test]
fn answers_that_are_cut_lost_or_nonsense_make_no_duplicates() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.script([
        Answer::Half,
        Answer::Close,
        Answer::Body(200, "{}"),
        Answer::Body(200, "<html>ok</html>"),
        Answer::Garbage,
        Answer::Reset,
        Answer::Body(200, "{\"errors\":true,\"items\":[]}"),
        Answer::Trickle,
    ]);
    volume.write("app.log", &lines(0..100));
    let (run, _) = volume.configured(&to(&cluster, "logs"));
    let ship = started(run);
    cluster.wait_for(100);
    let _ = ship.terminate().expect_exit(0);
    assert_each_once(&cluster, 100);
}

#[test]
fn a_request_that_is_too_large_is_sent_in_parts() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.otherwise(Answer::AtMost(7));
    volume.write("app.log", &lines(0..100));
    let (run, _) = volume.configured(&to(&cluster, "logs"));
    let _ = run.arg("--once").expect_exit(0);
    assert_each_once(&cluster, 100);
    assert!(cluster.batches().iter().all(|items| *items <= 7), "{:?}", cluster.batches());
}

#[test]
fn an_overloaded_cluster_is_waited_for() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.script([
        Answer::Body(429, "{\"error\":{\"type\":\"circuit_breaking_exception\",\"reason\":\"Data too large\"},\"status\":429}"),
        Answer::Status(503, ""),
        Answer::Status(504, ""),
    ]);
    volume.write("app.log", &lines(0..10));
    let (run, _) = volume.configured(&to(&cluster, "logs"));
    let _ = run.arg("--once").expect_exit(0);
    assert_each_once(&cluster, 10);
    assert!(volume.dead_letters().is_empty());
}
