//! The checkpoint on the disk: what is written before what, a disk that is full, files that took another's place.

use std::os::unix::fs::MetadataExt as _;

use podkit_testkit::{Signal, eventually, http};
use serde_json::Value;

use crate::receiver::Receiver;
use crate::setup::{Volume, lines, messages, started};

fn checkpoint(volume: &Volume) -> Value {
    serde_json::from_slice(&std::fs::read(volume.file("state/checkpoint.json")).unwrap()).unwrap()
}

fn rewrite_checkpoint(volume: &Volume, change: impl FnOnce(&mut Value)) {
    let mut value = checkpoint(volume);
    change(&mut value);
    volume.write("state/checkpoint.json", &value.to_string());
}

#[test]
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
fn a_checkpoint_is_on_the_disk_before_it_takes_the_place_of_the_old_one() {
    let (volume, receiver, tools) = (Volume::new(), Receiver::start(), tempfile::tempdir().unwrap());
    let recorder = podkit_testkit::Recorder::build(tools.path());
    volume.write("app.log", &lines(0..3));
    let _ = recorder.attach(volume.ship(&receiver.url()).arg("--once")).expect_exit(0);
    let state = volume.file("state").canonicalize().unwrap();
    let (temp, name) = (state.join("checkpoint.json.tmp"), state.join("checkpoint.json"));
    let (temp, name, state) = (temp.display(), name.display(), state.display());
    let steps = [
        format!("write {temp}"),
        format!("fsync {temp}"),
        format!("rename {temp} {name}"),
        format!("fsync {state}"),
    ];
    let calls: Vec<String> =
        recorder.calls().into_iter().filter(|call| call.contains(&state.to_string())).collect();
    let (journal, calls): (Vec<String>, Vec<String>) =
        calls.into_iter().partition(|call| call.ends_with(".journal"));
    let is_synced = |save: &[String]| save[0].starts_with("write ") && save[1].starts_with("fsync ");
    assert!(journal.chunks(2).all(is_synced), "{journal:#?}");
    let saves: Vec<&[String]> =
        calls.split_inclusive(|call| *call == steps[3]).filter(|calls| calls.contains(&steps[2])).collect();
    assert!(saves.len() >= 2, "the first keys, and the position: {calls:#?}");
    for save in saves {
        let save: Vec<&String> = save.iter().filter(|call| !call.contains("probe.tmp")).collect();
        let (writes, last) = save.split_last_chunk::<3>().unwrap();
        assert!(!writes.is_empty() && writes.iter().all(|call| **call == steps[0]), "{save:#?}");
        assert_eq!(last.map(String::as_str), [&*steps[1], &*steps[2], &*steps[3]]);
    }
}

#[test]
#[cfg(all(target_env = "gnu", not(target_feature = "crt-static")))]
fn a_full_disk_stops_no_delivery_and_is_told() {
    let (volume, receiver, tools) = (Volume::new(), Receiver::start(), tempfile::tempdir().unwrap());
    let recorder = podkit_testkit::Recorder::build(tools.path());
    volume.write("app.log", &lines(0..1));
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let ship = started(recorder.attach(run));
    receiver.wait_for(1);
    recorder.set_full(true);
    volume.append("app.log", &lines(1..3));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    ship.wait_for_stderr("cannot save the positions");
    let failures = http("GET", admin, "/metrics").unwrap().metric("podkit_ship_checkpoint_failures_total");
    assert!(failures.is_some_and(|count| count >= 1.0), "{failures:?}");
    recorder.set_full(false);
    volume.append("app.log", &lines(3..4));
    receiver.wait_for(4);
    let _ = ship.terminate().expect_exit(0);
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..4), "the positions are saved once there is room");
}

#[test]
fn a_generation_is_named_on_disk_before_it_is_sent_and_keeps_its_name() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let key = |volume: &Volume| {
        let of_file = |saved: &&Value| saved["name"].as_str().is_some_and(|name| name.ends_with("/new.log"));
        let checkpoint = checkpoint(volume);
        checkpoint["generations"]
            .as_array()
            .unwrap()
            .iter()
            .find(of_file)
            .map(|saved| saved["key"].as_u64().unwrap())
    };
    let ship = started(volume.ship(&receiver.url()));
    receiver.close_gate();
    volume.write("new.log", &lines(0..2));
    receiver.wait_for_requests(1);
    let first = key(&volume);
    assert!(first.is_some_and(|key| key != 0), "{first:?}");
    let _ = ship.kill();
    receiver.open_gate();
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for(2);
    assert_eq!(key(&volume), first, "the same after a restart");
    volume.write("new.log", "another content\n");
    eventually("the content that took its place has another key", || {
        key(&volume).filter(|key| Some(*key) != first)
    });
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_checkpoint_from_before_there_were_keys_is_gone_on_from() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    rewrite_checkpoint(&volume, |checkpoint| {
        checkpoint["generations"][0].as_object_mut().unwrap().remove("key");
    });
    volume.append("app.log", &lines(3..5));
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..5));
    assert_ne!(checkpoint(&volume)["generations"][0]["key"], 0);
}

#[test]
fn a_checkpoint_from_another_boot_is_gone_on_from() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    // Device numbers are given anew with each boot.
    rewrite_checkpoint(&volume, |checkpoint| {
        checkpoint["boot"] = "another".into();
        checkpoint["generations"][0]["device"] = 1.into();
    });
    volume.append("app.log", &lines(3..5));
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..5));
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..3));
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    std::fs::remove_file(volume.file("app.log")).unwrap();
    volume.write("other.log", &lines(100..110));
    // Some file systems give the inode out at once, others later.
    let inode = std::fs::metadata(volume.file("other.log")).unwrap().ino();
    rewrite_checkpoint(&volume, |checkpoint| checkpoint["generations"][0]["inode"] = inode.into());
    let _ = volume.ship(&receiver.url()).arg("--once").expect_exit(0);
    assert_eq!(receiver.messages()[3..], messages(100..110));
}

/// An app that does not open its log for appending writes on at its old offset after `copytruncate`: what lies
/// before is a hole, and the file is as large as before.
#[test]
fn a_file_that_is_cut_and_grows_again_behind_a_hole_is_read_on() {
    use std::io::Write as _;
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let mut app = std::fs::File::create(volume.file("app.log")).unwrap();
    app.write_all(lines(0..300).as_bytes()).unwrap();
    let ship = started(volume.ship(&receiver.url()));
    receiver.wait_for(300);
    for round in 0..2 {
        // Nobody looks while the file is short.
        ship.signal(Signal::SIGSTOP);
        volume.open("app.log").set_len(0).unwrap();
        app.write_all(lines(300 + round..301 + round).as_bytes()).unwrap();
        ship.signal(Signal::SIGCONT);
        receiver.wait_for(301 + round);
    }
    let _ = ship.terminate().expect_exit(0);
    let got: Vec<String> =
        receiver.messages().iter().map(|message| message.trim_start_matches('\0').to_owned()).collect();
    assert_eq!(got, messages(0..302));
}
