//! The PROXY protocol, in and out: who the upstream is told of, and who may tell it.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use ppp::{v1, v2};
use rustls::{ClientConnection, StreamOwned};

use crate::support::authority::{Authority, accept};
use crate::support::{Client, Origin, Proxy, ok};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.9 50123 443\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
const REFUSED: &str = "podkit_proxy_refused_connections_total";

fn v2(command: v2::Command, ends: impl Into<v2::Addresses>) -> Vec<u8> {
    v2::Builder::with_addresses(v2::Version::Two | command, v2::Protocol::Stream, ends).build().unwrap()
}

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A proxy whose listener takes the header, with more YAML of its own.
fn taking(origin: &Origin, dir: &tempfile::TempDir, more: &str) -> Proxy {
    Proxy::yaml(origin.address, dir.path(), &format!("proxy_protocol: true, {more}"), "")
}

/// A proxy whose upstream is sent the header.
fn sending(origin: &Origin, dir: &tempfile::TempDir, version: &str, listener: &str) -> Proxy {
    Proxy::yaml(origin.address, dir.path(), listener, &format!("health: off, proxy_protocol: {version}"))
}

#[test]
fn the_client_of_the_header_is_the_one_that_the_upstream_is_told_of() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = taking(&origin, &dir, "");
    let with_extension = {
        let ends = (end("192.0.2.7:50123"), end("198.51.100.9:443"));
        let addresses = v2::Version::Two | v2::Command::Proxy;
        v2::Builder::with_addresses(addresses, v2::Protocol::Stream, ends)
            .write_tlv(v2::Type::Authority, b"shop.example")
            .unwrap()
            .build()
            .unwrap()
    };
    for (header, client) in [
        (V1.to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::9 50123 443\r\n".to_vec(), "2001:db8::7"),
        (with_extension, "192.0.2.7"),
        (v2(v2::Command::Proxy, (end("[2001:db8::7]:1"), end("[2001:db8::9]:2"))), "2001:db8::7"),
        // These speak for themselves.
        (v2(v2::Command::Local, (end("192.0.2.7:1"), end("198.51.100.9:2"))), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        let mut client_side = proxy.connect();
        // The request comes right behind, and a second one on the same connection has the same client.
        assert_eq!(client_side.send([&header, GET].concat()).response().text(), "hello");
        assert_eq!(client_side.get("/again").text(), "hello");
        let seen = origin.seen().concat();
        let heads: Vec<&str> = seen.rsplit("\r\n\r\n").skip(1).take(2).collect();
        for head in heads {
            assert!(head.contains(&format!("X-Forwarded-For: {client}")), "{client} is not in {head}");
        }
    }
}

#[test]
fn a_header_may_come_in_pieces() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = taking(&origin, &dir, "");
    for header in [V1.to_vec(), v2(v2::Command::Proxy, (end("192.0.2.7:1"), end("198.51.100.9:2")))] {
        let mut client = proxy.connect();
        for byte in [&header, GET].concat() {
            client.send([byte]);
            std::thread::yield_now();
        }
        assert_eq!(client.response().text(), "hello");
    }
    assert_eq!(origin.seen().concat().matches("X-Forwarded-For: 192.0.2.7\r\n").count(), 2);
}

#[test]
fn a_connection_without_a_sound_header_is_closed_and_counted() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = taking(&origin, &dir, "timeouts: {handshake: 300ms}");
    for (bytes, reason) in [
        (GET.to_vec(), "proxy_header_missing"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.9 99999 443\r\n".to_vec(), "proxy_header_invalid"),
        (b"PROXY TCP4 192.0.2.7\r\n".to_vec(), "proxy_header_invalid"),
        ([b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat(), "proxy_header_too_long"),
        (V1[..20].to_vec(), "proxy_header_timeout"),
    ] {
        let before = proxy.metric(REFUSED, reason);
        let mut client = proxy.connect();
        client.send(bytes);
        assert_eq!(client.rest().unwrap_or_default(), b"", "{reason}");
        proxy.wait_for_metric(REFUSED, reason, before + 1.0);
    }
    let mut leaving = proxy.connect();
    leaving.send(&V1[..20]);
    drop(leaving);
    proxy.wait_for_metric(REFUSED, "proxy_header_incomplete", 1.0);
    proxy.process.wait_for_stderr("a connection is refused: it does not begin with a PROXY protocol header");
    assert_eq!(origin.connections(), 0);
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
}

#[test]
fn only_those_that_are_trusted_may_speak_for_others() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = taking(&origin, &dir, "trust: [192.0.2.0/24]");
    let mut client = proxy.connect();
    // Refused before it has said anything.
    assert_eq!(client.rest().unwrap_or_default(), b"");
    proxy.wait_for_metric(REFUSED, "proxy_header_untrusted", 1.0);

    let proxy = taking(&origin, &dir, "trust: [127.0.0.0/8]");
    assert_eq!(proxy.connect().send([V1, GET].concat()).response().text(), "hello");
    assert!(origin.seen().concat().contains("X-Forwarded-For: 192.0.2.7\r\n"));
}

