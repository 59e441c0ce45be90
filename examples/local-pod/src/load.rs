//! The clients: a steady rate of requests through the proxy, and a count of every one that failed.
//!
//! Two clients of three keep their connection for as long as the server lets them (on `Connection: close` they open
//! another one), one of three says `Connection: close` itself. No request is ever sent twice: what fails,
//! failed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{CONNECTION, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

/// No request takes long here; this one is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an order weighs.
const ORDER: usize = 2048;

/// What has happened so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// Requests sent, those that failed included.
    pub(crate) sent: u64,
    /// Requests on a connection that had carried one before.
    pub(crate) on_kept: u64,
    /// Answers that said `Connection: close` to a client that would have stayed.
    pub(crate) sent_away: u64,
    /// Failures by reason.
    pub(crate) failed: BTreeMap<String, u64>,
    /// How long each good answer took.
    pub(crate) took: Vec<Duration>,
}

impl Counts {
    /// Requests sent, and how many of them failed.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.sent, self.failures())
    }

    /// All failures.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Adds what another load has counted.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.sent += other.sent;
        self.on_kept += other.on_kept;
        self.sent_away += other.sent_away;
        self.took.extend(other.took);
        for (reason, count) in other.failed {
            *self.failed.entry(reason).or_default() += count;
        }
    }

    /// The time within which `percent` of the good answers came.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let last = took.len().saturating_sub(1);
        took.get((took.len() * percent / 100).min(last)).copied().unwrap_or_default()
    }
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    leave: watch::Sender<bool>,
    clients: JoinSet<()>,
    counts: Arc<Mutex<Counts>>,
}

impl Load {
    /// Sends `rate` requests per second to `target` until [`Load::leave`].
    pub(crate) fn start(target: SocketAddr, rate: u32) -> Self {
        // With one request in 200 ms each, a client keeps its pace even where all answers are slow ones.
        let number = (rate / 5).clamp(6, 256);
        let period = Duration::from_secs(1) * number / rate;
        let (leave, left) = watch::channel(false);
        let counts = Arc::new(Mutex::new(Counts::default()));
        let mut clients = JoinSet::new();
        for index in 0..number {
            let keeps = index % 3 != 2;
            let client =
                Client { target, keeps, index: index.into(), connection: None, counts: counts.clone() };
            let first = Instant::now() + period * index / number;
            clients.spawn(client.run(first, period, left.clone()));
        }
        Self { leave, clients, counts }
    }

    /// A look at the counts. The guard must not live across an await.
    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }

    /// Ends the load: what is under way is waited for, idle connections are closed.
    pub(crate) async fn leave(mut self) -> Counts {
        let _ = self.leave.send(true);
        while self.clients.join_next().await.is_some() {}
        lock(&self.counts).clone()
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client {
    target: SocketAddr,
    keeps: bool,
    index: u64,
    connection: Option<SendRequest<Full<Bytes>>>,
    counts: Arc<Mutex<Counts>>,
}

impl Client {
    async fn run(mut self, first: Instant, period: Duration, mut left: watch::Receiver<bool>) {
        let mut ticks = interval_at(first, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        // No number twice, and at each moment different kinds from different clients.
        let mut number = self.index * 1_000_000 + self.index;
        loop {
            tokio::select! {
                _ = left.wait_for(|left| *left) => return,
                _ = ticks.tick() => number += 1,
            }
            let kept = self.connection.as_ref().is_some_and(|connection| !connection.is_closed());
            let start = Instant::now();
            let outcome = timeout(PATIENCE, self.request(Kind::of(number), number));
            let outcome = outcome.await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            let mut counts = lock(&self.counts);
            counts.sent += 1;
            counts.on_kept += u64::from(kept);
            match outcome {
                Ok(sent_away) => {
                    counts.took.push(start.elapsed());
                    counts.sent_away += u64::from(sent_away && self.keeps);
                }
                Err(reason) => {
                    *counts.failed.entry(reason).or_default() += 1;
                    self.connection = None;
                }
            }
        }
    }

    /// Sends one request and checks the whole answer. Says whether the server wants the connection closed.
    async fn request(&mut self, kind: Kind, number: u64) -> Result<bool, String> {
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => connect(self.target).await?,
        };
        let request = kind.request(self.target, number, self.keeps);
        let response = connection.send_request(request).await.map_err(|error| reason(kind.path(), &error))?;
        let (status, close) = (response.status(), says_close(&response));
        let body =
            response.into_body().collect().await.map_err(|error| reason(kind.path(), &error))?.to_bytes();
        if !status.is_success() {
            return Err(format!("{} on {}", status.as_u16(), kind.path()));
        }
        if body != kind.expected(number) {
            return Err(format!("a wrong body on {}", kind.path()));
        }
        if self.keeps && !close {
            // The connection is free again once hyper has seen the end of the answer.
            connection.ready().await.ok();
            self.connection = Some(connection);
        }
        Ok(close)
    }
}

/// A connection of a client's own. It can become a WebSocket.
pub(crate) async fn connect(target: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(target).await.map_err(|error| format!("connect: {}", error.kind()))?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| format!("handshake: {error}"))?;
    // Its error reaches the request that it concerns.
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(sender)
}

