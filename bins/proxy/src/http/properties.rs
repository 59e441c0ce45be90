//! What must hold for any bytes that the readers are given, as the relay uses them: whatever is handed on is, for a
//! strict reader that shares no code with ours, exactly one message of the same content; what breaks off never is one;
//! and none of it hangs on the packets that it came in.
//!
//! For property tests and fuzz targets: each function panics where a property does not hold.

use super::body::{Body, Piece};
use super::carry::write_trailers;
use super::head::HeadEnd;
use super::request::{self, Request, Rules};
use super::strict;
use super::{refusal::Refusal, response};
use crate::buffer::Buffer;
use crate::config::{Forwarded, Limits};

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

/// Requests of a connection, in packets of `step` bytes.
pub fn request(wire: &[u8], step: usize, inbound: bool) {
    let (relayed, refusal) = relay(wire, step, inbound);
    for request in &relayed {
        let handed = [&request.head[..], &request.body.bytes].concat();
        let text = String::from_utf8_lossy(&handed);
        match strict::request(&handed) {
            Ok(Some(message)) if request.body.whole => {
                assert_eq!(message.length, handed.len(), "more than one message in {:?}", text);
                assert_eq!(&message.body, &request.content, "another content in {:?}", text);
            }
            Ok(None) if !request.body.whole => {}
            reading => panic!("{:?} of {:?}", reading, text),
        }
    }
    // Whatever the packets, the same requests; of a body that breaks off a part more or less may be on its way.
    let (again, second) = relay(wire, wire.len().max(1), inbound);
    assert_eq!(refusal, second);
    assert_eq!(relayed.len(), again.len());
    for (one, other) in relayed.iter().zip(&again).filter(|(one, _)| one.body.whole) {
        assert_eq!((&one.body, &one.content), (&other.body, &other.content));
    }
}

/// Two of us behind each other agree, and there is nothing left to mend for the second; but the hops of an OPTIONS are
/// counted at each.
pub fn request_again(wire: &[u8]) {
    let relayed = relay(wire, wire.len().max(1), false).0;
    for request in relayed.iter().filter(|one| one.body.whole && !one.head.starts_with(b"OPTIONS ")) {
        let handed = [&request.head[..], &request.body.bytes].concat();
        let (again, refusal) = relay(&handed, handed.len(), false);
        // What the first one added may be more than the second one takes.
        if matches!(refusal, Some(Refusal::TooManyFields | Refusal::HeadTooLarge)) {
            continue;
        }
        assert_eq!((again.len(), refusal), (1, None), "{:?}", String::from_utf8_lossy(&handed));
        let again = [&again[0].head[..], &again[0].body.bytes].concat();
        assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&handed));
    }
}

/// How a response came about.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Its bytes come in packets of this length.
    pub step: usize,
    /// It answers a HEAD.
    pub is_head: bool,
    /// It answers an HTTP/1.0 client.
    pub http10: bool,
    /// An upgrade was asked for.
    pub upgrade: bool,
    /// The connection ends after the bytes.
    pub ended: bool,
    /// The client's connection is to be closed.
    pub close: bool,
}

/// Responses of a connection, interim ones first.
pub fn response(wire: &[u8], asked: Asked) {
    let Asked { step, is_head, http10, upgrade, ended, close } = asked;
    let request = Request {
        is_head,
        http10,
        upgrade: upgrade && !http10,
        keep_alive: true,
        idempotent: true,
        body: Body::Empty,
        grpc: false,
        probe: false,
    };
    let mut at = 0;
    // Interim ones first, then the last.
    loop {
        let mut out = Buffer::default();
        let Ok(Some(response)) = response::read(&wire[at..], &request, close, &mut out) else { break };
        // No byte less is a head, and none is needed to see that this is one.
        for shorter in [response.length - 1, response.length / 2] {
            assert_eq!(
                response::read(&wire[at..at + shorter], &request, close, &mut Buffer::default()),
                Ok(None)
            );
        }
        at += response.length;
        let head = out.filled().to_vec();
        if response.status == 101 {
            assert!(request.upgrade);
            break;
        }
        let handed = body(response.body, wire, &mut at, step, response.keep_framing, ended);
        let bytes = [&head[..], &handed.bytes].concat();
        let text = String::from_utf8_lossy(&bytes);
        assert!(response.close || !response.ends_by_close(), "{:?}", text);
        match strict::response(&bytes, is_head, ended) {
            Ok(Some(message)) => {
                assert!(handed.whole || response.ends_by_close(), "whole for the client: {:?}", text);
                assert_eq!(message.length, bytes.len(), "more than one message in {:?}", text);
            }
            Ok(None) => {
                assert!(!handed.whole || response.ends_by_close(), "not whole for the client: {:?}", text)
            }
            Err(fault) => panic!("{} in {:?}", fault, text),
        }
        if !http10 {
            let mut again = Buffer::default();
            let second = response::read(&head, &request, close || response.close, &mut again);
            // What was added may be more than the second one takes.
            if matches!(&second, Err(bad) if bad.0.contains("too many fields")) {
                break;
            }
            let second = second.expect("our own head is sound").expect("and whole");
            assert_eq!(again.filled(), &head[..], "{:?}", text);
            assert_eq!(second.body, response.body);
        }
        if !response.is_interim() {
            break;
        }
    }
}
