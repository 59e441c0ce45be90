//! What a backend refuses for good: kept with the reason, bounded, and sent again when the cause is mended.

use podkit_testkit::{Finished, eventually, pod};
use serde_json::{Value, json};

use crate::backends::elasticsearch::{Elasticsearch, ItemFate};
use crate::backends::loki::Loki;
use crate::backends::otlp::Collector;
use crate::backends::splunk::{Splunk, TOKEN};
use crate::backends::{Answer, Backend, Server};
use crate::receiver::Receiver;
use crate::setup::{Volume, ledger, lines, messages, metric, missing, started};

const LETTERS: &str = "state/dead-letters.ndjson";
const TAKEN: &str = "state/dead-letters.ndjson.resending";
/// Lines that tell their time in several ways, so that each delivery of them is the same.
const LINES: &str = "2026-03-04 05:06:07 ERROR text \"quoted\"\n\
    {\"timestamp\":\"2026-03-04 05:06:08\",\"level\":\"warn\",\"message\":\"m\",\"n\":1.50,\"pod\":\"theirs\"}\n\
    {\"ts\":\"2026-03-04T05:06:09.123456Z\",\"severity\":\"ERROR\",\"a b\":{\"c\":[1,null]}}\n";
const SOURCE: &str = "timezone: \"+02:00\", fields: {service: shop, pod: web-1}";

fn search(cluster: &Elasticsearch) -> String {
    format!("elasticsearch: {{url: \"{}\", index: \"logs-%Y.%m.%d\"}}", cluster.url())
}

/// Ships what is there to these destinations, and ends.
#[track_caller]
fn ship_once(volume: &Volume, source: &str, to: &[&str]) -> Finished {
    let (run, _) = volume.configured_as(source, to, "");
    run.arg("--once").expect_exit(0)
}

/// The same, where the server refuses all of it, and takes what comes later.
#[track_caller]
fn ship_refused<B: Backend>(server: &Server<B>, volume: &Volume, source: &str, to: &[&str]) -> Finished {
    server.otherwise(Answer::Status(400, ""));
    let finished = ship_once(volume, source, to);
    server.behave();
    finished
}

/// Ships [`LINES`] of a file of its own to a server that refuses them all, then sends the dead letters again, then
/// ships them to a server that takes them: `taken` of both, which must be the same.
#[track_caller]
fn assert_sent_as_the_first_time<B: Backend, T: PartialEq + std::fmt::Debug>(
    server: &Server<B>,
    to: &str,
    taken: impl Fn(&mut B) -> T,
) {
    let volume = Volume::new();
    volume.write("app.log", LINES);
    let finished = ship_refused(server, &volume, SOURCE, &[to]);
    let letters = volume.dead_letters();
    assert_eq!(letters.len(), 3, "{letters:?}");
    let total = &ledger(&finished)["total"];
    assert_eq!((&total["dead_lettered"], &total["pending"]), (&LINES.len().into(), &0.into()));
    let _ = volume.resend(LETTERS).expect_exit(0).expect_stdout("3 events delivered, 0 refused again");
    assert!(!volume.file(LETTERS).exists() && !volume.file(TAKEN).exists());
    let again = server.with(|backend| taken(&mut std::mem::take(backend)));
    std::fs::remove_dir_all(volume.file("state")).unwrap();
    let _ = ship_once(&volume, SOURCE, &[to]);
    assert_eq!(again, server.with(taken));
    assert_eq!(server.complaints(), [""; 0]);
}

#[test]
fn http_gets_the_records_that_it_refused() {
    let receiver = Receiver::start();
    assert_sent_as_the_first_time(&receiver, &receiver.destination(""), |backend| backend.records());
    assert_eq!(receiver.records()[1]["timestamp"], "2026-03-04 05:06:08");
}

#[test]
fn elasticsearch_gets_the_documents_that_it_refused() {
    let cluster = Elasticsearch::start();
    // Another generation has other ids.
    let documents = |cluster: &mut crate::backends::elasticsearch::Cluster| {
        cluster
            .documents()
            .iter()
            .map(|(index, _, source)| (index.clone(), source.clone()))
            .collect::<Vec<_>>()
    };
    assert_sent_as_the_first_time(&cluster, &search(&cluster), documents);
    let (index, _, source) = cluster.with(|cluster| cluster.documents()[1].clone());
    assert_eq!(index, "logs-2026.03.04");
    assert!(source["@timestamp"].as_str().unwrap().starts_with("2026-03-04T03:06:08"), "{source}");
}

