//! SIGKILL at any moment, under load, rotation and a backend that is ill now and then: every line arrives, and what
//! arrives twice was on its way.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use podkit_testkit::Run;

use crate::backends::{Answer, Backend, Server};
use crate::receiver::Receiver;
use crate::setup::{Volume, missing, started};

/// With those of the Elasticsearch test 200: enough to hit each step between a read and the saved position.
pub(crate) const KILLS: usize = 100;
pub(crate) const BATCH: usize = 50;
const ROTATE_EVERY: usize = 400;
/// Longest life of a shipper, in milliseconds.
const LIFE: u64 = 60;
const ILLNESSES: &[Answer] = &[
    Answer::Half,
    Answer::Close,
    Answer::Reset,
    Answer::Garbage,
    Answer::Status(503, ""),
    Answer::Status(429, "Retry-After: 0\r\n"),
    Answer::AtMost(BATCH / 3),
    Answer::After(Duration::from_millis(20)),
];

/// Lets an app write and rotate while shippers are killed, and returns the number of lines written. All of them have
/// been delivered when this returns, as far as the last shipper knows.
pub(crate) fn under_kills<B: Backend>(volume: &Volume, server: &Server<B>, run: impl Fn() -> Run) -> usize {
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let total = std::thread::scope(|scope| {
        let app = scope.spawn(|| {
            let mut file = volume.open("app.log");
            let mut number = 0;
            while !stop.load(Ordering::Acquire) {
                for _ in 0..10 {
                    writeln!(file, "line {number}").unwrap();
                    number += 1;
                }
                written.store(number, Ordering::Release);
                if number % ROTATE_EVERY == 0 {
                    // Names with a date or a count, as logrotate's dateext: none is ever overwritten.
                    volume.rename("app.log", &format!("app.log.{}", number / ROTATE_EVERY));
                    file = volume.open("app.log");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            number
        });
        for _ in 0..KILLS {
            let ill = fastrand::usize(0..3);
            server.script((0..ill).map(|_| ILLNESSES[fastrand::usize(..ILLNESSES.len())].clone()));
            let ship = started(run());
            std::thread::sleep(Duration::from_millis(fastrand::u64(0..LIFE)));
            let _ = ship.kill();
        }
        stop.store(true, Ordering::Release);
        app.join().unwrap()
    });
    server.behave();
    // Each batch that is refused in part waits a moment.
    let ship = started(run().args(["--shutdown-deadline", "60s"]));
    let _ = ship.terminate().expect_exit(0);
    total
}

#[track_caller]
pub(crate) fn assert_none_lost(total: usize, messages: &[String]) {
    let lost = missing(total, messages);
    let first = &lost[..lost.len().min(20)];
    assert!(lost.is_empty(), "{} of {total} lines lost, the first are {first:?}", lost.len());
}

#[test]
fn a_hundred_kills_under_load_lose_no_line() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let batch = BATCH.to_string();
    let total =
        under_kills(&volume, &receiver, || volume.ship(&receiver.url()).args(["--batch-lines", &batch]));
    let messages = receiver.messages();
    assert_none_lost(total, &messages);
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for message in &messages {
        *seen.entry(message).or_default() += 1;
    }
    let twice = seen.values().map(|count| count - 1).sum::<usize>();
    // What was on its way at a kill may have been taken without the position being saved.
    let allowed = KILLS * BATCH * receiver.most_in_flight().max(1) + receiver.unanswered();
    assert!(twice <= allowed, "{twice} lines came twice, {allowed} can be explained");
}
