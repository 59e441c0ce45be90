//! The drain as a lease: unready at once, still serving, and back to ready when it lapses.

use std::time::{Duration, Instant};

use crate::support::frames::{Raw, get};
use crate::support::h2::{H2, wait};
use crate::support::{Origin, Proxy};

#[test]
fn a_lease_makes_unready_and_tells_clients_to_go_while_all_are_served() {
    let origin = Origin::hello();
    // However slow this machine is: the drain does not get quiet in between.
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "19s"]);
    let mut early = proxy.connect();
    assert!(!early.get("/").closes());

    let state = proxy.ask("POST", "/drain?lease=60s").json();
    assert_eq!(state["phase"], "draining", "{state}");
    let reply = proxy.ask("GET", "/readyz");
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("draining"), "{}", reply.body);
    assert_eq!(proxy.ask("GET", "/livez").status, 200);
    assert_eq!(proxy.ask("GET", "/startupz").status, 200);
    assert_eq!(proxy.metric("podkit_proxy_draining", ""), 1.0);

    let last = early.get("/");
    assert_eq!((last.text(), last.closes()), ("hello", true));
    assert_eq!(early.rest().unwrap(), b"", "what was said is done");
    let mut late = proxy.connect();
    let response = late.get("/");
    assert_eq!((response.text(), response.closes()), ("hello", true), "new connections are still served");
}

/// Kept, they would bring their next request when the app has its SIGTERM already, which comes after a quiet drain.
#[test]
fn idle_connections_are_closed_once_a_drain_is_quiet() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "300ms"]);
    let mut idle = proxy.connect();
    assert!(!idle.get("/").closes());
    proxy.ask("POST", "/drain?lease=60s");
    assert_eq!(idle.rest().unwrap(), b"", "closed without a word, and without a reset");
    assert_eq!(proxy.drain_state()["phase"], "draining");
    let response = proxy.connect().get("/");
    assert_eq!((response.text(), response.closes()), ("hello", true), "who comes late is still served");
}

/// A proxy that has closed an idle connection for want of new ones.
fn settled(proxy: &Proxy, lease: &str) {
    let mut idle = proxy.connect();
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 1.0);
    proxy.ask("POST", lease);
    assert_eq!(idle.rest().unwrap(), b"", "closed without a word, and without a reset");
}

#[test]
fn a_drain_that_is_undone_after_it_was_quiet_closes_no_connection_any_more() {
    let (origin, go) = Origin::held();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "300ms"]);
    let mut idle = proxy.connect();
    let mut busy = proxy.connect();
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
    proxy.ask("POST", "/drain?lease=60s");
    assert_eq!(idle.rest().unwrap(), b"", "the drain is quiet");
    proxy.ask("DELETE", "/drain");
    go.send(()).unwrap();
    let response = busy.response();
    assert_eq!((response.text(), response.closes()), ("done", false), "nothing tells the client to leave");
    // Longer than it would have been left alone.
    std::thread::sleep(Duration::from_millis(1500));
    go.send(()).unwrap();
    assert_eq!(busy.get("/").text(), "done");
}

/// The node's peers, whose connections say nothing about how quiet it is, may speak HTTP/2 too.
#[test]
fn who_comes_from_where_probes_do_into_a_quiet_drain_may_ask_by_http2() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "2s"]);
    settled(&proxy, "/drain?lease=60s&probe_peer=127.0.0.0/8");
    wait(async {
        let client = H2::connect(proxy.address()).await;
        // More than two looks of the proxy at its connections.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(client.get("/").await.expect("no GOAWAY before the first request").text(), "hello");
        client.ended().await.expect("GOAWAY without an error");
    });
}

#[test]
fn a_quiet_period_of_nothing_still_lets_clients_ask_during_a_lease() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "0s"]);
    settled(&proxy, "/drain?lease=60s");
    let mut client = proxy.connect();
    // As above.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.get("/").text(), "hello");
}

#[test]
fn the_state_tells_how_quiet_it_is() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.drain();
    });
    let proxy = Proxy::http(origin.address);
    let never = proxy.drain_state();
    for (name, value) in
        [("phase", "running".into()), ("in_flight", 0.into()), ("open_connections", 0.into())]
    {
        let value: serde_json::Value = value;
        assert_eq!(never[name], value, "{never}");
    }
    for name in ["ms_since_last_connection", "ms_since_last_request", "lease_left_ms"] {
        assert!(never[name].is_null() && never.as_object().unwrap().contains_key(name), "{name} in {never}");
    }

    let idle = proxy.connect();
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 1.0);
    let mut busy = proxy.connect();
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
    let state = proxy.ask("POST", "/drain?lease=60s").json();
    assert_eq!((&state["in_flight"], &state["open_connections"]), (&1.into(), &2.into()), "{state}");
    for name in ["ms_since_last_connection", "ms_since_last_request"] {
        assert!(state[name].as_u64().unwrap() < 10_000, "{name} in {state}");
    }
    let left = state["lease_left_ms"].as_u64().unwrap();
    assert!((50_000..=60_000).contains(&left), "{state}");
    drop((idle, busy));
}

