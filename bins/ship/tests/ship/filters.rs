//! What is held back and what is masked, and that the books tell it.

use std::time::{Duration, Instant};

use podkit_testkit::{eventually, http, pod};
use serde_json::Value;

use crate::backends::elasticsearch::{Elasticsearch, ItemFate};
use crate::receiver::Receiver;
use crate::setup::{Volume, assert_adds_up, assert_balanced, ledger, lines, messages, metric, started};

fn to(receiver: &Receiver) -> String {
    format!("http: {{url: \"{}\"}}", receiver.url())
}

/// What a receiver gets of a file under the rules of a source, and the sums of the ledger.
fn delivered(content: &str, source: &str) -> (Vec<Value>, Value) {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", content);
    let (run, _) = volume.configured_as(source, &[&to(&receiver)], "");
    let ledger = ledger(&run.arg("--once").expect_exit(0));
    assert_balanced(&ledger);
    (receiver.records(), ledger["total"].clone())
}

fn messages_of(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["message"].as_str().unwrap()).collect()
}

#[test]
fn secrets_reach_no_destination_and_no_dead_letter() {
    let (volume, receiver, cluster) = (Volume::new(), Receiver::start(), Elasticsearch::start());
    cluster.with(|cluster| cluster.items([ItemFate::Refuse]));
    volume.write(
        "app.log",
        "GET / Authorization: Bearer hunter2hunter2hunter2 password=hunter2\n\
         {\"message\":\"paid with 4111 1111 1111 1111\",\"auth\":{\"header\":\"password=hunter2\"},\"n\":1.50}\n",
    );
    let source = r"redact: [bearer, credit_card, {regex: 'password=\S+', with: 'password=***'}]";
    let search = format!("elasticsearch: {{url: \"{}\", index: logs}}", cluster.url());
    let file = volume.file("out.ndjson").display().to_string();
    let all = [to(&receiver), search, format!("file: {{path: {file}}}")];
    let (run, admin) = volume.configured_as(source, &all.each_ref().map(String::as_str), "");
    let ship = started(run);
    receiver.wait_for(2);
    cluster.wait_for(1);
    eventually("the secrets are counted", || {
        (metric(admin, "podkit_ship_redactions_total", &[]) == 12.0).then_some(())
    });
    let _ = ship.terminate().expect_exit(0);
    let records = receiver.records();
    assert!(records[0]["message"].as_str().unwrap().contains("password=***"), "{}", records[0]);
    assert_eq!(records[1]["auth"]["header"], "password=***");
    let mut all = format!("{records:?}{:?}", cluster.records());
    for file in ["out.ndjson", "state/dead-letters.ndjson"] {
        let text = std::fs::read_to_string(volume.file(file)).unwrap();
        assert!(!text.is_empty());
        all.push_str(&text);
    }
    assert!(!all.contains("hunter2") && !all.contains("4111"), "{all}");
    assert!(all.contains("\"n\":1.50"), "{all}");
}

#[test]
fn drop_and_keep_hold_back_and_the_ledger_tells_how_much() {
    let content = "GET /healthz\nERROR a\nINFO b\nERROR GET /healthz\nWARN c\n";
    let (records, total) = delivered(content, "drop: ['GET /healthz'], keep: ['ERROR', 'WARN']");
    assert_eq!(messages_of(&records), ["ERROR a", "WARN c"]);
    let held_back = "GET /healthz\nINFO b\nERROR GET /healthz\n".len();
    assert_eq!(
        (&total["read"], &total["filtered"], &total["acknowledged"], &total["pending"]),
        (&content.len().into(), &held_back.into(), &(content.len() - held_back).into(), &0.into())
    );
}

#[test]
fn samples_are_by_level_and_the_same_for_all_destinations() {
    let (volume, one, two) = (Volume::new(), Receiver::start(), Receiver::start());
    let content: String = (0..2000).map(|number| format!("DEBUG {number}\nINFO {number}\n")).collect();
    volume.write("app.log", &content);
    let (run, _) = volume.configured_as("sample: {debug: 10%}", &[&to(&one), &to(&two)], "");
    let ledger = ledger(&run.arg("--once").expect_exit(0));
    assert_balanced(&ledger);
    assert_eq!(one.messages(), two.messages());
    let count = |level: &str| one.messages().iter().filter(|message| message.starts_with(level)).count();
    assert_eq!(count("INFO"), 2000);
    // Six standard deviations either side.
    assert!((120..280).contains(&count("DEBUG")), "{}", count("DEBUG"));
}

#[test]
fn lines_over_the_rate_are_dropped_and_counted() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..100));
    let (run, admin) = volume.configured_as("rate_limit: {lines: 1/h, burst: 10}", &[&to(&receiver)], "");
    let ship = started(run);
    assert_eq!(receiver.wait_for(10), messages(0..10));
    let dropped = || metric(admin, "podkit_ship_filtered_lines_total", &["reason=\"rate_limited\""]);
    eventually("the others are counted", || (dropped() == 90.0).then_some(()));
    let finished = ship.terminate().expect_exit(0);
    assert_eq!(ledger(&finished)["total"]["filtered"], lines(10..100).len());
    assert_eq!(receiver.messages().len(), 10);
}

