//! The way to a backend: TLS, credentials, and several addresses; all of it mended without a restart.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;

use podkit_testkit::{Authority, Run, free_port};

use crate::backends::Answer;
use crate::receiver::Receiver;
use crate::setup::{Volume, by_number, lines, messages, missing, pending, started};

/// Certificates in the volume, as a mounted Secret has them: files are links through `..data`, which is swapped.
struct Secret<'v> {
    volume: &'v Volume,
    version: usize,
}

impl<'v> Secret<'v> {
    fn new(volume: &'v Volume, files: &[(&str, &str)]) -> Self {
        std::fs::create_dir(volume.file("secret")).unwrap();
        let mut secret = Self { volume, version: 0 };
        secret.swap(files);
        for (name, _) in files {
            symlink(format!("..data/{name}"), volume.file(&format!("secret/{name}"))).unwrap();
        }
        secret
    }

    /// What the kubelet does when a Secret has changed.
    fn swap(&mut self, files: &[(&str, &str)]) {
        self.version += 1;
        let dir = format!("secret/..{}", self.version);
        std::fs::create_dir(self.volume.file(&dir)).unwrap();
        for (name, content) in files {
            self.volume.write(&format!("{dir}/{name}"), content);
        }
        symlink(format!("..{}", self.version), self.volume.file("secret/..data_tmp")).unwrap();
        self.volume.rename("secret/..data_tmp", "secret/..data");
    }

    fn path(&self, name: &str) -> String {
        self.volume.file(&format!("secret/{name}")).display().to_string()
    }

    /// A shipper on the volume, to a receiver that the `ca.crt` in here has to vouch for.
    fn ship_to(&self, receiver: &Receiver) -> (Run, SocketAddr) {
        let tls = format!("tls: {{ca: \"{}\"}}", self.path("ca.crt"));
        self.volume.configured(&receiver.destination(&tls))
    }
}

#[test]
fn a_private_authority_is_trusted_when_told() {
    let (volume, ours) = (Volume::new(), Authority::new("ours"));
    let receiver = Receiver::start_tls(ours.server().serve(None));
    let secret = Secret::new(&volume, &[("ca.crt", &ours.pem())]);
    volume.write("app.log", &lines(0..3));
    let (run, _) = secret.ship_to(&receiver);
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!(receiver.messages(), messages(0..3));
}

