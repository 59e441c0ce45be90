//! From start to exit: flush, SIGTERM, deadlines, the ledger, the admin port.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use podkit_testkit::{Reply, Signal, eventually, free_port, http, pod};

use crate::receiver::{Answer, Receiver};
use crate::setup::{Volume, assert_balanced, by_number, ledger, lines, messages, started};

/// A URL that nobody serves.
fn nowhere() -> String {
    format!("http://127.0.0.1:{}/logs", free_port())
}

/// What a flush says: the status, and how much is not acknowledged.
#[track_caller]
fn assert_pending(reply: &Reply, status: u16, bytes: usize) {
    assert_eq!((reply.status, &reply.json()["pending_bytes"]), (status, &bytes.into()), "{}", reply.body);
}

#[test]
fn sigterm_reads_to_the_end_and_the_ledger_proves_it() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, _) = volume.ship_lazily(&receiver.url());
    let ship = started(run);
    volume.write("a.log", &lines(0..1000));
    volume.write("b.log", &lines(1000..2000));
    let finished = ship.terminate().expect_exit(0);
    assert_eq!(by_number(receiver.messages()), messages(0..2000));
    let ledger = ledger(&finished);
    assert_balanced(&ledger);
    let bytes = (lines(0..1000).len() + lines(1000..2000).len()) as u64;
    assert_eq!(
        (ledger["total"]["acknowledged"].as_u64(), ledger["total"]["pending"].as_u64()),
        (Some(bytes), Some(0))
    );
}

#[test]
fn each_line_of_the_log_and_the_ledger_is_one_write() {
    let volume = Volume::new();
    volume.write("app.log", &lines(0..3));
    // Of datagrams, each write is one.
    let (log, stderr) = UnixDatagram::pair().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_podkit-ship"))
        .args(["--once", "--to", "stdout:", "--admin", "off", "--log-format", "json"])
        .arg("--include")
        .arg(volume.file("app.log"))
        .stdout(Stdio::null())
        .stderr(OwnedFd::from(stderr))
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    log.set_nonblocking(true).unwrap();
    let (mut buffer, mut written) = (vec![0; 64 << 10], Vec::new());
    while let Ok(size) = log.recv(&mut buffer) {
        if size == 0 {
            break;
        }
        written.push(String::from_utf8_lossy(&buffer[..size]).into_owned());
    }
    for line in &written {
        assert!(line.starts_with('{') && line.ends_with("}\n"), "{written:#?}");
    }
    assert!(written.last().is_some_and(|line| line.starts_with("{\"ledger\":")), "{written:#?}");
}

#[test]
fn a_deadline_with_lines_left_says_how_many_and_exits_75() {
    let volume = Volume::new();
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&nowhere()).args(["--shutdown-deadline", "300ms"]));
    let start = Instant::now();
    let finished = ship.terminate().expect_exit(75);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let finished = finished
        .expect_stderr("podkit-ship: 21 bytes in 1 file were not acknowledged within 300ms of the stop:");
    let ledger = ledger(&finished);
    assert_balanced(&ledger);
    assert_eq!(ledger["total"]["pending"], 21);
    // Nothing is lost: the next start delivers.
    let receiver = Receiver::start();
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn a_second_signal_ends_at_once() {
    let volume = Volume::new();
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&nowhere()));
    ship.signal(Signal::SIGTERM);
    ship.wait_for_stderr("SIGTERM: stopping");
    let start = Instant::now();
    ship.signal(Signal::SIGINT);
    let _ = ship.wait().expect_exit(1);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn flush_answers_when_all_is_acknowledged() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, admin) = volume.ship_lazily(&receiver.url());
    let _ship = started(run);
    // The last line is not whole yet, and holds up nothing.
    volume.write("app.log", &format!("{}partial", lines(0..50)));
    let reply = http("POST", admin, "/flush?wait=20s").unwrap();
    assert_pending(&reply, 200, 0);
    assert_eq!(reply.json()["partial_bytes"], "partial".len());
    assert_eq!(receiver.messages(), messages(0..50));
}

#[test]
fn what_was_flushed_is_not_sent_again_after_a_kill() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let ship = started(run);
    for number in 0..20 {
        volume.append("app.log", &lines(number..number + 1));
        assert_eq!(http("POST", admin, "/flush?wait=10s").unwrap().status, 200);
    }
    let _ = ship.kill();
    volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..20));
}

#[test]
fn positions_are_on_disk_soon_after_the_last_acknowledgement() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let _ship = started(volume.ship(&receiver.url()));
    for number in 0..5 {
        volume.append("app.log", &lines(number..number + 1));
        receiver.wait_for(number + 1);
    }
    volume.wait_until_saved(lines(0..5).len() as u64);
}

