//! Limits and guards: what is let in, what waits, what is turned away, and who is too slow.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{Client, Origin, Proxy};

const REFUSED: &str = "podkit_proxy_refused_requests_total";
const REFUSED_CONNECTIONS: &str = "podkit_proxy_refused_connections_total";

fn proxy(origin: &Origin, listener: &str) -> (Proxy, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    // What these origins speak is HTTP/1.1, whatever the request is.
    (Proxy::yaml(origin.address, dir.path(), listener, "protocol: http1"), dir)
}

/// A client on a socket that is prepared first.
fn connect_by(to: SocketAddr, prepare: impl FnOnce(&socket2::Socket) -> std::io::Result<()>) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    prepare(&socket).unwrap();
    socket.connect(&to.into()).unwrap();
    Client::on(TcpStream::from(socket))
}

/// A client with another address than the rest.
fn connect_from(local: [u8; 4], to: SocketAddr) -> Client {
    connect_by(to, |socket| socket.bind(&SocketAddr::from((local, 0)).into()))
}

/// An origin that answers `hello` to each request once it is told to go on.
fn gated() -> (Origin, mpsc::Sender<()>) {
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::http(move |_, _| {
        // An end of the test is as good.
        let _ = wait.lock().unwrap().recv();
        crate::support::ok("hello")
    });
    (origin, go_on)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn more_requests_than_the_listeners_rate_are_told_when_to_come_again() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin, "limits: {rate: 1/h}");
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status, 200);
    let response = client.get("/");
    assert_eq!((response.status, response.closes()), (503, true));
    let wait: u64 = response.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(client.rest().unwrap(), b"");
    // The rate is of all clients together.
    assert_eq!(connect_from([127, 0, 0, 2], proxy.address()).get("/").status, 503);
    assert_eq!(proxy.metric(REFUSED, "reason=\"rate\""), 2.0);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_client_that_asks_too_often_is_turned_away_and_the_others_are_not() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin, "limits: {peer_rate: 1/h}");
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status, 200);
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.closes()), (429, false), "the connection goes on");
        assert!(response.field("retry-after").is_some());
    }
    assert_eq!(proxy.connect().get("/").status, 429, "on another connection too");
    assert_eq!(connect_from([127, 0, 0, 2], proxy.address()).get("/").status, 200);
    assert_eq!(proxy.metric(REFUSED, "reason=\"peer_rate\""), 4.0);
}

/// What is left of its body would be read as the next request.
#[test]
fn a_request_with_a_body_that_is_turned_away_ends_its_connection() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin, "limits: {peer_rate: 1/h}");
    assert_eq!(proxy.connect().get("/").status, 200);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n");
    client.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n12345");
    let response = client.response();
    assert_eq!((response.status, response.closes()), (429, true));
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_rate_that_is_used_up_stays_so_when_something_else_is_changed() {
    let origin = Origin::hello();
    let (proxy, dir) = proxy(&origin, "limits: {rate: 1/h}");
    assert_eq!(proxy.connect().get("/").status, 200);
    let file = dir.path().join("proxy.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write(&text.replace("rate: 1/h}", "rate: 1/h}, timeouts: {idle: 60s}"));
    proxy.wait_for_metric("podkit_proxy_config_reloads_total", "result=\"applied\"", 1.0);
    assert_eq!(proxy.connect().get("/").status, 503);
    write(&text.replace("rate: 1/h}", "rate: 2/h}"));
    proxy.wait_for_metric("podkit_proxy_config_reloads_total", "result=\"applied\"", 2.0);
    assert_eq!(proxy.connect().get("/").status, 200, "a new rate begins anew");
}

