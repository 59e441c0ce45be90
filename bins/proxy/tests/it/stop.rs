//! The ordered stop: what is in flight is finished, the app keeps its way out, and a deadline bounds it all.

use std::time::{Duration, Instant};

use podkit_testkit::{Signal, free_port};

use crate::support::{Client, Origin, Proxy};

#[test]
fn sigterm_waits_for_requests_in_flight_and_still_takes_new_connections() {
    let (origin, go) = Origin::held();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "200ms"]);
    let mut client = proxy.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
    proxy.process.signal(Signal::SIGTERM);
    proxy.wait_for_phase("stopping");
    assert_eq!(proxy.ask("GET", "/readyz").status, 503);
    let mut late = proxy.connect();
    late.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for("/late");
    go.send(()).unwrap();
    go.send(()).unwrap();
    for one in [&mut client, &mut late] {
        let response = one.response();
        assert_eq!((response.text(), response.closes()), ("done", true));
    }
    proxy.process.wait().expect_exit(0);
}

#[test]
fn without_traffic_a_stop_takes_one_quiet_period() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "400ms"]);
    let start = Instant::now();
    proxy.process.terminate().expect_exit(0);
    assert!(start.elapsed() >= Duration::from_millis(400), "it ended after {:?}", start.elapsed());
}

#[test]
fn quiet_during_the_lease_counts() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "1500ms"]);
    proxy.ask("POST", "/drain?lease=60s");
    std::thread::sleep(Duration::from_millis(1600));
    let start = Instant::now();
    proxy.process.terminate().expect_exit(0);
    assert!(start.elapsed() < Duration::from_millis(1500), "it waited again: {:?}", start.elapsed());
}

#[test]
fn idle_connections_are_closed_at_the_end() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "300ms"]);
    let mut idle = proxy.connect();
    assert_eq!(idle.get("/").status, 200);
    let finished = proxy.process.terminate();
    finished.expect_exit(0);
    assert_eq!(idle.rest().unwrap(), b"");
}

#[test]
fn websockets_and_tcp_connections_are_waited_for() {
    let origin = Origin::mirror();
    let proxy = Proxy::tcp(origin.address, &["--shutdown-quiet", "100ms"]);
    let mut client = proxy.connect();
    assert_eq!(client.send("a").exactly(1).unwrap(), b"a");
    proxy.process.signal(Signal::SIGTERM);
    proxy.wait_for_phase("stopping");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(client.send("b").exactly(1).unwrap(), b"b", "it still works");
    drop(client);
    proxy.process.wait().expect_exit(0);
}

#[test]
fn the_deadline_names_what_is_still_open() {
    let (origin, _go) = Origin::held();
    let args = ["--shutdown-deadline", "700ms", "--shutdown-quiet", "100ms"];
    let proxy = Proxy::http_with(origin.address, &args);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
    let name =
        format!("listener \"http-{}\": 1 request in flight, 1 open connection", proxy.address().port());
    let finished = proxy.process.terminate().expect_exit(75);
    finished.expect_stderr("deadline of 700ms passed").expect_stderr(&name);
}

#[test]
fn a_second_signal_ends_at_once() {
    let (origin, _go) = Origin::held();
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
    proxy.process.signal(Signal::SIGTERM);
    proxy.wait_for_phase("stopping");
    let start = Instant::now();
    proxy.process.signal(Signal::SIGINT);
    proxy.process.wait().expect_exit(1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn quit_ends_as_sigterm_does() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "100ms"]);
    assert_eq!(proxy.ask("POST", "/quit").status, 200);
    proxy.process.wait().expect_exit(0);
}

/// The app and its way out: an inbound and an outbound listener.
fn pod(app: std::net::SocketAddr, world: std::net::SocketAddr) -> (Proxy, tempfile::TempDir) {
    pod_with_quiet(app, world, "100ms")
}

fn pod_with_quiet(
    app: std::net::SocketAddr,
    world: std::net::SocketAddr,
    quiet: &str,
) -> (Proxy, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (inside, out) = (free_port(), free_port());
    let file = dir.path().join("proxy.yaml");
    let text = format!(
        "listeners:\n\
         - {{name: web, listen: \"127.0.0.1:{inside}\", to: app, direction: inbound}}\n\
         - {{name: db, listen: \"127.0.0.1:{out}\", to: world, direction: outbound}}\n\
         upstreams:\n- {{name: app, address: \"{app}\"}}\n- {{name: world, address: \"{world}\"}}\n\
         shutdown: {{quiet: {quiet}}}\n",
    );
    std::fs::write(&file, text).unwrap();
    let listeners = [inside, out].map(|port| ([127, 0, 0, 1], port).into()).to_vec();
    (Proxy::start(&["--config", file.to_str().unwrap()], listeners), dir)
}

