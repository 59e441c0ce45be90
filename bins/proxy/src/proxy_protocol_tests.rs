//! Headers as others write them, bent ones, and any bytes at all.

use ppp::{v1, v2};
use proptest::prelude::*;

use super::*;

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// A version 2 header by its bytes 13, 14 and what follows the length.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [V2_MAGIC, [command, family, length[0], length[1]].as_slice(), rest].concat()
}

#[test]
fn version_1_is_read() {
    let v4 = ends("192.0.2.1:56324", "198.51.100.7:443");
    let v6 = ends("[2001:db8::1]:1", "[::1]:65535");
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", Some(v4)),
        ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", Some(v6)),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN whatever 1 2 3\r\n", None),
    ] {
        let header = Header { length: line.len(), ends: expected };
        assert_eq!(parse(format!("{line}GET /").as_bytes()), Ok(Some(header)), "{line:?}");
    }
}

#[test]
fn version_2_is_read_and_its_extensions_are_skipped() {
    let addresses = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb];
    let expected = Some(ends("192.0.2.1:56324", "198.51.100.7:443"));
    let extended = [addresses.as_slice(), &[0x04, 0, 3, 1, 2, 3]].concat();
    for rest in [addresses.as_slice(), &extended] {
        let bytes = v2(0x21, 0x11, rest);
        let header = Header { length: bytes.len(), ends: expected };
        assert_eq!(parse(&[&bytes, b"GET /".as_slice()].concat()), Ok(Some(header)));
    }
}

#[test]
fn a_sender_that_speaks_for_itself_keeps_its_own_address() {
    let addresses = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb];
    for bytes in
        [v2(0x20, 0x11, &addresses), v2(0x20, 0, &[]), v2(0x21, 0, &[7; 20]), v2(0x21, 0x31, &[0; 216])]
    {
        assert_eq!(parse(&bytes), Ok(Some(Header { length: bytes.len(), ends: None })), "{bytes:?}");
    }
}

#[test]
fn what_is_not_a_header_is_told_apart_from_a_malformed_one() {
    for bytes in [b"GET / HTTP/1.1\r\n".as_slice(), b"\x16\x03\x01", b"proxy TCP4", b"\r\n\r\nQUIT"] {
        assert_eq!(parse(bytes), Err(Malformed::Missing), "{bytes:?}");
    }
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 1\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 +56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 056324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.7 -1 443\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.7 56324 443\r\n",
        "PROXY TCP4 ::1 ::1 56324 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.7 56324 443\r\n",
        "PROXY TCP6 fe80::1%1 ::1 56324 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.7 56324 443\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY TCP4 \u{0661}92.0.2.1 198.51.100.7 56324 443\r\n",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(Malformed::Invalid), "{line:?}");
    }
    for bytes in [
        v2(0x11, 0x11, &[0; 12]),
        v2(0x22, 0x11, &[0; 12]),
        v2(0x21, 0x41, &[0; 12]),
        v2(0x21, 0x13, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x21, &[0; 35]),
    ] {
        assert_eq!(parse(&bytes), Err(Malformed::Invalid), "{bytes:?}");
    }
}

#[test]
fn a_header_without_end_is_refused_at_its_limit() {
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    assert_eq!(parse(&endless[..V1_LIMIT - 1]), Ok(None));
    assert_eq!(parse(&endless[..V1_LIMIT]), Err(Malformed::TooLong));
    let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(longest.len(), V1_LIMIT);
    assert!(parse(longest.as_bytes()).unwrap().is_some());
    let whole = v2(0x21, 0, &vec![0; V2_LIMIT - V2_FIXED]);
    assert_eq!(parse(&whole), Ok(Some(Header { length: LIMIT, ends: None })));
    assert_eq!(parse(&v2(0x21, 0, &vec![0; V2_LIMIT - V2_FIXED + 1])[..16]), Err(Malformed::TooLong));
}

#[test]
fn ends_of_two_families_are_sent_as_one() {
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let read = |source, destination| {
            parse(&header(version, Some(ends(source, destination)))).unwrap().unwrap().ends.unwrap()
        };
        let mixed = read("192.0.2.1:1", "[2001:db8::1]:2");
        assert_eq!(mixed, ends("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2"));
        let mapped = read("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2");
        assert_eq!(mapped, ends("192.0.2.1:1", "192.0.2.2:2"));
    }
}

fn any_ends() -> impl Strategy<Value = Ends> {
    (any::<(IpAddr, IpAddr)>(), any::<(u16, u16)>()).prop_map(|(ips, ports)| Ends {
        source: SocketAddr::new(ips.0, ports.0),
        destination: SocketAddr::new(ips.1, ports.1),
    })
}

fn any_version() -> impl Strategy<Value = ProxyProtocol> {
    prop_oneof![Just(ProxyProtocol::V1), Just(ProxyProtocol::V2)]
}

/// Bytes that come near a header.
fn near_a_header() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(b"PROXY ".to_vec()),
        Just(b"PROXY TCP4 ".to_vec()),
        Just(b"PROXY TCP6 ".to_vec()),
        Just(V2_MAGIC.to_vec()),
        Just([V2_MAGIC.as_slice(), &[0x21, 0x11, 0]].concat()),
        Just(Vec::new()),
    ];
    let rest = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        "[0-9a-f.: \r\n]{0,120}".prop_map(String::into_bytes)
    ];
    (start, rest).prop_map(|(start, rest)| [start, rest].concat())
}

proptest! {
    #[test]
    fn no_bytes_panic_and_more_bytes_never_change_a_verdict(bytes in near_a_header()) {
        prefixes_agree(&bytes);
    }

    #[test]
    fn what_is_sent_is_read_back_however_it_is_split(
        ends in proptest::option::of(any_ends()), version in any_version(), follows in any::<Vec<u8>>()
    ) {
        let sent = header(version, ends);
        for length in 0..sent.len() {
            prop_assert_eq!(parse(&sent[..length]), Ok(None));
        }
        let expected = Header { length: sent.len(), ends: ends.map(Ends::of_one_family) };
        prop_assert_eq!(parse(&[sent, follows].concat()), Ok(Some(expected)));
    }

    #[test]
    fn others_read_what_we_send(ends in any_ends(), version in any_version()) {
        let sent = header(version, Some(ends));
        let Ends { source, destination } = ends.of_one_family();
        let (from, to) = match version {
            ProxyProtocol::V1 => match v1::Header::try_from(sent.as_slice()).unwrap().addresses {
                v1::Addresses::Tcp4(ip) => (
                    SocketAddr::from((ip.source_address, ip.source_port)),
                    SocketAddr::from((ip.destination_address, ip.destination_port)),
                ),
                v1::Addresses::Tcp6(ip) => (
                    SocketAddr::from((ip.source_address, ip.source_port)),
                    SocketAddr::from((ip.destination_address, ip.destination_port)),
                ),
                v1::Addresses::Unknown => unreachable!("addresses were sent"),
            },
            ProxyProtocol::V2 => match v2::Header::try_from(sent.as_slice()).unwrap().addresses {
                v2::Addresses::IPv4(ip) => (
                    SocketAddr::from((ip.source_address, ip.source_port)),
                    SocketAddr::from((ip.destination_address, ip.destination_port)),
                ),
                v2::Addresses::IPv6(ip) => (
                    SocketAddr::from((ip.source_address, ip.source_port)),
                    SocketAddr::from((ip.destination_address, ip.destination_port)),
                ),
                other => unreachable!("addresses were sent, not {other:?}"),
            },
        };
        prop_assert_eq!((from, to), (source, destination));
    }
}