#[test]
fn requests_above_the_limit_wait_for_their_turn_and_the_rest_is_turned_away() {
    let (origin, go_on) = gated();
    let (proxy, _dir) = proxy(&origin, "limits: {in_flight: 1, queue: 1, queue_timeout: 1h}");
    let mut clients = [proxy.connect(), proxy.connect(), proxy.connect()];
    clients[0].send(GET);
    origin.wait_for("GET /");
    clients[1].send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    proxy.wait_for_metric("podkit_proxy_queued_requests", "", 1.0);
    let response = clients[2].get("/third");
    assert_eq!((response.status, response.closes()), (503, true));
    assert_eq!(response.field("retry-after"), Some("1"));
    assert_eq!(proxy.metric("podkit_proxy_in_flight_requests", ""), 1.0);
    go_on.send(()).unwrap();
    assert_eq!(clients[0].response().text(), "hello");
    origin.wait_for("GET /second");
    go_on.send(()).unwrap();
    assert_eq!(clients[1].response().text(), "hello");
    assert_eq!(proxy.metric("podkit_proxy_queued_requests", ""), 0.0);
    assert_eq!(proxy.metric(REFUSED, "reason=\"queue_full\""), 1.0);
    assert!(!origin.seen().concat().contains("third"));
}

#[test]
fn a_turn_that_does_not_come_in_time_is_told() {
    let (origin, _go_on) = gated();
    let (proxy, _dir) = proxy(&origin, "limits: {in_flight: 1, queue: 5, queue_timeout: 200ms}");
    let (mut first, mut second) = (proxy.connect(), proxy.connect());
    first.send(GET);
    origin.wait_for("GET /");
    let response = second.get("/");
    assert_eq!((response.status, response.closes()), (503, true));
    assert_eq!(response.field("retry-after"), Some("1"));
    assert_eq!(proxy.metric(REFUSED, "reason=\"queue_timeout\""), 1.0);
}

#[test]
fn who_leaves_the_queue_makes_room_in_it() {
    let (origin, _go_on) = gated();
    let (proxy, _dir) = proxy(&origin, "limits: {in_flight: 1, queue: 1, queue_timeout: 1h}");
    let mut first = proxy.connect();
    first.send(GET);
    origin.wait_for("GET /");
    let mut second = proxy.connect();
    second.send(GET);
    proxy.wait_for_metric("podkit_proxy_queued_requests", "", 1.0);
    socket2::SockRef::from(&second.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(second);
    proxy.wait_for_metric("podkit_proxy_queued_requests", "", 0.0);
    let mut third = proxy.connect();
    third.send(GET);
    proxy.wait_for_metric("podkit_proxy_queued_requests", "", 1.0);
}

#[test]
fn all_workers_share_one_limit() {
    let (origin, go_on) = gated();
    let dir = tempfile::tempdir().unwrap();
    let limits = "limits: {in_flight: 1, queue: 20, queue_timeout: 1h}";
    let proxy = Proxy::yaml_with(origin.address, dir.path(), limits, "", &["--workers", "3"]);
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    proxy.wait_for_metric("podkit_proxy_queued_requests", "", 19.0);
    assert_eq!(proxy.metric("podkit_proxy_in_flight_requests", ""), 1.0);
    // A place that is freed on one worker goes to who waits on another.
    for _ in &clients {
        go_on.send(()).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn connections_of_a_tcp_listener_have_a_rate() {
    for (limit, reason) in [("rate", "reason=\"rate\""), ("peer_rate", "reason=\"peer_rate\"")] {
        let origin = Origin::hello();
        let (proxy, _dir) = proxy_tcp(&origin, &format!("limits: {{{limit}: 1/h}}"));
        let mut client = proxy.connect();
        assert_eq!((client.get("/").text(), client.get("/").text()), ("hello", "hello"));
        proxy.connect().rest().expect_err("it is cut, so that nobody takes it for an answer");
        assert_eq!(proxy.metric(REFUSED_CONNECTIONS, reason), 1.0);
        assert_eq!(origin.connections(), 1);
        assert_eq!(client.get("/").text(), "hello", "an open connection goes on");
    }
}

fn proxy_tcp(origin: &Origin, listener: &str) -> (Proxy, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Proxy::yaml(origin.address, dir.path(), &format!("protocol: tcp, {listener}"), ""), dir)
}

/// Sends a byte now and then until the proxy answers.
fn trickle(client: &mut Client) {
    let mut stream = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn a_head_that_trickles_is_not_waited_for() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin, "timeouts: {header: 500ms}");
    let mut client = proxy.connect();
    client.send("GET /");
    trickle(&mut client);
    assert_eq!(client.response().status, 408);
    assert_eq!(proxy.metric(REFUSED, "reason=\"header_timeout\""), 1.0);
}

#[test]
fn a_body_that_trickles_is_not_waited_for() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin, "timeouts: {body: 500ms}");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    trickle(&mut client);
    let response = client.response();
    assert_eq!((response.status, response.closes()), (408, true));
    assert_eq!(proxy.metric(REFUSED, "reason=\"body_timeout\""), 1.0);
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
}

