//! URLs with `--watch`: asked again by the interval, whatever the server does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use podkit_testkit::{Signal, eventually};

use crate::kit::Sandbox;
use crate::server::{Answer, Server};
use crate::watcher::Watcher;

fn config(server: &Server, rest: &str) -> String {
    format!("interval: 200ms\nfiles: [{{path: a, url: '{}', unverified: true{rest}}}]\n", server.url("/a"))
}

#[test]
fn what_the_server_has_new_is_fetched_and_what_is_the_same_is_not() {
    let sandbox = Sandbox::new();
    let version = Arc::new(AtomicUsize::new(1));
    let served = Arc::clone(&version);
    let server = Server::start(move |_, request| {
        let version = served.load(Ordering::Relaxed);
        let etag = format!("\"{version}\"");
        if request.header("if-none-match") == Some(&etag) {
            Answer::status("304 Not Modified").header("ETag", &etag)
        } else {
            Answer::ok(format!("version {version}")).header("ETag", &etag)
        }
    });
    let watcher = Watcher::seeded(&sandbox, &config(&server, ""));
    assert_eq!(sandbox.read("a"), "version 1");
    eventually("the server is asked again", || (watcher.passes("unchanged") >= 2.0).then_some(()));
    version.store(2, Ordering::Relaxed);
    watcher.expect(&sandbox, "a", "version 2");
    assert!(server.requests()[1..].iter().all(|request| request.header("if-none-match").is_some()));
    // It minds a client that leaves before it asks, which an end may cause.
    drop(server);
    watcher.end();
}

#[test]
fn a_server_that_fails_later_leaves_what_is_in_force_until_it_is_back() {
    let sandbox = Sandbox::new();
    let is_down = Arc::new(AtomicUsize::new(0));
    let served = Arc::clone(&is_down);
    let server = Server::start(move |_, _| match served.load(Ordering::Relaxed) {
        0 => Answer::ok("one"),
        1 => Answer::status("404 Not Found"),
        _ => Answer::ok("two"),
    });
    let watcher = Watcher::seeded(&sandbox, &config(&server, ""));
    is_down.store(1, Ordering::Relaxed);
    let line = watcher.process.wait_for_stderr("cannot seed again");
    assert!(line.contains("404 Not Found"), "{line}");
    assert_eq!((sandbox.read("a").as_str(), watcher.get("/readyz").status), ("one", 200));
    is_down.store(2, Ordering::Relaxed);
    watcher.expect(&sandbox, "a", "two");
    drop(server);
    watcher.end();
}

/// The secret is read with each download; a server is asked at once when it is another.
#[test]
fn a_rotated_token_is_an_input() {
    let sandbox = Sandbox::new();
    sandbox.write("token", "one");
    let server = Server::start(|_, request| Answer::ok(request.header("authorization").unwrap_or_default()));
    let yaml = config(&server, ", auth: {bearer_file: '@/token'}").replace("200ms", "1h");
    let watcher = Watcher::seeded(&sandbox, &yaml);
    assert_eq!(sandbox.read("a"), "Bearer one");
    sandbox.write("token", "two");
    watcher.expect(&sandbox, "a", "Bearer two");
    watcher.end();
}

#[test]
fn a_signal_in_the_middle_of_a_pass_ends_it_well() {
    let sandbox = Sandbox::new();
    let server = Server::start(|number, _| match number {
        0 => Answer::ok("one"),
        _ => Answer::ok("two").silent_after(1),
    });
    let watcher = Watcher::seeded(&sandbox, &config(&server, ""));
    eventually("a download hangs", || (server.count() >= 2).then_some(()));
    let start = Instant::now();
    watcher.process.signal(Signal::SIGTERM);
    watcher.process.wait().expect_exit(0);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(sandbox.read("a"), "one");
}
