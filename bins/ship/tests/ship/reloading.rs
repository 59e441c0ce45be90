//! A new config while lines are on their way.

use std::net::SocketAddr;

use podkit_testkit::{Process, free_port, http};

use crate::receiver::Receiver;
use crate::setup::{Volume, lines, messages, started};

/// Replaces the config as an editor does.
fn change(volume: &Volume, from: &str, to: &str) {
    let config = std::fs::read_to_string(volume.file("ship.yaml")).unwrap();
    assert!(config.contains(from), "{config}");
    volume.write("new.yaml", &config.replace(from, to));
    volume.rename("new.yaml", "ship.yaml");
}

/// A shipper to a backend that is down, the address of that, and its own.
fn to_nobody(volume: &Volume) -> (Process, String, SocketAddr) {
    let nobody = format!("http://127.0.0.1:{}/logs", free_port());
    let (run, admin) = volume.configured(&format!("http: {{url: \"{nobody}\", name: sink}}"));
    let ship = started(run.args(["--shutdown-deadline", "300ms"]));
    (ship, nobody, admin)
}

#[test]
fn a_new_config_goes_on_with_deleted_files() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..100));
    let (ship, nobody, _) = to_nobody(&volume);
    ship.wait_for_stderr("trying again");
    std::fs::remove_file(volume.file("app.log")).unwrap();
    volume.write("app.log", &lines(100..200));
    change(&volume, &nobody, &receiver.url());
    let mut got = receiver.wait_for(200);
    got.sort_by_key(|message| message[5..].parse::<usize>().unwrap());
    assert_eq!(got, messages(0..200));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_file_that_was_cut_meanwhile_is_read_from_its_beginning() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..100));
    let (ship, nobody, _) = to_nobody(&volume);
    ship.wait_for_stderr("trying again");
    std::fs::copy(volume.file("app.log"), volume.file("app.log.1")).unwrap();
    volume.write("app.log", &lines(100..150));
    change(&volume, &nobody, &receiver.url());
    let mut got = receiver.wait_for(150);
    got.sort_by_key(|message| message[5..].parse::<usize>().unwrap());
    assert_eq!(got, messages(0..150));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_change_that_needs_a_restart_is_refused_and_shipping_goes_on() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..1));
    let (run, _) = volume.configured(&format!("http: {{url: \"{}\"}}", receiver.url()));
    let ship = started(run);
    change(&volume, "/state\n", "/other\n");
    ship.wait_for_stderr("`state_dir` cannot change without a restart");
    volume.append("app.log", &lines(1..2));
    assert_eq!(receiver.wait_for(2), messages(0..2));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_flush_goes_on_under_the_new_config() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..100));
    let (ship, nobody, admin) = to_nobody(&volume);
    ship.wait_for_stderr("trying again");
    let flush = std::thread::spawn(move || http("POST", admin, "/flush?wait=25s").unwrap());
    change(&volume, &nobody, &receiver.url());
    assert_eq!(receiver.wait_for(100), messages(0..100));
    let answer = flush.join().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let _ = ship.terminate().expect_exit(0);
}
