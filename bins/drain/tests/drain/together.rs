//! The real drain with the real proxy, the real ship and real traffic.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use podkit_testkit::{PATIENCE, Process, Run, Signal, eventually, free_port, http, neighbour};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::support::{Answer, Neighbour, drain, ship, timed};

/// What the kubelet says that it is.
const PROBE: &str = "kube-probe/1.33";
/// What a client says that it is.
const CLIENT: &str = "curl/8";
/// Between two connections of one who goes on coming.
const TURN: Duration = Duration::from_millis(200);

/// What is said at the deadline where somebody goes on coming, whether the last look met a request in flight (`1
/// connection still open`) or none (`0 connections still open, but the last one came only ...`).
const STILL_OPEN: &str = " still open";

/// An app behind a real proxy.
struct Pod {
    proxy: Process,
    admin: SocketAddr,
    port: u16,
}

impl Pod {
    fn http() -> Self {
        Self::start("http")
    }

    fn start(scheme: &str) -> Self {
        let (port, admin) = (free_port(), SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let forward = format!("{scheme}://127.0.0.1:{port}={scheme}://{}", app());
        let mut proxy =
            neighbour("proxy").args(["--forward", &forward, "--admin", &admin.to_string()]).start();
        eventually("the proxy listens", || {
            assert!(!proxy.has_ended(), "the proxy ended: {}", proxy.stderr());
            http("GET", admin, "/startupz").ok().filter(|reply| reply.status == 200)
        });
        Self { proxy, admin, port }
    }

    /// A drain of it, with a quiet time of a second.
    fn drain(&self, ship: &Neighbour) -> Run {
        drain(&["--proxy", &format!("http://{}", self.admin), "--ship", &ship.url()])
            .env("PODKIT_DRAIN_GRACE", "25s")
            .env("PODKIT_DRAIN_RESERVE", "1s")
            .env("PODKIT_DRAIN_QUIET", "1s")
            .env("PODKIT_DRAIN_MIN_DELAY", "50ms")
            .env("HOST_IP", "")
    }

    /// One that is held by who comes each [`TURN`], also where this machine is so busy that some turns take long.
    fn held_drain(&self, ship: &Neighbour) -> Run {
        self.drain(ship).env("PODKIT_DRAIN_QUIET", "3s")
    }

    fn state(&self) -> Value {
        http("GET", self.admin, "/drain").expect("the proxy answers").json()
    }

    fn phase(&self) -> String {
        self.state()["phase"].as_str().expect("it has a phase").to_owned()
    }

    fn wait_for_leases(&self, count: u64) {
        eventually(&format!("{count} leases are held"), || (self.state()["leases"] == count).then_some(()));
    }
}

/// How long the app thinks about `/slow`.
const THINKS: Duration = Duration::from_secs(3);

/// Answers one request of each connection.
fn app() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
    let address = listener.local_addr().expect("a listener has an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("the listener is open");
            thread::spawn(move || {
                if let Some(head) = read_head(&mut stream) {
                    if head.starts_with(b"GET /slow ") {
                        thread::sleep(THINKS);
                    }
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
                }
            });
        }
    });
    address
}

/// Reads a head, if one comes.
fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(head)
}

/// A connection from an address of ours to a port of ours.
fn connect_from(from: Ipv4Addr, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are left");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("the proxy listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    stream
}

/// One request on a connection of its own; its status.
fn ask(from: Ipv4Addr, port: u16, path: &str, agent: &str) -> String {
    let mut stream = connect_from(from, port);
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: app\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the proxy takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the proxy answers");
    answer.lines().next().unwrap_or_default().to_owned()
}

/// One who comes again and again until it is dropped.
struct Caller {
    ended: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Instant>>,
}

impl Caller {
    fn start(call: impl Fn() + Send + 'static) -> Self {
        let (ended, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_over, count) = (Arc::clone(&ended), Arc::clone(&calls));
        let thread = thread::spawn(move || {
            let mut last = Instant::now();
            while !is_over.load(Ordering::Acquire) {
                last = Instant::now();
                call();
                count.fetch_add(1, Ordering::AcqRel);
                thread::sleep(TURN);
            }
            last
        });
        let caller = Self { ended, calls, thread: Some(thread) };
        caller.wait_for(1);
        caller
    }

