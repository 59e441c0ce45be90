//! Drains under load: not one request fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use podkit_testkit::Signal;

use crate::support::{Client, Origin, Proxy};

/// Clients that ask as fast as they get answers, each in its own way.
struct Load {
    running: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Uses its connection until it is told that it ends.
    KeepAlive,
    /// Takes a new connection for each request, and says so.
    Closing,
    /// Sends a body.
    Posting,
    /// Pauses between requests, so that the proxy sees it idle.
    Pausing,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (running, answers) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let kinds = [Kind::KeepAlive, Kind::Closing, Kind::Posting, Kind::Pausing];
        let clients = kinds.into_iter().cycle().take(12).map(|kind| {
            let (running, answers) = (Arc::clone(&running), Arc::clone(&answers));
            std::thread::spawn(move || client(address, kind, &running, &answers))
        });
        let clients = clients.collect();
        Self { running, answers, clients }
    }

    fn run_for(&self, time: Duration) {
        let before = self.answers.load(Ordering::Relaxed);
        std::thread::sleep(time);
        assert!(self.answers.load(Ordering::Relaxed) > before, "the load stands still");
    }

    /// The endpoint is gone from all balancers: no client comes any more. Fails where a request has failed.
    fn stop(self) -> usize {
        self.running.store(false, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("no request fails");
        }
        self.answers.load(Ordering::Relaxed)
    }
}

fn client(address: SocketAddr, kind: Kind, running: &AtomicBool, answers: &AtomicUsize) {
    let mut connection: Option<Client> = None;
    while running.load(Ordering::Relaxed) {
        let client = connection.get_or_insert_with(|| Client::connect(address));
        client.send(match kind {
            Kind::KeepAlive | Kind::Pausing => "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Kind::Closing => "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Kind::Posting => "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        });
        let response = client.try_response(false).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!((response.status, response.text()), (200, "hello"), "{kind:?}");
        if response.closes() || matches!(kind, Kind::Closing) {
            connection = None;
        }
        answers.fetch_add(1, Ordering::Relaxed);
        if matches!(kind, Kind::Pausing) {
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

#[test]
fn a_lease_and_a_stop_under_load_lose_no_request() {
    let origin = Origin::hello();
    let proxy = Proxy::http_with(origin.address, &["--shutdown-quiet", "300ms"]);
    let load = Load::start(proxy.address());
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
    let load = Load::start(proxy.address());
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
    let load = Load::start(proxy.address());
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
