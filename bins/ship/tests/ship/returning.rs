//! A destination that is taken out of the config and comes back: by a reload, and by a restart.

use std::io::Write as _;

use podkit_testkit::eventually;

use crate::receiver::Receiver;
use crate::reload::rewrite;
use crate::setup::{Volume, lines, messages, metric, started};

const KEPT: &str = "the positions of second, which is not in the config, are kept";

fn named(receiver: &Receiver, name: &str) -> String {
    format!("http: {{url: \"{}\", name: {name}}}", receiver.url())
}

#[test]
fn a_destination_that_comes_back_goes_on_where_it_was() {
    let (volume, first, second) = (Volume::new(), Receiver::start(), Receiver::start());
    let (one, two) = (named(&first, "first"), named(&second, "second"));
    let both = volume.config("", &[&one, &two], "");
    let alone = volume.config("", &[&one], "");
    volume.write("app.log", &lines(0..3));
    volume.write("old.log", &lines(100..103));
    let (run, admin) = volume.configured_as("", &[&one, &two], "");
    let ship = started(run);
    second.wait_for(6);

    // By a reload. A file that is rotated meanwhile is still there, and so is known.
    rewrite(&volume, &alone);
    ship.wait_for_stderr(KEPT);
    volume.append("app.log", &lines(3..5));
    volume.append("old.log", &lines(103..104));
    volume.rename("old.log", "old.log.1");
    volume.write("new.log", &lines(200..202));
    first.wait_for(11);
    rewrite(&volume, &both);
    let mut got = second.wait_for(11);
    got.sort_by_key(|message| message[5..].parse::<usize>().unwrap());
    let all = [messages(0..5), messages(100..104), messages(200..202)].concat();
    assert_eq!(got, all, "nothing twice, and nothing left out");
    eventually("all is acknowledged", || (crate::setup::pending(admin) == 0.0).then_some(()));

    // By a restart, with another in between that knows nothing of it.
    let _ = ship.terminate().expect_exit(0);
    rewrite(&volume, &alone);
    for number in 5..7 {
        volume.append("app.log", &lines(number..number + 1));
        let (run, _) = volume.configured_as("", &[&one], "");
        let _ = run.arg("--once").expect_exit(0).expect_stderr(KEPT);
    }
    assert_eq!(second.messages().len(), 11);
    let (run, _) = volume.configured_as("", &[&one, &two], "");
    let _ = run.arg("--once").expect_exit(0).refuse_stderr(KEPT);
    assert_eq!(second.messages()[11..], messages(5..7));
    assert_eq!(first.messages().len(), 13, "and nothing of it is sent again to the one that stayed");
}

#[test]
fn one_that_is_not_there_holds_back_no_disk_space_and_its_loss_is_told() {
    const LINES: usize = 6_000;
    let (volume, first, second) = (Volume::new(), Receiver::start(), Receiver::start());
    let (one, two) = (named(&first, "first"), named(&second, "second"));
    let source = "reclaim: {punch: {keep: 64KiB}}";
    let long = |numbers: std::ops::Range<usize>| -> String {
        numbers.map(|number| format!("line {number} {}\n", "x".repeat(200))).collect()
    };
    let mut app = volume.open("app.log");
    app.write_all(long(0..100).as_bytes()).unwrap();
    let (run, _) = volume.configured_as(source, &[&one, &two], "");
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!(second.messages().len(), 100);

    app.write_all(long(100..LINES).as_bytes()).unwrap();
    let (run, admin) = volume.configured_as(source, &[&one], "");
    let ship = started(run.args(["--batch-size", "64KiB"]));
    first.wait_for(LINES);
    eventually("it is freed", || {
        (metric(admin, "podkit_ship_punched_bytes_total", &[]) >= 900_000.0).then_some(())
    });
    let _ = ship.terminate().expect_exit(0);

    let (run, admin) = volume.configured_as(source, &[&one, &two], "");
    let ship = started(run);
    let told = ship.wait_for_stderr("were freed while second was not in the config, and do not go to it");
    let lost: f64 = metric(admin, "podkit_ship_lost_bytes_total", &[]);
    assert!(told.contains(&format!("{lost} bytes of")) && lost >= 900_000.0, "{lost} {told}");
    app.write_all(b"line last\n").unwrap();
    eventually("the last line comes", || {
        second.messages().last().is_some_and(|message| message == "line last").then_some(())
    });
    let got = second.messages();
    assert!(got[100..].iter().all(|message| message != &got[0]), "from the beginning again");
    assert!(got.len() > 200 && got.len() < LINES, "what is kept comes: {}", got.len());
    let finished = ship.terminate().expect_exit(0);
    crate::setup::assert_balanced(&crate::setup::ledger(&finished));
    assert_eq!(first.messages().len(), LINES + 1);
}
