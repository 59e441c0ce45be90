//! SIGKILL at any moment, under load and rotation: every line arrives, and what arrives twice was on its way.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::receiver::Receiver;
use crate::setup::{Volume, started};

/// Enough to hit each step between a read and the saved position.
const KILLS: usize = 50;
const BATCH: usize = 50;
const ROTATE_EVERY: usize = 400;

#[test]
fn fifty_kills_under_load_lose_no_line() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let app = std::thread::spawn({
        let (path, stop, written) = (volume.path().to_owned(), Arc::clone(&stop), Arc::clone(&written));
        move || {
            let open =
                || std::fs::OpenOptions::new().append(true).create(true).open(path.join("app.log")).unwrap();
            let mut file = open();
            let mut number = 0;
            while !stop.load(Ordering::Acquire) {
                for _ in 0..10 {
                    writeln!(file, "line {number}").unwrap();
                    number += 1;
                }
                written.store(number, Ordering::Release);
                if number % ROTATE_EVERY == 0 {
                    // Names with a date or a count, as logrotate's dateext: none is ever overwritten.
                    let rotated = path.join(format!("app.log.{}", number / ROTATE_EVERY));
                    std::fs::rename(path.join("app.log"), rotated).unwrap();
                    file = open();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            number
        }
    });
    let run = || volume.ship(&receiver.url()).args(["--batch-lines", &BATCH.to_string()]);
    let mut allowed = 0;
    for _ in 0..KILLS {
        let ship = started(run());
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..60)));
        let _ = ship.kill();
        // One batch may have been sent and acknowledged without the position being saved.
        allowed += BATCH;
    }
    stop.store(true, Ordering::Release);
    let total = app.join().unwrap();
    let ship = started(run());
    let _ = ship.terminate().expect_exit(0);
    let mut seen: HashMap<String, usize> = HashMap::new();
    for message in receiver.messages() {
        *seen.entry(message).or_default() += 1;
    }
    let lost: Vec<usize> =
        (0..total).filter(|number| !seen.contains_key(&format!("line {number}"))).collect();
    assert!(
        lost.is_empty(),
        "{} of {total} lines lost, the first are {:?}",
        lost.len(),
        &lost[..lost.len().min(20)]
    );
    let twice = seen.values().map(|count| count - 1).sum::<usize>();
    assert!(twice <= allowed, "{twice} lines came twice, {allowed} can be explained");
}
