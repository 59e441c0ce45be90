//! Raw bytes in, the upstream's bytes or the broken rule out.

use proptest::prelude::*;

use super::super::body::Body;
use super::super::head::HeadEnd;
use super::*;

/// What an inbound listener without settings of its own does.
fn rules(limits: &Limits) -> Rules<'_> {
    Rules { forwarded: Some(Forwarded::default()), start_trace: true, ..Rules::plain(limits) }
}

fn read_as(raw: &[u8], rules: &Rules<'_>) -> Result<(Request, String), Refusal> {
    let length = HeadEnd::default().find(raw)?.expect("the head is whole");
    let mut out = Buffer::default();
    let request = read(&raw[..length], rules, &mut out, None)?;
    Ok((request, String::from_utf8_lossy(out.filled()).into_owned()))
}

fn carried(raw: &str) -> (Request, String) {
    read_as(raw.as_bytes(), &rules(&Limits::default()))
        .unwrap_or_else(|refusal| panic!("{raw:?}: {refusal:?}"))
}

/// The upstream's head without the fields that are added to every request.
fn plain(raw: &str) -> String {
    let added =
        ["X-Request-ID: ", "X-Forwarded-For: ", "X-Forwarded-Proto: ", "X-Forwarded-Host: ", "traceparent: "];
    let (_, head) = carried(raw);
    head.split_inclusive("\r\n").filter(|line| !added.iter().any(|name| line.starts_with(name))).collect()
}

/// The values of a field in a head.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

fn refusal(raw: &[u8]) -> Refusal {
    match read_as(raw, &rules(&Limits::default())) {
        Err(refusal) => refusal,
        Ok((_, head)) => panic!("{:?} was carried as {head:?}", String::from_utf8_lossy(raw)),
    }
}

#[test]
fn a_plain_request_is_written_field_by_field() {
    assert_eq!(
        plain("GET /a?b=c HTTP/1.1\r\nAccept: */*\r\nHost: shop\r\nbaggage: a=1\r\nCookie: a=b\r\n\r\n"),
        "GET /a?b=c HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\nbaggage: a=1\r\nCookie: a=b\r\n\r\n",
    );
}

#[test]
fn fields_for_one_hop_are_stripped() {
    let head = plain(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Secret\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
         TE: trailers\r\nX-Secret: 1\r\nx-secret: 2\r\nUpgrade: foo\r\nX-Kept: 3\r\n\r\n",
    );
    assert_eq!(head, "GET / HTTP/1.1\r\nHost: a\r\nX-Kept: 3\r\n\r\n");
}