/// hyper's text and, where there is one, the socket's: "connection closed before message completed".
pub(crate) fn reason(path: &str, error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause} on {path}")
}

/// Whether the server wants the connection closed.
pub(crate) fn says_close(response: &Response<Incoming>) -> bool {
    let values = response.headers().get_all(CONNECTION);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")))
}

/// What is asked for: mostly short, some with a body, some slow.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Hello,
    Order,
    Slow,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number % 10 {
            3 | 8 => Self::Order,
            5 => Self::Slow,
            _ => Self::Hello,
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Hello => "/hello",
            Self::Order => "/orders",
            Self::Slow => "/slow",
        }
    }

    fn request(self, target: SocketAddr, number: u64, keeps: bool) -> Request<Full<Bytes>> {
        let (method, body) = match self {
            Self::Order => (Method::POST, self.expected(number)),
            _ => (Method::GET, Bytes::new()),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}?n={number}", self.path()))
            .header(HOST, target.to_string());
        if !keeps {
            request = request.header(CONNECTION, "close");
        }
        request.body(Full::from(body)).expect("a fixed path, a number and an address make a request")
    }

    fn expected(self, number: u64) -> Bytes {
        match self {
            Self::Hello => format!("hello {number}\n"),
            Self::Slow => format!("slow {number}\n"),
            Self::Order => format!("order {number} {}\n", "x".repeat(ORDER)),
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_has_all_kinds() {
        let kinds: Vec<_> = (0..10).map(Kind::of).collect();
        let count = |kind| kinds.iter().filter(|&&other| other == kind).count();
        assert_eq!((count(Kind::Hello), count(Kind::Order), count(Kind::Slow)), (7, 2, 1));
    }

    #[test]
    fn percentiles_of_few_answers() {
        let ms = |number| Duration::from_millis(number);
        let mut counts = Counts::default();
        assert_eq!(counts.percentile(99), ms(0));
        counts.took = vec![ms(3), ms(1), ms(2)];
        assert_eq!((counts.percentile(50), counts.percentile(99)), (ms(2), ms(3)));
    }

    #[tokio::test]
    async fn a_refused_connection_and_a_cut_answer_are_counted_by_reason() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let load = Load::start(target, 100);
        for _ in 0..3 {
            drop(listener.accept().await.unwrap());
        }
        drop(listener);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !load.counts().failed.contains_key("connect: connection refused") && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let counts = load.leave().await;
        assert_eq!(counts.failures(), counts.sent, "{counts:?}");
        assert!(counts.failed.contains_key("connect: connection refused"), "{counts:?}");
        assert!(counts.failed.len() > 1, "{counts:?}");
    }
}
