//! Sessions of both sides against each other, and against rustls' own buffered connections.

use std::io::{Read as _, Write as _};

use proptest::prelude::*;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, RootCertStore, ServerConnection, SupportedProtocolVersion};

use super::*;
use crate::tls::provider;

fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = Alpn::Both.protocols();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn name() -> ServerName<'static> {
    "localhost".try_into().unwrap()
}

fn pair(version: &'static SupportedProtocolVersion) -> (Session, Session) {
    let (server, client) = configs(version);
    let mut server = Session::server(server).unwrap();
    let mut client = Session::client(client, name(), Alpn::Both).unwrap();
    // A client speaks first.
    client.settle().unwrap();
    while server.is_handshaking() || client.is_handshaking() {
        for _ in 0..2 {
            move_records(&mut client, &mut server, usize::MAX);
            move_records(&mut server, &mut client, usize::MAX);
        }
    }
    assert_eq!((server.alpn(), client.alpn()), (Some(b"h2".as_slice()), Some(b"h2".as_slice())));
    (client, server)
}

/// Moves records from one to the other, at most so many bytes a time.
fn move_records(from: &mut Session, to: &mut Session, step: usize) {
    while !from.output().is_empty() {
        move_bytes(from, to, step);
        to.settle().unwrap();
    }
}

/// Moves at most so many bytes, as the network does: it knows of no records.
fn move_bytes(from: &mut Session, to: &mut Session, most: usize) {
    let space = to.space();
    let count = from.output().len().min(most).min(space.len());
    space[..count].copy_from_slice(&from.output()[..count]);
    to.received(count);
    from.sent(count);
}

/// Reads all that has arrived, `step` bytes a time; true at the end.
fn drain(session: &mut Session, into: &mut Vec<u8>, step: usize) -> bool {
    let mut space = vec![0; step];
    loop {
        match session.read(&mut space).unwrap() {
            None => return false,
            Some(0) => return true,
            Some(count) => into.extend_from_slice(&space[..count]),
        }
    }
}

fn holds_nothing(session: &Session) -> bool {
    session.input.is_none() && session.output.is_none() && session.aside.is_empty()
}

#[test]
fn an_idle_session_holds_no_buffer() {
    for version in [&TLS12, &TLS13] {
        let (mut client, mut server) = pair(version);
        let mut got = Vec::new();
        move_records(&mut server, &mut client, usize::MAX);
        assert_eq!(client.write([b"GET /", b" HTTP/1.1"]).unwrap(), 14);
        move_records(&mut client, &mut server, usize::MAX);
        assert!(!drain(&mut server, &mut got, 100));
        assert!(holds_nothing(&client) && holds_nothing(&server));
        assert_eq!(got, b"GET / HTTP/1.1");
    }
}

#[test]
fn small_spans_are_one_record_and_large_ones_fill_the_buffer() {
    let (mut client, _) = pair(&TLS13);
    client.write([&[1; 300], &[2; 1000]]).unwrap();
    assert_eq!(client.output().len(), 1300 + 22);
    client.sent(1322);
    let count = client.write([&[1; 300], &[2; 30_000]]).unwrap();
    assert!(count > 300 + 16_384, "{count}");
    assert_eq!(client.output().len(), count + 3 * 22);
}

#[test]
fn a_write_between_two_reads_loses_nothing_that_has_arrived() {
    let (mut client, mut server) = pair(&TLS13);
    for part in [[1_u8; 1000], [2; 1000], [3; 1000]] {
        client.write([&part, &[]]).unwrap();
        let sent = client.output().to_vec();
        server.space()[..sent.len()].copy_from_slice(&sent);
        server.received(sent.len());
        client.sent(sent.len());
    }
    let mut space = [0; 1000];
    assert_eq!(server.read(&mut space).unwrap(), Some(1000));
    assert!(server.has_plain(), "two records wait");
    server.write([b"answer", &[]]).unwrap();
    let mut got = Vec::new();
    assert!(!drain(&mut server, &mut got, 300));
    assert_eq!(got, [[2; 1000], [3; 1000]].concat());
}