#[test]
fn loki_gets_the_streams_that_it_refused() {
    let loki = Loki::start();
    // Loki takes nothing that is older than a week, so it is told when that is counted from.
    let to = format!("loki: {{url: \"{}\", labels: [service, level, pod]}}", loki.url());
    let volume = Volume::new();
    let now = humantime::format_rfc3339_micros(std::time::SystemTime::now());
    volume.write(
        "app.log",
        &format!(
            "{now} ERROR text\n{{\"ts\":\"{now}\",\"severity\":\"WARN\",\"n\":1.50,\"pod\":\"theirs\"}}\n"
        ),
    );
    let _ = ship_refused(&loki, &volume, SOURCE, &[&to]);
    let _ = volume.resend(LETTERS).expect_exit(0);
    let taken = |loki: &Loki| {
        let taken = loki.with(|loki| std::mem::take(loki).taken().to_vec());
        let facts = |entry: &crate::backends::loki::Taken| {
            (entry.labels.clone(), entry.time, entry.line.clone(), entry.metadata.clone())
        };
        let mut taken: Vec<_> = taken.iter().map(facts).collect();
        taken.sort();
        taken
    };
    let again = taken(&loki);
    assert_eq!(again.len(), 2);
    std::fs::remove_dir_all(volume.file("state")).unwrap();
    let _ = ship_once(&volume, SOURCE, &[&to]);
    assert_eq!(again, taken(&loki));
}

#[test]
fn otlp_and_splunk_get_the_events_that_they_refused() {
    let collector = Collector::start();
    let to = format!("otlp: {{url: \"{}\"}}", collector.url());
    let facts = |collector: &mut crate::backends::otlp::Logs| {
        let fact = |record: &crate::backends::otlp::Taken| {
            format!(
                "{:?}",
                (record.time, record.severity, &record.body, &record.attributes, &record.resource)
            )
        };
        collector.taken().iter().map(fact).collect::<Vec<_>>()
    };
    assert_sent_as_the_first_time(&collector, &to, facts);
    let splunk = Splunk::start();
    let to = format!("splunk: {{url: \"{}\", token: {TOKEN}}}", splunk.url());
    assert_sent_as_the_first_time(&splunk, &to, |backend| backend.records());
}

#[test]
fn ids_are_those_of_the_first_time() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.with(|cluster| cluster.items([ItemFate::Take, ItemFate::Refuse, ItemFate::Take]));
    volume.write("app.log", LINES);
    let _ = ship_once(&volume, SOURCE, &[&search(&cluster)]);
    let refused = cluster.with(|cluster| cluster.refused_items()[0].clone());
    let _ = volume.resend(LETTERS).expect_exit(0);
    let (index, id, _) = cluster.with(|cluster| cluster.documents()[2].clone());
    assert!(refused.starts_with(&format!("{index}/{id}: ")), "{refused} is not {index}/{id}");
    assert_eq!(cluster.with(|cluster| cluster.documents().len()), 3);
}

#[test]
fn the_parts_of_a_long_line_keep_their_mark() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &format!("{}\n", "x".repeat(1500)));
    let _ = ship_refused(&receiver, &volume, "max_line: 1KiB", &[&receiver.destination("")]);
    let _ = volume.resend(LETTERS).expect_exit(0);
    let marks: Vec<Value> = receiver.records().iter().map(|record| record["split"].clone()).collect();
    assert_eq!(marks, [Value::Bool(true), Value::Null]);
}

#[test]
fn what_is_refused_again_is_kept_with_the_new_reason() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.with(|cluster| cluster.items([ItemFate::Refuse; 3]));
    volume.write("app.log", &lines(0..3));
    let _ = ship_once(&volume, "", &[&search(&cluster)]);
    let before = volume.dead_letters();
    assert!(before[1]["reason"].as_str().unwrap().contains("told to"), "{before:?}");
    cluster.with(|cluster| cluster.items([ItemFate::Take, ItemFate::Refuse]));
    let finished = volume.resend(LETTERS).expect_exit(0);
    let _ = finished.expect_stdout("2 events delivered, 1 refused again and kept in");
    assert_eq!(cluster.messages(), ["line 0", "line 2"]);
    let after = volume.dead_letters();
    assert_eq!((after.len(), &after[0]["record"]), (1, &before[1]["record"]), "{after:?}");
    assert!(!volume.file(TAKEN).exists());
    let _ = volume.resend(LETTERS).expect_exit(0);
    assert_eq!((missing(3, &cluster.messages()), cluster.messages().len()), (Vec::new(), 3));
}

