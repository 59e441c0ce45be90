//! The admin port over real sockets: contract 2, request by request.

#![expect(clippy::unwrap_used, reason = "a panic fails the test, as it should")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use podkit_admin::{Admin, Answer, Drain, Flushed, Instance, Lease, Reasons, metrics_text, serve};
use podkit_testkit::{eventually, http};
use serde_json::{Value, json};

/// An instance that writes down what it is told.
#[derive(Default)]
struct Recorder {
    told: Mutex<Vec<String>>,
    unready: Vec<String>,
    drains: bool,
}

impl Recorder {
    fn tell(&self, what: impl Into<String>) {
        self.told.lock().unwrap().push(what.into());
    }
}

impl Instance for Recorder {
    fn live(&self) -> Reasons {
        Vec::new()
    }

    fn ready(&self) -> Reasons {
        self.unready.clone()
    }

    fn startup(&self) -> Reasons {
        Vec::new()
    }

    fn metrics(&self) -> String {
        let registry = prometheus::Registry::new();
        let counter = prometheus::IntCounter::new("podkit_test_things_total", "Things.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc();
        metrics_text(&registry)
    }

    fn status(&self) -> Value {
        json!({"phase": "running"})
    }

    fn drain(&self) -> Option<&dyn Drain> {
        self.drains.then_some(self)
    }

    fn flush(&self, wait: Duration) -> Option<Answer<Flushed>> {
        self.tell(format!("flush {wait:?}"));
        let flushed =
            if wait.is_zero() { Flushed::Pending(json!({"pending": 7})) } else { Flushed::Done(json!({})) };
        Some(Box::pin(async { flushed }))
    }

    fn quit(&self) {
        self.tell("quit");
    }
}

impl Drain for Recorder {
    fn start(&self, Lease { length, holder, ignored, probing }: Lease) {
        let peers: Vec<String> = [ignored, probing].concat().iter().map(ToString::to_string).collect();
        self.tell(format!("start {length:?} {holder} {}", peers.join(" ")).trim_end());
    }

    fn state(&self) -> Value {
        json!({"phase": "draining"})
    }

    fn undo(&self, holder: Option<&str>) {
        self.tell(format!("undo {}", holder.unwrap_or("all")));
    }
}

/// Answers a flush when the test says so.
struct Slow {
    asked: std::sync::mpsc::Sender<()>,
    answered: Mutex<Option<tokio::sync::oneshot::Receiver<Flushed>>>,
}

impl Instance for Slow {
    fn live(&self) -> Reasons {
        Vec::new()
    }

    fn ready(&self) -> Reasons {
        Vec::new()
    }

