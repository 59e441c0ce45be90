//! Frames that RFC 9113 forbids, or has ignored: section by section, with the answer that each gets.

use crate::support::frames::*;
use crate::support::{Origin, Proxy};

/// What is sent on a connection that has begun, and what becomes of the stream looked at.
struct Case {
    section: &'static str,
    what: &'static str,
    sent: Vec<u8>,
    stream: u32,
    fate: Fate,
}

fn case(section: &'static str, what: &'static str, sent: &[Vec<u8>], stream: u32, fate: Fate) -> Case {
    Case { section, what, sent: sent.concat(), stream, fate }
}

fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &section(&request("POST", "/", &[])))
}

/// `h2` ends the connection by PROTOCOL_ERROR in places where the RFC has a code of its own, or would end the stream
/// alone; both are allowed (RFC 9113 5.4).
fn connection_errors() -> Vec<Case> {
    let headers = section(&request("GET", "/", &[]));
    let bad = |section, what, sent: &[Vec<u8>], code| case(section, what, sent, 1, Fate::GoAway(code));
    vec![
        bad("4.1", "a PING frame of 7 bytes", &[frame(PING, 0, 0, &[0; 7])], PROTOCOL_ERROR),
        bad(
            "4.2",
            "a DATA frame larger than 16,384 bytes",
            &[post(1), frame(DATA, 0, 1, &[0; 16_385])],
            FRAME_SIZE_ERROR,
        ),
        bad(
            "4.2",
            "a HEADERS frame larger than 16,384 bytes",
            &[frame(HEADERS, END_HEADERS, 1, &[0; 16_385])],
            FRAME_SIZE_ERROR,
        ),
        bad(
            "4.3",
            "a field section that is no HPACK",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 9])],
            PROTOCOL_ERROR,
        ),
        bad(
            "4.3",
            "another frame within a field section",
            &[frame(HEADERS, END_STREAM, 1, &headers[..5]), frame(PING, 0, 0, &[0; 8])],
            PROTOCOL_ERROR,
        ),
        bad(
            "4.3",
            "another stream within a field section",
            &[
                frame(HEADERS, END_STREAM, 1, &headers[..5]),
                frame(CONTINUATION, END_HEADERS, 3, &headers[5..]),
            ],
            PROTOCOL_ERROR,
        ),
        bad("5.1", "DATA on an idle stream", &[frame(DATA, END_STREAM, 1, b"x")], PROTOCOL_ERROR),
        bad("5.1", "RST_STREAM on an idle stream", &[frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])], PROTOCOL_ERROR),
        bad(
            "5.1",
            "WINDOW_UPDATE on an idle stream",
            &[frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])],
            PROTOCOL_ERROR,
        ),
        bad(
            "5.1",
            "CONTINUATION without HEADERS",
            &[frame(CONTINUATION, END_HEADERS, 1, &headers)],
            PROTOCOL_ERROR,
        ),
        bad(
            "5.1.1",
            "HEADERS on a stream with an even number",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 2, &headers)],
            PROTOCOL_ERROR,
        ),
        bad(
            "5.1.1",
            "a stream with a lower number than one before",
            &[get(5, "/"), get(3, "/")],
            PROTOCOL_ERROR,
        ),
        bad("6.1", "DATA on stream 0", &[frame(DATA, 0, 0, b"x")], PROTOCOL_ERROR),
        bad(
            "6.1",
            "DATA with more padding than payload",
            &[post(1), frame(DATA, PADDED, 1, &[9, 0, 0])],
            PROTOCOL_ERROR,
        ),
        bad(
            "6.2",
            "HEADERS on stream 0",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 0, &headers)],
            PROTOCOL_ERROR,
        ),
        bad(
            "6.2",
            "HEADERS with more padding than payload",
            &[frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0, 0])],
            PROTOCOL_ERROR,
        ),
        bad("6.3", "PRIORITY on stream 0", &[frame(PRIORITY, 0, 0, &[0; 5])], PROTOCOL_ERROR),
        bad("6.4", "RST_STREAM on stream 0", &[frame(RST_STREAM, 0, 0, &[0; 4])], PROTOCOL_ERROR),
        bad("6.4", "RST_STREAM of 3 bytes", &[post(1), frame(RST_STREAM, 0, 1, &[0; 3])], PROTOCOL_ERROR),
        bad("6.5", "SETTINGS on a stream", &[frame(SETTINGS, 0, 1, &[])], PROTOCOL_ERROR),
        bad("6.5", "SETTINGS of 5 bytes", &[frame(SETTINGS, 0, 0, &[0; 5])], PROTOCOL_ERROR),
        bad("6.5", "an acknowledgement with a payload", &[frame(SETTINGS, ACK, 0, &[0; 6])], PROTOCOL_ERROR),
        bad("6.5.2", "ENABLE_PUSH of 2", &[frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])], PROTOCOL_ERROR),
        bad(
            "6.5.2",
            "INITIAL_WINDOW_SIZE above 2^31-1",
            &[frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])],
            PROTOCOL_ERROR,
        ),
        bad(
            "6.5.2",
            "MAX_FRAME_SIZE below 16,384",
            &[frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff])],
            PROTOCOL_ERROR,
        ),
        bad(
            "6.6",
            "PUSH_PROMISE from a client",
            &[frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])],
            PROTOCOL_ERROR,
        ),
        bad("6.7", "PING on a stream", &[frame(PING, 0, 1, &[0; 8])], PROTOCOL_ERROR),
        bad("6.8", "GOAWAY on a stream", &[frame(GOAWAY, 0, 1, &[0; 8])], PROTOCOL_ERROR),
        bad("6.9", "WINDOW_UPDATE of 3 bytes", &[frame(WINDOW_UPDATE, 0, 0, &[0; 3])], PROTOCOL_ERROR),
        bad(
            "6.9",
            "WINDOW_UPDATE of 0 for the connection",
            &[frame(WINDOW_UPDATE, 0, 0, &[0; 4])],
            PROTOCOL_ERROR,
        ),
        bad(
            "6.9.1",
            "a window of the connection above 2^31-1",
            &[frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
            FLOW_CONTROL_ERROR,
        ),
        bad(
            "5.1",
            "DATA behind the end of the stream",
            &[post(1), frame(DATA, END_STREAM, 1, b"x"), frame(DATA, 0, 1, b"y")],
            PROTOCOL_ERROR,
        ),
        bad("6.9", "WINDOW_UPDATE of 0", &[post(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])], PROTOCOL_ERROR),
    ]
}

