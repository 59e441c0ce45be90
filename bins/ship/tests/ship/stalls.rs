//! What could make the shipper stand still, spin, or feed on itself.

use std::time::{Duration, Instant};

use podkit_testkit::{eventually, pod};

use crate::receiver::Receiver;
use crate::setup::{Volume, lines, messages, pending, started};

/// Shorter than the look that nothing asks for, which would hide what is forgotten.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn lines_that_fit_no_buffer_together_are_all_delivered() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, _) = volume.configured(&format!("http: {{url: \"{}\"}}", receiver.url()));
    let config = std::fs::read_to_string(volume.file("ship.yaml")).unwrap();
    volume.write("ship.yaml", &config.replace("    fields:", "    multiline: auto\n    fields:"));
    let line = |letter: &str| format!("2026-11-22T05:00:00Z INFO {}\n", letter.repeat(900 << 10));
    volume.write("app.log", &[line("a"), line("b"), line("c"), lines(0..1)].concat());
    let _ = run.arg("--once").expect_exit(0);
    let lengths: Vec<usize> = receiver.messages().iter().map(String::len).collect();
    assert_eq!(lengths, [(900 << 10) + 26, (900 << 10) + 26, (900 << 10) + 26, 6]);
}

#[test]
fn a_group_that_is_held_back_is_sent_when_it_is_whole() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, _) = volume.configured(&format!("http: {{url: \"{}\"}}", receiver.url()));
    let config = std::fs::read_to_string(volume.file("ship.yaml")).unwrap();
    volume.write("ship.yaml", &config.replace("    fields:", "    multiline: {start: '^line'}\n    fields:"));
    volume.write("app.log", "");
    let ship = started(run);
    let start = Instant::now();
    volume.append("app.log", &lines(0..1));
    assert_eq!(receiver.wait_for(1), messages(0..1));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn lines_that_nobody_wants_hold_back_nobody() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, admin) = volume.configured(&format!("http: {{url: \"{}\"}}", receiver.url()));
    let config = std::fs::read_to_string(volume.file("ship.yaml")).unwrap();
    volume.write("ship.yaml", &config.replace("    fields:", "    drop: [unwanted]\n    fields:"));
    volume.write("a.log", &"unwanted\n".repeat(4 << 20));
    volume.write("b.log", &lines(0..10));
    let ship = started(run);
    // As the files are read in turns, this is before the end of the large one.
    assert_eq!(receiver.wait_for(10), messages(0..10));
    assert!(pending(admin) > 0.0);
    eventually("all is settled", || (pending(admin) == 0.0).then_some(()));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn our_own_files_are_followed_by_no_path() {
    for state_dir in ["logs/../logs/state", "link/state"] {
        let volume = Volume::new();
        std::fs::create_dir(volume.file("logs")).unwrap();
        std::os::unix::fs::symlink(volume.file("logs"), volume.file("link")).unwrap();
        volume.write("logs/app.log", &lines(0..3));
        let run = || {
            let run = pod("ship").arg("--include").arg(volume.file("logs/**/*"));
            let run = run.arg("--state-dir").arg(volume.file(state_dir));
            run.args(["--to", "stdout:", "--once", "--admin", "off"])
        };
        let first = run().expect_exit(0).stdout.lines().count();
        assert_eq!((first, run().expect_exit(0).stdout.lines().count()), (3, 0), "{state_dir}");
    }
}

#[test]
fn a_file_destination_that_is_followed_by_a_link_is_a_fault() {
    let volume = Volume::new();
    std::fs::create_dir(volume.file("logs")).unwrap();
    std::os::unix::fs::symlink(volume.file("logs"), volume.file("link")).unwrap();
    let to = format!("file:{}", volume.file("logs/out.log").display());
    let run = pod("ship").arg("check").arg("--include").arg(volume.file("link/*.log")).args(["--to", &to]);
    let _ = run.expect_exit(64).expect_stderr("each line would come back for ever");
}
