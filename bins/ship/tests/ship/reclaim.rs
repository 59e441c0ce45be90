//! Disk space that comes back: freed ranges, removed rotations, deleted files that are let go.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use podkit_testkit::{Process, eventually, http};

use crate::receiver::Receiver;
use crate::setup::{Volume, lines, messages, started};

const KIB: u64 = 1 << 10;

/// What a file holds on disk, in bytes.
fn on_disk(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// A config with one source that reclaims in some way.
fn config(volume: &Volume, to: &str, reclaim: &str) -> std::path::PathBuf {
    let config = volume.file("ship.yaml");
    let include = volume.file("*.log");
    let text = format!(
        "sources: [{{include: {}, reclaim: {reclaim}}}]\ndestinations: [{{http: {{url: \"{to}\"}}}}]\n",
        include.display()
    );
    std::fs::write(&config, text).unwrap();
    config
}

fn punching(volume: &Volume, receiver: &Receiver) -> podkit_testkit::Run {
    podkit_testkit::pod("ship")
        .arg("--config")
        .arg(config(volume, &receiver.url(), "{punch: {keep: 128KiB}}"))
        .arg("--state-dir")
        .arg(volume.file("state"))
        .args(["--batch-age", "20ms", "--batch-size", "64KiB", "--admin", "off"])
        .show(volume.path())
}

/// Without an end: one file that is never rotated.
fn one_file_for_ever(volume: &Volume) {
    const ROUND: usize = 1_000;
    const ROUNDS: usize = 16;
    // What is kept, one batch, one step of freeing, the head's block, and what the file system adds in its own units.
    const LIMIT: u64 = (128 + 64 + 128 + 4 + 64) * KIB;
    let receiver = Receiver::start();
    let (path, mut app) = (volume.file("app.log"), volume.open("app.log"));
    let mut ship: Process = started(punching(volume, &receiver));
    for round in 0..ROUNDS {
        let numbers = round * ROUND..(round + 1) * ROUND;
        let text: String = numbers.map(|number| format!("{number} {}\n", "x".repeat(200))).collect();
        app.write_all(text.as_bytes()).unwrap();
        if round % 5 == 4 {
            let _ = ship.kill();
            ship = started(punching(volume, &receiver));
        }
        receiver.wait_for((round + 1) * ROUND);
        eventually(&format!("{} bytes on disk are at most {LIMIT}", on_disk(&path)), || {
            (on_disk(&path) <= LIMIT).then_some(())
        });
    }
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size > 5 * LIMIT, "{size}");
    let _ = ship.terminate().expect_exit(0);
    // A restart reads nothing again, holes or not.
    let before = receiver.messages().len();
    let _ = punching(volume, &receiver).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages().len(), before);
    let mut got: Vec<usize> =
        receiver.messages().iter().map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect();
    got.sort_unstable();
    got.dedup();
    assert!(got.into_iter().eq(0..ROUNDS * ROUND), "every line is there");
}

#[test]
fn a_file_that_is_never_rotated_keeps_its_use_of_the_disk() {
    one_file_for_ever(&Volume::new());
}

#[test]
fn a_file_on_tmpfs_is_freed_as_well() {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        one_file_for_ever(&Volume::on(shm));
    }
}

#[test]
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
fn a_file_system_that_frees_no_ranges_is_named_once_and_delivery_goes_on() {
    let (volume, receiver, tools) = (Volume::new(), Receiver::start(), tempfile::tempdir().unwrap());
    let recorder = podkit_testkit::Recorder::build(tools.path());
    recorder.set_holes(false);
    volume.write("app.log", &lines(0..40_000));
    volume.write("second.log", &lines(40_000..80_000));
    let ship = started(recorder.attach(punching(&volume, &receiver)));
    receiver.wait_for(80_000);
    let warning = ship.wait_for_stderr("cannot free the acknowledged part of");
    assert!(warning.contains(".log\" on ") && warning.contains("delete-rotated"), "{warning}");
    let finished = ship.terminate().expect_exit(0);
    assert_eq!(finished.stderr.matches("cannot free the").count(), 1, "{}", finished.stderr);
}

