//! Which bytes are read: new files, growing files, rotated, cut and deleted files, restarts.

use std::io::Write as _;

use podkit_testkit::Process;

use crate::receiver::Receiver;
use crate::setup::{Volume, by_number, lines, messages, started};

/// A shipper that follows `app.log`, whose first lines are delivered.
fn following(volume: &Volume, receiver: &Receiver, count: usize) -> Process {
    volume.write("app.log", &lines(0..count));
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for(count);
    ship
}

/// Waits for this many lines and ends the shipper: the lines are the first of all, in order, and no others.
#[track_caller]
fn assert_all_in_order(ship: Process, receiver: &Receiver, count: usize) {
    receiver.wait_for(count);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..count));
}

/// The same of several files that are read side by side: only within one is there an order.
#[track_caller]
fn assert_all_in_any_order(ship: Process, receiver: &Receiver, count: usize) {
    let got = receiver.wait_for(count);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(by_number(got), messages(0..count));
}

#[test]
fn lines_that_are_there_and_lines_that_come_are_delivered() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&receiver.url()));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    volume.append("app.log", &lines(3..5));
    assert_eq!(receiver.wait_for(5), messages(0..5));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_file_that_appears_at_run_time_is_found() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let _ship = started(volume.ship(&receiver.url()));
    volume.write("new.log", &lines(0..2));
    assert_eq!(receiver.wait_for(2), messages(0..2));
}

#[test]
fn a_directory_that_appears_at_run_time_is_found() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let _ship = started(volume.ship_only("later/*/*.log", &receiver.url()));
    std::fs::create_dir_all(volume.file("later/a")).unwrap();
    volume.write("later/a/app.log", &lines(0..2));
    assert_eq!(receiver.wait_for(2), messages(0..2));
}

#[test]
fn a_file_under_two_names_is_read_once() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..2));
    std::fs::hard_link(volume.file("app.log"), volume.file("hard.log")).unwrap();
    std::os::unix::fs::symlink(volume.file("app.log"), volume.file("soft.log")).unwrap();
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..2));
}

#[test]
fn two_short_files_with_the_same_content_are_both_read() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("a.log", "started\n");
    volume.write("b.log", "started\n");
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), ["started", "started"]);
}

#[test]
fn a_partial_line_waits_for_its_end() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let ship = started(volume.ship(&receiver.url()));
    volume.append("app.log", "line 0\nline");
    assert_eq!(receiver.wait_for(1), messages(0..1));
    volume.append("app.log", " 1\n");
    assert_eq!(receiver.wait_for(2), messages(0..2));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_partial_line_is_delivered_at_the_end() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let ship = started(volume.ship(&receiver.url()));
    volume.append("app.log", "line 0\nline 1");
    receiver.wait_for(1);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..2));
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let _ = following(&volume, &receiver, 3).terminate().expect_exit(0);
    volume.append("app.log", &lines(3..5));
    let ship = started(volume.ship(&receiver.url()));
    assert_all_in_order(ship, &receiver, 5);
}

#[test]
fn a_rename_loses_nothing_and_repeats_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let mut old = volume.open("app.log");
    old.write_all(lines(0..3).as_bytes()).unwrap();
    let ship = started(volume.ship(&receiver.url()));
    volume.rename("app.log", "app.log.1");
    // An app writes on to the renamed file until it opens the new one.
    old.write_all(lines(3..5).as_bytes()).unwrap();
    receiver.wait_for(5);
    volume.append("app.log", &lines(5..7));
    assert_all_in_order(ship, &receiver, 7);
}

#[test]
fn a_rename_where_the_new_name_matches_too_repeats_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship_only("app.log*", &receiver.url()));
    receiver.wait_for(3);
    volume.rename("app.log", "app.log.1");
    volume.append("app.log", &lines(3..5));
    receiver.wait_for(5);
    volume.rename("app.log.1", "app.log.2");
    volume.rename("app.log", "app.log.1");
    volume.append("app.log", &lines(5..6));
    assert_all_in_order(ship, &receiver, 6);
}

