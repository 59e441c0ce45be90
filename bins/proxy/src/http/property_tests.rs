//! Byte streams from a corpus, bent at random, for [`properties`].
//!
//! `PROPTEST_CASES=1000000 cargo test --release -p podkit-proxy --lib property` looks longer; so do the fuzz targets.

use proptest::prelude::*;
use proptest::sample::select;

use super::properties::{self, Asked};

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_carried_request_is_one_message_for_a_strict_reader(Stream(wire) in bent(REQUESTS), step in 1_usize..40, inbound: bool) {
        properties::request(&wire, step, inbound);
    }

    #[test]
    fn what_is_carried_is_carried_unchanged_the_next_time(Stream(wire) in bent(REQUESTS)) {
        properties::request_again(&wire);
    }

    #[test]
    fn a_carried_response_is_one_message_for_a_strict_reader(
        Stream(wire) in bent(RESPONSES), step in 1_usize..40, is_head: bool, http10: bool, upgrade: bool, ended: bool, close: bool,
    ) {
        properties::response(&wire, Asked { step, is_head, http10, upgrade, ended, close });
    }
}