/// What a client and an app say to each other is theirs once the app has begun to answer.
#[test]
fn a_client_that_is_answered_already_may_be_silent() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        let body = connection.exactly(5).unwrap();
        connection.send(format!("5\r\n{}\r\n0\r\n\r\n", String::from_utf8(body).unwrap()));
    });
    let (proxy, _dir) = proxy(&origin, "timeouts: {body: 3s}");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    client.until(b"hi").unwrap();
    // Beyond the timeout, which must not end this.
    std::thread::sleep(Duration::from_secs(4));
    client.send("hello");
    client.until(b"hello").unwrap();
}

#[test]
fn a_grpc_stream_may_be_silent() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin, "timeouts: {body: 200ms}");
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 5\r\n\r\n");
    std::thread::sleep(Duration::from_millis(800));
    client.send("hello");
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_client_that_never_reads_is_cut_and_counted() {
    let origin = Origin::start(|mut connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = [b'x'; 64 << 10];
        while connection.stream.write_all(&piece).is_ok() {}
    });
    let (proxy, _dir) = proxy(&origin, "timeouts: {write: 300ms}");
    let mut client = proxy.connect();
    client.send(GET);
    proxy.wait_for_metric(REFUSED, "reason=\"write_timeout\"", 1.0);
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 0.0);
    client.rest().expect_err("the client must see that something is missing");
}

/// Else the next answer would stand behind a part of the last one.
#[test]
fn a_client_that_never_reads_the_proxys_own_answers_is_cut() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin, "limits: {peer_rate: 1/h}, timeouts: {write: 300ms}");
    let mut client = proxy.connect();
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(4 << 10).unwrap();
    client.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // Until every buffer on the way is full, or the connection is cut.
    let many = GET.repeat(1000);
    while client.stream.write_all(many.as_bytes()).is_ok() {}
    proxy.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
}

/// The kernel tells of room only when a good part of what it holds is gone. It held so much once that a client which
/// takes 100 KiB a second was cut for taking nothing.
#[test]
fn a_client_that_reads_slowly_is_not_one_that_never_reads() {
    const SIZE: usize = 8 << 20;
    let origin = Origin::http(|_, _| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + SIZE, b'x');
        answer
    });
    let (proxy, _dir) = proxy(&origin, "timeouts: {write: 4s}");
    // Else the client's own kernel holds megabytes, and is silent until a good part of them is gone.
    let mut client = connect_by(proxy.address(), |socket| {
        socket.set_recv_buffer_size(64 << 10)?;
        socket.set_tcp_mss(1448)
    });
    client.send(GET);
    client.head().unwrap();
    client.exactly(1 << 20).unwrap();
    for _ in 0..40 {
        client.exactly(20 << 10).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(proxy.metric(REFUSED, ""), 0.0);
}

#[test]
fn a_slow_client_does_not_slow_the_others() {
    let origin = Origin::hello();
    let (proxy, _dir) = proxy(&origin, "");
    let mut slow: Vec<Client> = (0..50).map(|_| proxy.connect()).collect();
    for client in &mut slow {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx");
    }
    proxy.wait_for_metric("podkit_proxy_in_flight_requests", "", 50.0);
    let mut quick = proxy.connect();
    for _ in 0..50 {
        assert_eq!(quick.get("/").text(), "hello");
    }
}

#[test]
fn a_silent_connection_is_closed() {
    let origin = Origin::hello();
    let (http, _dir) = proxy(&origin, "timeouts: {idle: 200ms}");
    let mut client = http.connect();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.rest().unwrap(), b"");
    let (tcp, _dir) = proxy_tcp(&origin, "timeouts: {idle: 200ms}");
    let mut client = tcp.connect();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.rest().unwrap(), b"");
    tcp.wait_for_metric("podkit_proxy_open_connections", "", 0.0);
}
