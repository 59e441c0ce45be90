//! What the proxy tells of itself: probes, status, metrics.

use std::path::Path;

use crate::support::{Origin, Proxy, ok};

#[test]
fn status_tells_each_listener() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    proxy.connect().get("/");
    let status = proxy.ask("GET", "/status").json();
    assert_eq!(status["phase"], "running");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["uptime"].is_f64());
    let listener = &status["listeners"][0];
    assert_eq!(listener["name"], format!("http-{}", proxy.address().port()));
    assert_eq!(listener["listen"], proxy.address().to_string());
    assert_eq!(listener["upstream"], origin.address.to_string());
    assert_eq!((&listener["direction"], &listener["requests"]), (&"inbound".into(), &1.into()));
}

#[test]
fn every_metric_is_there_and_counts() {
    let origin = Origin::http(|head, _| match head.split(' ').nth(1).unwrap() {
        "/missing" => b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/bad" => b"HTTP/1.1 what\r\n\r\n".to_vec(),
        _ => ok("hello"),
    });
    let proxy = Proxy::http(origin.address);
    let name = format!("listener=\"http-{}\"", proxy.address().port());
    let mut client = proxy.connect();
    assert_eq!(
        (client.get("/").status, client.get("/missing").status, client.get("/bad").status),
        (200, 404, 502)
    );
    proxy.connect().send("bad\n").response();
    // These two move once the answer is out.
    proxy.wait_for_metric("podkit_proxy_request_duration_seconds_count", "", 3.0);
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
    for (metric, labels, value) in [
        ("podkit_proxy_connections_total", "direction=\"inbound\"", 2.0),
        ("podkit_proxy_requests_total", "code=\"2xx\"", 1.0),
        ("podkit_proxy_requests_total", "code=\"4xx\"", 2.0),
        ("podkit_proxy_requests_total", "code=\"5xx\"", 1.0),
        ("podkit_proxy_in_flight_requests", "", 0.0),
        ("podkit_proxy_request_duration_seconds_count", "", 3.0),
        ("podkit_proxy_refused_requests_total", "reason=\"bare_lf\"", 1.0),
        ("podkit_proxy_upstream_errors_total", "reason=\"bad_response\"", 1.0),
    ] {
        assert_eq!(proxy.metric(metric, labels), value, "{metric}{{{labels}}}");
        assert_eq!(proxy.metric(metric, &name), proxy.metric(metric, ""), "{metric} has the label {name}");
    }
    let upstream = name.replace("listener", "upstream");
    for (metric, labels, value) in [
        ("podkit_proxy_upstream_requests_total", "code=\"2xx\"", 1.0),
        ("podkit_proxy_upstream_requests_total", "code=\"4xx\"", 1.0),
        ("podkit_proxy_upstream_request_duration_seconds_count", "", 2.0),
        ("podkit_proxy_upstream_connections_total", "", 1.0),
    ] {
        assert_eq!(proxy.metric(metric, labels), value, "{metric}{{{labels}}}");
        assert_eq!(proxy.metric(metric, &upstream), proxy.metric(metric, ""), "{metric} has {upstream}");
    }
    assert!(proxy.metric("podkit_proxy_received_bytes_total", &name) > 100.0);
    assert!(proxy.metric("podkit_proxy_sent_bytes_total", &name) > 100.0);
    drop(client);
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
}

/// All text of these tests.
fn sources(dir: &Path) -> String {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { sources(&path) } else { std::fs::read_to_string(path).unwrap() })
        .collect()
}

/// A metric that is declared and never counted would be a promise that nobody keeps.
#[test]
fn each_metric_is_looked_at_by_a_test() {
    let tests = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"));
    for name in crate::reference::metrics() {
        assert!(tests.contains(&format!("podkit_proxy_{name}")), "no test looks at {name}");
    }
}

/// The rules of `promtool check metrics`, as far as our names can break them.
#[test]
fn metrics_are_named_as_prometheus_wants_them() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    proxy.connect().get("/");
    let text = proxy.ask("GET", "/metrics").body;
    let families: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(families.len() >= 9, "{text}");
    for (name, kind) in families {
        assert!(name.starts_with("podkit_proxy_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert!(!name.contains("_ms") && name == name.to_lowercase(), "{name}");
    }
}