#[test]
fn flush_says_what_is_pending_when_the_backend_is_down() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.otherwise(Answer::Status(503, ""));
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let _ship = started(run);
    volume.write("app.log", &lines(0..3));
    let start = Instant::now();
    let reply = http("POST", admin, "/flush?wait=300ms").unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_pending(&reply, 504, 21);
}

#[test]
fn a_flush_that_waits_is_answered_before_the_exit() {
    for (opens, exit, status, pending) in [(true, 0, 200, 0), (false, 75, 504, lines(0..3).len())] {
        let (volume, receiver) = (Volume::new(), Receiver::start());
        receiver.close_gate();
        volume.write("app.log", &lines(0..3));
        let (run, admin) = volume.ship_lazily(&receiver.url());
        let deadline = if opens { "20s" } else { "300ms" };
        let ship = started(run.args(["--shutdown-deadline", deadline]));
        let flush = std::thread::spawn(move || http("POST", admin, "/flush?wait=25s"));
        // Batches fill for long here, so it is sent because of the flush.
        receiver.wait_for_requests(1);
        ship.signal(Signal::SIGTERM);
        ship.wait_for_stderr("SIGTERM: stopping");
        if opens {
            receiver.open_gate();
        }
        let reply = flush.join().unwrap().expect("an answer before the exit");
        assert_pending(&reply, status, pending);
        // From who knows, not from the admin port that finds nobody there.
        assert_eq!(reply.json()["files"], 1, "{}", reply.body);
        let _ = ship.wait().expect_exit(exit);
        receiver.open_gate();
    }
}

#[test]
fn quit_ends_in_order() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, admin) = volume.ship_lazily(&receiver.url());
    let ship = started(run);
    volume.write("app.log", &lines(0..3));
    assert_eq!(http("POST", admin, "/quit").unwrap().status, 200);
    let _ = ship.wait().expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn status_and_metrics_tell_the_ledger() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let _ship = started(run);
    receiver.wait_for(3);
    let status = eventually("all is acknowledged", || {
        let status = http("GET", admin, "/status").unwrap().json();
        (status["ledger"]["acknowledged"] == 21).then_some(status)
    });
    assert_eq!((&status["phase"], &status["generations"][0]["pending"]), (&"running".into(), &0.into()));
    assert!(status["uptime"].as_f64().is_some_and(|seconds| seconds > 0.0) && status["version"].is_string());
    let metrics = http("GET", admin, "/metrics").unwrap();
    for (state, bytes) in [("read", 21.0), ("acknowledged", 21.0), ("pending", 0.0)] {
        let name =
            format!("podkit_ship_ledger_bytes{{destination=\"{}\",state=\"{state}\"}}", receiver.url());
        assert_eq!(metrics.metric(&name), Some(bytes), "{}", metrics.body);
    }
    assert_eq!(metrics.metric("podkit_ship_open_files"), Some(1.0));
    let table = pod("ship").args(["status", "--admin", &admin.to_string()]).expect_exit(0);
    let _ = table.expect_stdout("phase").expect_stdout("ACKNOWLEDGED").expect_stdout("app.log");
    let _ = pod("ship").args(["probe", "ready", "--admin", &admin.to_string()]).expect_exit(0);
}

#[test]
fn status_and_metrics_tell_how_far_a_destination_is_behind() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.otherwise(Answer::Status(503, ""));
    volume.write("app.log", &lines(0..3));
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let _ship = started(run);
    let status = || http("GET", admin, "/status").unwrap().json();
    let late = eventually("the lag is told", || {
        let status = status();
        let is_late = status["generations"][0]["lag_seconds"].as_f64()? > 0.0;
        (is_late && status["destinations"][0]["retries"].as_u64()? >= 2).then_some(status)
    });
    let (file, destination) = (&late["generations"][0], &late["destinations"][0]);
    assert_eq!(
        (&file["size"], &file["acknowledged"], &file["lag_bytes"]),
        (&21.into(), &0.into(), &21.into())
    );
    assert_eq!((&destination["up"], &destination["pending"]), (&false.into(), &21.into()), "{late}");
    assert!(destination["lag_seconds"].as_f64() >= file["lag_seconds"].as_f64(), "{late}");
    let metric = |name: &str| {
        let metrics = http("GET", admin, "/metrics").unwrap();
        metrics.metric(&format!("podkit_ship_{name}{{destination=\"{}\"}}", receiver.url()))
    };
    assert_eq!(metric("lag_bytes"), Some(21.0));
    assert!(metric("lag_seconds").is_some_and(|lag| lag > 0.0));
    let table = pod("ship").args(["status", "--admin", &admin.to_string()]).expect_exit(0);
    let _ = table.expect_stdout("LAG_BYTES").expect_stdout("LAG_SECONDS").expect_stdout("RETRIES");

    receiver.otherwise(Answer::Status(200, ""));
    eventually("all is acknowledged", || (status()["generations"][0]["lag_bytes"] == 0).then_some(()));
    assert_eq!(status()["generations"][0]["lag_seconds"], 0.0);
    assert_eq!((metric("lag_bytes"), metric("lag_seconds")), (Some(0.0), Some(0.0)));
    assert_eq!(metric("requests_in_flight"), Some(0.0));
}

