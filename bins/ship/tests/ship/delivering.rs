//! What reaches the backend, and what happens when the backend does not take it.

use std::time::Duration;

use podkit_testkit::{eventually, free_port, http};

use crate::receiver::{Answer, Receiver};
use crate::setup::{Volume, lines, messages, most_resident, started};

#[test]
fn records_have_the_shape_of_the_contract() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let config = volume.file("ship.yaml");
    let yaml = format!(
        "sources:\n  - include: [{0}/*.log]\n    fields: {{service: shop, pod: \"${{POD_NAME}}\"}}\n\
         destinations:\n  - http: {{url: \"{1}\"}}\nstate_dir: {0}/state\nadmin: off\n",
        volume.path().display(),
        receiver.url(),
    );
    std::fs::write(&config, yaml).unwrap();
    volume.write("app.log", "hello \"world\"\n{\"level\":\"info\",\"service\":\"theirs\",\"n\":1.50}\n");
    let run = podkit_testkit::pod("ship").arg("--config").arg(config).arg("--once").env("POD_NAME", "web-1");
    let _ = run.expect_exit(0);
    let records = receiver.records();
    let file = volume.file("app.log").display().to_string();
    assert_eq!(records[0]["message"], "hello \"world\"");
    for (member, want) in [("file", file.as_str()), ("service", "shop"), ("pod", "web-1")] {
        assert_eq!(records[0][member], want);
    }
    let timestamp = records[0]["timestamp"].as_str().unwrap();
    assert!(humantime::parse_rfc3339(timestamp).is_ok(), "{timestamp}");
    assert_eq!((&records[1]["level"], &records[1]["service"]), (&"info".into(), &"theirs".into()));
    assert!(records[1].get("message").is_none());
}

#[test]
fn bodies_are_compressed_as_told() {
    for (flag, encoding) in [("auto", "gzip"), ("gzip", "gzip"), ("zstd", "zstd"), ("none", "identity")] {
        let (volume, receiver) = (Volume::new(), Receiver::start());
        volume.write("app.log", &lines(0..100));
        let _ = volume.ship(&receiver.url()).args(["--once", "--compression", flag]).expect_exit(0);
        assert_eq!(
            (receiver.messages(), receiver.encodings()),
            (messages(0..100), vec![encoding.to_owned()])
        );
    }
}

#[test]
fn batches_keep_their_limits() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..95));
    let _ = volume.ship(&receiver.url()).args(["--once", "--batch-lines", "10"]).expect_exit(0);
    assert_eq!(receiver.batches(), [10, 10, 10, 10, 10, 10, 10, 10, 10, 5]);
    assert_eq!(receiver.messages(), messages(0..95));
}

#[test]
fn stdout_gets_records_and_nothing_else() {
    let volume = Volume::new();
    volume.write("app.log", &lines(0..3));
    let finished = volume.ship("stdout:").arg("--once").expect_exit(0);
    let records =
        finished.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(
        records.map(|r| r["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>(),
        messages(0..3)
    );
}

#[test]
fn a_backend_that_is_down_at_the_start_is_no_failure() {
    let volume = Volume::new();
    let port = free_port();
    volume.write("app.log", &lines(0..3));
    let (run, admin) = volume.ship_with_admin(&format!("http://127.0.0.1:{port}/logs"));
    let ship = started(run);
    ship.wait_for_stderr("trying again");
    assert_eq!(http("GET", admin, "/readyz").unwrap().status, 200);
    assert_eq!(http("GET", admin, "/livez").unwrap().status, 200);
    volume.append("app.log", &lines(3..5));
    let receiver = Receiver::start_at(port);
    assert_eq!(receiver.wait_for(5), messages(0..5));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn refusals_of_every_kind_lose_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.script([
        Answer::Status(503, ""),
        Answer::Close,
        Answer::Status(429, "Retry-After: 0\r\n"),
        Answer::Status(400, ""),
        Answer::Status(302, "Location: http://127.0.0.1:1/\r\n"),
    ]);
    volume.write("app.log", &lines(0..3));
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let ship = started(run);
    assert_eq!(receiver.wait_for(3), messages(0..3));
    let metrics = eventually("the acknowledgement is counted", || {
        let metrics = http("GET", admin, "/metrics").unwrap();
        let to = receiver.url();
        let lines = metrics.metric(&format!("podkit_ship_acknowledged_lines_total{{destination=\"{to}\"}}"));
        (lines == Some(3.0)).then_some(metrics)
    });
    for reason in ["unavailable", "broken", "throttled", "refused", "unexpected"] {
        let name =
            format!("podkit_ship_retries_total{{destination=\"{}\",reason=\"{reason}\"}}", receiver.url());
        assert_eq!(metrics.metric(&name), Some(1.0), "{reason}\n{}", metrics.body);
    }
    let _ = ship.terminate().expect_exit(0).expect_stderr("takes lines again");
}

#[test]
fn retry_after_is_obeyed() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.script([Answer::Status(429, "Retry-After: 1\r\n")]);
    volume.write("app.log", &lines(0..1));
    let start = std::time::Instant::now();
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_batch_that_is_too_large_is_sent_in_parts() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.otherwise(Answer::AtMost(7));
    volume.write("app.log", &lines(0..100));
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..100));
    assert!(receiver.batches().iter().all(|lines| *lines <= 7), "{:?}", receiver.batches());
}

