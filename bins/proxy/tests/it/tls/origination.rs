//! An upstream's TLS.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::{Arc, Mutex};

use podkit_testkit::eventually;
use rcgen::{BasicConstraints, IsCa};
use rustls::ServerConfig;

use super::Certificates;
use crate::support::authority::{Authority, TlsServer, accept, connect};
use crate::support::{Client, Origin, Proxy, ok};

const HANDSHAKES: &str = "podkit_proxy_upstream_tls_handshakes_total";

/// An origin that speaks TLS, and does with each connection what `serve` says.
fn origin(config: ServerConfig, serve: impl Fn(TlsServer) + Send + Sync + 'static) -> Origin {
    let config = Arc::new(config);
    Origin::start(move |connection| {
        if let Ok(client) = accept(connection.stream, &config) {
            serve(client);
        }
    })
}

/// Answers each request with `answer`.
fn answering(answer: &'static str) -> impl Fn(TlsServer) + Send + Sync + 'static {
    move |mut client| {
        while client.head().is_ok() {
            let _ = client.stream.write_all(&ok(answer));
        }
    }
}

fn upstream(certificates: &Certificates, more: &str) -> String {
    format!("health: off, connect_timeout: 5s, tls: {{ca: {}/ca.crt, {more}}}", certificates.path().display())
}

#[test]
fn an_upstream_is_known_by_its_name_or_its_address() {
    let certificates = Certificates::new();
    let origin = origin(certificates.authority.issue("db.prod").server(), answering("secret"));
    for more in ["server_name: db.prod", "server_name: DB.prod.", "server_name: 127.0.0.1", ""] {
        let proxy = Proxy::yaml(origin.address, certificates.path(), "", &upstream(&certificates, more));
        let mut client = proxy.connect();
        for _ in 0..2 {
            assert_eq!(client.get("/").text(), "secret", "{more}");
        }
        assert_eq!(
            proxy.metric(HANDSHAKES, "upstream=\"app\",result=\"ok\"")
                + proxy.metric(HANDSHAKES, "result=\"ok\",upstream=\"app\""),
            1.0
        );
    }
    assert_eq!(origin.connections(), 4, "a connection is kept for the next request");
}

#[test]
fn an_upstream_that_cannot_be_trusted_gets_nothing() {
    let certificates = Certificates::new();
    let ca = &certificates.authority;
    let stranger = Authority::new("stranger");
    for (leaf, more, result, words) in [
        (stranger.issue("localhost"), "", "unknown_issuer", "was issued by an authority that is not known"),
        (
            ca.issue("db.prod"),
            "server_name: db.test",
            "name_mismatch",
            "its certificate is not for that name",
        ),
        (ca.issue_expired("localhost"), "", "expired", "its certificate has expired"),
        // As `openssl req -x509` makes them: rustls tells it in Debug form.
        (
            ca.issue_with(&["localhost", "127.0.0.1"], |params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
            "",
            "certificate_invalid",
            "the certificate is that of an authority: issue one with `CA:FALSE`",
        ),
    ] {
        let origin = origin(leaf.server(), answering("secret"));
        let proxy = Proxy::yaml(origin.address, certificates.path(), "", &upstream(&certificates, more));
        let response = proxy.connect().get("/");
        assert_eq!(response.status, 502, "{result}");
        let stderr = proxy.process.wait_for_stderr(words);
        let line = stderr.lines().find(|line| line.contains(words)).unwrap();
        for part in [&origin.address.to_string(), "cannot start TLS with", "web"] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        proxy.wait_for_metric(HANDSHAKES, &format!("result=\"{result}\""), 1.0);
        proxy.wait_for_metric("podkit_proxy_upstream_errors_total", "reason=\"tls\"", 1.0);
    }
}

#[test]
fn an_upstream_without_tls_is_told_apart() {
    let certificates = Certificates::new();
    let origin = Origin::start(|mut connection| {
        connection.more();
        connection.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let proxy = Proxy::yaml(origin.address, certificates.path(), "", &upstream(&certificates, ""));
    assert_eq!(proxy.connect().get("/").status, 502);
    proxy.process.wait_for_stderr("it does not speak TLS");
    proxy.wait_for_metric(HANDSHAKES, "result=\"not_tls\"", 1.0);
}

#[test]
fn the_public_authorities_are_known_without_files() {
    let certificates = Certificates::new();
    let origin = origin(certificates.authority.issue("localhost").server(), answering("secret"));
    let proxy = Proxy::yaml(origin.address, certificates.path(), "", "health: off, tls: {}");
    assert_eq!(proxy.connect().get("/").status, 502);
    proxy.wait_for_metric(HANDSHAKES, "result=\"unknown_issuer\"", 1.0);
}

#[test]
fn an_upstream_is_shown_our_certificate_and_the_new_one_after_a_rotation() {
    let certificates = Certificates::new();
    let server = certificates.authority.server(&certificates.issue("localhost"));
    let shown = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&shown);
    let origin = Origin::start(move |connection| {
        let Ok(mut client) = accept(connection.stream, &server) else { return };
        seen.lock().unwrap().push(client.stream.conn.peer_certificates().unwrap()[0].clone());
        while client.head().is_ok() {
            let _ = client
                .stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    let (first, second) = (certificates.issue("proxy"), certificates.issue("proxy"));
    first.write(certificates.path(), "proxy");
    let dir = certificates.path().display();
    let tls = upstream(&certificates, &format!("cert: {dir}/proxy.crt, key: {dir}/proxy.key"));
    let proxy = Proxy::yaml(origin.address, certificates.path(), "", &tls);
    assert_eq!(proxy.connect().get("/").text(), "ok");
    assert_eq!(shown.lock().unwrap().last().unwrap(), &first.chain()[0]);
    second.write(certificates.path(), "proxy");
    eventually("the new certificate is shown", || {
        assert_eq!(proxy.connect().get("/").status, 200);
        (shown.lock().unwrap().last().unwrap() == &second.chain()[0]).then_some(())
    });
    let labels = "role=\"upstream\"";
    assert!(proxy.metric("podkit_proxy_certificate_expiry_timestamp_seconds", labels) > 0.0);
}

#[test]
fn an_upstream_that_wants_a_certificate_says_so_in_the_log() {
    let certificates = Certificates::new();
    let server = certificates.authority.server(&certificates.issue("localhost"));
    let origin = Origin::start(move |connection| drop(accept(connection.stream, &server)));
    let proxy = Proxy::yaml(origin.address, certificates.path(), "", &upstream(&certificates, ""));
    assert_eq!(proxy.connect().get("/").status, 502);
    proxy.process.wait_for_stderr("it wants a client certificate");
}

#[test]
fn an_answer_that_ends_by_close_is_whole_only_with_the_end_of_tls() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nall there is";
    let certificates = Certificates::new();
    for is_whole in [true, false] {
        let origin = origin(certificates.issue("localhost").server(), move |mut client| {
            let _ = client.head();
            let _ = client.stream.write_all(ANSWER);
            if is_whole {
                client.stream.conn.send_close_notify();
            }
            let _ = client.stream.flush();
            let _ = client.stream.sock.shutdown(Shutdown::Write);
            let _ = client.stream.sock.read(&mut [0]);
        });
        let proxy = Proxy::yaml(origin.address, certificates.path(), "", &upstream(&certificates, ""));
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.0\r\n\r\n");
        let rest = client.rest();
        assert_eq!(rest.is_ok(), is_whole, "{rest:?}");
        if let Ok(rest) = rest {
            assert!(rest.ends_with(b"all there is"));
        }
    }
}

#[test]
fn tcp_passes_from_tls_to_tls_with_each_end_by_itself() {
    let certificates = Certificates::new();
    // Answers only once it has heard all.
    let origin = origin(certificates.issue("db.prod").server(), |mut client| {
        let heard = client.rest().unwrap();
        client.stream.write_all(format!("heard {} bytes", heard.len()).as_bytes()).unwrap();
        client.stream.conn.send_close_notify();
        client.stream.flush().unwrap();
    });
    let listener = format!("protocol: tcp, {}", certificates.yaml(""));
    let tls = upstream(&certificates, "server_name: db.prod");
    let proxy = Proxy::yaml(origin.address, certificates.path(), &listener, &tls);
    let mut client: Client<_> = connect(proxy.address(), certificates.authority.client(None));
    client.send(vec![7; 1_000_000]);
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert_eq!(client.rest().unwrap(), b"heard 1000000 bytes");
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
}