#[test]
fn bodies_are_delimited_as_told() {
    let body = |raw: &str| carried(raw).0.body;
    assert_eq!(body("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Body::Empty);
    assert_eq!(body("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), Body::Empty);
    assert_eq!(body("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n"), Body::Length(12));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\n\r\n";
    assert!(matches!(body(chunked), Body::Chunked(_)));
    assert!(plain(chunked).contains("transfer-encoding: chunked\r\n"));
    assert!(
        plain("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n").contains("Content-Length: 7\r\n")
    );
}

#[test]
fn what_is_known_of_a_request() {
    let known = |raw: &str| {
        let request = carried(raw).0;
        (request.keep_alive, request.idempotent, request.is_head, request.upgrade)
    };
    assert_eq!(known("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (true, true, false, false));
    assert_eq!(known("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n"), (false, true, true, false));
    assert_eq!(known("POST / HTTP/1.0\r\n\r\n"), (false, false, false, false));
    assert_eq!(known("PATCH / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), (true, false, false, false));
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(known(upgrade), (true, true, false, true));
    assert!(plain(upgrade).ends_with("Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
}

#[test]
fn grpc_is_known_by_its_content_type() {
    let grpc = |content_type: &str| {
        carried(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n\r\n")).0.grpc
    };
    for content_type in ["application/grpc", "Application/gRPC+proto", "application/grpc;charset=utf-8"] {
        assert!(grpc(content_type), "{content_type}");
    }
    for content_type in ["application/grpc-web", "application/grp", "text/html"] {
        assert!(!grpc(content_type), "{content_type}");
    }
}

#[test]
fn an_options_request_counts_its_hops() {
    let options = |fields: &str| plain(&format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(values(&options("Max-Forwards: 10\r\n"), "max-forwards"), ["9"]);
    assert_eq!(
        values(&options("Max-Forwards: 18446744073709551615\r\n"), "max-forwards"),
        ["18446744073709551614"]
    );
    assert_eq!(values(&options("Max-Forwards: many\r\n"), "max-forwards"), ["many"]);
    assert_eq!(values(&plain("GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"), "max-forwards"), ["0"]);
}

#[test]
fn an_upgrade_that_would_smuggle_is_not_asked_for() {
    for fields in [
        "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, H2C\r\n",
        "Connection: upgrade\r\nUpgrade: h2c-14\r\n",
        "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n",
        "Connection: upgrade\r\nUpgrade: \"h2c\"\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n",
    ] {
        let head = plain(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert!(!head.contains("Upgrade") && !head.contains("HTTP2"), "{head}");
    }
}

#[test]
fn targets_reach_the_upstream_in_origin_form() {
    let line = |raw: &str| plain(raw).lines().next().unwrap().to_owned();
    assert_eq!(line("GET http://A.b:80/x?y HTTP/1.1\r\nHost: a.B:80\r\n\r\n"), "GET /x?y HTTP/1.1");
    assert_eq!(line("GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n"), "GET /?y HTTP/1.1");
    assert_eq!(line("GET HTTP://a HTTP/1.1\r\nHost: a\r\n\r\n"), "GET / HTTP/1.1");
    assert_eq!(line("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n"), "OPTIONS * HTTP/1.1");
    assert_eq!(line("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), "OPTIONS * HTTP/1.1");
}

#[test]
fn an_old_client_without_a_host_gets_the_upstreams() {
    assert_eq!(plain("GET / HTTP/1.0\r\n\r\n"), "GET / HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n");
    let expecting = plain("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    assert!(!expecting.contains("Expect"), "HTTP/1.0 knows no 100: {expecting}");
}

/// RFC 9112 2.2, 3, 5 and 6; RFC 9110 5 and 7. Each line is a way to have two servers read two different messages.
#[test]
fn what_two_servers_could_read_differently_is_refused() {
    let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let with_fields = [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Refusal::LengthWithEncoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Refusal::LengthWithEncoding),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Refusal::LengthDuplicate),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Refusal::LengthDuplicate),
        ("Content-Length: 5, 5\r\n", Refusal::LengthInvalid),
        ("Content-Length: +5\r\n", Refusal::LengthInvalid),
        ("Content-Length: -5\r\n", Refusal::LengthInvalid),
        ("Content-Length: 0x5\r\n", Refusal::LengthInvalid),
        ("Content-Length: 5 5\r\n", Refusal::LengthInvalid),
        ("Content-Length:\r\n", Refusal::LengthInvalid),
        ("Content-Length: 99999999999999999999\r\n", Refusal::LengthInvalid),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Refusal::Encoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Refusal::Encoding),
        ("Transfer-Encoding: chunked, chunked\r\n", Refusal::Encoding),
        ("Transfer-Encoding: gzip, chunked\r\n", Refusal::Encoding),
        ("Transfer-Encoding: identity\r\n", Refusal::Encoding),
        ("Transfer-Encoding: xchunked\r\n", Refusal::Encoding),
        ("Transfer-Encoding: chunked;q=1\r\n", Refusal::Encoding),
        ("Transfer-Encoding: \"chunked\"\r\n", Refusal::Encoding),
        ("Transfer-Encoding:\r\n", Refusal::Encoding),
        ("Transfer-Encoding: \u{b}chunked\r\n", Refusal::Field),
        ("Transfer-Encoding : chunked\r\n", Refusal::SpaceBeforeColon),
        ("Transfer-Encoding\t: chunked\r\n", Refusal::SpaceBeforeColon),
        ("X: a\r\n Transfer-Encoding: chunked\r\n", Refusal::FoldedField),
        ("Transfer-Encoding:\r\n chunked\r\n", Refusal::FoldedField),
        ("X: a\rTransfer-Encoding: chunked\r\n", Refusal::Field),
        ("X: a\nTransfer-Encoding: chunked\r\n", Refusal::BareLf),
        ("X: a\r\n\nGET / HTTP/1.1\r\n", Refusal::BareLf),
        ("X: a\0b\r\n", Refusal::Nul),
        ("X\0: a\r\n", Refusal::Nul),
        ("X: \u{7f}\r\n", Refusal::Field),
        (": a\r\n", Refusal::Field),
        ("no colon\r\n", Refusal::Field),
        ("X(: a\r\n", Refusal::Field),
        ("Host: a\r\n", Refusal::HostDuplicate),
        ("Connection: host\r\n", Refusal::ConnectionOption),
        ("Connection: Content-Length\r\nContent-Length: 5\r\n", Refusal::ConnectionOption),
        ("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", Refusal::ConnectionOption),
    ];
    for (fields, rule) in with_fields {
        assert_eq!(refusal(head(fields).as_bytes()), rule, "{fields:?}");
    }
    let whole: [(&[u8], Refusal); 26] = [
        (b"GET / HTTP/1.1\r\n\r\n", Refusal::HostMissing),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refusal::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refusal::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Refusal::HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Refusal::HostInvalid),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::HostMismatch),
        (b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::HostMismatch),
        (b"GET http:///x HTTP/1.1\r\nHost: \r\n\r\n", Refusal::HostMismatch),
        (b"GET http://a/ HTTP/1.0\r\n\r\n", Refusal::HostMismatch),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b"GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b"GET /\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::RequestLine),
        (b"PRI * HTTP/2.0\r\n\r\n", Refusal::Version),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Refusal::Version),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Refusal::BareLf),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::Trace),
        (b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", Refusal::MaxForwards),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Refusal::Connect),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::Encoding),
    ];
    for (raw, rule) in whole {
        assert_eq!(refusal(raw), rule, "{:?}", String::from_utf8_lossy(raw));
    }
}

#[test]
fn limits_hold() {
    let limits = Limits { header_size: 1024, headers: 3, body: Some(10), ..Limits::default() };
    let read = |fields: &str| {
        read_as(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes(), &rules(&limits))
            .map(|(request, _)| request.body)
    };
    assert_eq!(read("Content-Length: 10\r\n"), Ok(Body::Length(10)));
    assert_eq!(read("Content-Length: 11\r\n"), Err(Refusal::BodyTooLarge));
    assert_eq!(read("A: 1\r\nB: 2\r\n"), Ok(Body::Empty));
    assert_eq!(read("A: 1\r\nB: 2\r\nC: 3\r\n"), Err(Refusal::TooManyFields));
    assert_eq!(read(&format!("A: {}\r\n", "x".repeat(1024))), Err(Refusal::HeadTooLarge));
}

#[test]
fn garbage_is_refused_before_a_line_is_whole() {
    assert_eq!(HeadEnd::default().find(b"\x16\x03\x01"), Err(Refusal::RequestLine), "a TLS client");
    assert_eq!(HeadEnd::default().find(b"GET / HTTP/1.1\r\nX: a\n"), Err(Refusal::BareLf));
    assert_eq!(HeadEnd::default().find(b"GET / HTTP/1.1\r\nX: a"), Ok(None));
}

proptest! {
    /// The end of a head must not hang on the packets it comes in.
    #[test]
    fn a_head_ends_at_the_same_byte_however_it_arrives(tail in "[a-z\r\n:]{0,40}", step in 1_usize..20) {
        let raw = format!("GET / HTTP/1.1\r\n{tail}");
        let whole = HeadEnd::default().find(raw.as_bytes());
        let mut end = HeadEnd::default();
        let mut split = Ok(None);
        for upto in (step..raw.len()).step_by(step).chain([raw.len()]) {
            split = end.find(&raw.as_bytes()[..upto]);
            if split != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(whole, split);
    }

    /// Whatever is carried is one message for a strict reader too, with the same body.
    #[test]
    fn what_is_carried_reads_back_as_the_same_message(target in "[!-~]{0,20}", fields in "([A-Za-z-]{1,12}: [ -~]{0,12}\r\n){0,5}") {
        let mut bytes = b"POST /".to_vec();
        bytes.extend_from_slice(target.as_bytes());
        bytes.extend_from_slice(format!(" HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
        let Ok(Some(length)) = HeadEnd::default().find(&bytes) else { return Ok(()) };
        let limits = Limits::default();
        let both = Some(Forwarded { x_forwarded: true, rfc7239: true });
        let rules = Rules { forwarded: both, ..rules(&limits) };
        let mut out = Buffer::default();
        let Ok(request) = read(&bytes[..length], &rules, &mut out, None) else { return Ok(()) };
        prop_assert_eq!(HeadEnd::default().find(out.filled()), Ok(Some(out.filled().len())));
        let again = read(out.filled(), &rules, &mut Buffer::default(), None).expect("our own head is sound");
        prop_assert_eq!(request.body, again.body);
    }
}
