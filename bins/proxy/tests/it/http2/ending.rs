//! How a connection ends: GOAWAY first, streams to their end, and no request lost.

use std::sync::mpsc;

use podkit_testkit::Signal;

use crate::support::frames::{ACK, Fate, GOAWAY, PING, Raw, frame, get as get_by_hand};
use crate::support::h2::{H2, answer, get, wait};
use crate::support::{Origin, Proxy, ok};

/// An origin that answers `/slow` when it is told to, and the end of the string that tells it.
fn slow_origin() -> (Origin, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::http(move |head, _| {
        if head.starts_with("GET /slow") {
            let _ = held.lock().unwrap().recv();
        }
        ok("hello")
    });
    (origin, release)
}

#[test]
fn a_drain_sends_clients_away_and_serves_what_is_under_way() {
    let (origin, release) = slow_origin();
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (slow, _) = client.begin(get("/slow"), true).await;
        origin.wait_for("/slow");
        proxy.ask("POST", "/drain?lease=60s");
        release.send(()).unwrap();
        assert_eq!(answer(slow).await.unwrap().text(), "hello");
        client.ended().await.expect("GOAWAY without an error");

        let late = H2::connect(proxy.address()).await;
        assert_eq!(late.get("/").await.unwrap().text(), "hello", "new connections are still served");
        late.ended().await.expect("GOAWAY without an error");
    });
}

/// The first GOAWAY names no stream, since more may be on their way; the second one, a round trip later, names the last
/// (RFC 9113 6.8).
#[test]
fn a_client_is_sent_away_in_two_steps() {
    let (origin, release) = slow_origin();
    let proxy = Proxy::http(origin.address);
    proxy.ask("POST", "/drain?lease=60s");
    let mut raw = Raw::connect(proxy.address());
    raw.send(get_by_hand(1, "/slow"));
    assert_eq!(raw.next_of(GOAWAY).payload, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let ping = raw.next_of(PING);
    // What is on its way is served.
    raw.send(get_by_hand(3, "/fast"));
    assert_eq!(raw.fate(3), Fate::Status(200));
    raw.send(frame(PING, ACK, 0, &ping.payload));
    assert_eq!(raw.next_of(GOAWAY).payload, [0, 0, 0, 3, 0, 0, 0, 0]);
    // What comes later is not, and does no harm.
    raw.send(get_by_hand(5, "/late"));
    release.send(()).unwrap();
    assert_eq!(raw.fate(1), Fate::Status(200));
    raw.end();
    assert!(!origin.seen().concat().contains("/late"));
}

#[test]
fn an_idle_client_is_sent_away_by_a_drain() {
    let origin = Origin::hello();
    let proxy = Proxy::http(origin.address);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        assert_eq!(client.get("/").await.unwrap().text(), "hello");
        proxy.ask("POST", "/drain?lease=60s");
        client.ended().await.expect("GOAWAY without an error");
    });
}

#[test]
fn a_reload_sends_the_clients_of_a_listener_that_has_changed_away() {
    let (origin, release) = slow_origin();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "limits: {streams: 10}", "");
    wait(async {
        let (busy, idle) = (H2::connect(proxy.address()).await, H2::connect(proxy.address()).await);
        assert_eq!(idle.get("/").await.unwrap().text(), "hello");
        let (slow, _) = busy.begin(get("/slow"), true).await;
        origin.wait_for("/slow");
        let file = dir.path().join("proxy.yaml");
        let text = std::fs::read_to_string(&file).unwrap().replace("streams: 10", "streams: 20");
        std::fs::write(&file, text).unwrap();
        idle.ended().await.expect("GOAWAY without an error");
        release.send(()).unwrap();
        assert_eq!(answer(slow).await.unwrap().text(), "hello");
        busy.ended().await.expect("GOAWAY without an error");
        assert_eq!(H2::connect(proxy.address()).await.get("/").await.unwrap().text(), "hello");
    });
}

#[test]
fn a_stop_ends_when_its_streams_have() {
    let (origin, release) = slow_origin();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "100ms"]);
    wait(async {
        let client = H2::connect(proxy.address()).await;
        let (slow, _) = client.begin(get("/slow"), true).await;
        origin.wait_for("/slow");
        proxy.process.signal(Signal::SIGTERM);
        proxy.wait_for_phase("stopping");
        release.send(()).unwrap();
        assert_eq!(answer(slow).await.unwrap().text(), "hello");
        client.ended().await.expect("GOAWAY without an error");
    });
    drop(origin);
    proxy.process.wait().expect_exit(0);
}

#[test]
fn a_connection_without_streams_ends_after_its_time() {
    let origin = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "timeouts: {idle: 300ms}", "");
    wait(async {
        let client = H2::connect(proxy.address()).await;
        assert_eq!(client.get("/").await.unwrap().text(), "hello");
        client.ended().await.expect("GOAWAY without an error");
    });
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
}

#[test]
fn a_client_that_begins_and_says_no_more_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let timeouts = "timeouts: {handshake: 300ms, header: 300ms, idle: 300ms}";
    let proxy = Proxy::yaml(Origin::hello().address, dir.path(), timeouts, "");
    for part in ["PRI * HTTP/2.0\r\n\r\nSM\r", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = proxy.connect();
        client.send(part);
        client.rest().unwrap();
    }
}
