//! Rolling updates: proxies are replaced one after the other under a load that never pauses, as Kubernetes does it,
//! and not one request fails.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use podkit_testkit::{Signal, eventually};

use crate::support::h2::{H2, answer, request, upload, wait};
use crate::support::{Client, Origin, Proxy};

/// Replicas of the app, replaced side by side.
const SLOTS: usize = 5;

/// How often each is replaced: fifty drains in all.
const ROUNDS: usize = 10;

/// For so long a drained replica still gets new connections: endpoints propagate late.
const LATE: Duration = Duration::from_millis(80);

/// What counts as quiet, for who waits for it and for the proxy.
const QUIET: Duration = Duration::from_millis(400);

/// What a client's balancer knows.
#[derive(Default)]
struct Endpoints {
    all: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Endpoints {
    fn add(&self, address: SocketAddr) {
        self.all.lock().unwrap().push(address);
    }

    fn remove(&self, address: SocketAddr) {
        self.all.lock().unwrap().retain(|one| *one != address);
    }

    /// Does something with the next endpoint; who is no longer in the list has nothing done to it.
    fn with_next<T>(&self, act: impl FnOnce(SocketAddr) -> T) -> T {
        let all = self.all.lock().unwrap();
        act(all[self.next.fetch_add(1, Ordering::Relaxed) % all.len()])
    }

    /// A connection and its first request.
    fn open(&self, first: &str) -> Client {
        self.with_next(|address| {
            let mut client = Client::connect(address);
            client.send(first);
            client
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Uses its connection until it is told that it ends.
    KeepAlive,
    /// Takes a new connection for each request, and says so.
    Closing,
    /// Sends a body in chunks.
    Posting,
    /// Pauses between requests, so that the proxy sees it idle.
    Pausing,
    /// Talks for a while and leaves.
    WebSocket,
    /// As `KeepAlive`, told by GOAWAY.
    Http2,
}

struct Load {
    running: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(endpoints: &Arc<Endpoints>) -> Self {
        let (running, served) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let kinds =
            [Kind::KeepAlive, Kind::Closing, Kind::Posting, Kind::Pausing, Kind::WebSocket, Kind::Http2];
        let client = |kind| {
            let (endpoints, running, served) =
                (Arc::clone(endpoints), Arc::clone(&running), Arc::clone(&served));
            std::thread::spawn(move || {
                let (mut connection, mut http2) = (None, None);
                while running.load(Ordering::Relaxed) {
                    match kind {
                        Kind::WebSocket => talk(&endpoints),
                        Kind::Http2 => ask_http2(&mut http2, &endpoints),
                        kind => ask(kind, &mut connection, &endpoints),
                    }
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = kinds.into_iter().cycle().take(2 * kinds.len()).map(client).collect();
        Self { running, served, clients }
    }

    fn stop(self) -> usize {
        self.running.store(false, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("no request fails");
        }
        self.served.load(Ordering::Relaxed)
    }
}

/// One request and its answer.
fn ask(kind: Kind, connection: &mut Option<Client>, endpoints: &Endpoints) {
    let request = match kind {
        Kind::Closing => "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        Kind::Posting => {
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        }
        _ => "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    };
    let client = match connection {
        Some(client) => client.send(request),
        None => connection.insert(endpoints.open(request)),
    };
    let response = client.try_response(false).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    assert_eq!((response.status, response.text()), (200, "hello"), "{kind:?}");
    if response.closes() || matches!(kind, Kind::Closing) {
        *connection = None;
    }
    std::thread::sleep(Duration::from_millis(if matches!(kind, Kind::Pausing) { 20 } else { 1 }));
}

/// One request of HTTP/2 and its answer.
fn ask_http2(connection: &mut Option<H2>, endpoints: &Endpoints) {
    let begin = |client: &H2| {
        let send = client.send.clone();
        wait(async { send.ready().await?.send_request(request("POST", "/"), false) })
    };
    let answer = loop {
        let begun = match connection {
            Some(client) => begin(client),
            None => endpoints.with_next(|address| begin(connection.insert(wait(H2::connect(address))))),
        };
        // Who has been told to go takes no further request: that one has not failed, it has not begun.
        if let Ok((response, body)) = begun {
            let result = wait(async {
                upload(body, b"hello", None).await;
                answer(response).await
            });
            match result {
                Ok(answer) => break answer,
                // What GOAWAY names as not begun is for another connection (RFC 9113 6.8).
                Err(error) => assert!(was_not_begun(&error), "what has begun is served: {error:?}"),
            }
        }
        *connection = None;
    };
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    std::thread::sleep(Duration::from_millis(5));
}

fn was_not_begun(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}

/// One session, which nobody may cut short.
fn talk(endpoints: &Endpoints) {
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = endpoints.open(upgrade);
    let head = client.head().expect("the upgrade is answered");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for n in 0..10 {
        let word = format!("word {n}");
        client.send(&word);
        assert_eq!(client.exactly(word.len()).expect("the session goes on"), word.as_bytes());
        std::thread::sleep(Duration::from_millis(10));
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest().expect("the session ends cleanly"), b"bye");
}

/// An app that answers, and echoes what comes behind an upgrade.
fn app() -> Origin {
    Origin::start(|mut connection| {
        while let Some((head, _)) = connection.request() {
            if !head.starts_with("GET /ws ") {
                connection.ok("hello");
                continue;
            }
            connection.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            connection.mirror();
            connection.send("bye");
            return;
        }
    })
}

fn replica(app: &Origin) -> Proxy {
    let quiet = format!("{}ms", QUIET.as_millis());
    Proxy::http_with(app.address, &["--shutdown-quiet", &quiet, "--shutdown-deadline", "20s"])
}

/// How a replica is told to go.
#[derive(Clone, Copy)]
enum Way {
    /// By `podkit-drain`, which waits until nothing is under way any more.
    Waited,
    /// By a hook that only gives the endpoints time: requests and sessions are under way when SIGTERM comes.
    Hasty,
    /// As `Waited`, but by a second drain: the first was undone.
    Undone,
}

/// What the kubelet and the preStop hook do to a replica whose successor is there.
fn retire(proxy: Proxy, way: Way, endpoints: &Endpoints) {
    proxy.ask("POST", "/drain?lease=60s");
    std::thread::sleep(LATE);
    if matches!(way, Way::Undone) {
        proxy.ask("DELETE", "/drain");
        std::thread::sleep(LATE);
        proxy.ask("POST", "/drain?lease=60s");
    }
    endpoints.remove(proxy.address());
    eventually("the replica is quiet", || {
        let state = proxy.drain_state();
        let silent = |name: &str| state[name].as_u64().is_none_or(|ms| u128::from(ms) >= QUIET.as_millis());
        let quiet = silent("ms_since_last_connection") && silent("ms_since_last_request");
        (matches!(way, Way::Hasty) || quiet && state["in_flight"] == 0).then_some(())
    });
    assert_eq!(proxy.metric("podkit_proxy_requests_total", "code=\"5xx\""), 0.0);
    proxy.process.signal(Signal::SIGTERM);
    proxy.process.wait().expect_exit(0).refuse_stderr("WARN");
}

#[test]
fn fifty_drains_under_load_fail_no_request() {
    let app = Arc::new(app());
    let endpoints = Arc::new(Endpoints::default());
    let replicas: Vec<Proxy> = (0..SLOTS).map(|_| replica(&app)).collect();
    replicas.iter().for_each(|proxy| endpoints.add(proxy.address()));
    let load = Load::start(&endpoints);
    let slots: Vec<_> = replicas
        .into_iter()
        .map(|mut current| {
            let (app, endpoints) = (Arc::clone(&app), Arc::clone(&endpoints));
            std::thread::spawn(move || {
                for way in [Way::Waited, Way::Hasty, Way::Undone].into_iter().cycle().take(ROUNDS) {
                    let next = replica(&app);
                    endpoints.add(next.address());
                    retire(std::mem::replace(&mut current, next), way, &endpoints);
                }
                current
            })
        })
        .collect();
    let replicas: Vec<_> =
        slots.into_iter().map(|slot| slot.join().expect("each drain ends cleanly")).collect();
    let served = load.stop();
    drop(replicas);
    assert!(served > 1000, "only {served} requests were served");
    println!("{served} requests through {} drains", SLOTS * ROUNDS);
}