#[test]
fn the_end_is_told_and_what_follows_it_is_ignored() {
    let (mut client, mut server) = pair(&TLS12);
    client.write([b"last", &[]]).unwrap();
    move_records(&mut client, &mut server, usize::MAX);
    client.close().unwrap();
    client.close().unwrap();
    move_records(&mut client, &mut server, usize::MAX);
    let mut got = Vec::new();
    assert!(drain(&mut server, &mut got, 100));
    assert_eq!(got, b"last");
    assert!(server.has_plain());
    // Our own direction is open.
    server.write([b"answer", &[]]).unwrap();
    move_records(&mut server, &mut client, usize::MAX);
    let mut answer = Vec::new();
    assert!(!drain(&mut client, &mut answer, 100));
    assert_eq!(answer, b"answer");
}

#[test]
fn a_failure_leaves_an_alert_to_send_and_stays() {
    let (mut client, mut server) = pair(&TLS13);
    client.write([b"hello", &[]]).unwrap();
    let mut record = client.output().to_vec();
    *record.last_mut().unwrap() ^= 1;
    server.space()[..record.len()].copy_from_slice(&record);
    server.received(record.len());
    assert_eq!(server.read(&mut [0; 10]).unwrap_err(), Error::DecryptError);
    assert!(!server.output().is_empty());
    assert_eq!(server.read(&mut [0; 10]).unwrap_err(), Error::DecryptError);
    assert!(server.write([b"x", &[]]).is_err());
}

#[test]
fn bytes_that_are_not_tls_fail_at_once() {
    let (config, _) = configs(&TLS13);
    let mut server = Session::server(config).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    server.space()[..request.len()].copy_from_slice(request);
    server.received(request.len());
    assert_eq!(server.first_byte(), Some(b'G'));
    assert!(matches!(server.settle().unwrap_err(), Error::InvalidMessage(_)));
}

/// As `openssl s_client` or any other peer: rustls' buffered connections share no code with our buffers.
#[test]
fn other_peers_understand_us() {
    for version in [&TLS12, &TLS13] {
        let (server_config, client_config) = configs(version);
        let mut server = Session::server(Arc::clone(&server_config)).unwrap();
        let mut client = ClientConnection::new(Arc::clone(&client_config), name()).unwrap();
        let text = b"hello ".repeat(10_000);
        client.writer().write_all(&text[..16_000]).unwrap();
        let mut got = Vec::new();
        while got.len() < 16_000 || client.wants_write() {
            let mut records = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut records).unwrap();
            }
            for part in records.chunks(700) {
                server.space()[..part.len()].copy_from_slice(part);
                server.received(part.len());
                drain(&mut server, &mut got, 500);
            }
            let mut answer = server.output().to_vec();
            server.sent(answer.len());
            while !answer.is_empty() {
                let count = client.read_tls(&mut answer.as_slice()).unwrap();
                answer.drain(..count);
                client.process_new_packets().unwrap();
            }
        }
        assert!(got == text[..16_000]);

        let mut session = Session::client(client_config, name(), Alpn::Http1).unwrap();
        let mut peer = ServerConnection::new(server_config).unwrap();
        session.settle().unwrap();
        let (mut written, mut got) = (0, Vec::new());
        while got.len() < text.len() {
            if !session.is_handshaking() && session.output().is_empty() {
                written += session.write([&text[written..], &[]]).unwrap();
            }
            let count = session.output().len();
            let mut records = session.output().to_vec();
            session.sent(count);
            while !records.is_empty() {
                let count = peer.read_tls(&mut records.as_slice()).unwrap();
                records.drain(..count);
                peer.process_new_packets().unwrap();
                let mut chunk = [0; 20_000];
                while let Ok(count @ 1..) = peer.reader().read(&mut chunk) {
                    got.extend_from_slice(&chunk[..count]);
                }
            }
            let mut answer = Vec::new();
            while peer.wants_write() {
                peer.write_tls(&mut answer).unwrap();
            }
            session.space()[..answer.len()].copy_from_slice(&answer);
            session.received(answer.len());
            session.settle().unwrap();
        }
        assert!(got == text);
        assert_eq!(peer.alpn_protocol(), Some(b"http/1.1".as_slice()));
    }
}

