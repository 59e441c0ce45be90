//! Messages that end early, and requests behind other requests.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use super::tape::{BEHIND, Bench};
use crate::support::{Client, Origin, Proxy, ok, strict};

/// Wherever a client leaves, the origin sees a whole message only of a whole one.
#[test]
fn half_a_message_is_never_a_whole_one() {
    let bench = Bench::start();
    let chunked = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nX: 1\r\n\r\n";
    let length = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n0\r\n\r\nab";
    for whole in [chunked, length] {
        let head = whole.find("\r\n\r\n").unwrap() + 4;
        for end in 0..whole.len() {
            let outcome = bench.run(&[&whole.as_bytes()[..end]]);
            assert_eq!((&outcome.fault, outcome.answers.len()), (&None, 0), "{end}: {outcome:?}");
            assert_eq!(outcome.rest, b"", "{end}: {outcome:?}");
            match &outcome.reached[..] {
                [] => assert!(end < head, "{end}: {outcome:?}"),
                [part] => assert_eq!(strict::request(part.as_bytes()), Ok(None), "{end}: {outcome:?}"),
                _ => panic!("{end}: {outcome:?}"),
            }
        }
        assert_eq!(bench.run(&[whole.as_bytes()]).answers.len(), 1);
    }
}

/// The requests of one client are answered in their order, each once, whatever stands in their bodies.
#[test]
fn pipelined_requests_stay_apart() {
    let origin =
        Origin::http(|head, body| ok(&format!("{} {}", head.split(' ').nth(1).unwrap(), body.len())));
    let proxy = Proxy::http(origin.address);
    let chunked = format!("{:x}\r\n{BEHIND}\r\n0\r\n\r\n", BEHIND.len());
    let requests = [
        ("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "/1 0".to_owned()),
        (
            format!("POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{BEHIND}", BEHIND.len()),
            format!("/2 {}", BEHIND.len()),
        ),
        (
            format!("POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
            format!("/3 {}", chunked.len()),
        ),
        ("\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "/4 0".to_owned()),
        (
            format!("GET /5 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{BEHIND}", BEHIND.len()),
            format!("/5 {}", BEHIND.len()),
        ),
    ];
    let all: String = requests.iter().map(|(raw, _)| raw.as_str()).collect();
    // In one packet, and byte by byte.
    for step in [all.len(), 1] {
        let mut client = proxy.connect();
        for piece in all.as_bytes().chunks(step) {
            client.send(piece);
        }
        for (_, answer) in &requests {
            assert_eq!(client.response().text(), answer);
        }
    }
    assert!(origin.seen().iter().all(|seen| seen.matches("/behind").count() == 2 * 3), "{:?}", origin.seen());
}

/// What stands behind a request that is refused, or that ends the connection, is nobody's.
#[test]
fn nothing_is_served_behind_the_last_request() {
    let bench = Bench::start();
    let good = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    for (bad, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "),
    ] {
        let outcome = bench.run(&[format!("{good}{bad}{BEHIND}").as_bytes()]);
        assert_eq!(outcome.reached[0], good);
        assert!(outcome.reached.iter().all(|seen| !seen.contains("behind")), "{bad:?}: {outcome:?}");
        assert_eq!((outcome.answers.len(), outcome.reset), (2, false), "{bad:?}: {outcome:?}");
        assert!(outcome.answers[1].start.starts_with(status), "{bad:?}: {outcome:?}");
        assert!(outcome.rest.is_empty(), "{bad:?}: {outcome:?}");
    }
}

/// An origin that answers before it has read the body, and takes what follows for requests: the next client must
/// never meet that connection.
#[test]
fn an_early_answer_leaves_nothing_behind_for_the_next_client() {
    let origin = Origin::start(|mut connection| {
        // Reads heads only: each body is a request to it.
        while let Some(head) = connection.head() {
            connection.send(ok(head.split(' ').nth(1).unwrap()));
        }
    });
    let proxy = Proxy::http(origin.address);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for fields in [
        format!("Content-Length: {}", smuggled.len()),
        format!("Content-Length: {}\r\nExpect: 100-continue", smuggled.len()),
        "Transfer-Encoding: chunked".to_owned(),
    ] {
        let mut attacker = proxy.connect();
        attacker.send(format!("POST /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
        let answer = attacker.response();
        assert_eq!((answer.text(), answer.closes()), ("/first", true), "{fields}");
        // Too late: nothing of it may become a request on a connection that others use.
        let _ = attacker.stream.write_all(smuggled.as_bytes());
        let _ = attacker.stream.shutdown(Shutdown::Write);
        let _ = attacker.stream.read_to_end(&mut Vec::new());
        for n in 0..3 {
            assert_eq!(
                Client::connect(proxy.address()).get(&format!("/{n}")).text(),
                format!("/{n}"),
                "{fields}"
            );
        }
    }
    assert!(origin.seen().iter().all(|seen| !seen.contains("smuggled")), "{:?}", origin.seen());
}