#[test]
fn the_header_comes_before_tls() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("authority");
    authority.issue("localhost").write(dir.path(), "tls");
    let at = dir.path().display();
    let proxy = taking(&origin, &dir, &format!("tls: {{cert: {at}/tls.crt, key: {at}/tls.key}}"));
    let mut stream = proxy.connect().stream;
    stream.write_all(V1).unwrap();
    let config = std::sync::Arc::new(authority.client(None));
    let tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut client = Client::over(StreamOwned::new(tls, stream));
    assert_eq!(client.get("/").text(), "hello");
    assert!(origin.seen().concat().contains("X-Forwarded-For: 192.0.2.7\r\n"));
}

/// An origin that answers each request with the header that its connection began with.
fn mirror() -> Origin {
    Origin::start(|mut connection| {
        let header = if connection.exactly(1).is_some_and(|first| first == b"P") {
            connection.until(b"\r\n").map(|rest| [b"P", rest.as_slice()].concat())
        } else {
            connection.exactly(15).and_then(|start| {
                let length = usize::from(u16::from_be_bytes([start[13], start[14]]));
                let rest = connection.exactly(length)?;
                Some([b"\r", start.as_slice(), &rest].concat())
            })
        };
        let Some(header) = header else { return };
        let text = header.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        while connection.request().is_some() {
            connection.send(ok(&text));
        }
    })
}

/// The ends that a mirror's answer tells.
fn told(answer: &str) -> Option<(SocketAddr, SocketAddr)> {
    let byte = |at: usize| u8::from_str_radix(&answer[at..at + 2], 16).unwrap();
    let header: Vec<u8> = (0..answer.len()).step_by(2).map(byte).collect();
    if header.starts_with(b"PROXY") {
        match v1::Header::try_from(header.as_slice()).unwrap().addresses {
            v1::Addresses::Tcp4(ip) => Some((
                (ip.source_address, ip.source_port).into(),
                (ip.destination_address, ip.destination_port).into(),
            )),
            other => panic!("{other:?}"),
        }
    } else {
        match v2::Header::try_from(header.as_slice()).unwrap().addresses {
            v2::Addresses::IPv4(ip) => Some((
                (ip.source_address, ip.source_port).into(),
                (ip.destination_address, ip.destination_port).into(),
            )),
            v2::Addresses::Unspecified => None,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_upstream_is_told_of_each_client_on_a_connection_of_its_own() {
    for version in ["v1", "v2"] {
        let origin = mirror();
        let dir = tempfile::tempdir().unwrap();
        let proxy = sending(&origin, &dir, version, "");
        let mut clients = [proxy.connect(), proxy.connect()];
        for _ in 0..2 {
            for client in &mut clients {
                let ends = (client.stream.local_addr().unwrap(), proxy.address());
                assert_eq!(told(client.get("/").text()), Some(ends), "{version}");
            }
        }
        assert_eq!(origin.connections(), 4, "no connection is shared");
    }
}

#[test]
fn a_check_of_the_upstreams_health_speaks_for_itself() {
    for version in ["v1", "v2"] {
        let origin = mirror();
        let dir = tempfile::tempdir().unwrap();
        let upstream = format!("proxy_protocol: {version}, health: {{path: /healthz}}");
        let _proxy = Proxy::yaml(origin.address, dir.path(), "", &upstream);
        origin.wait_for("GET /healthz");
        let seen = origin.seen().concat();
        let local: &str = if version == "v1" { "PROXY UNKNOWN\r\nGET /" } else { "QUIT\n \0\0\0GET /" };
        assert!(seen.contains(local), "{seen:?}");
    }
}

#[test]
fn a_chain_of_proxies_passes_the_client_on() {
    for version in ["v1", "v2"] {
        let origin = mirror();
        let dir = tempfile::tempdir().unwrap();
        let proxy = sending(&origin, &dir, version, "proxy_protocol: true");
        let answer = proxy.connect().send([V1, GET].concat()).response();
        assert_eq!(told(answer.text()), Some((end("192.0.2.7:50123"), end("198.51.100.9:443"))));
    }
}

#[test]
fn tcp_has_the_header_in_front_of_its_bytes_and_before_tls() {
    let authority = Authority::new("authority");
    let dir = tempfile::tempdir().unwrap();
    authority.write(dir.path());
    let config = std::sync::Arc::new(authority.issue("localhost").server());
    let origin = Origin::start(move |mut connection| {
        let mut header = Vec::new();
        while !header.ends_with(b"\n") {
            // Not a byte of TLS.
            let mut byte = [0];
            connection.stream.read_exact(&mut byte).unwrap();
            header.extend(byte);
        }
        let mut client = accept(connection.stream, &config).unwrap();
        assert_eq!(client.exactly(4).unwrap(), b"ping");
        client.stream.write_all(&header).unwrap();
        // An end without TLS's own is a reset for the client, which may take the bytes along.
        let _ = client.rest();
    });
    let tls = format!("proxy_protocol: v1, tls: {{ca: {}/ca.crt}}", dir.path().display());
    let proxy = Proxy::yaml(origin.address, dir.path(), "protocol: tcp", &tls);
    let mut client = proxy.connect();
    client.send("ping");
    let (from, to) = (client.stream.local_addr().unwrap(), proxy.address());
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), to.port());
    assert_eq!(client.until(b"\r\n").unwrap(), expected);
}