#[test]
fn a_done_marker_ends_it_as_sigterm_does() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, _) = volume.ship_lazily(&receiver.url());
    // The directory comes later than the shipper.
    let ship = started(run.arg("--done-file").arg(volume.file("signals/done")));
    volume.write("app.log", &format!("{}no end", lines(0..1000)));
    std::fs::create_dir(volume.file("signals")).unwrap();
    volume.write("signals/done", "");
    let finished = ship.wait().expect_exit(0).expect_stderr("signals/done\" is there: stopping");
    assert_eq!(receiver.messages(), [messages(0..1000), vec!["no end".to_owned()]].concat());
    assert_balanced(&ledger(&finished));
}

#[test]
fn a_done_marker_that_is_there_at_the_start_counts() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    volume.write("done", "");
    let run = volume.ship(&receiver.url()).arg("--done-file").arg(volume.file("done"));
    let _ = run.expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn a_done_marker_with_lines_left_at_the_deadline_exits_75() {
    let volume = Volume::new();
    volume.write("app.log", &lines(0..3));
    let run = volume.ship(&nowhere()).args(["--shutdown-deadline", "300ms", "--done-file"]);
    let ship = started(run.arg(volume.file("done")));
    volume.write("done", "");
    let _ =
        ship.wait().expect_exit(75).expect_stderr("21 bytes in 1 file were not acknowledged within 300ms");
}

#[test]
fn sigterm_ends_the_wait_between_two_tries() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.otherwise(Answer::Status(503, ""));
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&receiver.url()).args(["--shutdown-deadline", "4s"]));
    // By now the waits are seconds long.
    receiver.wait_for_requests(6);
    receiver.otherwise(Answer::Status(200, ""));
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn the_state_directory_is_not_shipped() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship_only("**/*", &receiver.url()));
    receiver.wait_for(3);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn more_files_than_descriptors_are_told_and_the_others_are_delivered() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    for file in 0..100 {
        volume.write(&format!("{file}.log"), &lines(file..file + 1));
    }
    let ship = volume.ship(&receiver.url()).limit_files(64).args(["--log-format", "text"]).start();
    ship.wait_for_stderr("32 files are followed, and the limit on open files has no room for more");
    assert_eq!(receiver.wait_for(32).len(), 32);
    let finished = ship.terminate().expect_exit(75);
    let _ = finished.expect_stderr("podkit-ship: 68 files could not be read and are not delivered, such as");
}

#[test]
fn a_state_directory_is_used_by_one_shipper() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let _ship = started(volume.ship(&receiver.url()));
    let second = volume.ship(&receiver.url()).expect_exit(1);
    let _ = second.expect_stderr("is in use by another podkit-ship").expect_stderr("hint: give each shipper");
}

#[test]
fn a_torn_checkpoint_is_set_aside_and_nothing_is_lost() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    std::fs::create_dir(volume.file("state")).unwrap();
    volume.write("state/checkpoint.json", "{\"version\":1,\"gen");
    let finished = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    let _ = finished.expect_stderr("cannot be used").expect_stderr("checkpoint.json.bad-");
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn a_checkpoint_that_cannot_be_written_stops_no_delivery() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let ship = started(run);
    // A directory where the temporary file should be: even root cannot write over it.
    std::fs::create_dir(volume.file("state/checkpoint.json.tmp")).unwrap();
    volume.write("app.log", &lines(0..3));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    ship.wait_for_stderr("cannot save the positions");
    let failures = http("GET", admin, "/metrics").unwrap().metric("podkit_ship_checkpoint_failures_total");
    assert!(failures.is_some_and(|count| count >= 1.0), "{failures:?}");
    let _ = ship.terminate().expect_exit(0);
}