#[test]
fn rename_during_backpressure_loses_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.close_gate();
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for_requests(1);
    for generation in 1..4 {
        volume.rename("app.log", &format!("app.log.{generation}"));
        volume.append("app.log", &lines(generation * 3..generation * 3 + 3));
    }
    receiver.open_gate();
    assert_all_in_any_order(ship, &receiver, 12);
}

#[test]
fn rotations_while_nobody_looks_lose_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let _ = following(&volume, &receiver, 3).terminate().expect_exit(0);
    // Two rotations: the second file was never seen under its own name.
    volume.append("app.log", &lines(3..4));
    volume.rename("app.log", "app.log.1");
    volume.append("app.log", &lines(4..6));
    volume.rename("app.log.1", "app.log.2");
    volume.rename("app.log", "app.log.1");
    volume.append("app.log", &lines(6..8));
    let ship = started(volume.ship(&receiver.url()));
    assert_all_in_any_order(ship, &receiver, 8);
}

#[test]
fn rotated_files_from_before_the_first_start_are_not_ours() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log.1", "old\n");
    let ship = following(&volume, &receiver, 1);
    volume.rename("app.log.1", "app.log.2");
    volume.rename("app.log", "app.log.1");
    volume.append("app.log", &lines(1..2));
    assert_all_in_order(ship, &receiver, 2);
}

/// What logrotate's `copytruncate` does.
fn copytruncate(volume: &Volume) {
    std::fs::copy(volume.file("app.log"), volume.file("app.log.1")).unwrap();
    volume.open("app.log").set_len(0).unwrap();
}

#[test]
fn copytruncate_loses_nothing_and_repeats_nothing() {
    for pattern in ["*.log", "*.log*"] {
        let (volume, receiver) = (Volume::new(), Receiver::start());
        let mut app = volume.open("app.log");
        app.write_all(lines(0..3).as_bytes()).unwrap();
        let ship = started(volume.ship_only(pattern, &receiver.url()));
        receiver.wait_for(3);
        copytruncate(&volume);
        app.write_all(lines(3..5).as_bytes()).unwrap();
        receiver.wait_for(5);
        let _ = ship.terminate().expect_exit(0);
        assert_eq!(receiver.messages(), messages(0..5), "{pattern}");
    }
}

#[test]
fn what_was_not_read_before_copytruncate_is_read_from_the_copy() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let ship = following(&volume, &receiver, 3);
    receiver.close_gate();
    volume.append("app.log", &lines(3..4));
    receiver.wait_for_requests(2);
    // Line 3 is on its way, line 4 is not read when the file is cut.
    volume.append("app.log", &lines(4..5));
    copytruncate(&volume);
    volume.append("app.log", &lines(5..6));
    ship.wait_for_stderr("was cut after a copy");
    receiver.open_gate();
    assert_all_in_any_order(ship, &receiver, 6);
}

#[test]
fn copytruncate_while_nobody_looks_loses_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let _ = following(&volume, &receiver, 3).terminate().expect_exit(0);
    volume.append("app.log", &lines(3..4));
    copytruncate(&volume);
    volume.append("app.log", &lines(4..5));
    let ship = started(volume.ship(&receiver.url()));
    assert_all_in_any_order(ship, &receiver, 5);
}

#[test]
fn lines_between_the_copy_and_the_cut_repeat_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let mut app = volume.open("app.log");
    app.write_all(lines(0..3).as_bytes()).unwrap();
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for(3);
    std::fs::copy(volume.file("app.log"), volume.file("app.log.1")).unwrap();
    app.write_all(lines(3..4).as_bytes()).unwrap();
    receiver.wait_for(4);
    app.set_len(0).unwrap();
    app.write_all(lines(4..5).as_bytes()).unwrap();
    assert_all_in_order(ship, &receiver, 5);
}

#[test]
fn a_file_that_was_rotated_before_anybody_looked_is_read() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let ship = started(volume.ship(&receiver.url()));
    // Made elsewhere and moved in under its rotated name: no look ever saw the live one.
    volume.write("app.log.making", &lines(0..2));
    volume.rename("app.log.making", "app.log.1");
    volume.write("app.log", &lines(2..3));
    assert_all_in_any_order(ship, &receiver, 3);
}