fn stream_errors() -> Vec<Case> {
    let bad = |section, what, sent: &[Vec<u8>], code| case(section, what, sent, 1, Fate::Reset(code));
    let length = section(&request("POST", "/", &[(b"content-length", b"4")]));
    let headers = |fields: &[u8]| frame(HEADERS, END_HEADERS, 1, fields);
    vec![
        bad(
            "5.3.1",
            "a stream that depends on itself",
            &[frame(
                HEADERS,
                END_STREAM | END_HEADERS | 0x20,
                1,
                &[&[0, 0, 0, 1, 0][..], &section(&request("GET", "/", &[]))].concat(),
            )],
            PROTOCOL_ERROR,
        ),
        bad(
            "6.9.1",
            "a window above 2^31-1",
            &[post(1), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])],
            FLOW_CONTROL_ERROR,
        ),
        bad(
            "8.1",
            "trailers that do not end the stream",
            &[post(1), frame(HEADERS, END_HEADERS, 1, &section(&[(b"x", b"y")]))],
            PROTOCOL_ERROR,
        ),
        bad(
            "8.1.1",
            "more data than the Content-Length",
            &[headers(&length), frame(DATA, END_STREAM, 1, b"12345")],
            PROTOCOL_ERROR,
        ),
        bad(
            "8.1.1",
            "less data than the Content-Length",
            &[headers(&length), frame(DATA, END_STREAM, 1, b"123")],
            PROTOCOL_ERROR,
        ),
        bad(
            "8.1.1",
            "no data in spite of a Content-Length",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 1, &length)],
            PROTOCOL_ERROR,
        ),
    ]
}

