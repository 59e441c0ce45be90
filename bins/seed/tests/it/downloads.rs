//! Downloads, from servers that behave and servers that do not. Whatever they do, the target is as it was or as it
//! should be.

mod config;
mod failing;
mod packed;
mod secrets;
mod secure;

use podkit_testkit::Finished;
use sha2::{Digest as _, Sha256};

use crate::kit::Sandbox;
use crate::server::{Answer, Request, Server};

pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A config with one download, at `got`.
pub(crate) fn download(url: &str, rest: &str) -> String {
    format!("deadline: 20s\nfiles:\n- {{path: got, url: '{url}', {rest}}}\n")
}

/// The run must fail with this code and this text, and leave the target as it was.
#[track_caller]
pub(crate) fn fails(sandbox: &Sandbox, yaml: &str, code: i32, text: &str) -> Finished {
    sandbox.run("files: [{path: got, inline: before}]\n");
    let before = sandbox.picture();
    sandbox.config(yaml);
    let finished = sandbox.seed().expect_exit(code).expect_stderr(text);
    assert_eq!(sandbox.picture(), before, "the target was touched");
    finished
}

/// A body that does not fit in memory, and of which no part is like another.
pub(crate) fn large() -> Vec<u8> {
    (0..400_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// Answers a request for a part of `body`.
pub(crate) fn part(body: &[u8], request: &Request) -> Answer {
    let range = request.header("range").unwrap();
    let from: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    Answer::status("206 Partial Content")
        .header("Content-Range", &format!("bytes {from}-{}/{}", body.len() - 1, body.len()))
        .body(&body[from..])
}

#[test]
fn a_file_in_force_with_the_right_checksum_is_not_asked_for() {
    let (sandbox, body) = (Sandbox::new(), large());
    let sum = sha256(&body);
    let server = Server::start(move |_, _| Answer::ok(large()));
    let url = server.url("/geo.mmdb");
    let yaml = download(&url, &format!("sha256: {sum}"));
    sandbox
        .run(&yaml)
        .expect_stderr(&format!("\"downloaded\",\"url\":\"{url}\",\"size\":1600000,\"seconds\":"));
    assert_eq!(std::fs::read(sandbox.target().join("got")).unwrap(), body);
    assert_eq!(sandbox.mode("got"), 0o644);
    let before = sandbox.picture();
    sandbox.run(&yaml).expect_stderr("\"unchanged\":1");
    assert_eq!((server.count(), sandbox.picture()), (1, before));
}

#[test]
fn another_checksum_is_another_file() {
    let sandbox = Sandbox::new();
    let server = Server::start(|_, request| Answer::ok(request.path.as_bytes()));
    for path in ["/one", "/two"] {
        sandbox.run(&download(&server.url(path), &format!("sha256: {}", sha256(path))));
        assert_eq!(sandbox.read("got"), path);
    }
    assert_eq!(server.count(), 2);
}

#[test]
fn without_a_checksum_the_server_is_asked_whether_it_has_another_one() {
    let sandbox = Sandbox::new();
    let server = Server::start(|number, request| {
        let known = (request.header("if-none-match"), request.header("if-modified-since"));
        let modified = "Sun, 22 Nov 2026 05:00:00 GMT";
        match number {
            0 => {
                assert_eq!(known, (None, None));
                Answer::ok("one").header("ETag", "W/\"1\"").header("Last-Modified", modified)
            }
            1 | 2 if known == (Some("W/\"1\""), Some(modified)) => Answer::status("304 Not Modified"),
            3 if known.0 == Some("W/\"1\"") => Answer::ok("two").header("ETag", "\"2\""),
            4 if known == (Some("\"2\""), None) => Answer::status("304 Not Modified"),
            _ => Answer::status("400 Bad Request"),
        }
    });
    let yaml = download(&server.url("/x"), "unverified: true");
    sandbox.run(&yaml);
    let before = sandbox.picture();
    sandbox.run(&yaml);
    assert_eq!((sandbox.read("got"), sandbox.picture()), ("one".to_owned(), before));
    // What is in force counts, not what the generation before it was made of.
    sandbox.run(&format!("{yaml}- {{path: other, inline: x}}\n"));
    assert_eq!(sandbox.read("got"), "one");
    for _ in 0..2 {
        sandbox.run(&yaml);
        assert_eq!(sandbox.read("got"), "two");
    }
    assert_eq!(server.count(), 5);
}

#[test]
fn another_url_is_not_asked_whether_it_has_another_version() {
    let sandbox = Sandbox::new();
    let server = Server::start(|_, request| match request.header("if-none-match") {
        None => Answer::ok(request.path.as_bytes()).header("ETag", "\"same\""),
        Some(_) => Answer::status("304 Not Modified"),
    });
    for path in ["/one", "/two?token=2"] {
        sandbox.run(&download(&server.url(path), "unverified: true"));
        assert_eq!(sandbox.read("got"), path);
    }
}

#[test]
fn a_server_that_comes_up_later_is_waited_for() {
    let (sandbox, port) = (Sandbox::new(), podkit_testkit::free_port());
    sandbox.config(&download(&format!("http://localhost:{port}/x"), "unverified: true"));
    let run = sandbox.seed().start();
    run.wait_for_stderr("cannot connect: connection refused; trying again in ");
    let _server = Server::start_on(port, |_, _| Answer::ok("late"));
    run.wait().expect_exit(0);
    assert_eq!(sandbox.read("got"), "late");
}

#[test]
fn a_body_that_breaks_off_is_continued_where_it_is_the_same() {
    for end in [Answer::reset_after, Answer::closed_after, Answer::silent_after] {
        let sandbox = Sandbox::new();
        let server = Server::start(move |number, request| {
            let body = large();
            match number {
                0 => end(Answer::ok(body).header("ETag", "\"1\""), 1_300_000),
                1 => {
                    assert_eq!(request.header("if-range"), Some("\"1\""));
                    part(&body, request).header("ETag", "\"1\"")
                }
                _ => Answer::status("400 Bad Request"),
            }
        });
        let rest = format!("sha256: {}, timeout: 1s", sha256(large()));
        let finished = sandbox.run(&download(&server.url("/large"), &rest));
        assert_eq!(std::fs::read(sandbox.target().join("got")).unwrap(), large());
        assert_eq!(server.count(), 2, "{}", finished.stderr);
        finished.expect_stderr("; trying again in ");
    }
}

#[test]
fn a_body_that_breaks_off_begins_anew_where_it_may_be_another_one() {
    let cases: [fn(usize, &Request) -> Answer; 5] = [
        // The server has no name for it, or not one that stands for each byte.
        |number, request| {
            assert_eq!(request.header("range"), None);
            if number == 0 { Answer::ok("old version").closed_after(5) } else { Answer::ok("new") }
        },
        |number, request| {
            assert_eq!(request.header("range"), None);
            let old = Answer::ok("old version").header("ETag", "W/\"1\"").closed_after(5);
            if number == 0 { old } else { Answer::ok("new") }
        },
        // It is another one by now.
        |number, request| {
            let old = Answer::ok("old version").header("ETag", "\"1\"").closed_after(5);
            if number == 0 {
                old
            } else {
                assert_eq!(request.header("range"), Some("bytes=5-"));
                Answer::ok("new").header("ETag", "\"2\"")
            }
        },
        // Another part comes than was asked for.
        |number, request| match number {
            0 => Answer::ok("old version").header("ETag", "\"1\"").closed_after(5),
            1 => Answer::status("206 Partial Content")
                .header("Content-Range", "bytes 50-56/57")
                .body("version"),
            _ => {
                assert_eq!(request.header("range"), None);
                Answer::ok("new")
            }
        },
        // There is nothing left to send of what it is by now; asked again, without a range.
        |number, request| match number {
            0 => Answer::ok("old version").header("ETag", "\"1\"").closed_after(5),
            1 => Answer::status("416 Range Not Satisfiable"),
            _ => {
                assert_eq!(request.header("range"), None);
                Answer::ok("new")
            }
        },
    ];

    for answers in cases {
        let sandbox = Sandbox::new();
        let server = Server::start(answers);
        sandbox.run(&download(&server.url("/x"), "unverified: true"));
        assert_eq!(sandbox.read("got"), "new");
    }
}

#[test]
fn a_volume_that_is_swapped_meanwhile_is_read_again_and_nothing_is_fetched_twice() {
    let sandbox = Sandbox::new();
    sandbox.write("volume/..1/text", "old");
    sandbox.write("volume/..2/text", "new");
    sandbox.link("volume/..data", "..1");
    sandbox.link("volume/text", "..data/text");
    sandbox.link("volume/..next", "..2");
    let volume = sandbox.path("volume");
    let server = Server::start(move |_, _| {
        std::fs::rename(volume.join("..next"), volume.join("..data")).unwrap();
        Answer::ok("fetched")
    });
    let copy = "- {path: text, copy: '@/volume/text'}\n";
    sandbox.run(
        &download(&server.url("/x"), "unverified: true").replace("files:\n", &format!("files:\n{copy}")),
    );
    assert_eq!((sandbox.read("text"), sandbox.read("got")), ("new".to_owned(), "fetched".to_owned()));
    assert_eq!(server.count(), 1);
}

#[test]
fn parts_that_do_not_make_up_the_file_are_thrown_away_once() {
    let sandbox = Sandbox::new();
    let server = Server::start(|number, request| match number {
        0 => Answer::ok("the right file").header("ETag", "\"1\"").closed_after(5),
        1 => part(b"THE WRONG FILE", request),
        _ => {
            assert_eq!(request.header("range"), None);
            Answer::ok("the right file").header("ETag", "\"1\"")
        }
    });
    let yaml = download(&server.url("/x"), &format!("sha256: {}", sha256("the right file")));
    sandbox.run(&yaml).expect_stderr("the parts that came do not make up the file; trying again in ");
    assert_eq!((sandbox.read("got"), server.count()), ("the right file".to_owned(), 3));
}

#[test]
fn a_server_in_trouble_is_given_the_time_that_it_asks_for() {
    let sandbox = Sandbox::new();
    let server = Server::start(|number, _| match number {
        0 => Answer::status("503 Service Unavailable").header("Retry-After", "1"),
        1 => Answer::status("429 Too Many Requests"),
        2 => Answer::status("408 Request Timeout"),
        _ => Answer::ok("well again"),
    });
    let begun = std::time::Instant::now();
    sandbox
        .run(&download(&server.url("/x"), "unverified: true"))
        .expect_stderr("\"the server answered 503 Service Unavailable; trying again in 1.");
    assert!(begun.elapsed().as_millis() >= 1_000);
    assert_eq!((sandbox.read("got"), server.count()), ("well again".to_owned(), 4));
}

#[test]
fn a_redirect_is_followed() {
    let sandbox = Sandbox::new();
    let server = Server::start(|_, request| match request.path.as_str() {
        "/a/x" => Answer::redirect("y"),
        "/a/y" => Answer::status("308 Permanent Redirect").header("Location", "/z"),
        "/z" => Answer::ok("there"),
        _ => Answer::status("404 Not Found"),
    });
    sandbox.run(&download(&server.url("/a/x"), "unverified: true"));
    assert_eq!((sandbox.read("got"), server.count()), ("there".to_owned(), 3));
}
