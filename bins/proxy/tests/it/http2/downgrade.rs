//! Fields that would be another request, or a part of one, in HTTP/1.1: refused, and shown by what reached the origin.

use crate::support::frames::*;
use crate::support::{Origin, Proxy, strict};

type Fields = Vec<(&'static [u8], &'static [u8])>;

/// A request that must not be carried, and what becomes of it.
fn refused() -> Vec<(&'static str, Fields, Fate)> {
    let with = |more: &[(&'static [u8], &'static [u8])]| request("GET", "/", more);
    let of = |method: &'static [u8], scheme: &'static [u8], authority: &'static [u8], path: &'static [u8]| {
        let fields: Fields =
            vec![(b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", path)];
        fields
    };
    // What is no HPACK for `h2` ends the connection: it cannot tell how to read on.
    let (ended, reset, answered) =
        (Fate::GoAway(PROTOCOL_ERROR), Fate::Reset(PROTOCOL_ERROR), Fate::Status(400));
    vec![
        // Line ends and NUL, wherever there is text (RFC 9113 8.2.1, 8.3).
        ("a line end in a value", with(&[(b"x", b"a\r\nsmuggled: 1")]), ended),
        (
            "a request in a value",
            with(&[(b"x", b"a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")]),
            ended,
        ),
        ("a bare LF in a value", with(&[(b"x", b"a\nsmuggled: 1")]), ended),
        ("a bare CR in a value", with(&[(b"x", b"a\rb")]), ended),
        ("NUL in a value", with(&[(b"x", b"a\0b")]), ended),
        ("a line end in a name", with(&[(b"x: y\r\nsmuggled", b"1")]), ended),
        ("a line end in a cookie", with(&[(b"cookie", b"a=b\r\nsmuggled: 1")]), ended),
        (
            "a line end in the method",
            of(b"GET / HTTP/1.1\r\nsmuggled: 1\r\nx:", b"http", b"shop", b"/"),
            ended,
        ),
        ("a line end in the path", of(b"GET", b"http", b"shop", b"/ HTTP/1.1\r\nsmuggled: 1"), reset),
        ("a line end in the authority", of(b"GET", b"http", b"shop\r\nsmuggled: 1", b"/"), reset),
        ("a line end in the scheme", of(b"GET", b"http\r\nsmuggled: 1", b"shop", b"/"), reset),
        // What a text of HTTP/1.1 is split at.
        ("a space in the path", of(b"GET", b"http", b"shop", b"/a HTTP/1.1"), reset),
        ("a tab in the path", of(b"GET", b"http", b"shop", b"/a\tb"), reset),
        ("a space in the method", of(b"GET /smuggled", b"http", b"shop", b"/"), ended),
        ("a space in the authority", of(b"GET", b"http", b"shop evil", b"/"), reset),
        ("a slash in the authority", of(b"GET", b"http", b"shop/smuggled", b"/"), reset),
        ("a URI for a scheme", of(b"GET", b"http://evil/smuggled?", b"shop", b"/"), reset),
        ("a colon in a name", with(&[(b"x:", b"1")]), ended),
        ("a space in a name", with(&[(b"x ", b"1")]), ended),
        ("an empty name", with(&[(b"", b"1")]), ended),
        ("a name in upper case", with(&[(b"Smuggled", b"1")]), ended),
        ("a value that begins in white space", with(&[(b"x", b" 1")]), reset),
        ("a value that ends in white space", with(&[(b"x", b"1\t")]), reset),
        // What is about an HTTP/1.1 connection (RFC 9113 8.2.2).
        ("Transfer-Encoding", with(&[(b"transfer-encoding", b"chunked")]), reset),
        ("Connection", with(&[(b"connection", b"x-forwarded-for")]), reset),
        ("Keep-Alive", with(&[(b"keep-alive", b"1")]), reset),
        ("Proxy-Connection", with(&[(b"proxy-connection", b"close")]), reset),
        ("Upgrade", with(&[(b"upgrade", b"websocket")]), reset),
        ("TE other than trailers", with(&[(b"te", b"chunked")]), reset),
        // The pseudo-fields (RFC 9113 8.3).
        ("no method", vec![(b":scheme", b"http"), (b":path", b"/")], reset),
        ("no path", vec![(b":method", b"GET"), (b":scheme", b"http"), (b"host", b"shop")], reset),
        ("no scheme", vec![(b":method", b"GET"), (b":path", b"/")], reset),
        ("an empty path", of(b"GET", b"http", b"shop", b""), reset),
        ("a path in absolute form", of(b"GET", b"http", b"shop", b"http://evil/smuggled"), reset),
        ("a path without its slash", of(b"GET", b"http", b"shop", b"smuggled"), reset),
        ("a path that is a query", of(b"GET", b"http", b"shop", b"?smuggled"), reset),
        ("two paths", with(&[(b":path", b"/smuggled")]), reset),
        (
            "a pseudo-field behind a field",
            [&with(&[(b"x", b"1")])[..], &[(b":path", b"/smuggled")]].concat(),
            reset,
        ),
        ("an unknown pseudo-field", with(&[(b":smuggled", b"1")]), ended),
        ("a status", with(&[(b":status", b"200")]), reset),
        (
            "extended CONNECT",
            [&of(b"CONNECT", b"http", b"shop", b"/")[..], &[(b":protocol", b"websocket")]].concat(),
            reset,
        ),
        // What HTTP/1.1 can say too, by the rules for all requests.
        ("CONNECT", vec![(b":method", b"CONNECT"), (b":authority", b"shop:443")], Fate::Status(501)),
        (
            "no authority and no Host",
            vec![(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")],
            answered,
        ),
        ("a Host that differs", with(&[(b"host", b"evil")]), answered),
        ("two Hosts", with(&[(b"host", b"shop"), (b"host", b"evil")]), answered),
        ("a user in the authority", of(b"GET", b"http", b"user@shop", b"/"), answered),
        ("`*` with GET", of(b"GET", b"http", b"shop", b"*"), answered),
        (
            "two lengths",
            request("GET", "/", &[(b"content-length", b"0"), (b"content-length", b"0")]),
            answered,
        ),
        ("two lengths that differ", with(&[(b"content-length", b"0"), (b"content-length", b"1")]), reset),
        ("a length that is no number", with(&[(b"content-length", b"+0")]), reset),
    ]
}

#[test]
fn nothing_of_a_malformed_request_reaches_the_origin() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let mut wrong = Vec::new();
    for (what, fields, fate) in refused() {
        let mut raw = Raw::connect(proxy.address());
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &section(&fields)));
        let got = raw.fate(1);
        if got != fate {
            wrong.push(format!("{what}: {got:?} and not {fate:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(origin.seen(), Vec::<String>::new());
}

#[test]
fn what_is_carried_is_one_request_for_a_strict_origin() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let carried: Vec<Fields> = vec![
        request("GET", "/a?b=c", &[(b"x", b"\xe9\xff"), (b"y", b"")]),
        request("GET", "/#fragment", &[]),
        request("GET", "/\"{}|^\\", &[(b"x-transfer-encoding", b"chunked"), (b"x_host", b"evil")]),
        request("OPTIONS", "*", &[(b"te", b"trailers"), (b"cookie", b"a=1"), (b"cookie", b"b=2; c=3")]),
        request("POST", "/", &[(b"host", b"SHOP")]),
        request("X-OWN", "/", &[(b"expect", b"100-continue")]),
    ];
    for fields in &carried {
        let mut raw = Raw::connect(proxy.address());
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &section(fields)));
        assert_eq!(raw.fate(1), Fate::Status(200), "{fields:?}");
    }
    let seen = origin.seen().concat().into_bytes();
    let mut rest = &seen[..];
    for fields in &carried {
        let message = strict::request(rest).expect("it is a request").expect("it is whole");
        assert!(message.body.is_empty() && message.trailers.is_empty(), "{fields:?} became {message:?}");
        rest = &rest[message.length..];
    }
    assert!(rest.is_empty(), "something is left: {:?}", String::from_utf8_lossy(rest));
}

#[test]
fn a_body_is_framed_by_us_whatever_it_holds() {
    let origin = Origin::start(|mut connection| {
        connection.until(b"x-sum: 1\r\n\r\n");
        connection.ok("");
    });
    let proxy = Proxy::http(origin.address);
    let smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut raw = Raw::connect(proxy.address());
    raw.send(frame(HEADERS, END_HEADERS, 1, &section(&request("POST", "/", &[]))));
    raw.send(frame(DATA, 0, 1, b"")).send(frame(DATA, 0, 1, smuggled));
    // Trailers that would be framing, routing, or a second body.
    let trailers: [(&[u8], &[u8]); 4] =
        [(b"content-length", b"5"), (b"host", b"evil"), (b"x-sum", b"1"), (b"trailer", b"x")];
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &section(&trailers)));
    assert_eq!(raw.fate(1), Fate::Status(200));
    let seen = origin.seen().concat().into_bytes();
    let message = strict::request(&seen).unwrap().expect("it is whole");
    assert_eq!((message.length, &message.body[..]), (seen.len(), &smuggled[..]));
    assert_eq!(message.trailers, [("x-sum".to_owned(), b"1".to_vec())]);
}
