//! Certificates that change while they are in use.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use podkit_testkit::{eventually, free_port, program};
use rustls::pki_types::CertificateDer;

use super::Certificates;
use crate::support::authority::{Authority, Leaf, connect, try_connect};
use crate::support::{Origin, Proxy};

const RELOADS: &str = "podkit_proxy_certificate_reloads_total";

/// The certificate that the proxy shows now.
fn shown(proxy: &Proxy, certificates: &Certificates) -> CertificateDer<'static> {
    let client = connect(proxy.address(), certificates.authority.client(None));
    client.stream.conn.peer_certificates().unwrap()[0].clone()
}

/// Puts a pair in place as the kubelet does: all files of a new directory at once, by one rename.
fn swap(dir: &Path, generation: &str, leaf: &Leaf) {
    let fresh = dir.join(generation);
    fs::create_dir(&fresh).unwrap();
    leaf.write(&fresh, "tls");
    symlink(generation, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[test]
fn a_rotation_under_load_fails_no_request() {
    let certificates = Certificates::new();
    let dir = tempfile::tempdir().unwrap();
    let leaves = [(); 4].map(|()| certificates.issue("localhost"));
    swap(dir.path(), "..1", &leaves[0]);
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    let origin = Origin::hello();
    let at = dir.path().display();
    let tls = format!("tls: {{cert: {at}/tls.crt, key: {at}/tls.key}}");
    let proxy = Proxy::yaml(origin.address, dir.path(), &tls, "");
    let stop = AtomicBool::new(false);
    let config = Arc::new(certificates.authority.client(None));
    let ask = |is_kept: bool| {
        let mut asked = 0;
        let mut kept = None;
        while !stop.load(Ordering::Relaxed) || asked < 10 {
            let mut client =
                kept.take().unwrap_or_else(|| try_connect(proxy.address(), &config).expect("a handshake"));
            assert_eq!(client.get("/").text(), "hello");
            asked += 1;
            kept = is_kept.then_some(client);
        }
    };
    std::thread::scope(|scope| {
        let clients = [true, true, false, false].map(|is_kept| scope.spawn(move || ask(is_kept)));
        for (at, leaf) in leaves.iter().enumerate().skip(1) {
            swap(dir.path(), &format!("..{}", at + 1), leaf);
            eventually("the new certificate is shown", || {
                (shown(&proxy, &certificates) == leaf.chain()[0]).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("no request failed");
        }
    });
    proxy.wait_for_metric(RELOADS, "result=\"ok\"", 3.0);
    assert_eq!(proxy.metric(RELOADS, "result=\"refused\""), 0.0);
}

#[test]
fn a_broken_pair_is_refused_and_the_old_one_stays() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    let old = shown(&proxy, &certificates);
    let (fresh, other) = (certificates.issue("localhost"), certificates.issue("localhost"));
    for (count, cert, key, why) in [
        (1.0, fresh.cert.as_str(), other.key.as_str(), "is not the key of the certificate"),
        (2.0, &fresh.cert[..200], &fresh.key, "is not whole"),
        (3.0, &fresh.cert, "", "holds no private key"),
    ] {
        Leaf { cert: cert.to_owned(), key: key.to_owned() }.write(certificates.path(), "tls");
        // Two files are not written at once here, so that the first may be refused with the old second.
        eventually(&format!("{why} is refused"), || {
            (proxy.metric(RELOADS, "result=\"refused\"") >= count && proxy.process.stderr().contains(why))
                .then_some(())
        });
        assert_eq!(shown(&proxy, &certificates), old);
    }
    fresh.write(certificates.path(), "tls");
    eventually("the sound pair is shown", || {
        (shown(&proxy, &certificates) == fresh.chain()[0]).then_some(())
    });
}

#[test]
fn clients_of_an_authority_that_is_gone_are_refused_with_their_old_sessions_too() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let proxy =
        Proxy::yaml(origin.address, certificates.path(), &certificates.yaml_of_clients("required"), "");
    let config = Arc::new(certificates.authority.client(Some(&certificates.issue("cart"))));
    let mut client = try_connect(proxy.address(), &config).unwrap();
    assert_eq!(client.get("/").status, 200);
    Authority::new("successor").write(certificates.path());
    proxy.wait_for_metric(RELOADS, "result=\"ok\"", 1.0);
    let mut other = try_connect(proxy.address(), &config).unwrap();
    let _ = other.stream.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert!(other.try_response(false).unwrap_err().contains("UnknownCA"));
    // What is open stays open.
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn the_end_of_a_certificate_is_told() {
    let certificates = Certificates::new();
    let origin = Origin::hello();
    let dated = |year| {
        certificates
            .authority
            .issue_with(&["localhost"], |params| params.not_after = rcgen::date_time_ymd(year, 1, 1))
    };
    dated(2040).write(certificates.path(), "tls");
    let proxy = Proxy::yaml(origin.address, certificates.path(), &certificates.yaml(""), "");
    let labels = "name=\"web\",role=\"listener\"";
    proxy.wait_for_metric("podkit_proxy_certificate_expiry_timestamp_seconds", labels, 2_208_988_800.0);
    assert_eq!(
        proxy.ask("GET", "/status").json()["listeners"][0]["certificate_ends"],
        "2040-01-01T00:00:00Z"
    );
    dated(2041).write(certificates.path(), "tls");
    proxy.wait_for_metric("podkit_proxy_certificate_expiry_timestamp_seconds", labels, 2_240_611_200.0);
    // One that has ended is used all the same: what else is there?
    certificates.authority.issue_expired("localhost").write(certificates.path(), "tls");
    proxy.process.wait_for_stderr("the certificate of listener \\\"web\\\" expired");
}

#[test]
fn a_proxy_without_its_certificate_does_not_start() {
    let certificates = Certificates::new();
    let dir = certificates.path().display();
    let start = |cert: &str| {
        program(env!("CARGO_BIN_EXE_podkit-proxy"))
            .args(["--admin", "off", "--forward"])
            .arg(format!("https://127.0.0.1:{}=http://127.0.0.1:{}", free_port(), free_port()))
            .args(["--tls-cert", &format!("{dir}/{cert}"), "--tls-key", &format!("{dir}/tls.key")])
            .expect_exit(1)
    };
    start("none.crt").expect_stderr("cannot set up TLS of").expect_stderr("none.crt\": no such file");
    start("ca.crt").expect_stderr("is not the key of the certificate").expect_stderr("hint: ");
}