#[test]
fn a_destination_that_is_not_configured_keeps_its_letters() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..2));
    let to = receiver.destination("name: old");
    let _ = ship_refused(&receiver, &volume, "", &[&to]);
    volume.write("ship.yaml", &volume.config("", &[&to.replace("old", "new")], ""));
    let finished = volume.resend(LETTERS).expect_exit(1);
    let _ = finished
        .expect_stderr("no destination is called \"old\", so 2 dead letters are left in")
        .expect_stderr("hint: call it with the config of the shipper that wrote them");
    volume.write("ship.yaml", &volume.config("", &[&to], ""));
    let _ = volume
        .resend(LETTERS)
        .expect_exit(1)
        .expect_stderr("is left from an earlier call; send that one first");
    let _ = volume.resend(TAKEN).expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..2));
    assert!(!volume.file(TAKEN).exists());
}

#[test]
fn a_file_that_is_no_dead_letters_is_left_alone() {
    let volume = Volume::new();
    let _ = volume.configured_as("", &["stdout: {}"], "");
    volume.write("notes.txt", "\nnot a letter\n");
    let finished = volume.resend("notes.txt").expect_exit(1);
    let _ = finished.expect_stderr("notes.txt\" again: line 2: ");
    assert_eq!(std::fs::read_to_string(volume.file("notes.txt")).unwrap(), "\nnot a letter\n");
    let _ = volume.resend("none").expect_exit(1).expect_stderr("none\" again: no such file");
}

#[test]
fn a_resend_that_is_killed_loses_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..5));
    let _ = ship_refused(&receiver, &volume, "", &[&receiver.destination("")]);
    receiver.close_gate();
    let asked = receiver.requests();
    let resend = volume.resend(LETTERS).start();
    receiver.wait_for_requests(asked + 1);
    let _ = resend.kill();
    receiver.script([Answer::Close]);
    receiver.open_gate();
    // As a call leaves it that was killed while it wrote what is left.
    volume.write("state/dead-letters.ndjson.tmp", "{\"time\":");
    let _ = volume.resend(TAKEN).expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..5));
    assert!(!volume.file(TAKEN).exists());
}

#[test]
fn a_destination_that_cannot_be_opened_holds_back_no_other() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..2));
    let to = |name: &str, more: &str| receiver.destination(&format!("name: {name}{more}"));
    let _ = ship_refused(&receiver, &volume, "", &[&to("a", ""), &to("b", "")]);
    let broken = to("a", &format!(", auth: {{bearer_file: {}}}", volume.file("none").display()));
    volume.write("ship.yaml", &volume.config("", &[&broken, &to("b", "")], ""));
    let _ = volume.resend(LETTERS).expect_exit(1).expect_stderr("none\"");
    assert_eq!(receiver.messages(), messages(0..2));
    volume.write("ship.yaml", &volume.config("", &[&to("a", ""), &to("b", "")], ""));
    let _ = volume.resend(TAKEN).expect_exit(0);
    assert_eq!(receiver.messages(), [messages(0..2), messages(0..2)].concat());
}

#[test]
fn when_the_dead_letters_are_full_that_destination_waits_and_says_so() {
    let (volume, cluster, receiver) = (Volume::new(), Elasticsearch::start(), Receiver::start());
    cluster.with(|cluster| cluster.items([ItemFate::Refuse; 10]));
    volume.write("app.log", &lines(0..10));
    let other = receiver.destination("");
    let (run, admin) = volume.configured_as("", &[&search(&cluster), &other], "dead_letters: 1KiB");
    let ship = started(run);
    ship.wait_for_stderr("cannot keep refused events");
    let full = || metric(admin, "podkit_ship_retries_total", &["reason=\"dead_letters_full\""]);
    eventually("the wait is counted", || (full() >= 1.0).then_some(()));
    assert_eq!(metric(admin, "podkit_ship_ledger_bytes", &["elasticsearch", "state=\"dead_lettered\""]), 0.0);
    assert_eq!(metric(admin, "podkit_ship_destination_up", &["elasticsearch"]), 0.0);
    assert!(std::fs::metadata(volume.file(LETTERS)).unwrap().len() <= 1024);
    volume.append("app.log", &lines(10..12));
    assert_eq!(receiver.wait_for(12), messages(0..12));
    assert_eq!(cluster.messages(), [""; 0]);
    // Two or three fit at a time.
    let mut offsets = Vec::new();
    eventually("all are kept", || {
        offsets.extend(volume.dead_letters().iter().map(|letter| letter["offset"].as_u64().unwrap()));
        let _ = std::fs::remove_file(volume.file(LETTERS));
        (offsets.len() >= 10).then_some(())
    });
    assert_eq!(offsets, (0..10).map(|line| line * 7).collect::<Vec<u64>>());
    assert_eq!(cluster.wait_for(2), messages(10..12));
    let finished = ship.terminate().expect_exit(0).expect_stderr("takes lines again");
    assert_eq!(ledger(&finished)["total"]["dead_lettered"], 70);
}

