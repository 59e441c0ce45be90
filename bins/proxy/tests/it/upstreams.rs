//! Many endpoints, and endpoints that fail: who gets the next request, which are sent again, and what readiness says.

mod balance;
mod health;
mod retries;

use std::net::SocketAddr;

use podkit_testkit::{eventually, free_port};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Dns, Origin, Proxy, ok};

/// Endpoints of one name, at one port of 127.0.0.2, .3 and so on.
struct Fleet {
    port: u16,
    dns: Dns,
    dir: TempDir,
}

impl Fleet {
    fn new(count: u8) -> Self {
        let dns = Dns::start();
        let addresses: Vec<String> = (0..count).map(|index| format!("127.0.0.{}", index + 2)).collect();
        dns.set("shop.test.", 600, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
        Self { port: free_port(), dns, dir: tempfile::tempdir().unwrap() }
    }

    fn address(&self, index: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, index + 2], self.port))
    }

    /// An endpoint that answers its index.
    fn well(&self, index: u8) -> Origin {
        self.with(index, move || ok(&index.to_string()))
    }

    fn with(&self, index: u8, answer: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::http_on(self.address(index), move |_, _| answer())
    }

    /// A proxy that knows all endpoints.
    fn proxy(&self, upstream: &str) -> Proxy {
        let upstream = format!("{}, {upstream}", self.dns.yaml(600));
        let address = format!("shop.test:{}", self.port);
        let proxy = Proxy::yaml(address, self.dir.path(), "direction: inbound", &upstream);
        eventually("the name is resolved", || endpoint(&proxy, 0));
        proxy
    }
}

/// What `/status` says of an endpoint.
fn endpoint(proxy: &Proxy, index: usize) -> Option<Value> {
    proxy.ask("GET", "/status").json()["upstreams"][0]["endpoints"].get(index).cloned()
}

/// How often each text is the answer to so many requests, one after the other.
fn shares(proxy: &Proxy, texts: &[&str], requests: usize) -> Vec<usize> {
    let mut client = proxy.connect();
    let answers: Vec<String> = (0..requests).map(|_| client.get("/").text().to_owned()).collect();
    texts.iter().map(|text| answers.iter().filter(|answer| answer == text).count()).collect()
}

/// Requests that reached an origin, by the start of their lines.
fn reached(origin: &Origin, line: &str) -> usize {
    origin.seen().iter().map(|seen| seen.matches(line).count()).sum()
}

fn wait_ready(proxy: &Proxy, status: u16) {
    eventually(&format!("/readyz answers {status}"), || {
        (proxy.ask("GET", "/readyz").status == status).then_some(())
    });
}