#[test]
fn a_directory_that_is_away_for_a_restart_is_not_forgotten() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    std::fs::create_dir(volume.file("logs")).unwrap();
    volume.write("logs/app.log", &lines(0..3));
    let ship = started(volume.ship_only("logs/*.log", &receiver.url()));
    receiver.wait_for(3);
    let _ = ship.terminate().expect_exit(0);
    volume.rename("logs", "away");
    let _ = started(volume.ship_only("logs/*.log", &receiver.url())).terminate().expect_exit(0);
    volume.rename("away", "logs");
    volume.append("logs/app.log", &lines(3..4));
    let ship = started(volume.ship_only("logs/*.log", &receiver.url()));
    assert_all_in_order(ship, &receiver, 4);
}

#[test]
fn a_pipe_under_the_name_of_a_log_holds_up_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let _ = following(&volume, &receiver, 1).terminate().expect_exit(0);
    std::fs::copy(volume.file("app.log"), volume.file("app.log.1")).unwrap();
    std::fs::remove_file(volume.file("app.log")).unwrap();
    nix::unistd::mkfifo(&volume.file("app.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    volume.write("other.log", &lines(1..2));
    let ship = started(volume.ship(&receiver.url()));
    assert_all_in_order(ship, &receiver, 2);
}

#[test]
fn content_that_is_replaced_with_size_and_time_kept_is_told_by_what_is_read() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.close_gate();
    let file = volume.file("app.log");
    volume.write("app.log", &lines(0..3));
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for_requests(1);
    let before = std::fs::metadata(&file).unwrap().modified().unwrap();
    volume.write("app.log", &lines(3..6));
    volume.open("app.log").set_modified(before).unwrap();
    receiver.open_gate();
    assert_all_in_any_order(ship, &receiver, 6);
}

#[test]
fn a_file_that_is_rewritten_is_read_from_its_beginning() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", "old 0\nold 1\n");
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for(2);
    // Longer than before, so that only the content tells.
    volume.write("app.log", &lines(0..9));
    receiver.wait_for(11);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages()[2..], messages(0..9));
}

#[test]
fn a_file_that_is_rewritten_while_nobody_looks_is_read_from_its_beginning() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", "old 0\nold 1\n");
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for(2);
    let _ = ship.terminate().expect_exit(0);
    volume.write("app.log", &lines(0..9));
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for(11);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages()[2..], messages(0..9));
}

#[test]
fn a_deleted_file_is_read_to_its_end() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.close_gate();
    volume.write("app.log", &lines(0..2));
    let mut app = volume.open("app.log");
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for_requests(1);
    std::fs::remove_file(volume.file("app.log")).unwrap();
    app.write_all(lines(2..4).as_bytes()).unwrap();
    receiver.open_gate();
    assert_eq!(receiver.wait_for(4), messages(0..4));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_line_that_is_too_long_is_split_and_marked() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &format!("{}\nshort\n", "x".repeat(10_000)));
    let (run, _) = volume.configured_as("max_line: 4KiB", &[&receiver.destination("")], "");
    let _ = run.arg("--once").expect_exit(0);
    let records = receiver.records();
    let lengths: Vec<usize> = receiver.messages().iter().map(String::len).collect();
    assert_eq!(lengths, [4096, 4096, 1808, 5]);
    let marks: Vec<bool> = records.iter().map(|record| record["split"] == true).collect();
    assert_eq!(marks, [true, true, false, false]);
}

#[test]
fn a_line_longer_than_the_read_buffer_is_one_record() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &format!("{}\nshort\n", "x".repeat(500_000)));
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages().iter().map(String::len).collect::<Vec<_>>(), [500_000, 5]);
}

#[test]
fn compressed_files_are_left_alone() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log.1.gz", "not a log\n");
    volume.write("app.log", &lines(0..1));
    let _ = volume.ship_only("app.log*", &receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..1));
}
