//! Request lines, targets and hosts (RFC 9112 2, 3; RFC 9110 4.2, 7.2).

use super::tape::Expect::{Carried, Last, Refused};
use super::tape::{Bench, Expect};

#[test]
fn request_lines() {
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases: &[(&[u8], Expect<'_>)] = &[
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Carried(plain)),
        // RFC 9112 2.2: empty lines before a request line are to be ignored, and nothing else.
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Carried(plain)),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"\0GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Refused(400, "request_line")),
        // Line ends.
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Refused(400, "bare_lf")),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET /\nHTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "bare_lf")),
        (b"GET /\r\n HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        // HTTP/0.9
        (b"GET /\r\n\r\n", Refused(400, "request_line")),
        (b"GET\r\n\r\n", Refused(400, "request_line")),
        // Blanks: exactly one space (RFC 9112 3).
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / HTTP/1.1\t\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        // Methods are tokens, and their case counts.
        (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"G:T / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "nul")),
        (b"G\xc3T / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"\"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Carried("get / HTTP/1.1\r\nHost: a\r\n\r\n")),
        (b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", Carried("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n")),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refused(501, "connect_method")),
        (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501, "connect_method")),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Refused(501, "trace_method")),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", Refused(501, "max_forwards")),
        // Versions.
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Refused(505, "version")),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Refused(505, "version")),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Refused(505, "version")),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / HTTP/01.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / HTTP/1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / HTTP/+1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / HTTP /1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
        (b"GET / ICY/1.1\r\nHost: a\r\n\r\n", Refused(400, "request_line")),
    ];
    let bench = Bench::start();
    for (raw, expect) in cases {
        bench.check(raw, *expect);
    }
}

#[test]
fn targets() {
    let get = |target: &[u8]| [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    let bench = Bench::start();
    for target in [
        "/",
        "/a?b=c&d",
        "//double//slash",
        "/../up",
        "/%2e%2e/%00%0d%0a",
        "/a;b=c",
        "/a://b",
        "/~a!$&'()*+,=:@-._",
        "/?http://evil/",
        "/a\\b",
        "/{a}|b^`\"<>",
    ] {
        bench.check(get(target.as_bytes()), Carried(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")));
    }
    // Fragments never travel; other bytes are no URI's (RFC 3986 2).
    for target in [
        &b"/#f"[..],
        b"/a#",
        b"#",
        b"/\x7f",
        b"/\xc3\xa9",
        b"/\xff",
        b"/\xc0\xae",
        b"/a\x01",
        b"/\x0bb",
        b"/a\rb",
        // Neither origin form nor absolute form.
        b"a",
        b"",
        b".",
        b"a/b",
        b"*",
        b"*/",
        b"\\evil",
        b"a:80",
        b"?a",
        b"ftp://a/",
        b"file:///etc/passwd",
        b"ws://a/",
        b"http:/a",
        b"http:a",
        b"http//a",
        b"javascript:1",
        b"://a/",
        b"h\xc3ttp://a/",
    ] {
        bench.check(get(target), Refused(400, "request_line"));
    }
    bench.check(get(b"/a\0b"), Refused(400, "nul"));
    bench.check("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Carried("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"));
}

/// RFC 9112 3.2.2: the target and Host must not send two servers to two places.
#[test]
fn absolute_targets() {
    let bench = Bench::start();
    let get = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (target, host, carried) in [
        ("http://a/x?y", "a", "GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("HTTP://A.b:80/", "a.B:80", "GET / HTTP/1.1\r\nHost: a.B:80\r\n\r\n"),
        ("http://a", "a", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("http://a?q", "a", "GET /?q HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("https://a/", "a", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("http://a//evil/", "a", "GET //evil/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        bench.check(get(target, host), Carried(carried));
    }
    bench.check(
        "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
        Carried("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    );
    for (target, host) in [
        ("http://b/", "a"),
        ("http://a/", "b"),
        ("http://a:80/", "a"),
        ("http://a/", "a:80"),
        ("http://u@a/", "a"),
        ("http://a\\@b/", "a"),
        ("http://a%00/", "a"),
        ("http:///", "a"),
        ("http:///", ""),
        ("http://", ""),
        ("http://[::1]/", "[::2]"),
        ("http://a./", "a"),
    ] {
        bench.check(get(target, host), Refused(400, "host_mismatch"));
    }
    bench.check("GET http://a/ HTTP/1.0\r\n\r\n", Refused(400, "host_mismatch"));
}

#[test]
fn hosts() {
    let bench = Bench::start();
    let get = |host: &[u8]| [b"GET / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
    for host in [
        "a",
        "A.example.com.",
        "a:80",
        "a:",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "[2001:db8::1%25eth0]",
        "a_b",
        "",
        "xn--bcher-kva.example",
        "a%2Db",
        "[::ffff:1.2.3.4]",
        "a:65535",
        "a!$&'()*+;=~",
    ] {
        bench.check(get(host.as_bytes()), Carried(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")));
    }
    for host in [
        &b"a b"[..],
        b"a\tb",
        b"a,b",
        b"a, b",
        b"u@a",
        b"u:p@a",
        b"a/b",
        b"/",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"http://a",
        b"\"a\"",
        b"<a>",
        b"a:b",
        b"a:80:80",
        b"a:-1",
        b"a:+80",
        b"a:0x50",
        b"a:80a",
        b"a:65536",
        b"a:99999999999",
        b"a: 80",
        b"a :80",
        b"::1",
        b"[::1",
        b"::1]",
        b"[::1]a",
        b"[::1]:a",
        b"[]",
        b"[a.b]x",
        b"[[::1]]",
        b"a[b]",
        b"[::1]@a",
        b"a%",
        b"a%2",
        b"a%zz",
        b"a^b",
        b"a|b",
        b"{a}",
        b"a`b",
        b"b\xc3\xbccher",
        b"a\xff",
    ] {
        bench.check(get(host), Refused(400, "host_invalid"));
    }
    for host in [&b"a\x01"[..], b"a\x7f", b"a\x0b", b"a\rb"] {
        bench.check(get(host), Refused(400, "field"));
    }
    bench.check(get(b"a\0.b"), Refused(400, "nul"));
    for (raw, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", "host_missing"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host_duplicate"),
        ("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", "host_duplicate"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nHost:\r\n\r\n", "host_duplicate"),
        ("GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n", "folded_field"),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "folded_field"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "space_before_colon"),
        ("GET / HTTP/1.1\r\nHost a\r\n\r\n", "field"),
        ("GET / HTTP/1.1\r\nX-Host: a\r\n\r\n", "host_missing"),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "host_duplicate"),
        ("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", "host_invalid"),
    ] {
        bench.check(raw, Refused(400, reason));
    }
}

#[test]
fn old_clients_are_served_as_their_version_allows() {
    let bench = Bench::start();
    let host = bench.origin();
    let plain = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    bench.check("GET / HTTP/1.0\r\n\r\n", Last(&plain));
    bench.check(
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n",
        Last("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    );
    bench.check("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Carried(&plain));
    bench.check("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", Last(&plain));
    // A proxy before us would speak of its own hop (RFC 9112 C.2.2).
    bench.check("GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n", Last(&plain));
    let post = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nab");
    bench.check("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", Last(&post));
    bench.check("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab", Last(&post));
}
