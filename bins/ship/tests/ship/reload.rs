//! A changed config file takes effect while the process runs, and a bad one changes nothing.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podkit_testkit::{Authority, Process, eventually, free_port, http, pod};

use crate::backends::elasticsearch::Elasticsearch;
use crate::receiver::{Answer, Receiver};
use crate::setup::{Volume, lines, messages, metric, missing, started};

fn http_to(receiver: &Receiver) -> String {
    format!("http: {{url: \"{}\"}}", receiver.url())
}

fn reloads(admin: SocketAddr, result: &str) -> f64 {
    metric(admin, "podkit_ship_config_reloads_total", &[&format!("result=\"{result}\"")])
}

/// Replaces the config file as `kubectl edit` of a mounted file or an editor would.
pub(crate) fn rewrite(volume: &Volume, content: &str) {
    volume.write("ship.yaml.tmp", content);
    volume.rename("ship.yaml.tmp", "ship.yaml");
}

/// Puts a config into force.
#[track_caller]
fn reload(volume: &Volume, admin: SocketAddr, content: &str) {
    let before = reloads(admin, "taken");
    rewrite(volume, content);
    eventually("the new config is in force", || (reloads(admin, "taken") > before).then_some(()));
}

/// Has a config refused.
#[track_caller]
fn refused(volume: &Volume, ship: &Process, admin: SocketAddr, content: &str, why: &str) -> String {
    let before = reloads(admin, "refused");
    rewrite(volume, content);
    let line = ship.wait_for_stderr(why);
    assert!(line.contains("the new config is refused, the old one stays in force"), "{line}");
    eventually("the refusal is counted", || (reloads(admin, "refused") == before + 1.0).then_some(()));
    line
}

#[test]
fn under_load_nothing_is_lost_and_nothing_doubled() {
    let (volume, cluster, second) = (Volume::new(), Elasticsearch::start(), Receiver::start());
    let search = format!("elasticsearch: {{url: \"{}\", index: logs}}", cluster.url());
    cluster.otherwise(Answer::After(Duration::from_millis(5)));
    // Something is on its way at every moment: it must be waited for, since here nothing tells what comes twice.
    second.otherwise(Answer::After(Duration::from_millis(100)));
    let (run, admin) = volume.configured_as("", &[&search], "");
    let ship = started(run.args(["--batch-lines", "50"]));
    let stop = AtomicBool::new(false);
    let total = std::thread::scope(|scope| {
        let app = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Acquire) {
                volume.append("app.log", &format!("{}DEBUG {number}\n", lines(number..number + 5)));
                number += 5;
                if number % 1000 == 0 {
                    volume.rename("app.log", &format!("app.log.{number}"));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            number
        });
        // A new destination gets all that is there.
        reload(&volume, admin, &volume.config("", &[&search, &http_to(&second)], ""));
        second.wait_for(100);
        // New rules, and a new include.
        volume.write("other.txt", "from another file\n");
        let dir = volume.path().display();
        let rules = volume.config("drop: [DEBUG]", &[&search, &http_to(&second)], "");
        let rules = rules.replace("*.log\"", &format!("*.log\", \"{dir}/*.txt\""));
        reload(&volume, admin, &rules);
        eventually("the new file is delivered", || {
            cluster.messages().contains(&"from another file".to_owned()).then_some(())
        });
        // The destination goes.
        reload(&volume, admin, &volume.config("drop: [DEBUG]", &[&search], ""));
        stop.store(true, Ordering::Release);
        app.join().unwrap()
    });
    let requests = second.requests();
    volume.append("app.log", "DEBUG last\n");
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(second.requests(), requests);
    let got = second.messages();
    assert_eq!(got.iter().collect::<HashSet<_>>().len(), got.len(), "some came twice");
    let got = cluster.messages();
    assert_eq!(missing(total, &got), [0; 0]);
    let ours: Vec<&String> = got.iter().filter(|message| message.starts_with("line ")).collect();
    assert_eq!(ours.len(), total, "some came twice");
    cluster.with(|cluster| assert!(cluster.clashes().is_empty(), "{:?}", cluster.clashes()));
    let debug: Vec<&String> = got.iter().filter(|message| message.starts_with("DEBUG")).collect();
    assert!(!debug.is_empty() && debug.len() < total / 5 && !got.contains(&"DEBUG last".to_owned()));
}