#[test]
fn an_authority_that_is_not_ours_is_told_and_mended_without_a_restart() {
    let (volume, ours, other) = (Volume::new(), Authority::new("ours"), Authority::new("other"));
    let receiver = Receiver::start_tls(ours.server().serve(None));
    let mut secret = Secret::new(&volume, &[("ca.crt", &other.pem())]);
    volume.write("app.log", &lines(0..3));
    let (run, admin) = secret.ship_to(&receiver);
    let ship = started(run);
    let complaint = ship.wait_for_stderr("certificate");
    assert!(complaint.contains("trying again") && complaint.contains(&receiver.url()), "{complaint}");
    assert!(pending(admin) > 0.0);
    secret.swap(&[("ca.crt", &ours.pem())]);
    assert_eq!(receiver.wait_for(3), messages(0..3));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let (volume, ours) = (Volume::new(), Authority::new("ours"));
    let receiver = Receiver::start_tls(ours.server_of(&["logs.example"]).serve(None));
    let secret = Secret::new(&volume, &[("ca.crt", &ours.pem())]);
    volume.write("app.log", &lines(0..3));
    let (run, _) = secret.ship_to(&receiver);
    let ship = started(run);
    ship.wait_for_stderr("certificate");
    receiver.rotate_tls(ours.server().serve(None));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_server_whose_certificate_and_authority_change_is_followed() {
    let (volume, first, second) = (Volume::new(), Authority::new("first"), Authority::new("second"));
    let receiver = Receiver::start_tls(first.server().serve(None));
    let mut secret = Secret::new(&volume, &[("ca.crt", &first.pem())]);
    volume.write("app.log", &lines(0..3));
    let (run, _) = secret.ship_to(&receiver);
    let ship = started(run);
    receiver.wait_for(3);
    receiver.rotate_tls(second.server().serve(None));
    volume.append("app.log", &lines(3..6));
    ship.wait_for_stderr("trying again");
    // A bundle of both, as a careful rotation has it.
    secret.swap(&[("ca.crt", &(first.pem() + &second.pem()))]);
    assert_eq!(receiver.wait_for(6), messages(0..6));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_client_certificate_is_shown_and_replaced_without_a_restart() {
    let (volume, ours) = (Volume::new(), Authority::new("ours"));
    let (clients, later) = (Authority::new("clients"), Authority::new("later clients"));
    let server = ours.server();
    let receiver = Receiver::start_tls(server.serve(Some(&clients)));
    let (old, new) = (clients.client("ship"), later.client("ship"));
    let ca = ours.pem();
    let mut secret = Secret::new(&volume, &[("ca.crt", &ca), ("tls.crt", &old.cert), ("tls.key", &old.key)]);
    volume.write("app.log", &lines(0..3));
    let tls = format!(
        "tls: {{ca: \"{}\", cert: \"{}\", key: \"{}\"}}",
        secret.path("ca.crt"),
        secret.path("tls.crt"),
        secret.path("tls.key")
    );
    let (run, _) = volume.configured(&receiver.destination(&tls));
    let ship = started(run);
    assert_eq!(receiver.wait_for(3), messages(0..3));
    receiver.rotate_tls(server.serve(Some(&later)));
    volume.append("app.log", &lines(3..6));
    ship.wait_for_stderr("trying again");
    secret.swap(&[("ca.crt", &ca), ("tls.crt", &new.cert), ("tls.key", &new.key)]);
    assert_eq!(receiver.wait_for(6), messages(0..6));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn a_server_that_wants_a_certificate_and_gets_none_is_no_loss() {
    let (volume, ours) = (Volume::new(), Authority::new("ours"));
    let server = ours.server();
    let receiver = Receiver::start_tls(server.serve(Some(&ours)));
    let secret = Secret::new(&volume, &[("ca.crt", &ours.pem())]);
    volume.write("app.log", &lines(0..3));
    let (run, _) = secret.ship_to(&receiver);
    let ship = started(run);
    ship.wait_for_stderr("trying again");
    assert_eq!(receiver.requests(), 0);
    receiver.rotate_tls(server.serve(None));
    assert_eq!(receiver.wait_for(3), messages(0..3));
    let _ = ship.terminate().expect_exit(0);
}

#[test]
fn credentials_go_as_each_scheme_has_them() {
    for (auth, header) in [
        ("{user: u, password: \"p:w\"}", "Basic dTpwOnc="),
        ("{user: u, password_file: FILE}", "Basic dTpzM2NyM3Q="),
        ("{bearer: t0ken}", "Bearer t0ken"),
        ("{bearer_file: FILE}", "Bearer s3cr3t"),
        ("{api_key: a2V5}", "ApiKey a2V5"),
        ("{api_key_file: FILE}", "ApiKey s3cr3t"),
    ] {
        let (volume, receiver) = (Volume::new(), Receiver::start());
        // Editors and `echo` leave a line end, which is no part of a secret.
        volume.write("secret", "s3cr3t\n");
        volume.write("app.log", &lines(0..3));
        receiver.admit_only(header);
        let auth = auth.replace("FILE", &volume.file("secret").display().to_string());
        let settings = format!("auth: {auth}, headers: {{X-Team: shop}}");
        let (run, _) = volume.configured(&receiver.destination(&settings));
        let finished = run.args(["--once", "--log-level", "debug"]).expect_exit(0).refuse_stderr("s3cr3t");
        let _ = finished.refuse_stderr("t0ken").refuse_stderr("p:w").refuse_stderr("a2V5");
        assert_eq!((receiver.messages(), receiver.requests()), (messages(0..3), 1), "{auth}");
        assert_eq!(receiver.last_header("x-team").as_deref(), Some("shop"));
    }
}

#[test]
fn a_token_that_changes_is_read_again_and_a_wrong_one_loses_nothing() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let mut secret = Secret::new(&volume, &[("token", "old")]);
    receiver.admit_only("Bearer old");
    volume.write("app.log", &lines(0..3));
    let auth = format!("auth: {{bearer_file: \"{}\"}}", secret.path("token"));
    let (run, _) = volume.configured(&receiver.destination(&auth));
    let ship = started(run);
    receiver.wait_for(3);
    receiver.admit_only("Bearer new");
    volume.append("app.log", &lines(3..6));
    ship.wait_for_stderr("401");
    secret.swap(&[("token", "new")]);
    assert_eq!(receiver.wait_for(6), messages(0..6));
    let _ = ship.terminate().expect_exit(0);
    assert!(volume.dead_letters().is_empty());
}

#[test]
fn the_address_that_is_there_is_taken() {
    let volume = Volume::new();
    let (first, second) = (Receiver::start_at(free_port()), Receiver::start_at(free_port()));
    first.go_away();
    volume.write("app.log", &lines(0..3));
    let (run, _) = volume.configured(&format!("http: {{url: [\"{}\", \"{}\"]}}", first.url(), second.url()));
    let ship = started(run);
    assert_eq!(second.wait_for(3), messages(0..3));
    first.come_back();
    second.go_away();
    volume.append("app.log", &lines(3..6));
    assert_eq!(first.wait_for(3), messages(3..6));
    first.go_away();
    second.come_back();
    volume.append("app.log", &lines(6..9));
    second.wait_for(6);
    let _ = ship.terminate().expect_exit(0);
    let all: Vec<String> = first.messages().into_iter().chain(second.messages()).collect();
    assert_eq!((missing(9, &all), all.len()), (Vec::new(), 9));
}

#[test]
fn an_address_that_is_up_and_not_well_is_passed_over() {
    let (volume, sick, well) = (Volume::new(), Receiver::start(), Receiver::start());
    sick.otherwise(Answer::Status(503, "Retry-After: 300\r\n"));
    volume.write("app.log", &lines(0..3));
    let (run, _) = volume.configured(&format!("http: {{url: [\"{}\", \"{}\"]}}", sick.url(), well.url()));
    let ship = started(run);
    assert_eq!(well.wait_for(3), messages(0..3));
    let _ = ship.terminate().expect_exit(0);
    assert!(sick.requests() > 0);
}

#[test]
fn a_json_array_is_sent_where_it_is_asked_for() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", &lines(0..25));
    let (run, _) = volume.configured(&receiver.destination("format: json"));
    let _ = run.args(["--once", "--batch-lines", "10"]).expect_exit(0);
    assert_eq!(by_number(receiver.messages()), messages(0..25));
    assert_eq!(receiver.last_header("content-type").as_deref(), Some("application/json"));
}

#[test]
fn a_file_gets_records_and_nothing_else() {
    let volume = Volume::new();
    volume.write("app.log", &lines(0..25));
    let out = volume.file("out.ndjson");
    let (run, _) = volume.configured(&format!("file: {{path: \"{}\"}}", out.display()));
    let _ = run.args(["--once", "--batch-lines", "10"]).expect_exit(0);
    let text = std::fs::read_to_string(out).unwrap();
    let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].clone();
    assert_eq!(text.lines().map(message).collect::<Vec<_>>(), messages(0..25));
}