#[test]
fn a_resend_makes_room_for_a_shipper_that_waits_for_it() {
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.with(|cluster| cluster.items([ItemFate::Refuse; 4]));
    volume.write("app.log", &lines(0..6));
    let (run, admin) = volume.configured_as("", &[&search(&cluster)], "dead_letters: 1KiB");
    let ship = started(run);
    ship.wait_for_stderr("cannot keep refused events");
    let _ = volume.resend(LETTERS).expect_exit(0);
    eventually("there is room", || (metric(admin, "podkit_ship_destination_up", &[]) == 1.0).then_some(()));
    let _ = ship.terminate().expect_exit(0);
    let _ = volume.resend(LETTERS).expect_exit(0);
    assert_eq!((missing(6, &cluster.messages()), cluster.messages().len()), (Vec::new(), 6));
}

#[test]
fn while_one_batch_waits_the_others_do_not_pile_up_in_memory() {
    const LINES: usize = 20_000;
    let (volume, cluster, other) = (Volume::new(), Elasticsearch::start(), Receiver::start());
    let fates = std::iter::repeat_n(ItemFate::Take, 3000).chain([ItemFate::Refuse]);
    cluster.with(|cluster| cluster.items(fates));
    volume.write("app.log", &lines(0..LINES));
    std::fs::create_dir(volume.file("state")).unwrap();
    volume.write(LETTERS, &"\n".repeat(2000));
    let other_too = other.destination("");
    let (run, _) = volume.configured_as("", &[&search(&cluster), &other_too], "dead_letters: 1KiB");
    let ship = started(run.args(["--batch-lines", "100"]));
    ship.wait_for_stderr("cannot keep refused events");
    // Who does not wait has all by now, so this one has what it will have. The memory has room for four batches.
    other.wait_for(LINES);
    let taken = cluster.messages().len();
    assert!(taken <= 3000 + 400, "{taken} lines were taken while one batch waited");
    std::fs::remove_file(volume.file(LETTERS)).unwrap();
    cluster.wait_for(LINES - 1);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(volume.dead_letters().len(), 1);
}

#[test]
fn a_letter_tells_what_it_is_about() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.otherwise(Answer::Status(422, ""));
    volume.write("app.log", "2026-03-04T05:06:07Z ERROR a\n");
    let (run, _) = volume.configured(&receiver.destination("name: sink"));
    let _ = run.arg("--once").expect_exit(0);
    let letter = volume.dead_letters().remove(0);
    let file = volume.file("app.log").display().to_string();
    assert_eq!(
        letter["record"],
        json!({"timestamp": "2026-03-04T05:06:07.000Z", "level": "error", "message": "2026-03-04T05:06:07Z ERROR a",
               "file": file, "service": "shop"})
    );
    for (member, want) in [
        ("destination", json!("sink")),
        ("file", json!(file)),
        ("offset", json!(0)),
        ("object", json!(false)),
        ("event_time", json!("2026-03-04T05:06:07.000Z")),
        ("added", json!(["timestamp", "level", "message", "file", "service"])),
        ("fields", json!({"service": "shop"})),
    ] {
        assert_eq!(letter[member], want, "{member} of {letter}");
    }
    assert!(letter["reason"].as_str().unwrap().contains("422"), "{letter}");
    // It is read again without its file, too.
    std::fs::remove_file(volume.file("app.log")).unwrap();
    receiver.behave();
    let resend = pod("ship").arg("resend").arg(volume.file(LETTERS)).args(["--to", &receiver.url()]);
    let finished = resend.arg("--include").arg(volume.file("*.log")).expect_exit(1);
    let _ = finished.expect_stderr("no destination is called \"sink\"");
    let _ = volume.resend(TAKEN).expect_exit(0);
    assert_eq!(receiver.records(), [letter["record"].clone()]);
}
