//! A listener's TLS.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Arc;

use podkit_testkit::Signal;
use rcgen::{DnType, SanType};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use super::Certificates;
use crate::support::authority::{Authority, connect, try_connect};
use crate::support::{Client, Origin, Proxy, ok};

const HANDSHAKES: &str = "podkit_proxy_tls_handshakes_total";

fn handshakes(proxy: &Proxy, result: &str, count: f64) {
    proxy.wait_for_metric(HANDSHAKES, &format!("result=\"{result}\""), count);
}

#[test]
fn both_versions_of_tls_are_spoken_and_connections_are_kept() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    for version in [&TLS12, &TLS13] {
        let config = certificates.authority.client_of(None, &[version]);
        let mut client = connect(proxy.address(), config);
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "hello");
        }
        assert_eq!(client.stream.conn.protocol_version(), Some(version.version));
    }
    assert_eq!(origin.connections(), 1);
    handshakes(&proxy, "ok", 2.0);
}

#[test]
fn http_is_agreed_on_by_name_and_nothing_else() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    let offering = |protocols: &[&str]| {
        let mut config = certificates.authority.client(None);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        try_connect(proxy.address(), &Arc::new(config))
    };
    let agreed = |protocols: &[&str]| {
        let client = offering(protocols).unwrap();
        client.stream.conn.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap())
    };
    assert_eq!(agreed(&["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&["http/1.1", "h2"]).as_deref(), Some("h2"));
    assert_eq!(agreed(&[]), None);
    let error = offering(&["imap"]).err().unwrap().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    handshakes(&proxy, "no_common_protocol", 1.0);
}

#[test]
fn a_client_goes_on_with_its_session() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(certificates.authority.client_of(None, &[version]));
        let kinds = [(); 3].map(|()| {
            let mut client = try_connect(proxy.address(), &config).unwrap();
            // The ticket comes before the answer.
            assert_eq!(client.get("/").status, 200);
            client.stream.conn.handshake_kind().unwrap()
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
    }
}

#[test]
fn long_bodies_pass_whole_in_both_directions() {
    let certificates = Certificates::new();
    let origin = Origin::http(|_, body| ok(&[b"got ", body].concat()));
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    for version in [&TLS12, &TLS13] {
        let mut client = connect(proxy.address(), certificates.authority.client_of(None, &[version]));
        for _ in 0..2 {
            let head = format!("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: {}\r\n\r\n", body.len());
            client.send([head.as_bytes(), &body].concat());
            let response = client.response();
            assert!(response.body[..4] == *b"got " && response.body[4..] == body);
        }
    }
}

#[test]
fn a_client_must_show_a_certificate_where_one_is_required() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let proxy =
        Proxy::yaml(origin.address, certificates.path(), &certificates.yaml_of_clients("required"), "");
    let stranger = Authority::new("stranger");
    let good = certificates.authority.issue_with(&[], |params| {
        params.distinguished_name.push(DnType::OrganizationName, "Shop, \"Ltd\"");
        params.distinguished_name.push(DnType::CommonName, "cart");
        params.subject_alt_names = vec![
            SanType::URI("spiffe://cluster.local/ns/shop/sa/cart".try_into().unwrap()),
            SanType::DnsName("cart.shop".try_into().unwrap()),
        ];
    });
    for version in [&TLS12, &TLS13] {
        for (identity, alert) in [
            (None, "CertificateRequired"),
            (Some(&stranger.issue("cart")), "UnknownCA"),
            (Some(&certificates.authority.issue_expired("cart")), "CertificateExpired"),
        ] {
            let config = certificates.authority.client_of(identity, &[version]);
            // In TLS 1.3 a client takes the handshake for done before its certificate is looked at.
            let error = match try_connect(proxy.address(), &Arc::new(config)) {
                Ok(mut client) => {
                    // The proxy may have closed already.
                    let _ = client.stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
                    client.try_response(false).unwrap_err()
                }
                Err(error) => error.to_string(),
            };
            assert!(error.contains(alert), "{version:?}: {error}");
        }
        let mut client = connect(proxy.address(), certificates.authority.client_of(Some(&good), &[version]));
        assert_eq!(client.get(&format!("/{version:?}")).status, 200);
    }
    handshakes(&proxy, "no_client_certificate", 2.0);
    handshakes(&proxy, "client_certificate_unknown_issuer", 2.0);
    handshakes(&proxy, "client_certificate_expired", 2.0);
    handshakes(&proxy, "ok", 2.0);
    proxy.process.wait_for_stderr("client_certificate");
    let told = "Subject=\"O=Shop\\, \\\"Ltd\\\",CN=cart\";URI=spiffe://cluster.local/ns/shop/sa/cart;DNS=cart.shop\r\n";
    for seen in origin.seen() {
        let field = seen.lines().find(|line| line.starts_with("X-Forwarded-Client-Cert: Hash="));
        assert!(field.is_some() && seen.contains(told), "{seen}");
    }
}

#[test]
fn what_is_told_of_a_client_is_never_its_own_word() {
    const FORGED: &str = "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-Client-Cert: Hash=00;URI=spiffe://admin\r\n\
        x-forwarded-client-cert: Hash=11\r\nX-FORWARDED-CLIENT-CERT:\r\n\r\n";
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let proxy =
        Proxy::yaml(origin.address, certificates.path(), &certificates.yaml_of_clients("optional"), "");
    let told = || {
        let last = origin.seen().concat();
        let head = last.rsplit("\r\n\r\n").nth(1).unwrap().to_ascii_lowercase();
        let fields = head.lines().filter_map(|line| line.strip_prefix("x-forwarded-client-cert:"));
        fields.map(|value| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let mut anonymous = connect(proxy.address(), certificates.authority.client(None));
    assert_eq!(anonymous.send(FORGED).response().status, 200);
    assert_eq!(told(), [""; 0]);

    let mut known =
        connect(proxy.address(), certificates.authority.client(Some(&certificates.issue("cart"))));
    for _ in 0..2 {
        assert_eq!(known.send(FORGED).response().status, 200);
        let [value] = told().try_into().unwrap();
        assert!(value.starts_with("hash=") && value.ends_with(";subject=\"cn=cart\";dns=cart"), "{value}");
    }
    // A listener without TLS knows nobody, and believes nobody.
    let plain = Proxy::http(origin.address);
    assert_eq!(plain.connect().send(FORGED).response().status, 200);
    assert_eq!(told(), [""; 0]);

    let stranger = Authority::new("stranger").issue("cart");
    let mut refused = connect(proxy.address(), certificates.authority.client(Some(&stranger)));
    let _ = refused.stream.write_all(FORGED.as_bytes());
    assert!(refused.try_response(false).unwrap_err().contains("UnknownCA"));
}

#[test]
fn a_request_that_is_cut_short_is_not_taken_for_whole() {
    let certificates = Certificates::new();
    let origin = Origin::start(|connection| drop(connection.drain()));
    let tls = certificates.yaml("");
    let proxy = Proxy::yaml(origin.address, certificates.path(), &format!("protocol: tcp, {tls}"), "");
    // Without TLS's end the upstream's connection must not end in order.
    let (ended, end) = std::sync::mpsc::channel();
    let recorder = Origin::start(move |mut connection| {
        let mut rest = Vec::new();
        let _ = ended.send(connection.stream.read_to_end(&mut rest).map(|_| rest));
    });
    let other = Proxy::yaml(recorder.address, certificates.path(), &format!("protocol: tcp, {tls}"), "");
    drop(proxy);
    let mut client = connect(other.address(), certificates.authority.client(None));
    client.send("half of it");
    client.stream.sock.shutdown(Shutdown::Write).unwrap();
    assert!(end.recv().unwrap().is_err(), "the origin took the half for the whole");

    let mut client = connect(other.address(), certificates.authority.client(None));
    client.send("all of it");
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert_eq!(end.recv().unwrap().unwrap(), b"all of it");
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let listener = format!("{}, timeouts: {{handshake: 200ms}}", certificates.yaml(""));
    let proxy = Proxy::yaml(origin.address, certificates.path(), &listener, "");
    let mut silent = proxy.connect();
    let mut slow = proxy.connect();
    // The first bytes of a handshake record.
    slow.send([22, 3, 1, 2]);
    assert_eq!(silent.rest().unwrap_or_default(), b"");
    assert_eq!(slow.rest().unwrap_or_default(), b"");
    handshakes(&proxy, "timeout", 2.0);
    drop(proxy.connect());
    handshakes(&proxy, "closed", 1.0);
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
}

#[test]
fn a_client_without_tls_is_told_so() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    let mut client = proxy.connect();
    let response = client.get("/");
    assert_eq!((response.status, response.closes()), (400, true));
    assert!(response.text().contains("https://"), "{}", response.text());
    assert_eq!(client.rest().unwrap(), b"");
    handshakes(&proxy, "not_tls", 1.0);

    let tcp = format!("protocol: tcp, {}", certificates.yaml(""));
    let proxy = Proxy::yaml(origin.address, certificates.path(), &tcp, "");
    let mut client = proxy.connect();
    client.send("PING\r\n");
    assert_eq!(client.rest().unwrap_or_default(), b"");
    handshakes(&proxy, "not_tls", 1.0);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_stop_ends_the_requests_in_flight_and_then_tls() {
    let certificates = Certificates::new();
    let (go, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::http(move |head, _| {
        if head.starts_with("GET /slow") {
            wait.lock().unwrap().recv().unwrap();
        }
        ok("done")
    });
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    let mut idle = connect(proxy.address(), certificates.authority.client(None));
    assert_eq!(idle.get("/").text(), "done");
    let mut busy = connect(proxy.address(), certificates.authority.client(None));
    busy.send("GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n");
    origin.wait_for("/slow");
    proxy.process.signal(Signal::SIGTERM);
    proxy.wait_for_phase("stopping");
    go.send(()).unwrap();
    let response = busy.response();
    assert_eq!((response.text(), response.closes()), ("done", true));
    for mut client in [idle, busy] {
        // An end without TLS's own would be an error here.
        assert_eq!(client.rest().unwrap(), b"");
    }
    proxy.process.wait().expect_exit(0);
}

#[test]
fn broken_records_end_the_connection_with_an_alert() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    let mut client = connect(proxy.address(), certificates.authority.client(None));
    assert_eq!(client.get("/").status, 200);
    // A record of application data that nobody has encrypted.
    client.stream.sock.write_all(&[&[23, 3, 3, 0, 40][..], &[0; 40]].concat()).unwrap();
    let error = client.try_response(false).unwrap_err();
    assert!(error.contains("BadRecordMac"), "{error}");
    let mut client = connect(proxy.address(), certificates.authority.client(None));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn an_answer_ends_before_the_connection_does() {
    let certificates = Certificates::new();
    let origin = Origin::http(|_, _| ok("bye"));
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    let mut client: Client<_> = connect(proxy.address(), certificates.authority.client(None));
    client.send("GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().text(), "bye");
    // An end without TLS's own would be an error here.
    assert_eq!(client.rest().unwrap(), b"");
}
