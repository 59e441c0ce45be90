//! Drains under load: not one request fails.

use std::sync::Arc;
use std::time::Duration;

use podkit_testkit::Signal;

use crate::support::load::{Endpoints, Kind, Load};
use crate::support::{Origin, Proxy};

/// Clients of one proxy that ask as fast as they get answers.
fn load_on(proxy: &Proxy) -> Load {
    let endpoints = Arc::new(Endpoints::default());
    endpoints.add(proxy.address());
    Load::start(&endpoints, &[Kind::KeepAlive, Kind::Closing, Kind::Posting, Kind::Pausing], Duration::ZERO)
}

#[test]
fn a_lease_and_a_stop_under_load_lose_no_request() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "300ms"]);
    let load = load_on(&proxy);
    load.run_for(Duration::from_millis(400));
    proxy.ask("POST", "/drain?lease=60s");
    load.run_for(Duration::from_millis(400));
    proxy.process.signal(Signal::SIGTERM);
    // Endpoints propagate late: the load goes on into the stop, and so does the service.
    load.run_for(Duration::from_millis(600));
    let answers = load.stop();
    assert!(answers > 50, "only {answers} requests were served");
    proxy.process.wait().expect_exit(0);
}

#[test]
fn leases_that_come_and_go_under_load_lose_no_request() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let load = load_on(&proxy);
    for _ in 0..5 {
        proxy.ask("POST", "/drain?lease=60s");
        load.run_for(Duration::from_millis(100));
        proxy.ask("DELETE", "/drain");
        load.run_for(Duration::from_millis(100));
    }
    load.stop();
    assert_eq!(proxy.metric("podkit_proxy_requests_total", "code=\"5xx\""), 0.0);
}

#[test]
fn new_settings_under_load_lose_no_request() {
    let (origin, dir) = (Origin::hello(), tempfile::tempdir().unwrap());
    let proxy = Proxy::yaml(origin.address, dir.path(), "limits: {headers: 100}", "");
    let file = dir.path().join("proxy.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    let load = load_on(&proxy);
    for round in 1..=2 {
        // The listener's settings, and the upstream's, so that its pooled connections go too.
        let next = config.replace("headers: 100", &format!("headers: {}", 100 - round));
        std::fs::write(
            &file,
            next.replace("name: app, address", &format!("name: app, connect_timeout: {round}s, address")),
        )
        .unwrap();
        proxy.wait_for_metric("podkit_proxy_config_reloads_total", "result=\"applied\"", f64::from(round));
    }
    load.run_for(Duration::from_millis(100));
    load.stop();
    assert_eq!(proxy.metric("podkit_proxy_requests_total", "code=\"5xx\""), 0.0);
}