fn harmless() -> Vec<Case> {
    let good = |section, what, sent: &[Vec<u8>]| {
        case(section, what, &[sent, &[get(7, "/")]].concat(), 7, Fate::Status(200))
    };
    let headers = section(&request("GET", "/", &[]));
    let padded = [&[3][..], &headers, &[0; 3]].concat();
    let prioritised = [&[0, 0, 0, 9, 200][..], &headers].concat();
    vec![
        good("4.1", "a frame of an unknown type", &[frame(0xbe, 0xff, 1, b"what?"), frame(0xbe, 0, 0, b"")]),
        good("4.1", "unknown flags", &[frame(PING, 0xf0, 0, &[0; 8])]),
        good(
            "4.3",
            "a field section in three frames",
            &[
                frame(HEADERS, END_STREAM, 1, &headers[..5]),
                frame(CONTINUATION, 0, 1, &headers[5..9]),
                frame(CONTINUATION, END_HEADERS, 1, &headers[9..]),
            ],
        ),
        good("5.1", "PRIORITY on an idle stream", &[frame(PRIORITY, 0, 9, &[0; 5])]),
        good(
            "5.1",
            "RST_STREAM twice",
            &[post(1), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])],
        ),
        good("6.2", "padding", &[frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &padded)]),
        good("6.2", "a priority", &[frame(HEADERS, END_STREAM | END_HEADERS | 0x20, 1, &prioritised)]),
        good("6.5.2", "an unknown setting", &[frame(SETTINGS, 0, 0, &[0xbe, 0xef, 0, 0, 0, 1])]),
        good(
            "6.9",
            "WINDOW_UPDATE on a closed stream",
            &[get(1, "/"), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])],
        ),
    ]
}

#[test]
fn each_broken_rule_has_its_error_and_nothing_else_breaks_with_it() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let (connection, stream) = (connection_errors(), stream_errors());
    let mut wrong = Vec::new();
    let mut check = |case: &Case, lives_on: bool| {
        let mut raw = Raw::connect(proxy.address());
        let fate = raw.send(&case.sent).fate(case.stream);
        let lives = fate != case.fate || raw.is_alive(9) == lives_on;
        if fate != case.fate || !lives {
            wrong.push(format!("{}: {}: {fate:?} and not {:?}", case.section, case.what, case.fate));
        }
    };
    connection.iter().for_each(|case| check(case, false));
    stream.iter().chain(&harmless()).for_each(|case| check(case, true));
    assert_eq!(wrong, Vec::<String>::new());
    assert!(proxy.connect().get("/").text() == "hello");
}

#[test]
fn settings_are_acknowledged_and_pings_answered() {
    let proxy = Proxy::http(Origin::hello().address);
    let mut raw = Raw::connect(proxy.address());
    assert_eq!(raw.next_of(SETTINGS).flags & ACK, 0, "our SETTINGS come first");
    assert_eq!(raw.next_of(SETTINGS).flags & ACK, ACK);
    raw.send(frame(SETTINGS, ACK, 0, &[])).send(frame(PING, 0, 0, b"12345678"));
    let pong = raw.next_of(PING);
    assert_eq!((pong.flags & ACK, &*pong.payload), (ACK, &b"12345678"[..]));
}

#[test]
fn what_is_no_preface_gets_no_answer() {
    let proxy = Proxy::http(Origin::hello().address);
    for bad in ["PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot SETTINGS at all"] {
        let mut raw = Raw::silent(proxy.address());
        raw.send(bad).end();
    }
}

#[test]
fn more_streams_than_are_allowed_are_refused_and_may_come_again() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.drain();
    });
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "limits: {streams: 2}", "");
    let mut raw = Raw::connect(proxy.address());
    raw.send([get(1, "/a"), get(3, "/b"), get(5, "/c")].concat());
    assert_eq!(raw.fate(5), Fate::Reset(REFUSED_STREAM));
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 2.0);
    origin.wait_for("/a");
    origin.wait_for("/b");
    assert_eq!(origin.connections(), 2);
    assert!(!origin.seen().iter().any(|seen| seen.contains("/c")));
}
