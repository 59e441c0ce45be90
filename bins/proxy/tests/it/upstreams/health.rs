//! Endpoints that are found to be ill, and what readiness makes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podkit_testkit::{eventually, free_port};
use serde_json::Value;

use super::{Fleet, endpoint, reached, shares, wait_ready};
use crate::support::{Origin, Proxy, ok};

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1\r\n\r\n!";

#[test]
fn an_endpoint_that_fails_is_ejected_and_comes_back() {
    let fleet = Fleet::new(2);
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let bad =
        fleet.with(0, move || if is_broken.load(Ordering::SeqCst) { UNAVAILABLE.to_vec() } else { ok("0") });
    let _good = fleet.well(1);
    let proxy = fleet.proxy("balance: round-robin, eject: {failures: 3, for: 1s}");
    assert_eq!(shares(&proxy, &["1", "!"], 6), [3, 3]);
    proxy.process.wait_for_stderr("ejected for 1 s: it answered 503");
    assert_eq!(proxy.metric("podkit_proxy_upstream_ejections_total", ""), 1.0);
    let status = endpoint(&proxy, 0).unwrap();
    assert_eq!((&status["last_error"], reached(&bad, "GET /")), (&Value::from("it answered 503"), 3));
    broken.store(false, Ordering::SeqCst);
    proxy.process.wait_for_stderr("no longer ejected");
    assert_eq!(shares(&proxy, &["0", "1"], 6), [3, 3]);
}

#[test]
fn not_all_are_ejected_though_all_fail() {
    let fleet = Fleet::new(2);
    let origins = [fleet.with(0, || UNAVAILABLE.to_vec()), fleet.with(1, || UNAVAILABLE.to_vec())];
    let proxy = fleet.proxy("balance: round-robin, eject: {failures: 1, for: 60s}");
    assert_eq!(shares(&proxy, &["!"], 10), [10]);
    assert_eq!(proxy.metric("podkit_proxy_upstream_ejections_total", ""), 1.0);
    assert_eq!(reached(&origins[0], "GET /") + reached(&origins[1], "GET /"), 10);
}

#[test]
fn traffic_leaves_an_endpoint_whose_checks_fail_and_readiness_with_the_last() {
    let fleet = Fleet::new(2);
    let sick = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
    let _origins: Vec<Origin> = [0, 1]
        .into_iter()
        .map(|index: u8| {
            let sick = Arc::clone(&sick[usize::from(index)]);
            Origin::http_on(fleet.address(index), move |head, _| {
                let is_check = head.starts_with("GET /healthz ");
                if is_check && sick.load(Ordering::SeqCst) {
                    UNAVAILABLE.to_vec()
                } else {
                    ok(&index.to_string())
                }
            })
        })
        .collect();
    let health = "health: {path: /healthz, interval: 100ms, healthy: 2, unhealthy: 2}";
    let proxy = fleet.proxy(&format!("balance: round-robin, {health}"));
    wait_ready(&proxy, 200);
    assert_eq!(shares(&proxy, &["0", "1"], 6), [3, 3]);
    sick[0].store(true, Ordering::SeqCst);
    proxy.wait_for_metric("podkit_proxy_upstream_endpoints", "state=\"unhealthy\"", 1.0);
    assert_eq!(shares(&proxy, &["0", "1"], 6), [0, 6]);
    assert_eq!(proxy.ask("GET", "/readyz").status, 200);
    sick[1].store(true, Ordering::SeqCst);
    wait_ready(&proxy, 503);
    let body = proxy.ask("GET", "/readyz").body;
    assert!(
        body.contains("none of 2 addresses answers") && body.contains("/healthz is answered 503"),
        "{body}"
    );
    assert_eq!(shares(&proxy, &["0", "1"], 6), [3, 3], "where none is well, all are used");
    proxy.process.wait_for_stderr("no address is well: all of them are used");
    sick[1].store(false, Ordering::SeqCst);
    wait_ready(&proxy, 200);
    assert!(proxy.metric("podkit_proxy_upstream_health_checks_total", "result=\"status\"") >= 4.0);
}

#[test]
fn readiness_follows_the_app_and_nothing_else_does() {
    let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(address, dir.path(), "", "health: {interval: 100ms, unhealthy: 2}");
    let others =
        |proxy: &Proxy| ["/livez", "/startupz"].iter().all(|path| proxy.ask("GET", path).status == 200);
    eventually("the reason is told", || {
        let body = proxy.ask("GET", "/readyz").body;
        body.contains(&format!("upstream \\\"app\\\" at {address} does not answer: connection refused"))
            .then_some(())
    });
    assert!(others(&proxy));
    let app = Origin::http_on(address, |_, _| ok("hello"));
    wait_ready(&proxy, 200);
    app.kill();
    wait_ready(&proxy, 503);
    assert!(others(&proxy));
    let _app = Origin::http_on(address, |_, _| ok("hello"));
    wait_ready(&proxy, 200);
}

#[test]
fn the_way_out_has_no_say_in_readiness() {
    let nobody: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(nobody, dir.path(), "direction: outbound", "health: {interval: 100ms}");
    proxy.process.wait_for_stderr("not healthy yet: connection refused");
    assert_eq!(proxy.ask("GET", "/readyz").status, 200);
}

#[test]
fn requests_stand_in_for_checks() {
    let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let app = Origin::http_on(address, |_, _| ok("hello"));
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(address, dir.path(), "", "health: {interval: 100ms, unhealthy: 10}");
    wait_ready(&proxy, 200);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status, 200);
    // No check can connect any more, but the connection that is there serves on.
    app.close_port();
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 200);
        std::thread::sleep(Duration::from_millis(40));
    }
    assert_eq!(proxy.ask("GET", "/readyz").status, 200);
    wait_ready(&proxy, 503);
}