#[test]
fn a_config_map_takes_effect_by_its_link_and_everything_still_works() {
    let (volume, old, new) = (Volume::new(), Receiver::start(), Receiver::start());
    let named = |receiver: &Receiver| format!("http: {{url: \"{}\", name: sink}}", receiver.url());
    let swap = |version: &str, config: &str| {
        std::fs::create_dir_all(volume.file("conf").join(version)).unwrap();
        volume.write(&format!("conf/{version}/ship.yaml"), config);
        symlink(version, volume.file("conf/..data_tmp")).unwrap();
        volume.rename("conf/..data_tmp", "conf/..data");
    };
    swap("..1", &volume.config("", &[&named(&old)], ""));
    symlink("..data/ship.yaml", volume.file("conf/ship.yaml")).unwrap();
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let run = pod("ship").arg("--config").arg(volume.file("conf/ship.yaml")).show(volume.path());
    let ship = started(run.args(["--batch-age", "20ms", "--admin"]).arg(admin.to_string()));
    volume.append("app.log", &lines(0..3));
    assert_eq!(old.wait_for(3), messages(0..3));
    eventually("all is acknowledged", || (crate::setup::pending(admin) == 0.0).then_some(()));
    swap("..2", &volume.config("fields: {version: two}", &[&named(&new)], ""));
    ship.wait_for_stderr("the new config is in force");
    volume.append("app.log", &lines(3..5));
    let reply = http("POST", admin, "/flush?wait=20s").unwrap();
    assert_eq!((reply.status, &reply.json()["pending_bytes"]), (200, &0.into()), "{}", reply.body);
    // The name has kept its position.
    assert_eq!(new.messages(), messages(3..5));
    assert_eq!(new.records()[0]["version"], "two");
    let status = http("GET", admin, "/status").unwrap().json();
    assert_eq!((&status["phase"], &status["generations"][0]["pending"]), (&"running".into(), &0.into()));
    assert_eq!(status["ledger"]["read"], lines(0..5).len());
    assert_eq!(metric(admin, "podkit_ship_acknowledged_lines_total", &["sink"]), 2.0);
    assert_eq!(http("GET", admin, "/readyz").unwrap().status, 200);
    volume.append("app.log", "line 5");
    let _ = ship.terminate().expect_exit(0);
    assert_eq!((new.messages(), old.messages()), (messages(3..6), messages(0..3)));
}

#[test]
fn a_config_with_faults_changes_nothing_and_all_faults_are_told() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let (run, admin) = volume.configured_as("", &[&http_to(&receiver)], "");
    let ship = started(run);
    let bad = volume.config("formt: json", &["htpp: {url: \"http://x\"}"], "batch: {age: 5}");
    let line = refused(&volume, &ship, admin, &bad, "formt: unknown key");
    assert!(line.contains("htpp") && line.contains("batch.age: \"5\" has no unit"), "{line}");
    volume.append("app.log", &lines(0..3));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    assert_eq!((reloads(admin, "refused"), reloads(admin, "taken")), (1.0, 0.0));
    // Mended, it is taken.
    reload(&volume, admin, &volume.config("drop: ['line 4']", &[&http_to(&receiver)], ""));
    volume.append("app.log", &lines(3..6));
    assert_eq!(receiver.wait_for(5), ["line 0", "line 1", "line 2", "line 3", "line 5"]);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages().len(), 5);
}

#[test]
fn what_needs_a_restart_or_cannot_be_opened_is_refused() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = |more: &str| {
        let more = format!("batch: {{age: 20ms}}\nadmin: {admin}\n{more}");
        volume.config("", &[&http_to(&receiver)], &more)
    };
    volume.write("ship.yaml", &config(""));
    let ship = started(pod("ship").arg("--config").arg(volume.file("ship.yaml")).show(volume.path()));
    let moved = config("").replace("/state\n", "/elsewhere\n");
    refused(&volume, &ship, admin, &moved, "`state_dir` cannot change without a restart");
    let other = config("").replace(&admin.to_string(), "127.0.0.1:1");
    refused(&volume, &ship, admin, &other, "`admin` cannot change without a restart");
    let no_ca = format!("{}\n", config(""))
        .replace("/logs\"}", &format!("/logs\", tls: {{ca: {}}}}}", volume.file("ca.crt").display()));
    refused(&volume, &ship, admin, &no_ca, "ca.crt");
    let large = format!("{}\n# {}", config(""), "x".repeat(16 << 20));
    refused(&volume, &ship, admin, &large, "it is larger than 16MiB");
    assert!(!volume.file("elsewhere").exists());
    volume.append("app.log", &lines(0..3));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    // With the file in its place it is taken, though the config itself has not changed since.
    volume.write("ca.crt", &Authority::new("ours").pem());
    reload(&volume, admin, &format!("# again\n{no_ca}"));
    volume.append("app.log", &lines(3..5));
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..5));
}

