//! The fields of a request that decide about it: how long it is, whom it is for, what it wants of this hop.
//!
//! Where two of them contradict each other the request is refused. Pure functions over bytes.

use super::body::{Body, Chunks};
use super::fields::{CHUNKED, Connection, Field, content_length};
use super::head::Head;
use super::host;
use super::refusal::Refusal;
use crate::config::Limits;

/// How the User-Agent of the kubelet's HTTP and gRPC probes begins (pkg/probe of kubernetes/kubernetes).
const PROBE: &[u8] = b"kube-probe/";

/// The fields that decide about the message.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) http10: bool,
    pub(super) connection: Connection<'a>,
    pub(super) host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    /// The wished protocols, if it is none that would pass unchecked.
    pub(super) upgrade: Option<&'a [u8]>,
    expects: bool,
    pub(super) grpc: bool,
    /// The kubelet's, as it says itself.
    pub(super) probe: bool,
    max_forwards: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(head: &Head<'a, '_>, http10: bool) -> Result<Self, Refusal> {
        let mut facts = Self {
            http10,
            connection: Connection::default(),
            host: None,
            length: None,
            chunked: false,
            upgrade: None,
            expects: false,
            grpc: false,
            probe: false,
            max_forwards: None,
        };
        for (kind, _, value) in head.iter() {
            facts.add(kind, value)?;
        }
        let connection = &facts.connection;
        if connection.names("host")
            || connection.names("content-length")
            || connection.names("transfer-encoding")
        {
            return Err(Refusal::ConnectionOption);
        }
        match (facts.host, http10) {
            (None, false) => Err(Refusal::HostMissing),
            (Some(host), _) if !host::is_valid(host) => Err(Refusal::HostInvalid),
            _ if facts.chunked && facts.length.is_some() => Err(Refusal::LengthWithEncoding),
            _ => Ok(facts),
        }
    }

    fn add(&mut self, kind: Field, value: &'a [u8]) -> Result<(), Refusal> {
        match kind {
            Field::Host if self.host.is_some() => return Err(Refusal::HostDuplicate),
            Field::Host => self.host = Some(value),
            Field::ContentLength if self.length.is_some() => return Err(Refusal::LengthDuplicate),
            Field::ContentLength => self.length = Some(content_length(value).ok_or(Refusal::LengthInvalid)?),
            Field::TransferEncoding => {
                // Even twice `chunked` is another coding than once.
                if self.http10 || self.chunked || !value.eq_ignore_ascii_case(CHUNKED) {
                    return Err(Refusal::Encoding);
                }
                self.chunked = true;
            }
            Field::Connection if !self.connection.add(value) => return Err(Refusal::ConnectionOption),
            Field::Upgrade => {
                let mut protocols = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                let plain = self.upgrade.is_none() && protocols.all(may_switch_to);
                self.upgrade = plain.then_some(value);
            }
            // One that is written otherwise is waited for by one server and not by another.
            Field::Expect if self.expects || !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(Refusal::Expectation);
            }
            Field::Expect => self.expects = true,
            Field::ContentType => self.grpc = is_grpc(value),
            Field::UserAgent => self.probe = value.starts_with(PROBE),
            Field::MaxForwards => self.max_forwards = Some(value),
            _ => {}
        }
        Ok(())
    }

    /// HTTP/1.0 knows no 100, and without a body there is nothing to wait with (RFC 9110 10.1.1).
    pub(super) fn may_expect(&self) -> bool {
        !self.http10 && (self.chunked || self.length.is_some_and(|length| length > 0))
    }

    pub(super) fn body(&self, limits: &Limits) -> Result<Body, Refusal> {
        match self.length {
            _ if self.chunked => Ok(Body::Chunked(Chunks::new(limits.body))),
            None | Some(0) => Ok(Body::Empty),
            Some(length) if limits.body.is_some_and(|limit| length > limit) => Err(Refusal::BodyTooLarge),
            Some(length) => Ok(Body::Length(length)),
        }
    }

    /// How many more hops an OPTIONS may take, if it says so (RFC 9110 7.6.2); the field means nothing elsewhere.
    pub(super) fn forwards_left(&self, method: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.max_forwards.filter(|_| method == "OPTIONS") else { return Ok(None) };
        match content_length(value) {
            Some(0) => Err(Refusal::MaxForwards),
            Some(hops) => Ok(Some(hops - 1)),
            None => Ok(None),
        }
    }
}

/// Whether an upstream may be asked for this protocol: not for another HTTP, whose requests would pass unchecked,
/// under none of the names that it has had.
fn may_switch_to(protocol: &[u8]) -> bool {
    let is =
        |known: &[u8]| protocol.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known));
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._/+~".contains(byte);
    !is(b"h2") && !is(b"http") && !protocol.is_empty() && protocol.iter().all(plain)
}

/// `application/grpc`, also `+proto` and the like; not `application/grpc-web`, which HTTP/1.1 carries well.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let (name, rest) = content_type.split_at(content_type.len().min(NAME.len()));
    name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}
