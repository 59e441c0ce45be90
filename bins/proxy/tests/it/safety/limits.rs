//! Oversized everything: refused at the limit, and never a byte of it at the origin that would make it a message.

use super::tape::Bench;
use super::tape::Expect::{Carried, Refused, Unfinished};

const LIMITS: &str = "limits: {header_size: 2KiB, headers: 5, body: 10B}";

fn limited() -> (Bench, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Bench::yaml(dir.path(), LIMITS), dir)
}

#[test]
fn heads() {
    let (bench, _dir) = limited();
    let long = "x".repeat(3000);
    for raw in [
        format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{long}: 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX:{}\r\n\r\n", " ".repeat(3000)),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X:1\r\n".repeat(1000)),
        // None of these ever ends.
        format!("GET /{long}"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}"),
        long.repeat(100),
    ] {
        bench.check(raw, Refused(431, "head_too_large"));
    }
    bench.check(
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(5)),
        Refused(431, "too_many_fields"),
    );
    let most = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(4));
    bench.check(&most, Carried(&most));
    // To the byte.
    let sized = |size: usize| {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{head}{}\r\n\r\n", "x".repeat(size - head.len() - 4))
    };
    bench.check(sized(2048), Carried(&sized(2048)));
    bench.check(sized(2049), Refused(431, "head_too_large"));
}

#[test]
fn bodies() {
    let (bench, _dir) = limited();
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}");
    let ten = post("Content-Length: 10\r\n\r\n0123456789");
    bench.check(&ten, Carried(&ten));
    for length in ["11", "0000000011", "4294967296", "18446744073709551615"] {
        bench.check(
            post(&format!("Content-Length: {length}\r\n\r\n0123456789x")),
            Refused(413, "body_too_large"),
        );
    }
    let chunked = post("Transfer-Encoding: chunked\r\n\r\n");
    let ten = format!("{chunked}5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n");
    bench.check(&ten, Carried(&ten));
    // Refused by the size alone, before a byte of such a chunk has come.
    bench.check(format!("{chunked}b\r\n0123456789x\r\n0\r\n\r\n"), Refused(413, "body_too_large"));
    bench.check(format!("{chunked}7fffffff\r\n"), Refused(413, "body_too_large"));
    let first = format!("{chunked}5\r\n01234\r\n");
    bench.check_pieces(&[first.as_bytes(), b"6\r\n567890\r\n0\r\n\r\n"], Unfinished(413, "body_too_large"));
    // Framing costs memory nowhere, but it costs time: extensions and trailers have limits of their own.
    let extended: String = (0..2000).map(|_| "1;abcdefghij\r\nx\r\n").collect();
    let unlimited = Bench::start();
    unlimited.check_pieces(&[chunked.as_bytes(), extended.as_bytes()], Unfinished(400, "chunk"));
}