#[test]
fn a_backend_that_is_down_does_not_hold_up_a_new_config_for_long() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let gone = format!("http: {{url: \"http://127.0.0.1:{}/logs\", name: sink}}", free_port());
    volume.write("app.log", &lines(0..3));
    let (run, admin) = volume.configured_as("", &[&gone], "");
    let ship = started(run.args(["--shutdown-deadline", "1s"]));
    ship.wait_for_stderr("trying again");
    let mended = format!("http: {{url: \"{}\", name: sink}}", receiver.url());
    reload(&volume, admin, &volume.config("", &[&mended], ""));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_file_that_is_left_out_for_a_while_is_not_read_again() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("a.log", &lines(0..3));
    volume.write("b.log", &lines(3..6));
    let both = volume.config("", &[&http_to(&receiver)], "");
    let (run, admin) = volume.configured_as("", &[&http_to(&receiver)], "");
    let ship = started(run);
    receiver.wait_for(6);
    reload(&volume, admin, &both.replace("*.log", "a.log"));
    assert_eq!(metric(admin, "podkit_ship_lost_bytes_total", &[]), 0.0);
    volume.append("b.log", &lines(6..8));
    reload(&volume, admin, &both);
    receiver.wait_for(8);
    let finished = ship.terminate().expect_exit(0).refuse_stderr("is gone since the last run");
    assert_eq!((missing(8, &receiver.messages()), receiver.messages().len()), (Vec::new(), 8));
    drop(finished);
}

#[test]
fn a_flush_that_waits_is_answered_under_the_new_config() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    receiver.close_gate();
    let (run, admin) = volume.configured_as("", &[&http_to(&receiver)], "");
    let ship = started(run.args(["--shutdown-deadline", "1s"]));
    volume.append("app.log", &lines(0..3));
    let reply = std::thread::scope(|scope| {
        let flush = scope.spawn(|| http("POST", admin, "/flush?wait=25s").unwrap());
        receiver.wait_for_requests(1);
        reload(&volume, admin, &volume.config("fields: {a: b}", &[&http_to(&receiver)], ""));
        receiver.open_gate();
        flush.join().unwrap()
    });
    assert_eq!((reply.status, &reply.json()["pending_bytes"]), (200, &0.into()), "{}", reply.body);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(missing(3, &receiver.messages()), [0; 0]);
}

/// A shipper to a backend that is down, and the config by which it goes to another.
fn to_nobody(volume: &Volume, receiver: &Receiver) -> (Process, String) {
    let sink = |url: &str| format!("http: {{url: \"{url}\", name: sink}}");
    let nobody = format!("http://127.0.0.1:{}/logs", free_port());
    let (run, _) = volume.configured_as("", &[&sink(&nobody)], "");
    let ship = started(run.args(["--shutdown-deadline", "300ms"]));
    ship.wait_for_stderr("trying again");
    (ship, volume.config("", &[&sink(&receiver.url())], ""))
}

#[test]
fn a_new_config_goes_on_with_deleted_files() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..100));
    let (ship, mended) = to_nobody(&volume, &receiver);
    std::fs::remove_file(volume.file("app.log")).unwrap();
    volume.write("app.log", &lines(100..200));
    rewrite(&volume, &mended);
    receiver.wait_for(200);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!((missing(200, &receiver.messages()), receiver.messages().len()), (Vec::new(), 200));
}

#[test]
fn a_file_that_was_cut_meanwhile_is_read_from_its_beginning() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..100));
    let (ship, mended) = to_nobody(&volume, &receiver);
    std::fs::copy(volume.file("app.log"), volume.file("app.log.1")).unwrap();
    volume.write("app.log", &lines(100..150));
    rewrite(&volume, &mended);
    receiver.wait_for(150);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!((missing(150, &receiver.messages()), receiver.messages().len()), (Vec::new(), 150));
}