    fn startup(&self) -> Reasons {
        Vec::new()
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn status(&self) -> Value {
        json!({})
    }

    fn flush(&self, _: Duration) -> Option<Answer<Flushed>> {
        let answered = self.answered.lock().unwrap().take()?;
        self.asked.send(()).unwrap();
        Some(Box::pin(async { answered.await.unwrap() }))
    }

    fn quit(&self) {}
}

fn start(recorder: Recorder) -> (SocketAddr, Arc<Recorder>) {
    let recorder = Arc::new(recorder);
    let admin: Admin = serve((Ipv4Addr::LOCALHOST, 0).into(), recorder.clone()).unwrap();
    (admin.address(), recorder)
}

/// Sends raw bytes and returns all that comes back until the server closes.
fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(podkit_testkit::PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn probes_name_their_reasons() {
    let (address, _) =
        start(Recorder { unready: vec!["draining".into(), "no listener".into()], ..Recorder::default() });
    let reply = http("GET", address, "/readyz").unwrap();
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["reasons"], json!(["draining", "no listener"]));
    for path in ["/livez", "/startupz"] {
        assert_eq!(http("GET", address, path).unwrap().status, 200, "{path}");
    }
}

#[test]
fn metrics_and_status_are_served() {
    let (address, _) = start(Recorder::default());
    let reply = http("GET", address, "/metrics").unwrap();
    assert_eq!(reply.metric("podkit_test_things_total"), Some(1.0));
    assert_eq!(http("GET", address, "/status").unwrap().json()["phase"], "running");
    assert!(raw(address, "GET /metrics HTTP/1.0\r\n\r\n").contains("text/plain; version=0.0.4"));
}

#[test]
fn changes_reach_the_instance() {
    let (address, recorder) = start(Recorder { drains: true, ..Recorder::default() });
    for (method, path, status) in [
        ("POST", "/drain", 200),
        ("POST", "/drain?lease=5s", 200),
        ("GET", "/drain", 200),
        ("POST", "/drain?lease=5s&holder=x&ignore_peer=10.0.0.0%2F8&probe_peer=fd00::1", 200),
        ("DELETE", "/drain?holder=x", 200),
        ("DELETE", "/drain", 200),
        ("POST", "/flush", 200),
        ("POST", "/flush?wait=0s", 504),
        ("POST", "/quit", 200),
    ] {
        assert_eq!(http(method, address, path).unwrap().status, status, "{method} {path}");
    }
    let told = recorder.told.lock().unwrap().clone();
    assert_eq!(
        told,
        [
            "start 60s",
            "start 5s",
            "start 5s x 10.0.0.0/8 fd00::1/128",
            "undo x",
            "undo all",
            "flush 25s",
            "flush 0ns",
            "quit"
        ]
    );
}

#[test]
fn what_is_not_offered_or_mistyped_is_refused_with_the_reason() {
    let (address, recorder) = start(Recorder::default());
    for (method, path, status, why) in [
        ("GET", "/nothing", 404, "there is no /nothing here"),
        ("POST", "/drain", 404, "there is no /drain here"),
        ("GET", "/quit", 405, "/quit takes POST"),
        ("POST", "/flush?wait=5", 400, "wait: \"5\" has no unit"),
        ("POST", "/flush?wiat=5s", 400, "\"wiat=5s\" is not known here; write `wait=5s`"),
    ] {
        let reply = http(method, address, path).unwrap();
        assert_eq!((reply.status, reply.json()["error"].as_str().unwrap()), (status, why), "{method} {path}");
    }
    assert!(recorder.told.lock().unwrap().is_empty());
}

#[test]
fn a_lease_that_cannot_be_understood_is_refused_and_changes_nothing() {
    let (address, recorder) = start(Recorder { drains: true, ..Recorder::default() });
    for (method, path, why) in [
        ("POST", "/drain?lease=5s&ignore_peer=10.0.0.0/99", "ignore_peer: \"10.0.0.0/99\" is neither"),
        ("POST", "/drain?lease=5s&ignore_pear=10.0.0.1", "\"ignore_pear=10.0.0.1\" is not known here"),
        ("DELETE", "/drain?lease=5s", "\"lease=5s\" is not known here; write `holder=NAME`"),
    ] {
        let reply = http(method, address, path).unwrap();
        let said = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(reply.status == 400 && said.starts_with(why), "{method} {path}: {} {said}", reply.status);
    }
    assert!(recorder.told.lock().unwrap().is_empty());
}

#[test]
fn a_web_page_can_change_nothing() {
    let (address, recorder) = start(Recorder::default());
    let request = "POST /quit HTTP/1.1\r\nHost: x\r\nOrigin: http://evil\r\nConnection: close\r\n\r\n";
    assert!(raw(address, request).starts_with("HTTP/1.1 403"));
    assert!(recorder.told.lock().unwrap().is_empty());
}

#[test]
fn a_flood_of_header_bytes_is_refused() {
    let (address, _) = start(Recorder::default());
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(podkit_testkit::PATIENCE)).unwrap();
    // The server may close before all is written; what counts is its answer.
    let _ =
        stream.write_all(format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(64 << 10)).as_bytes());
    let mut answer = [0; 12];
    let read = stream.read(&mut answer).unwrap_or(0);
    assert!(read == 0 || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn idle_connections_do_not_keep_the_kubelet_out() {
    let (address, _) = start(Recorder::default());
    let idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(http("GET", address, "/livez").unwrap().status, 200);
    drop(idle);
}

#[test]
fn a_client_that_does_not_read_its_answer_loses_its_place() {
    let (address, _) = start(Recorder { unready: vec!["x".repeat(32 << 20)], ..Recorder::default() });
    let mut unread = TcpStream::connect(address).unwrap();
    unread.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(http("GET", address, "/livez").unwrap().status, 200);
    // The server's reset is what the next write meets.
    eventually("the server gives the connection up", || unread.write_all(b"\r\n").is_err().then_some(()));
}

#[test]
fn what_was_asked_is_answered_before_it_rests() {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let (asked, is_asked) = std::sync::mpsc::channel();
    let slow = Slow { asked, answered: Mutex::new(Some(answered)) };
    let admin = serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Arc::new(slow)).unwrap();
    let address = admin.address();
    let flush = std::thread::spawn(move || http("POST", address, "/flush?wait=20s").unwrap());
    is_asked.recv_timeout(podkit_testkit::PATIENCE).unwrap();
    let rests = std::thread::spawn(move || admin.rest(podkit_testkit::PATIENCE));
    eventually("it takes no more", || TcpStream::connect(address).is_err().then_some(()));
    assert!(!rests.is_finished());
    answer.send(Flushed::Done(json!({"late": true}))).unwrap();
    let reply = flush.join().unwrap();
    assert_eq!((reply.status, reply.json()), (200, json!({"late": true})));
    rests.join().unwrap();
}

#[test]
fn a_taken_port_is_named_with_its_flag() {
    let (address, _) = start(Recorder::default());
    let error = serve(address, Arc::new(Recorder::default())).unwrap_err();
    let failure = podkit_cli::Failure::from(error);
    let message = format!("cannot listen on {address} for --admin: address already in use");
    assert_eq!(failure.messages().collect::<Vec<_>>(), [message]);
}
