//! HTTP/2 where ALPN agrees on it: two proxies, one behind the other, with TLS between them.

use std::path::Path;

use podkit_testkit::eventually;
use tempfile::TempDir;

use crate::support::authority::Authority;
use crate::support::h2::{H2, wait};
use crate::support::{Origin, Proxy};

/// The proxy behind, before the app, and the one in front; both end with the directory.
struct Chain {
    back: Proxy,
    front: Proxy,
}

impl Chain {
    /// `more` is further YAML of the upstream that is the proxy behind.
    fn before(origin: &Origin, dir: &TempDir, more: &str) -> Self {
        let authority = Authority::new("authority");
        let ca = authority.write(dir.path());
        authority.issue("localhost").write(dir.path(), "tls");
        let at = |name: &str| subdir(dir.path(), name);
        let tls =
            format!("access_log: json, tls: {{cert: {0}/tls.crt, key: {0}/tls.key}}", dir.path().display());
        let back = Proxy::yaml(origin.address, &at("back"), &tls, "");
        let upstream = format!("health: off, tls: {{server_name: localhost, ca: {}}}, {more}", ca.display());
        let front = Proxy::yaml(back.address(), &at("front"), "", &upstream);
        Self { back, front }
    }

    /// What the proxy behind was spoken to in, by its access log.
    fn wait_for(&self, path: &str, protocol: &str) {
        let told = (format!("\"path\":\"{path}\""), format!("\"protocol\":\"{protocol}\""));
        eventually(&format!("{path} is asked for in {protocol}"), || {
            let log = self.back.process.stdout();
            log.lines().any(|line| line.contains(&told.0) && line.contains(&told.1)).then_some(())
        });
    }
}

fn subdir(dir: &Path, name: &str) -> std::path::PathBuf {
    let dir = dir.join(name);
    std::fs::create_dir(&dir).unwrap();
    dir
}

#[test]
fn both_sides_choose_it_and_share_a_connection() {
    let (origin, dir) = (Origin::hello(), TempDir::new().unwrap());
    let chain = Chain::before(&origin, &dir, "");
    wait(async {
        let client = H2::connect(chain.front.address()).await;
        assert_eq!(client.get("/first").await.unwrap().text(), "hello");
        let many: Vec<_> = (0..20).map(|_| chain.front.connect()).collect();
        for mut one in many {
            assert_eq!(one.get("/more").text(), "hello");
        }
    });
    chain.wait_for("/first", "HTTP/2");
    assert_eq!(chain.front.metric("podkit_proxy_upstream_connections_total", ""), 1.0);
}

#[test]
fn http_1_is_spoken_where_it_is_asked_for() {
    let (origin, dir) = (Origin::hello(), TempDir::new().unwrap());
    let chain = Chain::before(&origin, &dir, "protocol: http1");
    assert_eq!(chain.front.connect().get("/").text(), "hello");
    chain.wait_for("/", "HTTP/1.1");
}

#[test]
fn a_protocol_is_switched_to_over_http_1_whatever_the_rest_is_spoken_in() {
    let origin = Origin::start(|mut connection| {
        while let Some(head) = connection.head() {
            if !head.contains("Upgrade: websocket") {
                connection.ok("hello");
                continue;
            }
            connection
                .send("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nwelcome");
            connection.exactly(5);
            return connection.send("bye");
        }
    });
    let dir = TempDir::new().unwrap();
    let chain = Chain::before(&origin, &dir, "");
    assert_eq!(chain.front.connect().get("/").text(), "hello");
    let mut client = chain.front.connect();
    client.send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response().status, 101);
    assert_eq!(client.exactly(7).unwrap(), b"welcome");
    client.send("hello");
    assert_eq!(client.rest().unwrap(), b"bye");
    drop(client);
    chain.wait_for("/chat", "HTTP/1.1");
}