    /// Requests from 127.0.0.1.
    fn http(port: u16, agent: &'static str) -> Self {
        Self::start(move || assert_eq!(ask(Ipv4Addr::LOCALHOST, port, "/", agent), "HTTP/1.1 200 OK"))
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    fn wait_for(&self, count: usize) {
        eventually(&format!("{count} calls"), || (self.calls() >= count).then_some(()));
    }

    /// Ends it; when its last call began.
    fn end(mut self) -> Instant {
        self.ended.store(true, Ordering::Release);
        self.thread.take().expect("it is ended once").join().expect("no call fails")
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

#[test]
fn probes_through_the_proxys_port_do_not_hold_the_drain() {
    let (pod, ship) = (Pod::http(), ship(200, ""));
    let kubelet = Caller::http(pod.port, PROBE);
    let finished = pod.drain(&ship).args(["--min-delay", "3s"]).finish();
    let during = kubelet.calls();
    kubelet.end();
    finished.expect_exit(0).expect_stderr("quiet: nothing active, nothing new for 1.0s");
    assert!(during > 3, "the kubelet went on probing: {during}");
}

#[test]
fn a_client_from_where_the_probes_come_still_holds_the_drain() {
    let (pod, ship) = (Pod::http(), ship(200, ""));
    let kubelet = Caller::http(pod.port, PROBE);
    let client = Caller::http(pod.port, CLIENT);
    let run = pod.held_drain(&ship).start();
    pod.wait_for_leases(1);
    // Well over the quiet time.
    client.wait_for(client.calls() + 25);
    assert_eq!(ship.count("POST"), 0, "it went on with a client: {}", run.stderr());
    let last = client.end();
    run.wait().expect_exit(0);
    kubelet.end();
    // It came to the proxy a little later than it began, and the quiet time of 3 s counts from there.
    let after = ship.requests()[0].at - last;
    assert!(after > Duration::from_millis(2_900), "{after:?} after the last request began");
}

#[test]
fn without_a_word_about_peers_probes_count_as_they_always_did() {
    let (pod, ship) = (Pod::http(), ship(200, ""));
    let kubelet = Caller::http(pod.port, PROBE);
    pod.held_drain(&ship)
        .args(["--count-loopback", "--grace", "8s"])
        .expect_exit(75)
        .expect_stderr(STILL_OPEN);
    kubelet.end();
}

#[test]
fn a_probe_that_is_answered_slowly_is_never_cut() {
    let (pod, ship) = (Pod::http(), ship(200, ""));
    let port = pod.port;
    let started = Instant::now();
    let probe = thread::spawn(move || (ask(Ipv4Addr::LOCALHOST, port, "/slow", PROBE), Instant::now()));
    eventually("the probe is in flight", || (pod.state()["in_flight"] == 1).then_some(()));
    pod.drain(&ship).expect_exit(0);
    let (answer, answered) = probe.join().unwrap();
    assert_eq!(answer, "HTTP/1.1 200 OK");
    assert!(answered - started >= THINKS && ship.requests()[0].at > started + THINKS);
}

#[test]
fn peers_that_are_named_are_no_clients_whatever_they_ask() {
    let (pod, ship) = (Pod::http(), ship(200, ""));
    let (port, checker) = (pod.port, Ipv4Addr::new(127, 0, 0, 2));
    let calls = Caller::start(move || assert_eq!(ask(checker, port, "/", CLIENT), "HTTP/1.1 200 OK"));
    let named = |run: Run| run.args(["--count-loopback", "--ignore-peer", "127.0.0.2/32"]);
    named(pod.drain(&ship)).expect_exit(0);
    let client = Caller::http(pod.port, CLIENT);
    named(pod.held_drain(&ship)).args(["--grace", "8s"]).expect_exit(75).expect_stderr(STILL_OPEN);
    client.end();
    calls.end();
}

#[test]
fn on_a_tcp_listener_who_only_connects_is_a_probe() {
    // It answers whatever it gets, so it does for an app of any protocol.
    let (pod, ship) = (Pod::start("tcp"), ship(200, ""));
    let port = pod.port;
    let kubelet = Caller::start(move || drop(connect_from(Ipv4Addr::LOCALHOST, port)));
    pod.drain(&ship).expect_exit(0);
    let client = Caller::http(pod.port, CLIENT);
    pod.held_drain(&ship).args(["--grace", "8s"]).expect_exit(75);
    client.end();
    kubelet.end();
}

#[test]
fn a_second_drain_joins_the_first_and_keeps_the_lease_when_that_is_cancelled() {
    let (pod, ship) = (Pod::http(), ship(200, ""));
    let client = Caller::http(pod.port, CLIENT);
    let (first, second) = (pod.held_drain(&ship).start(), pod.held_drain(&ship).start());
    pod.wait_for_leases(2);
    first.signal(Signal::SIGINT);
    first.wait().expect_exit(1).expect_stderr("which another drain holds");
    assert_eq!((pod.phase().as_str(), &pod.state()["leases"]), ("draining", &1.into()));
    client.end();
    second.wait().expect_exit(0).refuse_stderr("any more");
    assert_eq!(pod.phase(), "draining", "until the proxy's SIGTERM");
}

#[test]
fn a_cancelled_drain_leaves_the_proxy_ready() {
    let (pod, ship) = (Pod::http(), ship(200, ""));
    let client = Caller::http(pod.port, CLIENT);
    let run = pod.held_drain(&ship).start();
    pod.wait_for_leases(1);
    assert_eq!(http("GET", pod.admin, "/readyz").unwrap().status, 503);
    run.signal(Signal::SIGINT);
    run.wait().expect_exit(1).expect_stderr("the lease was given back to");
    assert_eq!(http("GET", pod.admin, "/readyz").unwrap().status, 200);
    client.end();
}

#[test]
fn a_drain_that_is_killed_leaves_a_lease_that_lapses() {
    let (mut pod, ship) = (Pod::http(), ship(200, ""));
    let client = Caller::http(pod.port, CLIENT);
    let run = pod.held_drain(&ship).args(["--grace", "2s", "--reserve", "1s"]).start();
    pod.wait_for_leases(1);
    run.signal(Signal::SIGKILL);
    pod.proxy.wait_for_stderr("the drain's lease lapsed and no stop has come: ready again");
    assert_eq!((http("GET", pod.admin, "/readyz").unwrap().status, pod.phase().as_str()), (200, "running"));
    assert!(!pod.proxy.has_ended(), "a drained proxy never ends by itself");
    client.end();
}

#[test]
fn sigterm_during_the_lease_ends_the_proxy_in_order() {
    let (pod, ship) = (Pod::http(), ship(200, ""));
    let port = pod.port;
    let client = thread::spawn(move || ask(Ipv4Addr::LOCALHOST, port, "/slow", CLIENT));
    // Nobody else asks yet.
    eventually("the request is in flight", || (pod.state()["in_flight"] == 1).then_some(()));
    // Probes hold neither the drain nor the stop.
    let kubelet = Caller::start(move || {
        if let Ok(mut probe) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            let _ = write!(probe, "GET / HTTP/1.1\r\nHost: app\r\nUser-Agent: {PROBE}\r\n\r\n");
        }
    });
    let run = pod.held_drain(&ship).start();
    pod.wait_for_leases(1);
    // The hook is ended with the app's container; the proxy stays unready until its own SIGTERM comes.
    run.terminate().expect_exit(75).expect_stderr("ended by SIGTERM");
    assert_eq!(pod.phase(), "draining");
    pod.proxy.terminate().expect_exit(0).expect_stderr("all work is done");
    assert_eq!(client.join().unwrap(), "HTTP/1.1 200 OK", "what was in flight is answered");
    kubelet.end();
}

#[test]
fn what_ship_could_not_deliver_is_told_in_time_and_delivered_later() {
    let dir = tempfile::tempdir().unwrap();
    let (log, state) = (dir.path().join("app.log"), dir.path().join("state"));
    std::fs::write(&log, "one\ntwo\nthree\n").unwrap();
    let is_down = Arc::new(AtomicBool::new(true));
    let (down, admin) = (Arc::clone(&is_down), SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let backend = Neighbour::new(move |_| {
        Answer::Reply(if down.load(Ordering::Acquire) { 503 } else { 200 }, String::new())
    });
    let ship = neighbour("ship")
        .arg("--include")
        .arg(&log)
        .arg("--state-dir")
        .arg(&state)
        .args(["--to", &format!("{}/logs", backend.url()), "--compression", "none"])
        .args(["--admin", &admin.to_string()])
        .start();
    eventually("ship is there", || http("GET", admin, "/startupz").ok().filter(|reply| reply.status == 200));
    backend.wait_for("POST /logs", 1);

    let reply = http("POST", admin, "/flush?wait=200ms").unwrap();
    assert_eq!((reply.status, &reply.json()["pending_bytes"]), (504, &14.into()), "{}", reply.body);
    let gone = format!("http://127.0.0.1:{}", free_port());
    let run = drain(&["--grace", "4s", "--reserve", "1s", "--min-delay", "50ms", "--quiet", "50ms"]).args([
        "--proxy",
        &gone,
        "--ship",
        &format!("http://{admin}"),
    ]);
    let (finished, took) = timed(run.args(["--port", "1"]));
    finished
        .expect_exit(75)
        .expect_stderr("podkit-drain: the deadline passed after ")
        .expect_stderr("logs not delivered: {")
        .expect_stderr("\"pending_bytes\":14");
    assert!(took < Duration::from_secs(10), "{took:?}");

    is_down.store(false, Ordering::Release);
    drain(&["--grace", "25s", "--min-delay", "50ms", "--quiet", "50ms", "--port", "1"])
        .args(["--proxy", &gone, "--ship", &format!("http://{admin}")])
        .expect_exit(0)
        .expect_stderr("has delivered every whole line");
    ship.terminate().expect_exit(0);
    let sent: Vec<String> = backend.requests().into_iter().map(|request| request.body).collect();
    let last = sent.last().unwrap();
    assert!(["one", "two", "three"].iter().all(|line| last.contains(line)), "{sent:?}");
}