#[test]
fn excess_that_waits_only_comes_later() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..60));
    let source = "rate_limit: {lines: 100/s, burst: 10, excess: wait}";
    let (run, admin) = volume.configured_as(source, &[&to(&receiver)], "");
    let start = Instant::now();
    let ship = started(run);
    assert_eq!(receiver.wait_for(60), messages(0..60));
    assert!(start.elapsed().as_millis() >= 450, "{:?}", start.elapsed());
    assert_eq!(metric(admin, "podkit_ship_filtered_lines_total", &[]), 0.0);
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_single_line_that_waits_comes_when_the_rate_allows_it() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let source = "rate_limit: {lines: 2/s, burst: 1, excess: wait}";
    let (run, _) = volume.configured_as(source, &[&to(&receiver)], "");
    let _ship = started(run);
    let start = Instant::now();
    for line in 0..3 {
        volume.append("app.log", &lines(line..line + 1));
        receiver.wait_for(line + 1);
    }
    // Not only when something else wakes it.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn the_end_does_not_wait_for_the_rate() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..60));
    let source = "rate_limit: {lines: 1/h, burst: 10, excess: wait}";
    let (run, _) = volume.configured_as(source, &[&to(&receiver)], "");
    let ship = started(run);
    receiver.wait_for(10);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..60));
}

#[test]
fn the_books_are_the_same_in_status_metrics_and_the_exit_line() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.with(|cluster| cluster.items([ItemFate::Take, ItemFate::Refuse]));
    let content = "line 0\nline 1\nDROP me\nline 2\n";
    volume.write("app.log", content);
    let search = format!("elasticsearch: {{url: \"{}\", index: logs}}", cluster.url());
    let (run, admin) = volume.configured_as("drop: [DROP]", &[&search], "");
    let ship = started(run);
    cluster.wait_for(2);
    let status = || http("GET", admin, "/status").unwrap().json();
    eventually("all is settled", || {
        let books = &status()["ledger"];
        assert_adds_up(books);
        (books["read"] == content.len() && books["pending"] == 0).then_some(())
    });
    // A line whose end does not come is pending.
    volume.append("app.log", "partial");
    let status = eventually("the partial line is pending", || {
        Some(status()).filter(|status| status["ledger"]["pending"] == "partial".len())
    });
    let want =
        [("read", 36.0), ("acknowledged", 14.0), ("filtered", 8.0), ("dead_lettered", 7.0), ("pending", 7.0)];
    for (state, bytes) in want {
        let label = format!("state=\"{state}\"");
        assert_eq!(metric(admin, "podkit_ship_ledger_bytes", &[&label]), bytes, "{state}");
        assert_eq!(status["ledger"][state].as_f64(), Some(bytes), "{state}");
        assert_eq!(status["generations"][0][state].as_f64(), Some(bytes), "{state}");
    }
    let table = pod("ship").args(["status", "--admin", &admin.to_string()]).expect_exit(0);
    for column in [
        "FILE",
        "GENERATION",
        "DESTINATION",
        "SIZE",
        "ACKNOWLEDGED",
        "LAG_BYTES",
        "LAG_SECONDS",
        "FILTERED",
        "DEAD_LETTERED",
        "PENDING",
    ] {
        assert!(table.stdout.contains(column), "{column} in {}", table.stdout);
    }
    let row = table.stdout.lines().find(|line| line.contains("app.log")).unwrap().to_owned();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[0], volume.file("app.log").display().to_string());
    assert!(cells[2].contains(&cluster.url()), "{row}");
    assert_eq!((cells[3], cells[4], cells[5]), ("36", "14", "7"), "{row}");
    let finished = ship.terminate().expect_exit(0);
    let ledger = ledger(&finished);
    assert_balanced(&ledger);
    let total = |name: &str| ledger["total"][name].as_u64().unwrap();
    assert_eq!(
        [total("read"), total("acknowledged"), total("filtered"), total("dead_lettered"), total("pending")],
        [36, 21, 8, 7, 0]
    );
}

#[test]
fn a_file_of_which_everything_is_filtered_is_not_read_again() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &"DEBUG noise\n".repeat(1000));
    let run = || volume.configured_as("drop: [DEBUG]", &[&to(&receiver)], "");
    let (ship, admin) = run();
    let ship = started(ship);
    eventually("all is filtered", || {
        (metric(admin, "podkit_ship_ledger_bytes", &["state=\"filtered\""]) == 12_000.0).then_some(())
    });
    volume.wait_until_saved(12_000);
    let _ = ship.kill();
    let (ship, admin) = run();
    let ship = started(ship);
    ship.wait_for_stderr("from byte 12000");
    volume.append("app.log", "INFO news\n");
    assert_eq!(receiver.wait_for(1), ["INFO news"]);
    assert_eq!(metric(admin, "podkit_ship_read_lines_total", &[]), 1.0);
    assert_eq!(receiver.requests(), 1);
    let _ = ship.terminate().expect_exit(0);
}
