//! Flushes and ends while something is in the way: a wait that grew long, a request that was lost, and an app that still
//! writes although ship has its SIGTERM, as in pods whose sidecars are plain containers.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::libc;
use podkit_testkit::{http, is_possible, pod};

use crate::receiver::{Answer, Receiver};
use crate::setup::{Volume, assert_balanced, ledger, lines, messages, metric, started};

/// Four times as long as ship waits at most before it asks again, and far below its own timeout of a minute.
const FLUSH: &str = "/flush?wait=25s";

/// Whether the kernel tells of writers on the file system of a volume, by its leases (fcntl(2)).
fn tells_of_writers(volume: &Volume) -> bool {
    volume.write("probe", "");
    let file = File::open(volume.file("probe")).unwrap();
    // SAFETY: the descriptor is open as long as `file` lives, and the call takes a number and no memory of ours.
    #[expect(unsafe_code, reason = "there is no safe call for it")]
    let leased = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    is_possible("temporary files on a file system with leases", leased == 0)
}

#[test]
fn a_flush_ends_the_wait_between_two_tries() {
    a_flush_delivers_after(Answer::Status(503, "retry-after: 200\r\n"), FLUSH);
}

#[test]
fn a_flush_does_not_wait_for_an_answer_that_nobody_will_give() {
    // So are requests that are on their way when a backend's node goes; what comes later is answered by its successor.
    a_flush_delivers_after(Answer::Silent, FLUSH);
}

#[test]
fn a_flush_with_little_time_asks_again_the_sooner() {
    // Less than the three seconds of one that has time.
    a_flush_delivers_after(Answer::Silent, "/flush?wait=2500ms");
}

fn a_flush_delivers_after(first: Answer, flush: &str) {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.script([first]);
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let _ship = started(run);
    volume.write("app.log", &lines(0..3));
    receiver.wait_for_requests(1);
    let reply = http("POST", admin, flush).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    // A machine that is slow to answer is asked once more, and has them twice.
    assert_eq!(receiver.messages()[..3], messages(0..3));
}

#[test]
fn a_second_request_that_fails_does_not_end_the_first() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    // It is slow, and takes nothing more meanwhile.
    receiver.script([Answer::After(Duration::from_secs(7))]);
    receiver.otherwise(Answer::Close);
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let _ship = started(run);
    volume.write("app.log", &lines(0..3));
    receiver.wait_for_requests(1);
    let reply = http("POST", admin, FLUSH).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(receiver.messages(), messages(0..3));
    assert!(receiver.requests() > 1, "there was no second request");
    assert!(metric(admin, "podkit_ship_retries_total", &["reason=\"no_answer\""]) >= 1.0);
    assert_eq!(metric(admin, "podkit_ship_destination_up", &[]), 1.0);
}

#[test]
fn after_a_flush_an_answer_is_waited_for_as_before() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.otherwise(Answer::Silent);
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let _ship = started(run);
    volume.write("app.log", &lines(0..3));
    receiver.wait_for_requests(1);
    assert_eq!(http("POST", admin, "/flush?wait=400ms").unwrap().status, 504);
    let second_requests = || metric(admin, "podkit_ship_retries_total", &["reason=\"no_answer\""]);
    let asked = second_requests();
    assert!(asked >= 1.0, "no request but the first one");
    // Ten times as long as until one more would have gone out, while the flush was waiting.
    sleep(Duration::from_secs(1));
    assert_eq!(second_requests(), asked);
    receiver.otherwise(Answer::Status(200, ""));
    assert_eq!(http("POST", admin, FLUSH).unwrap().status, 200);
    assert!(second_requests() > asked);
    assert_eq!(receiver.messages()[..3], messages(0..3));
}

#[test]
fn the_end_does_not_wait_for_an_answer_that_nobody_will_give() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.script([Answer::Silent, Answer::Silent]);
    let ship = started(volume.ship(&receiver.url()));
    volume.write("app.log", &lines(0..3));
    receiver.wait_for_requests(1);
    let finished = ship.terminate().expect_exit(0);
    assert_balanced(&ledger(&finished));
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn a_plain_sidecar_goes_on_until_the_app_has_closed_its_log() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    if !tells_of_writers(&volume) {
        return;
    }
    let mut log = volume.open("app.log");
    let ship = started(volume.ship(&receiver.url()).args(["--shutdown-quiet", "100ms"]));
    let quiet = Duration::from_millis(100);
    ship.signal(podkit_testkit::Signal::SIGTERM);
    ship.wait_for_stderr("SIGTERM: stopping");
    for number in 0..3 {
        // The app is silent for longer than that, and has its log open all the time.
        sleep(quiet * 3);
        log.write_all(lines(number..number + 1).as_bytes()).unwrap();
        receiver.wait_for(number + 1);
    }
    log.write_all(b"half a li").unwrap();
    sleep(quiet * 3);
    log.write_all(b"ne").unwrap();
    drop(log);
    let _ = ship.wait().expect_exit(0);
    let mut expected = messages(0..3);
    // Whole: while the app could go on with it, it was left alone.
    expected.push("half a line".into());
    assert_eq!(receiver.messages(), expected);
}

#[test]
fn a_writer_that_stays_does_not_hold_the_end_up_for_ever() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    if !tells_of_writers(&volume) {
        return;
    }
    let mut log = volume.open("app.log");
    let run = volume.ship(&receiver.url()).args(["--shutdown-quiet", "100ms", "--shutdown-deadline", "2s"]);
    let ship = started(run);
    log.write_all(lines(0..3).as_bytes()).unwrap();
    let start = Instant::now();
    let finished = ship.terminate().expect_exit(0).expect_stderr("is still written to");
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    assert_balanced(&ledger(&finished));
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn the_quiet_time_is_checked() {
    let check = || pod("ship").arg("check").args(["--include", "/var/log/a.log", "--to", "stdout:"]);
    let _ = check().args(["--shutdown-quiet", "3"]).expect_exit(64).expect_stderr("--shutdown-quiet");
    // Nothing of the deadline would be left for what is written last, or the stop would take longer than it.
    for (quiet, deadline) in [("15s", "20s"), ("30s", "20s"), ("750ms", "1s")] {
        let args = ["--shutdown-quiet", quiet, "--shutdown-deadline", deadline];
        let fault = format!(
            "--shutdown-quiet: {quiet} is not shorter than three quarters of the deadline, {deadline}"
        );
        let finished = check().args(args).expect_exit(64).expect_stderr(&fault);
        let _ = finished
            .expect_stderr("hint: the last quarter is for delivering: lower the one or raise the other");
    }
    let _ = check().args(["--shutdown-quiet", "14999ms"]).expect_exit(0);
    let _ = check().args(["--shutdown-quiet", "749ms", "--shutdown-deadline", "1s"]).expect_exit(0);
}