#[test]
fn keys_may_be_renewed_in_the_middle() {
    let (server_config, client_config) = configs(&TLS13);
    let mut server = Session::server(server_config).unwrap();
    let mut client = ClientConnection::new(client_config, name()).unwrap();
    let exchange = |client: &mut ClientConnection, server: &mut Session, got: &mut Vec<u8>| {
        let mut records = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut records).unwrap();
        }
        server.space()[..records.len()].copy_from_slice(&records);
        server.received(records.len());
        drain(server, got, 500);
        server.settle().unwrap();
        let mut answer = server.output().to_vec();
        server.sent(answer.len());
        while !answer.is_empty() {
            let count = client.read_tls(&mut answer.as_slice()).unwrap();
            answer.drain(..count);
            client.process_new_packets().unwrap();
        }
    };
    let mut got = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        exchange(&mut client, &mut server, &mut got);
    }
    for _ in 0..3 {
        client.writer().write_all(b"before ").unwrap();
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"after ").unwrap();
        exchange(&mut client, &mut server, &mut got);
        // With the keys that it was asked for.
        server.write([b"answer", &[]]).unwrap();
        exchange(&mut client, &mut server, &mut got);
        let mut answer = [0; 6];
        client.reader().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
    assert_eq!(got, b"before after ".repeat(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bytes_pass_whole_however_they_are_split(
        is_12: bool,
        parts in proptest::collection::vec((0_usize..40_000, 0_usize..3000), 1..6),
        (network, reads) in (1_usize..30_000, 1_usize..20_000),
    ) {
        let (mut client, mut server) = pair(if is_12 { &TLS12 } else { &TLS13 });
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (at, (first, second)) in parts.into_iter().enumerate() {
            let bytes: Vec<u8> = (0..first + second).map(|byte| (byte % 251) as u8 ^ at as u8).collect();
            sent.extend_from_slice(&bytes);
            let (mut one, mut two) = bytes.split_at(first);
            while !(one.is_empty() && two.is_empty()) {
                let count = client.write([one, two]).unwrap();
                prop_assert!(count > 0);
                let of_one = count.min(one.len());
                (one, two) = (&one[of_one..], &two[count - of_one..]);
                while !client.output().is_empty() {
                    move_bytes(&mut client, &mut server, network);
                    prop_assert!(!drain(&mut server, &mut got, reads));
                }
            }
        }
        prop_assert!(got == sent);
    }

    #[test]
    fn no_bytes_panic_or_fill_the_memory(
        starts_well: bool, records in proptest::collection::vec((20_u8..25, 0_u8..5, proptest::collection::vec(any::<u8>(), 0..600)), 1..8),
        rest in proptest::collection::vec(any::<u8>(), 0..100), step in 1_usize..700,
    ) {
        let (server, client) = configs(&TLS13);
        let mut bytes = Vec::new();
        if starts_well {
            let mut client = Session::client(client, name(), Alpn::Both).unwrap();
            client.settle().unwrap();
            bytes.extend_from_slice(client.output());
        }
        for (kind, version, payload) in records {
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            bytes.extend([kind, 3, version, length[0], length[1]]);
            bytes.extend(payload);
        }
        bytes.extend(rest);
        let mut server = Session::server(server).unwrap();
        for part in bytes.chunks(step) {
            server.space()[..part.len()].copy_from_slice(part);
            server.received(part.len());
            let sent = server.output().len();
            server.sent(sent);
            if server.settle().is_err() {
                break;
            }
        }
        prop_assert!(server.is_handshaking());
        prop_assert!(server.write([b"x", &[]]).is_err() || starts_well);
    }
}
