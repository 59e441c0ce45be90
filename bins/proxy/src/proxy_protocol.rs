//! The PROXY protocol header, versions 1 and 2, in and out: who the client is, told in front of its bytes.
//!
//! Pure functions over bytes, after <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>. Reads strictly,
//! since the address that it yields is trusted: the `ppp` crate takes `+80` for a port, and a whole line that lacks
//! a field for one that has not arrived yet, so it only checks us in the tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::ProxyProtocol;

/// The longest line of version 1, its CR LF included (section 2.1).
const V1_LIMIT: usize = 107;

/// How version 2 begins (section 2.2): bytes that no text protocol begins with.
const V2_MAGIC: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What stands before the part that tells its length.
const V2_FIXED: usize = 16;

/// The longest header of version 2 that is taken. Its addresses need 36 bytes; the rest are TLVs, which are skipped.
const V2_LIMIT: usize = 4096;

/// So many bytes hold every header that is taken.
pub(crate) const LIMIT: usize = V2_LIMIT;

/// Where a connection came from, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the header; the client's follow.
    pub(crate) length: usize,
    /// `None` where the sender speaks for itself (`LOCAL`, as its health checks do) or does not know (`UNKNOWN`).
    pub(crate) ends: Option<Ends>,
}

/// Why bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it does not begin with a PROXY protocol header")]
    Missing,
    #[error("its PROXY protocol header is malformed")]
    Invalid,
    #[error("its PROXY protocol header is too long")]
    TooLong,
}

impl Malformed {
    /// The label of `podkit_proxy_refused_connections_total`.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "proxy_header_missing",
            Self::Invalid => "proxy_header_invalid",
            Self::TooLong => "proxy_header_too_long",
        }
    }
}

/// Reads the header at the front of `bytes`; `None` where more must come first.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if is_prefix(bytes, V2_MAGIC) {
        parse_v2(bytes)
    } else if is_prefix(bytes, b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(Malformed::Missing)
    }
}

/// Whether `bytes` begin with `start`, as far as they go.
fn is_prefix(bytes: &[u8], start: &[u8]) -> bool {
    let length = bytes.len().min(start.len());
    bytes[..length] == start[..length]
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let seen = &bytes[..bytes.len().min(V1_LIMIT)];
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if seen.len() < V1_LIMIT { Ok(None) } else { Err(Malformed::TooLong) };
    };
    let line = seen[..end].strip_suffix(b"\r").and_then(|line| str::from_utf8(line).ok());
    let ends = v1_ends(line.ok_or(Malformed::Invalid)?).ok_or(Malformed::Invalid)?;
    Ok(Some(Header { length: end + 1, ends }))
}

/// The addresses of a line without its CR LF; the outer `None` is a malformed line.
fn v1_ends(line: &str) -> Option<Option<Ends>> {
    // What follows UNKNOWN is to be ignored.
    if line == "PROXY UNKNOWN" || line.starts_with("PROXY UNKNOWN ") {
        return Some(None);
    }
    let mut words = line.split(' ');
    let (_, family) = (words.next()?, words.next()?);
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    Some(Some(Ends {
        source: SocketAddr::new(address(source)?, source_port),
        destination: SocketAddr::new(address(destination)?, destination_port),
    }))
}

/// Decimal, without a sign and without leading zeros (section 2.1).
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if V2_FIXED + length > V2_LIMIT {
        return Err(Malformed::TooLong);
    }
    let (is_local, family) = match (fixed[12], fixed[13]) {
        (0x20, family) => (true, family),
        (0x21, family) => (false, family),
        _ => return Err(Malformed::Invalid),
    };
    // The high half is the address family, the low half the transport; others must not be taken (section 2.2).
    if family >> 4 > 3 || family & 0xf > 2 {
        return Err(Malformed::Invalid);
    }
    let Some(addresses) = rest.get(..length) else { return Ok(None) };
    let ends = match family {
        _ if is_local => None,
        0x11 => Some(v2_ends(addresses, |bytes: [u8; 4]| bytes.into()).ok_or(Malformed::Invalid)?),
        0x21 => Some(v2_ends(addresses, |bytes: [u8; 16]| bytes.into()).ok_or(Malformed::Invalid)?),
        // Unspecified, Unix, datagrams: nothing that could stand for the client's address.
        _ => None,
    };
    Ok(Some(Header { length: V2_FIXED + length, ends }))
}

/// Two addresses of `N` bytes, and two ports.
fn v2_ends<const N: usize>(bytes: &[u8], address: fn([u8; N]) -> IpAddr) -> Option<Ends> {
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    Some(Ends {
        source: SocketAddr::new(address(*source), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(address(*destination), u16::from_be_bytes(*destination_port)),
    })
}

/// The header that an upstream is sent first. Without `ends` we speak for ourselves: a health check.
pub(crate) fn header(version: ProxyProtocol, ends: Option<Ends>) -> Vec<u8> {
    match (version, ends.map(Ends::of_one_family)) {
        (ProxyProtocol::V1, None) => b"PROXY UNKNOWN\r\n".to_vec(),
        (ProxyProtocol::V1, Some(Ends { source, destination })) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        }
        (ProxyProtocol::V2, None) => [V2_MAGIC.as_slice(), &[0x20, 0, 0, 0]].concat(),
        (ProxyProtocol::V2, Some(Ends { source, destination })) => {
            let (family, length) = if source.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
            let mut header = [V2_MAGIC.as_slice(), &[0x21, family, 0, length]].concat();
            for ip in [source.ip(), destination.ip()] {
                match ip {
                    IpAddr::V4(ip) => header.extend(ip.octets()),
                    IpAddr::V6(ip) => header.extend(ip.octets()),
                }
            }
            header.extend(source.port().to_be_bytes());
            header.extend(destination.port().to_be_bytes());
            header
        }
    }
}

impl Ends {
    /// Both as IPv4, or else both as IPv6: a header has one family for both.
    fn of_one_family(self) -> Self {
        let [source, destination] = [self.source, self.destination].map(|end| end.ip().to_canonical());
        let as_v6 = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
            ip => ip,
        };
        let (source, destination) = match (source, destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => (source, destination),
            _ => (as_v6(source), as_v6(destination)),
        };
        Self {
            source: SocketAddr::new(source, self.source.port()),
            destination: SocketAddr::new(destination, self.destination.port()),
        }
    }
}

/// Panics unless a header that came in part is never told from the whole one but by being unfinished.
#[cfg(any(test, fuzzing))]
pub fn prefixes_agree(bytes: &[u8]) {
    let whole = parse(bytes);
    for length in 0..bytes.len() {
        match parse(&bytes[..length]) {
            Ok(None) => {}
            verdict => assert_eq!(verdict, whole),
        }
    }
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
