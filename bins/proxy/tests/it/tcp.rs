//! TCP listeners: bytes both ways, ends and breaks handed on as such.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use podkit_testkit::free_port;

use crate::support::{Client, Origin, Proxy, pattern};

#[test]
fn each_direction_ends_by_itself() {
    let origin = Origin::start(|mut connection| {
        // Reads to the client's end, and only then begins to answer.
        while connection.more().is_some() {}
        connection.send("goodbye");
    });
    let proxy = Proxy::tcp(origin.address, &[]);
    let mut client = proxy.connect();
    client.send("hello").stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest().unwrap(), b"goodbye");
    assert_eq!(origin.seen(), ["hello"]);
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
    assert_eq!(proxy.metric("podkit_proxy_received_bytes_total", ""), 5.0);
    assert_eq!(proxy.metric("podkit_proxy_sent_bytes_total", ""), 7.0);
}

#[test]
fn the_origin_may_speak_first_and_end_first() {
    let origin = Origin::speaking_first(|mut connection| {
        connection.send("220 ready\r\n");
        connection.shutdown().unwrap();
        connection.drain();
    });
    let proxy = Proxy::tcp(origin.address, &[]);
    let mut client = proxy.connect();
    assert_eq!(client.rest().unwrap(), b"220 ready\r\n");
    client.send("still listening?").stream.shutdown(Shutdown::Write).unwrap();
    origin.wait_for("still listening?");
}

#[test]
fn bulk_passes_unchanged_both_ways_at_once() {
    let origin = Origin::mirror();
    let proxy = Proxy::tcp(origin.address, &[]);
    let mut client = proxy.connect();
    let data = pattern(8 << 20);
    let (mut sender, sent) = (client.stream.try_clone().unwrap(), data.clone());
    let sending = std::thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
    });
    let received = client.rest().unwrap();
    sending.join().unwrap();
    assert!(received == data, "{} of {} bytes, or other bytes", received.len(), data.len());
}

#[test]
fn a_break_on_one_side_is_a_break_on_the_other() {
    let origin = Origin::start(|mut connection| {
        connection.more();
        connection.send("half of it");
        socket2::SockRef::from(&connection.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    });
    let proxy = Proxy::tcp(origin.address, &[]);
    let mut client = proxy.connect();
    client.send("x");
    let error = client.rest().expect_err("a reset must not look like an end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn an_upstream_that_is_not_there_is_a_reset_and_counted() {
    let nobody = ([127, 0, 0, 1], free_port()).into();
    let proxy = Proxy::tcp(nobody, &[]);
    let mut client = proxy.connect();
    let error = client.stream.read(&mut [0; 8]).expect_err("nothing was there to end well");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(proxy.metric("podkit_proxy_upstream_errors_total", "reason=\"connect\""), 1.0);
}

#[test]
fn a_forgotten_connection_is_closed() {
    let origin = Origin::start(|connection| drop(connection.drain()));
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "protocol: tcp, timeouts: {idle: 300ms}", "");
    let mut client = proxy.connect();
    client.send("x");
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn outbound_listeners_do_not_count_as_inbound_work() {
    let origin = Origin::start(|connection| drop(connection.drain()));
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::yaml(origin.address, dir.path(), "protocol: tcp, direction: outbound", "");
    let mut client = proxy.connect();
    client.send("x");
    origin.wait_for("x");
    let state = proxy.drain_state();
    assert_eq!((&state["in_flight"], &state["open_connections"]), (&0.into(), &0.into()), "{state}");
    assert!(state["ms_since_last_connection"].is_null(), "{state}");
    assert_eq!(proxy.metric("podkit_proxy_connections_total", "direction=\"outbound\""), 1.0);
    drop::<Client>(client);
}
