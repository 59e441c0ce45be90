//! Field lines (RFC 9112 5, RFC 9110 5), and the fields of one hop (RFC 9110 7.6, 10.1.1).

use super::tape::Bench;
use super::tape::Expect::{Carried, Last, Refused};

fn get(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\n", fields.as_ref(), b"\r\n"].concat()
}

#[test]
fn lines() {
    let bench = Bench::start();
    for (line, carried) in [
        ("X: 1", "X: 1"),
        ("X:1", "X: 1"),
        ("X: \t 1 \t ", "X: 1"),
        ("X:", "X: "),
        ("X: a: b", "X: a: b"),
        ("X: a\tb", "X: a\tb"),
        ("!#$%&'*+-.^_`|~9aZ: 1", "!#$%&'*+-.^_`|~9aZ: 1"),
        // obs-text is opaque data (RFC 9110 5.5).
        ("X: caf\u{e9}", "X: caf\u{e9}"),
        ("X: \"quoted, with \\\" inside\"", "X: \"quoted, with \\\" inside\""),
        ("X: GET /evil HTTP/1.1", "X: GET /evil HTTP/1.1"),
        ("X: %0d%0aY: 1", "X: %0d%0aY: 1"),
    ] {
        let carried = String::from_utf8(get(format!("{carried}\r\n"))).unwrap();
        bench.check(get(format!("{line}\r\n")), Carried(&carried));
    }
    let cases: &[(&[u8], &str)] = &[
        (b"X : 1", "space_before_colon"),
        (b"X\t: 1", "space_before_colon"),
        (b" X: 1", "folded_field"),
        (b"\tX: 1", "folded_field"),
        (b"Y: 1\r\n folded", "folded_field"),
        (b"Y: 1\r\n\tfolded", "folded_field"),
        (b"Y: 1\r\n ", "folded_field"),
        (b"X\n: 1", "bare_lf"),
        (b"X: 1\nY: 2", "bare_lf"),
        (b"X: 1\n", "bare_lf"),
        (b"\nX: 1", "bare_lf"),
        (b"X: 1\n\nGET /evil HTTP/1.1\r\nHost: a", "bare_lf"),
        (b"X: 1\r\n\nGET /evil HTTP/1.1\r\nHost: a", "bare_lf"),
        (b"X: 1\n\r\nGET /evil HTTP/1.1\r\nHost: a", "bare_lf"),
        (b"X: 1\n folded", "bare_lf"),
        (b"X: 1\rY: 2", "field"),
        (b"X: 1\r\rY: 2", "field"),
        (b"X: 1\r\n\rY: 2", "field"),
        (b"X: 1\r\n\r\rGET /evil HTTP/1.1", "field"),
        (b"X: \r1", "field"),
        (b": 1", "field"),
        (b":", "field"),
        (b"X", "field"),
        (b"X 1", "field"),
        (b"X\0: 1", "nul"),
        (b"X: \x001", "nul"),
        (b"X: 1\0", "nul"),
        (b"X: 1\0\r\nHost: b", "nul"),
        (b"X\x85: 1", "field"),
        (b"X\xa0: 1", "field"),
        (b"\xffX: 1", "field"),
        (b"X\xc3\xa9: 1", "field"),
        (b"X: 1\r\n\x00", "nul"),
    ];
    for (lines, reason) in cases {
        bench.check(get([lines, &b"\r\n"[..]].concat()), Refused(400, reason));
    }
    // No control byte but the tab is a value's; none and no delimiter is a name's.
    for byte in (1..32).chain([127]).filter(|byte| !b"\t\n\r".contains(byte)) {
        bench.check(get([b"X: a", &[byte][..], b"b\r\n"].concat()), Refused(400, "field"));
        bench.check(get([b"X: ", &[byte][..], b"\r\n"].concat()), Refused(400, "field"));
        bench.check(get([b"X", &[byte][..], b": 1\r\n"].concat()), Refused(400, "field"));
    }
    for byte in *b"\"(),/;<=>?@[\\]{} " {
        bench.check(get([b"X", &[byte][..], b"Y: 1\r\n"].concat()), Refused(400, "field"));
    }
    // The blank line too ends in CRLF.
    for end in ["\n", "\r\r\n", "\n\r\n", "\r\n\n"] {
        bench.check(
            format!("GET / HTTP/1.1\r\nHost: a{end}"),
            Refused(400, if end == "\r\r\n" { "field" } else { "bare_lf" }),
        );
    }
}

