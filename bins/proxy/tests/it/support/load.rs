//! Clients under whom a proxy is drained, stopped or told of new settings: not one of their requests may fail.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Client;
use super::h2::{H2, answer, request, upload, wait};

/// How many clients there are.
const CLIENTS: usize = 12;

/// What a client's balancer knows.
#[derive(Default)]
pub(crate) struct Endpoints {
    all: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Endpoints {
    pub(crate) fn add(&self, address: SocketAddr) {
        self.all.lock().unwrap().push(address);
    }

    pub(crate) fn remove(&self, address: SocketAddr) {
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
pub(crate) enum Kind {
    /// Uses its connection until it is told that it ends.
    KeepAlive,
    /// Takes a new connection for each request, and says so.
    Closing,
    /// Sends a body whose length it tells.
    Posting,
    /// Sends a body in chunks.
    Chunked,
    /// Pauses between requests, so that the proxy sees it idle.
    Pausing,
    /// Talks for a while and leaves.
    WebSocket,
    /// As `KeepAlive`, told by GOAWAY.
    Http2,
}

/// Clients that ask again as soon as they have an answer, each in its own way.
pub(crate) struct Load {
    running: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// As many clients of each kind, which rest this long between two requests.
    pub(crate) fn start(endpoints: &Arc<Endpoints>, kinds: &[Kind], rest: Duration) -> Self {
        let (running, served) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
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
                    std::thread::sleep(rest);
                }
            })
        };
        let clients = kinds.iter().copied().cycle().take(CLIENTS).map(client).collect();
        Self { running, served, clients }
    }

    pub(crate) fn run_for(&self, time: Duration) {
        let before = self.served.load(Ordering::Relaxed);
        std::thread::sleep(time);
        assert!(self.served.load(Ordering::Relaxed) > before, "the load stands still");
    }

    /// No client comes any more. Fails where a request has failed; otherwise this is how many were served.
    pub(crate) fn stop(self) -> usize {
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
        Kind::Posting => "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        Kind::Chunked => {
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
    if matches!(kind, Kind::Pausing) {
        std::thread::sleep(Duration::from_millis(30));
    }
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
