//! How much is sent at once, and when: requests in flight, `Retry-After`, and requests that are too large.

use std::time::{Duration, Instant, SystemTime};

use podkit_testkit::eventually;

use crate::backends::Answer;
use crate::backends::elasticsearch::Elasticsearch;
use crate::receiver::Receiver;
use crate::setup::{Volume, lines, messages, metric, missing, started};

#[test]
fn more_requests_fly_while_the_pace_holds_and_fewer_after_refusals() {
    // Far more than the hundred requests that are watched: the rest shall not be over before the refusals.
    const LINES: usize = 50_000;
    let (volume, cluster) = (Volume::new(), Elasticsearch::start());
    cluster.otherwise(Answer::After(Duration::from_millis(50)));
    volume.write("app.log", &lines(0..LINES));
    let (run, admin) = volume.configured(&format!("elasticsearch: {{url: \"{}\"}}", cluster.url()));
    let ship = started(run.args(["--batch-lines", "100"]));
    cluster.wait_for_requests(1);
    assert_eq!(cluster.most_in_flight(), 1, "it begins with one");
    cluster.wait_for_requests(100);
    let grown = cluster.most_in_flight();
    assert!(grown > 1, "{grown} in flight");
    let limit = || metric(admin, "podkit_ship_requests_limit", &[]);
    assert!(limit() > 1.0, "the limit is {}", limit());
    cluster.otherwise(Answer::Status(429, "Retry-After: 0\r\n"));
    eventually("the limit is one again", || (limit() < 2.0).then_some(()));
    cluster.behave();
    cluster.wait_for(LINES);
    let _ = ship.terminate().expect_exit(0);
    let got = cluster.messages();
    assert_eq!((missing(LINES, &got), got.len()), (Vec::new(), LINES));
}

#[test]
fn retry_after_as_a_date_is_obeyed() {
    for status in [429, 503] {
        let (volume, receiver) = (Volume::new(), Receiver::start());
        // A date has whole seconds: at least one of the two is left of it.
        let then = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
        receiver.script([Answer::Status(status, format!("Retry-After: {then}\r\n").leak())]);
        volume.write("app.log", &lines(0..1));
        let start = Instant::now();
        let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
        assert_eq!(receiver.messages(), messages(0..1));
    }
}

#[test]
fn a_retry_after_that_is_nonsense_is_no_reason_to_wait_for_ever() {
    for value in ["soon", "-1", "Tue, 99 Foo 2026 99:99:99 GMT", ""] {
        let (volume, receiver) = (Volume::new(), Receiver::start());
        receiver.script([Answer::Status(429, format!("Retry-After: {value}\r\n").leak())]);
        volume.write("app.log", &lines(0..1));
        let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
        assert_eq!(receiver.messages(), messages(0..1));
    }
}

#[test]
fn one_line_that_is_too_large_is_kept_and_the_others_are_delivered() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.otherwise(Answer::AtMostBytes(2000));
    volume.write("app.log", &format!("{}{}\n{}", lines(0..20), "x".repeat(5000), lines(20..40)));
    let (run, _) = volume.configured(&format!("http: {{url: \"{}\"}}", receiver.url()));
    let _ = run.arg("--once").expect_exit(0);
    let got = receiver.messages();
    assert_eq!((missing(40, &got), got.len()), (Vec::new(), 40));
    let letters = volume.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["offset"], lines(0..20).len());
    assert!(letters[0]["reason"].as_str().unwrap().contains("413"), "{}", letters[0]);
}