#[test]
fn the_position_moves_only_with_the_acknowledgement() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.close_gate();
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for_requests(1);
    // Sent, not answered: all of it must come again.
    let _ = ship.kill();
    receiver.script([Answer::Close]);
    receiver.open_gate();
    let ship = started(volume.ship(&receiver.url()));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_slow_destination_holds_back_no_other() {
    let (volume, slow, fast) = (Volume::new(), Receiver::start(), Receiver::start());
    slow.close_gate();
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&slow.url()).args(["--to", &fast.url()]));
    assert_eq!(fast.wait_for(3), messages(0..3));
    volume.append("app.log", &lines(3..6));
    assert_eq!(fast.wait_for(6), messages(0..6));
    assert_eq!(slow.messages().len(), 0);
    slow.open_gate();
    assert_eq!(slow.wait_for(6), messages(0..6));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn an_answer_without_an_end_fills_no_memory() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.script([Answer::Flood]);
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&receiver.url()));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    assert!(most_resident(ship.id()) < 32 << 20, "{} bytes", most_resident(ship.id()));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn an_object_with_bytes_that_are_not_utf8_poisons_no_batch() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    std::fs::write(volume.file("app.log"), b"{\"a\":\"\xff\"}\nline 1\n").unwrap();
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.records()[0]["a"], "\u{fffd}");
    assert_eq!(receiver.messages()[1], "line 1");
}

#[test]
fn memory_stays_in_its_budget_while_the_backend_is_stuck() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.close_gate();
    let line = format!("{}\n", "x".repeat(1000));
    volume.write("app.log", &line.repeat(60_000));
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let ship = started(run);
    receiver.wait_for_requests(1);
    let resident = || most_resident(ship.id());
    volume.append("app.log", &line.repeat(1000));
    let buffered = http("GET", admin, "/metrics")
        .unwrap()
        .metric(&format!("podkit_ship_buffer_bytes{{destination=\"{}\"}}", receiver.url()));
    // One batch of 1 MiB and a line; 60 MB of log are waiting in the file.
    assert!(buffered.is_some_and(|bytes| bytes > 0.0 && bytes < 1.2e6), "{buffered:?}");
    assert!(resident() < (16 << 20) + (32 << 20), "{} bytes resident with a budget of 16 MiB", resident());
    receiver.open_gate();
    receiver.wait_for(61_000);
    assert!(resident() < (16 << 20) + (32 << 20), "{} bytes resident with a budget of 16 MiB", resident());
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_long_pause_is_cut_short_at_the_end() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.script([Answer::Status(429, "Retry-After: 300\r\n")]);
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&receiver.url()));
    ship.wait_for_stderr("trying again");
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn a_destination_that_fails_now_and_then_does_not_fill_the_log() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.script([Answer::Status(503, ""), Answer::Status(200, "")].into_iter().cycle().take(20));
    volume.write("app.log", &lines(0..10));
    let finished = volume.ship(&receiver.url()).args(["--once", "--batch-lines", "1"]).expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..10));
    for told in ["trying again", "takes lines again"] {
        assert_eq!(finished.stderr.matches(told).count(), 1, "{}", finished.stderr);
    }
}

#[test]
fn an_answer_that_is_too_long_to_be_read_is_asked_for_in_parts() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.script([Answer::Body(200, "x".repeat(5 << 20).leak())]);
    volume.write("app.log", &lines(0..4));
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!((receiver.messages(), receiver.batches()), (messages(0..4), vec![2, 2]));
}

#[test]
fn dead_letters_of_one_batch_may_be_more_than_there_is_room_for() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.otherwise(Answer::Status(400, ""));
    volume.write("app.log", &lines(0..10));
    let ship = started(volume.ship(&receiver.url()).args(["--dead-letters", "2KiB"]));
    ship.wait_for_stderr("cannot keep refused events");
    let kept = volume.dead_letters();
    assert!((1..10).contains(&kept.len()), "{kept:?}");
    volume.rename("state/dead-letters.ndjson", "first");
    let first = kept.len();
    eventually("the rest is kept", || (!volume.dead_letters().is_empty()).then_some(()));
    assert!(volume.dead_letters().len() <= 10 - first);
    let _ = ship.kill();
}

#[test]
fn a_dead_letter_of_a_file_that_was_cut_meanwhile_keeps_its_name_and_record() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.close_gate();
    receiver.script([Answer::Status(400, "")]);
    volume.write("app.log", &lines(0..1));
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for_requests(1);
    volume.write("app.log", "");
    ship.wait_for_stderr("was cut");
    receiver.open_gate();
    let letter = eventually("a dead letter", || volume.dead_letters().pop());
    assert_ne!(letter["generation"], "0000000000000000");
    assert_eq!(letter["record"]["message"], "line 0");
    let _ = ship.terminate().expect_exit(0);
}
