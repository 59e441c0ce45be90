//! A backend that is ill for a while: nothing is lost, memory stays in its budget, the lag can be seen, and delivery
//! goes on by itself when the backend is well again.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use podkit_testkit::{eventually, free_port};

use crate::backends::Answer;
use crate::receiver::Receiver;
use crate::setup::{Volume, missing, most_resident, pending, started};

/// The budget, and what the program itself needs in a debug build.
const MOST_MEMORY: u64 = (16 << 20) + (32 << 20);
/// A good deal more than the budget is written while the backend is ill.
const LINES_WHILE_ILL: usize = 24_000;
/// How often a backend is asked while it is ill before it is made well; where it cannot be asked, so many lines are
/// written.
const REQUESTS_WHILE_ILL: usize = 4;
const PADDING: usize = 1000;

/// `line 7` and a kilobyte, in members of their own.
fn wide_lines(range: std::ops::Range<usize>) -> String {
    let padding = "x".repeat(PADDING);
    range.map(|number| format!("{{\"message\":\"line {number}\",\"padding\":\"{padding}\"}}\n")).collect()
}

/// Lets a backend be ill and well again while an app writes.
fn ride_out(fall_ill: impl FnOnce(&Receiver), get_well: impl FnOnce(&Receiver), expect_requests: bool) {
    let volume = Volume::new();
    let receiver = Receiver::start_at(free_port());
    volume.write("app.log", &wide_lines(0..10));
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let ship = started(run);
    receiver.wait_for(10);
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(10));
    std::thread::scope(|scope| {
        fall_ill(&receiver);
        let asked = receiver.requests();
        let app = scope.spawn(|| {
            let mut file = volume.open("app.log");
            while !stop.load(Ordering::Acquire) {
                let from = written.load(Ordering::Acquire);
                let many = if from < LINES_WHILE_ILL { 500 } else { 10 };
                file.write_all(wide_lines(from..from + many).as_bytes()).unwrap();
                written.store(from + many, Ordering::Release);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let enough = || written.load(Ordering::Acquire) >= LINES_WHILE_ILL;
        eventually("the app has written far more than the budget", || enough().then_some(()));
        if expect_requests {
            receiver.wait_for_requests(asked + REQUESTS_WHILE_ILL);
        }
        eventually("the lag is seen", || (pending(admin) > (1 << 20) as f64).then_some(()));
        assert!(most_resident(ship.id()) < MOST_MEMORY, "{} bytes while ill", most_resident(ship.id()));
        get_well(&receiver);
        // It catches up while the app still writes.
        let behind = written.load(Ordering::Acquire);
        receiver.wait_for(behind);
        stop.store(true, Ordering::Release);
        app.join().unwrap();
    });
    let total = written.load(Ordering::Acquire);
    receiver.wait_for(total);
    eventually("nothing is pending", || (pending(admin) == 0.0).then_some(()));
    assert!(most_resident(ship.id()) < MOST_MEMORY, "{} bytes when well", most_resident(ship.id()));
    let _ = ship.terminate().expect_exit(0);
    let got = receiver.messages();
    assert_eq!(missing(total, &got), [0; 0]);
    let twice = got.len() - total;
    assert!(
        twice <= receiver.unanswered(),
        "{twice} lines came twice, {} can be explained",
        receiver.unanswered()
    );
    assert!(volume.dead_letters().is_empty());
}

/// A backend that meets every request with the same.
fn ride_out_answer(answer: Answer) {
    ride_out(|receiver| receiver.otherwise(answer), Receiver::behave, true);
}

#[test]
fn refused_connections_lose_nothing() {
    ride_out(Receiver::go_away, Receiver::come_back, false);
}

#[test]
fn requests_that_hang_lose_nothing() {
    // A balancer that restarts ends what hangs.
    let well = |receiver: &Receiver| {
        receiver.behave();
        receiver.hang_up();
    };
    ride_out(|receiver| receiver.otherwise(Answer::Silent), well, false);
}

#[test]
fn resets_lose_nothing() {
    ride_out_answer(Answer::Reset);
}

#[test]
fn connections_that_close_without_an_answer_lose_nothing() {
    ride_out_answer(Answer::Close);
}

#[test]
fn half_answers_lose_nothing() {
    ride_out_answer(Answer::Half);
}

#[test]
fn garbage_for_an_answer_loses_nothing() {
    ride_out_answer(Answer::Garbage);
}

#[test]
fn floods_lose_nothing() {
    ride_out_answer(Answer::Flood);
}

#[test]
fn unavailable_loses_nothing() {
    ride_out_answer(Answer::Status(503, ""));
}

#[test]
fn throttling_loses_nothing() {
    ride_out_answer(Answer::Status(429, "Retry-After: 1\r\n"));
}

#[test]
fn slow_answers_lose_nothing() {
    ride_out_answer(Answer::After(Duration::from_millis(400)));
}

#[test]
fn answers_that_trickle_lose_nothing() {
    ride_out_answer(Answer::Trickle);
}
