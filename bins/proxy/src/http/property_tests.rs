//! Byte streams from a corpus, bent at random, through the readers as the relay uses them: whatever is handed on is,
//! for a strict reader that shares no code with ours, exactly one message of the same content; what breaks off never
//! is one; and none of it hangs on the packets that it came in.
//!
//! `PROPTEST_CASES=1000000 cargo test --release -p podkit-proxy --lib property` looks longer.

use proptest::prelude::*;
use proptest::sample::select;

use super::body::{Body, Piece};
use super::carry::write_trailers;
use super::head::HeadEnd;
use super::request::{self, Request, Rules};
use super::strict;
use super::{refusal::Refusal, response};
use crate::buffer::Buffer;
use crate::config::{Forwarded, Limits};

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /p?q HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;e=\"x\"\r\nabc\r\n0\r\nX: 1\r\n\r\n",
    "GET http://a/x HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 34\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n....",
    "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: [::1]\r\nTE: trailers\r\nX: \t1 \r\n\r\n",
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\nForwarded: for=\"[::1]\"\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost:\r\nX-Forwarded-For: 1.1.1.1\r\nX-Request-ID: 1\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall that comes",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbytes",
    "HTTP/1.1 426 Upgrade Required\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nno",
];

/// What turns one message into two, in the right place.
const TOKENS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    " ",
    "\t",
    "\0",
    ":",
    ",",
    ";",
    "\"",
    "0",
    "1",
    "f",
    "-",
    "+",
    "0x",
    "_",
    "#",
    "*",
    "\u{b}",
    "\u{7f}",
    "\u{e9}",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.1 200 OK\r\n",
    " HTTP/1.1",
    "HTTP/1.0",
    "POST ",
    "Host: b\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Content-Length:",
    "content_length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "transfer-encoding :",
    "chunked",
    ", chunked",
    "Connection: close\r\n",
    "Connection: content-length\r\n",
    "Connection: X\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "X: 1\r\n",
    " folded\r\n",
    "X: 1\n",
    "0\r\n\r\n",
    "0\r\n",
    "5\r\nhello\r\n",
    "5;x\r\nhello\r\n",
    "ffffffff\r\n",
    "100000001\r\n",
    "http://a/",
    "//",
    "?",
    "a@",
];

/// One way to bend a message: at a place (of 1000 parts), drop so many bytes, and put a token there or a byte.
type Bend = (usize, usize, Option<&'static str>, Option<u8>);

/// The bytes of a connection, told as text where a case fails.
#[derive(Clone)]
struct Stream(Vec<u8>);

impl std::fmt::Debug for Stream {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "\"{}\"", self.0.escape_ascii())
    }
}

fn bent(corpus: &'static [&'static str]) -> impl Strategy<Value = Stream> {
    let bend = (
        0..1000_usize,
        prop_oneof![3 => Just(0_usize), 2 => 1..4_usize, 1 => 4..40_usize],
        any::<Option<u8>>(),
        any::<u8>(),
    );
    let bend = (bend, prop::option::weighted(0.7, select(TOKENS))).prop_map(
        |((at, drop, byte, other), token)| -> Bend { (at, drop, token, byte.filter(|_| other < 40)) },
    );
    let streams = prop::collection::vec(select(corpus), 1..3);
    (streams, prop::collection::vec(bend, 0..4)).prop_map(|(streams, bends)| {
        let mut bytes = streams.concat().into_bytes();
        for (place, drop, token, byte) in bends {
            let at = place * (bytes.len() + 1) / 1000;
            let end = (at + drop).min(bytes.len());
            let new = token.unwrap_or_default().bytes().chain(byte);
            bytes.splice(at..end, new);
        }
        Stream(bytes)
    })
}

/// A body as far as it was handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Handed {
    bytes: Vec<u8>,
    whole: bool,
}

/// Carries a body out of `wire` at `at`, as `carry` does, in packets of `step` bytes.
fn body(mut body: Body, wire: &[u8], at: &mut usize, step: usize, keep: bool, ended: bool) -> Handed {
    let mut out = Buffer::default();
    let mut arrived = (*at + step).min(wire.len());
    loop {
        let until_close = body == Body::UntilClose;
        let Ok(piece) = body.next(&wire[*at..arrived], keep) else {
            return Handed { bytes: out.filled().to_vec(), whole: false };
        };
        match piece {
            Piece::Forward(length) => {
                out.push(&wire[*at..*at + length]);
                *at += length;
            }
            Piece::Skip(length) => *at += length,
            Piece::Trailers(length) => {
                let mut section = Buffer::default();
                if write_trailers(&wire[*at..*at + length], &mut section).is_err() {
                    return Handed { bytes: out.filled().to_vec(), whole: false };
                }
                if keep {
                    out.push(section.filled());
                }
                *at += length;
            }
            Piece::More if arrived == wire.len() => {
                return Handed { bytes: out.filled().to_vec(), whole: until_close && ended };
            }
            Piece::More => arrived = (arrived + step).min(wire.len()),
            Piece::End => return Handed { bytes: out.filled().to_vec(), whole: true },
        }
    }
}

/// One request of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relayed {
    head: Vec<u8>,
    body: Handed,
    /// The content, whatever its framing.
    content: Vec<u8>,
    keep_alive: bool,
}

