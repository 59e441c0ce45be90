//! Downloads that fail for good, or until the deadline.

use std::time::{Duration, Instant};

use podkit_testkit::Signal;

use super::{download, fails, large, sha256};
use crate::kit::Sandbox;
use crate::server::{Answer, Server};

#[test]
fn a_wrong_checksum_names_both_and_is_not_tried_again() {
    let sandbox = Sandbox::new();
    let server = Server::start(|_, _| Answer::ok("other"));
    let (got, wanted) = (sha256("other"), sha256("wanted"));
    let url = server.url("/x");
    fails(
        &sandbox,
        &download(&url, &format!("sha256: {wanted}")),
        1,
        &format!(
            "podkit-seed: cannot download {url}: its SHA-256 is {got}, not {wanted}\nhint: check `sha256`"
        ),
    );
    assert_eq!(server.count(), 1);
}

#[test]
fn what_is_refused_is_not_asked_for_again_and_the_hint_says_what_to_mend() {
    for (status, hint) in [
        ("401 Unauthorized", "check `auth`: "),
        ("403 Forbidden", "check `auth`: "),
        ("404 Not Found", "check the URL: "),
        ("410 Gone", "check the URL: "),
    ] {
        let sandbox = Sandbox::new();
        let server = Server::start(move |_, _| Answer::status(status).body("no"));
        let url = server.url("/x");
        let text = format!("podkit-seed: cannot download {url}: the server answered {status}\nhint: {hint}");
        fails(&sandbox, &download(&url, "unverified: true"), 1, &text);
        assert_eq!(server.count(), 1);
    }
    for status in ["400 Bad Request", "204 No Content", "206 Partial Content", "304 Not Modified"] {
        let sandbox = Sandbox::new();
        let server = Server::start(move |_, _| Answer::status(status));
        let text = format!(": the server answered {status}\n");
        fails(&sandbox, &download(&server.url("/x"), "unverified: true"), 1, &text);
        assert_eq!(server.count(), 1);
    }
}

#[test]
fn what_is_too_large_is_not_read() {
    let rest = format!("max_size: 1MiB, sha256: {}", sha256(large()));
    let (told, found) = (Sandbox::new(), Sandbox::new());
    // Nothing of it comes: what it says is enough.
    let server = Server::start(|_, _| Answer::ok(large()).silent_after(0));
    let text = "it has 1600000 bytes, and `max_size` is 1MiB\nhint: raise `max_size`";
    fails(&told, &download(&server.url("/x"), &rest), 1, text);
    assert_eq!(server.count(), 1);
    // The rest never comes, and nobody waits for it.
    let server = Server::start(|_, _| Answer::ok(large()).chunked().silent_after(1_100_000));
    let text = "it is larger than `max_size`, 1MiB\nhint: raise `max_size`";
    fails(&found, &download(&server.url("/x"), &rest), 1, text);
    assert_eq!(server.count(), 1);
}

#[test]
fn what_is_continued_counts_as_a_whole() {
    let sandbox = Sandbox::new();
    let server = Server::start(|number, _| match number {
        0 => Answer::ok("0123456789").header("ETag", "\"1\"").closed_after(6),
        _ => Answer::status("206 Partial Content")
            .header("Content-Range", "bytes 6-19/20")
            .body("67890123456789"),
    });
    let yaml = download(&server.url("/x"), "unverified: true, max_size: 16B");
    fails(&sandbox, &yaml, 1, "it has 20 bytes, and `max_size` is 16B");
}

#[test]
fn a_loop_of_redirects_ends() {
    let sandbox = Sandbox::new();
    let server = Server::start(|number, _| Answer::redirect(&format!("/{number}")));
    let text = ": it is redirected more than 5 times\n";
    fails(&sandbox, &download(&server.url("/x"), "unverified: true"), 1, text);
    assert_eq!(server.count(), 6);
}

#[test]
fn at_the_deadline_the_last_cause_is_told() {
    let yaml = |url: &str| download(url, "unverified: true, timeout: 200ms").replace("20s", "1s");
    for (answer, cause) in [
        (Answer::status("500 Internal Server Error"), "the server answered 500 Internal Server Error"),
        (Answer::ok("body").silent_after(2), "not done in 200ms"),
        (
            Answer::ok("body").closed_after(2),
            "the connection broke: end of file before message length reached",
        ),
        (Answer::ok("body").reset_after(2), "the connection broke: connection reset by peer"),
        (Answer::ok("body").chunked().closed_after(2), "the connection broke: "),
    ] {
        let sandbox = Sandbox::new();
        let server = Server::start(move |_, _| answer.clone());
        let url = server.url("/x");
        let begun = Instant::now();
        let text = format!("podkit-seed: the deadline of 1s passed while downloading {url} ({cause}");
        fails(&sandbox, &yaml(&url), 75, &text);
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(server.count() >= 2, "{cause}: tried once only");
    }
    let sandbox = Sandbox::new();
    let url = format!("http://127.0.0.1:{}/x", podkit_testkit::free_port());
    let text =
        format!("the deadline of 1s passed while downloading {url} (cannot connect: connection refused)\n");
    fails(&sandbox, &yaml(&url), 75, &text);
}

#[test]
fn a_pause_is_not_longer_than_the_deadline() {
    let sandbox = Sandbox::new();
    let server =
        Server::start(|_, _| Answer::status("503 Service Unavailable").header("Retry-After", "99999999999"));
    let yaml = download(&server.url("/x"), "unverified: true").replace("20s", "1s");
    fails(&sandbox, &yaml, 75, "(the server answered 503 Service Unavailable)\n");
    assert_eq!(server.count(), 1);
}

#[test]
fn a_signal_ends_a_download_at_once() {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: got, inline: before}]\n");
    let before = sandbox.picture();
    let server = Server::start(|_, _| Answer::ok(large()).silent_after(1_100_000));
    let url = server.url("/x");
    sandbox.config(&download(&url, "unverified: true"));
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let asked = server.count();
        let run = sandbox.seed().start();
        podkit_testkit::eventually("it is asked", || (server.count() > asked).then_some(()));
        let begun = Instant::now();
        run.signal(signal);
        run.wait().expect_exit(1).expect_stderr(&format!(
            "podkit-seed: stopped by a signal while downloading {url}; nothing was changed\n"
        ));
        // Well under the 20 s that the run could take.
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(sandbox.picture(), before);
    }
}