#[test]
fn outbound_works_until_the_app_has_ended() {
    // The app's port; holding the listener is the app's life.
    let app = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let world = Origin::hello();
    let (mut proxy, _dir) = pod(app.local_addr().unwrap(), world.address);
    let out = proxy.listeners[1];
    proxy.process.signal(Signal::SIGTERM);
    proxy.process.wait_for_stderr("inbound is quiet");
    assert!(std::net::TcpStream::connect(proxy.address()).is_err(), "inbound is closed");
    let response = Client::connect(out).get("/flush");
    assert_eq!((response.text(), response.closes()), ("hello", false), "new connections too");
    assert!(!proxy.process.has_ended());
    drop(app);
    proxy.process.wait().expect_exit(0);
}

/// An app that is stopped with us, as in a pod of plain containers, closes its port first and flushes then.
#[test]
fn an_app_that_has_just_closed_its_port_has_a_quiet_period_to_flush_in() {
    let world = Origin::hello();
    let app = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (proxy, _dir) = pod_with_quiet(app.local_addr().unwrap(), world.address, "2s");
    let out = proxy.listeners[1];
    proxy.ask("POST", "/drain?lease=60s");
    // The drain is quiet for longer than that by now, and so is the way out.
    std::thread::sleep(Duration::from_millis(2100));
    proxy.process.signal(Signal::SIGTERM);
    drop(app);
    proxy.process.wait_for_stderr("the app takes no more connections");
    // Several looks of the proxy at whether it is quiet, and a small part of the period.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(Client::connect(out).get("/flush").text(), "hello");
    proxy.process.wait().expect_exit(0);
}

#[test]
fn an_outbound_request_in_flight_is_finished_after_the_app_has_closed_its_port() {
    let (world, go) = Origin::held();
    let app = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (proxy, _dir) = pod(app.local_addr().unwrap(), world.address);
    let mut out = Client::connect(proxy.listeners[1]);
    out.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.wait_for("GET /");
    drop(app);
    proxy.process.signal(Signal::SIGTERM);
    proxy.process.wait_for_stderr("inbound is quiet");
    assert!(std::net::TcpStream::connect(proxy.address()).is_err(), "inbound is closed");
    std::thread::sleep(Duration::from_millis(500));
    go.send(()).unwrap();
    assert_eq!(out.response().text(), "done");
    proxy.process.wait().expect_exit(0);
}

/// It was told to close, follows, and finds the listener where it was.
#[test]
fn the_end_of_a_long_request_is_not_quiet_yet() {
    let (origin, go) = Origin::held();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "400ms"]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 1.0);
    proxy.process.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    go.send(()).unwrap();
    assert!(client.response().closes());
    drop(client);
    proxy.process.wait().expect_exit(0);
    assert!(start.elapsed() >= Duration::from_millis(400), "it ended {:?} after the answer", start.elapsed());
}

#[test]
fn outbound_alone_has_its_quiet_period_too() {
    let world = Origin::hello();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("proxy.yaml");
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!(
        "listeners: [{{name: db, listen: \"{listen}\", to: world, direction: outbound}}]\n\
         upstreams: [{{name: world, address: \"{}\"}}]\nshutdown: {{quiet: 400ms}}\n",
        world.address,
    );
    std::fs::write(&file, text).unwrap();
    let proxy = Proxy::start(&["--config", file.to_str().unwrap()], vec![listen]);
    let start = Instant::now();
    proxy.process.terminate().expect_exit(0);
    assert!(start.elapsed() >= Duration::from_millis(400), "it ended after {:?}", start.elapsed());
}

#[test]
fn what_the_deadline_cuts_never_looks_whole() {
    let args = ["--shutdown-deadline", "300ms", "--shutdown-quiet", "100ms"];
    let until_close = Origin::start(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\n\r\npart");
        connection.drain();
    });
    let bytes = Origin::start(|mut connection| {
        connection.send("part");
        connection.drain();
    });
    for proxy in [Proxy::http_with(until_close.address, &args), Proxy::tcp(bytes.address, &args)] {
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").until(b"part").unwrap();
        proxy.process.terminate().expect_exit(75);
        let error = client.rest().expect_err("a cut must not look like an end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