/// All requests that a connection gets carried, and why it ends if it ends by a refusal.
fn relay(wire: &[u8], step: usize, inbound: bool) -> (Vec<Relayed>, Option<Refusal>) {
    let limits = Limits::default();
    let rules = rules(&limits, inbound);
    let (mut relayed, mut at) = (Vec::new(), 0);
    loop {
        while wire[at..].starts_with(b"\r\n") {
            at += 2;
        }
        let (mut end, mut arrived) = (HeadEnd::default(), at);
        let length = loop {
            match end.find(&wire[at..arrived]) {
                Ok(Some(length)) => break length,
                Ok(None) if arrived == wire.len() => return (relayed, None),
                Ok(None) => arrived = (arrived + step).min(wire.len()),
                Err(refusal) => return (relayed, Some(refusal)),
            }
        };
        let mut out = Buffer::default();
        let request: Request = match request::read(&wire[at..at + length], &rules, &mut out, None) {
            Ok(request) => request,
            Err(refusal) => return (relayed, Some(refusal)),
        };
        at += length;
        let content = body(request.body, wire, &mut at.clone(), wire.len(), false, false);
        let handed = body(request.body, wire, &mut at, step, true, false);
        assert_eq!(content.whole, handed.whole, "framing kept or not, the verdict is one");
        let whole = handed.whole;
        let head = out.filled().to_vec();
        relayed.push(Relayed { head, body: handed, content: content.bytes, keep_alive: request.keep_alive });
        if !whole || !request.keep_alive {
            return (relayed, None);
        }
    }
}

/// Inbound with all that a listener may add; outbound with the least.
fn rules(limits: &Limits, inbound: bool) -> Rules<'_> {
    let forwarded = inbound.then_some(Forwarded { x_forwarded: true, rfc7239: true });
    Rules { forwarded, start_trace: inbound, ..Rules::plain(limits) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_carried_request_is_one_message_for_a_strict_reader(Stream(wire) in bent(REQUESTS), step in 1_usize..40, inbound: bool) {
        let (relayed, refusal) = relay(&wire, step, inbound);
        for request in &relayed {
            let handed = [&request.head[..], &request.body.bytes].concat();
            let text = String::from_utf8_lossy(&handed);
            match strict::request(&handed) {
                Ok(Some(message)) if request.body.whole => {
                    prop_assert_eq!(message.length, handed.len(), "more than one message in {:?}", text);
                    prop_assert_eq!(&message.body, &request.content, "another content in {:?}", text);
                }
                Ok(None) if !request.body.whole => {}
                reading => prop_assert!(false, "{:?} of {:?}", reading, text),
            }
        }
        // Whatever the packets, the same requests; of a body that breaks off a part more or less may be on its way.
        let (again, second) = relay(&wire, wire.len().max(1), inbound);
        prop_assert_eq!(refusal, second);
        prop_assert_eq!(relayed.len(), again.len());
        for (one, other) in relayed.iter().zip(&again).filter(|(one, _)| one.body.whole) {
            prop_assert_eq!((&one.body, &one.content), (&other.body, &other.content));
        }
    }

    /// Two of us behind each other agree, and there is nothing left to mend for the second; but the hops of an OPTIONS
    /// are counted at each.
    #[test]
    fn what_is_carried_is_carried_unchanged_the_next_time(Stream(wire) in bent(REQUESTS)) {
        let relayed = relay(&wire, wire.len().max(1), false).0;
        for request in relayed.iter().filter(|one| one.body.whole && !one.head.starts_with(b"OPTIONS ")) {
            let handed = [&request.head[..], &request.body.bytes].concat();
            let (again, refusal) = relay(&handed, handed.len(), false);
            prop_assert_eq!((again.len(), refusal), (1, None), "{:?}", String::from_utf8_lossy(&handed));
            let again = [&again[0].head[..], &again[0].body.bytes].concat();
            prop_assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&handed));
        }
    }

    #[test]
    fn a_carried_response_is_one_message_for_a_strict_reader(
        Stream(wire) in bent(RESPONSES), step in 1_usize..40, is_head: bool, http10: bool, upgrade: bool, ended: bool, close: bool,
    ) {
        let request = Request {
            is_head, http10, upgrade: upgrade && !http10, keep_alive: true, idempotent: true, body: Body::Empty,
            grpc: false,
        };
        let mut at = 0;
        // Interim ones first, then the last.
        loop {
            let mut out = Buffer::default();
            let Ok(Some(response)) = response::read(&wire[at..], &request, close, &mut out) else { break };
            // No byte less is a head, and none is needed to see that this is one.
            for shorter in [response.length - 1, response.length / 2] {
                prop_assert_eq!(response::read(&wire[at..at + shorter], &request, close, &mut Buffer::default()), Ok(None));
            }
            at += response.length;
            let head = out.filled().to_vec();
            if response.status == 101 {
                prop_assert!(request.upgrade);
                break;
            }
            let handed = body(response.body, &wire, &mut at, step, response.keep_framing, ended);
            let bytes = [&head[..], &handed.bytes].concat();
            let text = String::from_utf8_lossy(&bytes);
            prop_assert!(response.close || !response.ends_by_close(), "{:?}", text);
            match strict::response(&bytes, is_head, ended) {
                Ok(Some(message)) => {
                    prop_assert!(handed.whole || response.ends_by_close(), "whole for the client: {:?}", text);
                    prop_assert_eq!(message.length, bytes.len(), "more than one message in {:?}", text);
                }
                Ok(None) => prop_assert!(!handed.whole || response.ends_by_close(), "not whole for the client: {:?}", text),
                Err(fault) => prop_assert!(false, "{} in {:?}", fault, text),
            }
            if !http10 {
                let mut again = Buffer::default();
                let second = response::read(&head, &request, close || response.close, &mut again);
                let second = second.expect("our own head is sound").expect("and whole");
                prop_assert_eq!(again.filled(), &head[..], "{:?}", text);
                prop_assert_eq!(second.body, response.body);
            }
            if !response.is_interim() {
                break;
            }
        }
    }
}