#[test]
fn rotated_files_are_removed_once_they_are_delivered() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    volume.write("linked.log", &lines(3..4));
    let run = |pattern: &str| {
        volume.ship_only(pattern, &receiver.url()).args([
            "--reclaim",
            "delete-rotated",
            "--log-level",
            "info",
        ])
    };
    // `*.log*` covers the rotated names too; they are rotations all the same.
    let ship = started(run("*.log*"));
    receiver.wait_for(4);
    std::fs::hard_link(volume.file("linked.log"), volume.file("kept")).unwrap();
    volume.rename("linked.log", "linked.log.1");
    volume.rename("app.log", "app.log.1");
    // Without an end: no more of it comes.
    volume.append("app.log.1", "line 4");
    volume.write("app.log", &lines(5..6));
    ship.wait_for_stderr("app.log.1\": all its 27 bytes are acknowledged");
    assert!(!volume.file("app.log.1").exists() && volume.file("app.log").exists());
    ship.wait_for_stderr("linked.log.1\" has other names");
    assert!(volume.file("linked.log.1").exists() && volume.file("kept").exists());
    let _ = ship.terminate().expect_exit(0);
    let mut got = receiver.messages();
    got.sort();
    assert_eq!(got, messages(0..6));
}

#[test]
fn a_rotated_file_stays_until_it_is_delivered_and_goes_after_a_restart() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.close_gate();
    volume.write("app.log", &lines(0..3));
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let ship = started(run.args(["--reclaim", "delete-rotated"]));
    receiver.wait_for_requests(1);
    volume.rename("app.log", "app.log.1");
    volume.write("app.log", &lines(3..4));
    ship.wait_for_stderr("app.log\" from byte 0");
    assert_eq!(http("GET", admin, "/metrics").unwrap().metric("podkit_ship_removed_files_total"), Some(0.0));
    let _ = ship.kill();
    receiver.open_gate();
    assert!(volume.file("app.log.1").exists());
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let _ship = started(run.args(["--reclaim", "delete-rotated"]));
    eventually("the rotated file is removed", || (!volume.file("app.log.1").exists()).then_some(()));
    let metric = |name: &str| http("GET", admin, "/metrics").unwrap().metric(name);
    eventually("it is counted", || (metric("podkit_ship_removed_files_total") == Some(1.0)).then_some(()));
    assert!(metric("podkit_ship_removed_bytes_total").is_some_and(|bytes| bytes > 0.0));
    assert_eq!(metric("podkit_ship_lost_bytes_total"), Some(0.0));
    receiver.wait_for(4);
}

#[test]
fn deleted_files_hold_no_more_than_their_budget() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.close_gate();
    let size = 4_000;
    volume.write("old.log", &lines(0..size));
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let ship = started(run.args(["--deleted", "64KiB", "--batch-lines", "10"]));
    receiver.wait_for_requests(1);
    volume.write("new.log", &lines(size..2 * size));
    ship.wait_for_stderr("new.log\" from byte 0");
    let metric = |name: &str| http("GET", admin, "/metrics").unwrap().metric(name).unwrap();
    std::fs::remove_file(volume.file("new.log")).unwrap();
    eventually("the deleted file is held", || {
        (metric("podkit_ship_deleted_files") == 1.0 && metric("podkit_ship_deleted_bytes") > 0.0)
            .then_some(())
    });
    assert_eq!(metric("podkit_ship_lost_bytes_total"), 0.0);
    std::fs::remove_file(volume.file("old.log")).unwrap();
    let told = ship.wait_for_stderr("letting go of");
    assert!(told.contains("old.log") && told.contains("ERROR") && told.contains("64KiB"), "{told}");
    assert_eq!(metric("podkit_ship_deleted_files"), 1.0);
    assert!(metric("podkit_ship_lost_bytes_total") > 0.0);
    receiver.open_gate();
    let _ = ship.terminate().expect_exit(0);
    let got = receiver.messages();
    let is_there = |number: usize| got.contains(&format!("line {number}"));
    assert!((size..2 * size).all(is_there), "the younger file is delivered whole");
}

#[test]
fn a_bad_way_to_reclaim_is_refused_with_the_fix() {
    let volume = Volume::new();
    for (reclaim, message) in [
        ("sometimes", "sources[0].reclaim: \"sometimes\" is not one of"),
        ("{punch: {keep: 5}}", "sources[0].reclaim.punch.keep: \"5\" has no unit"),
        ("{delete-rotated: {}}", "sources[0].reclaim: must be one way to reclaim"),
        ("{punch: {keeps: 5MiB}}", "keeps"),
    ] {
        let config = config(&volume, "http://127.0.0.1:9/", reclaim);
        let run = podkit_testkit::pod("ship").arg("check").arg("--config").arg(config);
        let _ = run.expect_exit(64).expect_stderr(message);
    }
    let config = config(&volume, "http://127.0.0.1:9/", "{punch: {keep: 16MiB}}");
    let checked = podkit_testkit::pod("ship").arg("check").arg("--config").arg(config).expect_exit(0);
    let _ = checked.expect_stdout("16MiB").expect_stdout("1GiB");
}