/// RFC 9110 7.6.1: what is for our hop ends here, and what a client names as such too.
#[test]
fn hops() {
    let bench = Bench::start();
    for (fields, carried) in [
        ("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, deflate\r\n", ""),
        ("Connection: keep-alive\r\n", ""),
        ("Connection: X-Hop\r\nX-Hop: 1\r\nx-hop: 2\r\nX-Hop2: 3\r\n", "X-Hop2: 3\r\n"),
        ("X-Hop: 1\r\nConnection: keep-alive, x-HOP\r\n", ""),
        ("Connection: a\r\nConnection: b,,c\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n", "D: 4\r\n"),
        ("Connection:\r\nX: 1\r\n", "X: 1\r\n"),
        ("Connection: ,\r\nX: 1\r\n", "X: 1\r\n"),
        ("Connection: \"X\"\r\nX: 1\r\n", "X: 1\r\n"),
        // The client's own harm, as the RFC has it; credentials of ours or of a proxy before us are not among them.
        ("Connection: Authorization, Cookie\r\nAuthorization: x\r\nCookie: y\r\nX: 1\r\n", "X: 1\r\n"),
        // Nothing of another HTTP on this connection.
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", ""),
        ("Connection: upgrade\r\nUpgrade: H2C, websocket\r\n", ""),
        ("Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n", ""),
        ("Upgrade: websocket\r\n", ""),
        ("Connection: upgrade\r\n", ""),
        ("Connection: upgrade\r\nUpgrade: websocket\r\n", "Connection: upgrade\r\nUpgrade: websocket\r\n"),
        // Gateways behind us may take `_` for `-`: ours would not be the only word on where it came from.
        (
            "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\nx_request_id: 1\r\nX_Custom: 1\r\n",
            "X_Custom: 1\r\n",
        ),
    ] {
        let carried = String::from_utf8(get(carried)).unwrap();
        bench.check(get(fields), Carried(&carried));
    }
    for option in ["Host", "Content-Length", "transfer-encoding"] {
        bench.check(get(format!("Connection: close, {option}\r\n")), Refused(400, "connection_option"));
        bench.check(
            get(format!("Connection: x\r\nConnection: {option}\r\n")),
            Refused(400, "connection_option"),
        );
    }
    let many: String = (0..40).map(|n| format!("x{n}, ")).collect();
    bench.check(get(format!("Connection: {many}\r\n")), Refused(400, "connection_option"));
    bench.check(get("Connection: close\r\n"), Last("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    bench.check(get("Connection: keep-alive, CLOSE\r\n"), Last("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    bench.check(
        get("Connection: keep-alive\r\nConnection: close\r\n"),
        Last("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    );
}

/// A client must not be able to take away what we say of it.
#[test]
fn where_a_request_came_from_cannot_be_stripped() {
    let bench = Bench::start();
    let names = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-ID"];
    let all = names.join(", ");
    let forged: String = names.iter().map(|name| format!("{name}: evil\r\n")).collect();
    let outcome = bench.run(&[&get(format!("Connection: {all}\r\n{forged}"))]);
    let [seen] = &outcome.whole[..] else { panic!("{outcome:?}") };
    for line in [
        "X-Forwarded-For: 127.0.0.1\r\n",
        "X-Forwarded-Proto: http\r\n",
        "X-Forwarded-Host: a\r\n",
        "X-Request-ID: ",
    ] {
        assert_eq!(seen.matches(line).count(), 1, "{line:?} in {seen:?}");
    }
    assert!(!seen.contains("evil"), "{seen:?}");
}

/// RFC 9110 10.1.1. One that is written otherwise is waited for by one server and not by another.
#[test]
fn expectations() {
    let bench = Bench::start();
    let post = |expect: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{expect}{body}");
    for value in ["100-continue", "100-Continue", "100-CONTINUE"] {
        for body in ["Content-Length: 2\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"]
        {
            let raw = post(&format!("Expect: {value}\r\n"), body);
            bench.check(&raw, Carried(&raw));
        }
    }
    // Nobody waits without a body.
    for body in ["\r\n", "Content-Length: 0\r\n\r\n"] {
        bench.check(post("Expect: 100-continue\r\n", body), Carried(&post("", body)));
    }
    for expect in [
        "Expect: y 100-continue\r\n",
        "Expect: 100-continue, x\r\n",
        "Expect: 100-continue;q=1\r\n",
        "Expect: 100\r\n",
        "Expect: x\r\n",
        "Expect:\r\n",
        "Expect: \"100-continue\"\r\n",
        "Expect: 100-continue\r\nExpect: 100-continue\r\n",
        "Expect: 100-continue\r\nexpect: x\r\n",
    ] {
        bench.check(post(expect, "Content-Length: 2\r\n\r\nab"), Refused(417, "expectation"));
    }
    bench.check(
        post("Expect : 100-continue\r\n", "Content-Length: 2\r\n\r\nab"),
        Refused(400, "space_before_colon"),
    );
    bench.check(post("Expect: 100-continue\n", "Content-Length: 2\r\n\r\nab"), Refused(400, "bare_lf"));
}