#[test]
fn a_lease_is_renewed_and_undone() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    proxy.ask("POST", "/drain?lease=20s");
    let renewed = proxy.ask("POST", "/drain?lease=90s").json();
    assert!(renewed["lease_left_ms"].as_u64().unwrap() > 60_000, "{renewed}");
    let undone = proxy.ask("DELETE", "/drain").json();
    assert_eq!(undone["phase"], "running", "{undone}");
    assert!(undone["lease_left_ms"].is_null(), "{undone}");
    assert_eq!(proxy.ask("GET", "/readyz").status, 200);
    assert_eq!(proxy.metric("podkit_proxy_draining", ""), 0.0);
    assert!(!proxy.connect().get("/").closes());
    assert_eq!(proxy.ask("DELETE", "/drain").status, 200, "undoing nothing is no fault");
}

#[test]
fn a_lapsed_lease_goes_back_to_ready_and_says_so() {
    let origin = Origin::hello();
    let mut proxy = Proxy::http(origin.address);
    proxy.ask("POST", "/drain?lease=300ms");
    proxy.wait_for_phase("running");
    assert_eq!(proxy.ask("GET", "/readyz").status, 200);
    proxy.process.wait_for_stderr("lease lapsed");
    assert!(!proxy.connect().get("/").closes());
    assert!(!proxy.process.has_ended(), "a drained proxy never exits by itself");
}

#[test]
fn outbound_clients_are_not_sent_away() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "direction: outbound", "");
    let mut app = proxy.connect();
    proxy.ask("POST", "/drain?lease=60s");
    assert!(!app.get("/").closes());
}

#[test]
fn probes_are_left_out_by_word_of_the_lease_alone() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    let refused = proxy.ask("POST", "/drain?lease=60s&probe_peer=127.0.0.0/99");
    assert_eq!((refused.status, proxy.drain_state()["phase"].as_str()), (400, Some("running")));
    assert!(
        refused.body.contains("probe_peer: \\\"127.0.0.0/99\\\" is neither a network nor an address"),
        "{}",
        refused.body
    );

    let since = |name: &str| proxy.drain_state()[name].as_u64();
    let probe = || {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.33\r\n\r\n");
        assert_eq!(client.response().text(), "hello");
    };
    proxy.ask("POST", "/drain?lease=60s&probe_peer=127.0.0.0/8&holder=a");
    probe();
    drop(proxy.connect());
    proxy.wait_for_metric("podkit_proxy_connections_total", "", 2.0);
    assert_eq!((since("ms_since_last_connection"), since("ms_since_last_request")), (None, None));
    proxy.connect().get("/");
    assert!(since("ms_since_last_connection").is_some() && since("ms_since_last_request").is_some());

    // Another holder that says nothing of peers wants all of them counted.
    proxy.ask("POST", "/drain?lease=60s&holder=b");
    std::thread::sleep(Duration::from_secs(1));
    let before = since("ms_since_last_connection");
    probe();
    assert!(before >= Some(1000) && since("ms_since_last_connection") < before, "{}", proxy.drain_state());
    let left = proxy.ask("DELETE", "/drain?holder=b").json();
    assert_eq!((&left["phase"], &left["leases"]), (&"draining".into(), &1.into()), "{left}");
    let before = since("ms_since_last_connection");
    probe();
    assert!(since("ms_since_last_connection") >= before, "{}", proxy.drain_state());
}

/// Who has come once is no new client each time it asks, by whatever protocol.
#[test]
fn a_connection_from_where_probes_come_counts_once() {
    let (origin, _go) = Origin::held();
    let proxy = Proxy::http(origin.address);
    let since = || proxy.drain_state()["ms_since_last_connection"].as_u64();
    let is_old = || {
        std::thread::sleep(Duration::from_millis(500));
        since().filter(|ms| *ms >= 500).expect("a connection has come")
    };
    let in_flight = |count| proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", count);
    let mut text = proxy.connect();
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 1.0);
    proxy.ask("POST", "/drain?lease=60s&probe_peer=127.0.0.0/8");
    let before = is_old();
    text.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    in_flight(1.0);
    assert!(since() >= Some(before), "it came before the drain: {}", proxy.drain_state());

    let asked = Instant::now();
    let mut frames = Raw::connect(proxy.address());
    frames.send(get(1, "/"));
    in_flight(2.0);
    let counted = u128::from(since().expect("a connection has come"));
    assert!(counted <= asked.elapsed().as_millis() + 1, "its first request tells that it is no probe");
    let before = is_old();
    frames.send(get(3, "/"));
    in_flight(3.0);
    assert!(since() >= Some(before), "the next one tells nothing new: {}", proxy.drain_state());
}

#[test]
fn who_stands_before_the_proxy_neither_hides_its_clients_nor_counts_for_them() {
    let origin = Origin::hello();
    for ignored in ["ignore_peer=127.0.0.1&ignore_peer=192.0.2.9", "ignore_peer=192.0.2.9"] {
        let dir = tempfile::tempdir().unwrap();
        let proxy = Proxy::yaml(origin.address, dir.path(), "proxy_protocol: true", "");
        proxy.ask("POST", &format!("/drain?lease=60s&{ignored}"));
        for (source, counts) in [("192.0.2.9", false), ("192.0.2.10", true)] {
            let mut client = proxy.connect();
            let header = format!("PROXY TCP4 {source} 127.0.0.1 4000 80\r\n");
            client.send(header + "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().text(), "hello");
            let state = proxy.drain_state();
            assert_eq!(state["ms_since_last_connection"].is_u64(), counts, "{source} with {ignored}");
        }
    }
}
