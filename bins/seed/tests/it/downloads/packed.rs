//! Archives from a URL: what they became stays in force without another download.

use std::fs;

use super::{download, fails, sha256};
use crate::kit::Sandbox;
use crate::packed::{Tar, gzip};
use crate::server::{Answer, Request, Server};

fn packed(text: &str) -> Vec<u8> {
    gzip(&Tar::default().file("top/a", text).file("top/sub/b", "same").end())
}

fn unpacked(url: &str, rest: &str) -> String {
    format!("deadline: 20s\nfiles:\n- {{path: site/, archive: '{url}', {rest}}}\n")
}

#[test]
fn an_archive_in_force_with_the_right_checksum_is_not_asked_for() {
    let sandbox = Sandbox::new();
    let server = Server::start(|_, _| Answer::ok(packed("one")));
    let url = server.url("/site.tar.gz");
    let yaml = unpacked(&url, &format!("strip: 1, sha256: {}", sha256(packed("one"))));
    sandbox.run(&yaml);
    let before = sandbox.picture();
    sandbox.run(&yaml);
    assert_eq!((server.count(), sandbox.picture()), (1, before));
    // Other entries come and go beside it.
    sandbox.run(&format!("{yaml}- {{path: other, inline: x}}\n"));
    sandbox.run(&yaml);
    assert_eq!((sandbox.read("site/a").as_str(), sandbox.read("site/sub/b").as_str()), ("one", "same"));
    assert_eq!(server.count(), 1);
    // The same bytes unpacked in another way are other files.
    sandbox.run(&yaml.replace("strip: 1", "strip: 0"));
    assert_eq!((sandbox.read("site/top/a").as_str(), server.count()), ("one", 2));
    assert!(!sandbox.target().join("site/a").exists());
    sandbox.run(&yaml.replace("strip: 1", "strip: 0, mode: '0600'"));
    assert_eq!((sandbox.mode("site/top/a"), server.count()), (0o600, 3));
    sandbox.run(&yaml.replace("strip: 1", "strip: 0"));
    assert_eq!((sandbox.mode("site/top/a"), server.count()), (0o644, 4));
}

#[test]
fn what_was_changed_on_the_volume_is_not_taken_for_the_archive() {
    let sandbox = Sandbox::new();
    let server = Server::start(|_, _| Answer::ok(packed("one")).header("ETag", "\"1\""));
    let pinned = unpacked(&server.url("/x"), &format!("strip: 1, sha256: {}", sha256(packed("one"))));
    let unverified = unpacked(&server.url("/x"), "strip: 1, unverified: true");
    for yaml in [pinned, unverified] {
        sandbox.run(&yaml);
        let asked = server.count();
        fs::write(sandbox.target().join("site/a"), "changed").unwrap();
        sandbox.run(&yaml);
        assert_eq!((sandbox.read("site/a").as_str(), server.count()), ("one", asked + 1));
        let last = server.requests().pop().unwrap();
        assert_eq!(last.header("if-none-match"), None);
    }
}

#[test]
fn without_a_checksum_the_server_is_asked_whether_it_has_another_one() {
    let sandbox = Sandbox::new();
    let known = |request: &Request| request.header("if-none-match").map(str::to_owned);
    let server = Server::start(move |number, request| match (number, known(request).as_deref()) {
        (0, None) => Answer::ok(packed("one")).header("ETag", "\"1\""),
        (1 | 2, Some("\"1\"")) => Answer::status("304 Not Modified"),
        (3, Some("\"1\"")) => Answer::ok(packed("two")).header("ETag", "\"2\""),
        // Unpacked in another way: there is nothing to compare with.
        (4, None) => Answer::ok(packed("two")).header("ETag", "\"2\""),
        _ => Answer::status("400 Bad Request"),
    });
    let yaml = unpacked(&server.url("/x"), "strip: 1, unverified: true");
    sandbox.run(&yaml);
    let before = sandbox.picture();
    sandbox.run(&yaml);
    assert_eq!(sandbox.picture(), before);
    sandbox.run(&yaml);
    assert_eq!(sandbox.read("site/a"), "one");
    sandbox.run(&yaml);
    assert_eq!((sandbox.read("site/a").as_str(), sandbox.read("site/sub/b").as_str()), ("two", "same"));
    sandbox.run(&yaml.replace("strip: 1", "strip: 0"));
    assert_eq!((sandbox.read("site/top/a").as_str(), server.count()), ("two", 5));
}

#[test]
fn an_archive_with_another_checksum_is_not_unpacked() {
    let sandbox = Sandbox::new();
    let server = Server::start(|_, _| Answer::ok(packed("one")));
    let (got, wanted) = (sha256(packed("one")), sha256("wanted"));
    let url = server.url("/site.tgz?sig=s3cret");
    let text = format!(
        "podkit-seed: cannot download {}: its SHA-256 is {got}, not {wanted}\n",
        server.url("/site.tgz?sig=***")
    );
    fails(&sandbox, &unpacked(&url, &format!("sha256: {wanted}")), 1, &text);
    sandbox.write("site.tgz", packed("one"));
    let text = format!(
        "podkit-seed: cannot unpack {:?}: its SHA-256 is {got}, not {wanted}\n",
        sandbox.path("site.tgz")
    );
    fails(&sandbox, &unpacked("@/site.tgz", &format!("sha256: {wanted}")), 1, &text);
    let text = format!("podkit-seed: cannot unpack {}: ", server.url("/site.tgz?sig=***"));
    let server_error = unpacked(&url, "unverified: true, limits: {entries: 1}");
    fails(&sandbox, &server_error, 1, &text);
}

#[test]
fn a_file_from_a_url_may_take_the_place_of_an_archive() {
    let sandbox = Sandbox::new();
    let server = Server::start(|_, request| match request.header("if-none-match") {
        None => Answer::ok(packed("one")).header("ETag", "\"1\""),
        Some(_) => Answer::status("304 Not Modified"),
    });
    let url = server.url("/x");
    sandbox.run(&unpacked(&url, "unverified: true").replace("site/", "got/"));
    assert_eq!(sandbox.read("got/top/a"), "one");
    sandbox.run(&download(&url, "unverified: true"));
    assert_eq!(fs::read(sandbox.target().join("got")).unwrap(), packed("one"));
    sandbox.run(&unpacked(&url, "unverified: true").replace("site/", "got/"));
    assert_eq!(sandbox.read("got/top/a"), "one");
}
