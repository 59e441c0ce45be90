//! The clients of one pod: newcomers, keepers of connections, slow requests, WebSockets, idlers.
//!
//! They come while their endpoints list the pod, which is for a while after its termination has started. Who has a
//! connection goes on using it until the server says `close`, whatever the endpoints say, as clients do. Nothing is
//! ever asked twice: what fails, failed, and is kept with its time and reason.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    client::conn::http1::SendRequest,
    header::{CONNECTION, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::plan::Crowd;
use crate::{
    load::{connect, reason, says_close},
    websocket::{self, Frame, Side},
};

/// Longer than anything here takes, a pod's whole termination by `sleep 15` included: this one is stuck.
const PATIENCE: Duration = Duration::from_secs(45);

/// How often the metronome beats, and from which delay on a beat says that the machine had stopped this process.
const BEAT: Duration = Duration::from_millis(20);
const LATE_BEAT: Duration = Duration::from_millis(100);

/// Why a request on a kept connection has no answer at all: it was closed in that moment.
const CROSSED: &str = "the request crossed the end of its connection";

/// What the endpoints say of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    Yes,
    /// Not now; it may come back.
    No,
    /// Never again.
    Gone,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Requests, WebSocket sessions included.
    pub(crate) sent: u64,
    pub(crate) sessions: u64,
    pub(crate) slow: u64,
    /// Requests on connections that the server closed in that moment.
    pub(crate) crossed: Vec<Instant>,
    /// When the machine let this process run again, and how long it had not.
    pub(crate) stalls: Vec<(Instant, Duration)>,
    /// When connections were opened.
    pub(crate) connects: Vec<Instant>,
    pub(crate) failed: Vec<(Instant, String)>,
    /// From when to when each long request and session was under way.
    pub(crate) long: Vec<(&'static str, Instant, Instant)>,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Clients {
    listed: watch::Sender<Listed>,
    seen: Arc<Mutex<Seen>>,
    tasks: JoinSet<()>,
}

impl Clients {
    pub(crate) fn start(target: SocketAddr, crowd: Crowd, seed: u64) -> Self {
        let (listed, watched) = watch::channel(Listed::Yes);
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut tasks = JoinSet::new();
        let kinds = [
            (crowd.newcomers, Kind::Newcomer),
            (crowd.keepers, Kind::Keeper),
            (crowd.slow, Kind::Slow),
            (crowd.websockets, Kind::WebSocket),
            (crowd.idlers, Kind::Idler),
        ];
        for (index, kind) in
            kinds.into_iter().flat_map(|(count, kind)| (0..count).map(move |index| (index, kind)))
        {
            let draw = Rng::with_seed(seed ^ (u64::from(index) << 8 | kind as u64));
            let client = Client {
                target,
                longest: crowd.longest,
                name: (kind as u64 * 10 + u64::from(index)) * 1_000_000,
                draw,
                listed: watched.clone(),
                seen: seen.clone(),
            };
            tasks.spawn(client.run(kind));
        }
        tasks.spawn(beat(seen.clone(), watched));
        Self { listed, seen, tasks }
    }

    /// The endpoints change; the clients have heard of it.
    pub(crate) fn list(&self, listed: Listed) {
        self.listed.send_replace(listed);
    }

    /// A look at what was seen. The guard must not live across an await.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Waits until the last one has left, which is when the server has closed on them all.
    pub(crate) async fn leave(mut self) -> Seen {
        self.list(Listed::Gone);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut self.seen())
    }
}

/// Notes when the machine has stopped all clients; for that no server is to blame.
async fn beat(seen: Arc<Mutex<Seen>>, listed: watch::Receiver<Listed>) {
    while *listed.borrow() != Listed::Gone {
        let due = Instant::now() + BEAT;
        sleep(BEAT).await;
        let late = due.elapsed();
        if late >= LATE_BEAT {
            lock(&seen).stalls.push((Instant::now(), late));
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Newcomer,
    Keeper,
    Slow,
    WebSocket,
    Idler,
}

struct Client {
    target: SocketAddr,
    longest: Duration,
    /// The number of its last request; no other client has it.
    name: u64,
    draw: Rng,
    listed: watch::Receiver<Listed>,
    seen: Arc<Mutex<Seen>>,
}

type Outcome<T> = Result<T, String>;

impl Client {
    async fn run(mut self, kind: Kind) {
        loop {
            match self.listed.wait_for(|listed| *listed != Listed::No).await.map(|listed| *listed) {
                Ok(Listed::Yes) => {}
                _ => return,
            }
            let start = Instant::now();
            let done = match kind {
                Kind::Newcomer => timeout(PATIENCE, self.visit()).await,
                Kind::Keeper => timeout(PATIENCE, self.stay()).await,
                Kind::Slow => timeout(PATIENCE, self.wait_long()).await,
                Kind::WebSocket => timeout(PATIENCE, self.converse()).await,
                Kind::Idler => timeout(PATIENCE, self.idle()).await,
            };
            let done = done.unwrap_or_else(|_| Err(format!("not over within {PATIENCE:?}")));
            if let Err(reason) = done {
                let told = format!("{kind:?} of {}: {reason}", milliseconds(start.elapsed()));
                lock(&self.seen).failed.push((Instant::now(), told));
            }
            // Well below `--quiet`: who stays away for longer may find the pod closed.
            self.pause(20, 90).await;
        }
    }

    /// One connection, one request.
    async fn visit(&mut self) -> Outcome<()> {
        let mut connection = self.connect().await?;
        self.ask(&mut connection, "/hello", "", true).await.map(drop)
    }

    /// Requests on one connection until the server says `close`.
    async fn stay(&mut self) -> Outcome<()> {
        let mut connection = self.connect().await?;
        while !self.ask(&mut connection, "/hello", "", false).await? {
            self.pause(30, 250).await;
            if connection.ready().await.is_err() {
                // Closed between two requests: nothing was asked, nothing is lost.
                return Ok(());
            }
        }
        Ok(())
    }

    async fn wait_long(&mut self) -> Outcome<()> {
        let length = self.length();
        let mut connection = self.connect().await?;
        let start = Instant::now();
        let done = self.ask(&mut connection, "/slow", &format!("&ms={}", length.as_millis()), true).await;
        let mut seen = lock(&self.seen);
        seen.slow += 1;
        seen.long.push(("request", start, Instant::now()));
        done.map(drop)
    }

    /// One request, a long silence, and another one on the same connection, unless the server has closed it by then:
    /// that is its right, but not by a reset. A request that crosses the close is nobody's fault; who keeps connections
    /// sends it again elsewhere, and so it is counted apart.
    async fn idle(&mut self) -> Outcome<()> {
        let target = self.target;
        let stream =
            TcpStream::connect(target).await.map_err(|error| format!("connect: {}", error.kind()))?;
        let mut stream = BufReader::new(stream);
        self.connected();
        self.ask_plainly(&mut stream).await?;
        let silence = Duration::from_millis(self.draw.u64(300..=8000));
        match timeout(silence, stream.fill_buf()).await {
            Err(_) => {}
            Ok(Ok([])) => return Ok(()),
            Ok(Ok(_)) => return Err("bytes that were not asked for".into()),
            Ok(Err(error)) => return Err(format!("while idle: {}", error.kind())),
        }
        match self.ask_plainly(&mut stream).await {
            Err(reason) if reason == CROSSED => {
                lock(&self.seen).crossed.push(Instant::now());
                Ok(())
            }
            answered => answered,
        }
    }

    /// A request written by hand, and the whole of its short answer.
    async fn ask_plainly(&mut self, stream: &mut BufReader<TcpStream>) -> Outcome<()> {
        let request = format!("GET /hello?n={} HTTP/1.1\r\nhost: {}\r\n\r\n", self.next(), self.target);
        lock(&self.seen).sent += 1;
        let broken = |error: std::io::Error, answer: &str| match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe if answer.is_empty() => CROSSED.to_owned(),
            kind => format!("after a silence: {kind}, with {answer:?} for an answer"),
        };
        stream.write_all(request.as_bytes()).await.map_err(|error| broken(error, ""))?;
        let expected = format!("hello {}\n", self.name);
        let mut answer = String::new();
        while !answer.ends_with(&expected) {
            match stream.read_line(&mut answer).await {
                Ok(0) if answer.is_empty() => return Err(CROSSED.into()),
                Ok(0) => return Err(format!("half an answer: {answer:?}")),
                Ok(_) => {}
                Err(error) => return Err(broken(error, &answer)),
            }
            if answer.contains("\r\n") && !answer.starts_with("HTTP/1.1 200") {
                return Err(format!("after a silence: {}", answer.lines().next().unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// A session of some length, with pauses; each message must come back, and so must the close.
    async fn converse(&mut self) -> Outcome<()> {
        let end = Instant::now() + self.length();
        let mut connection = self.connect().await?;
        let mut request = self.request("/ws", "");
        websocket::fields(request.headers_mut(), ("sec-websocket-key", websocket::KEY));
        request.headers_mut().insert("sec-websocket-version", hyper::header::HeaderValue::from_static("13"));
        lock(&self.seen).sent += 1;
        let response = connection.send_request(request).await.map_err(|error| reason("/ws", &error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("{} on /ws", response.status().as_u16()));
        }
        let start = Instant::now();
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| reason("/ws", &error))?;
        let mut stream = TokioIo::new(upgraded);
        let broken = |error: std::io::Error| format!("the WebSocket broke: {error}");
        loop {
            let frame = match Instant::now() < end {
                true => Frame::Text(format!("hello {}", self.next()).into()),
                false => Frame::Close,
            };
            websocket::send(&mut stream, Side::Client, &frame).await.map_err(broken)?;
            if websocket::receive(&mut stream).await.map_err(broken)? != frame {
                return Err("another frame came back".into());
            }
            if frame == Frame::Close {
                let mut seen = lock(&self.seen);
                seen.sessions += 1;
                seen.long.push(("WebSocket", start, Instant::now()));
                return Ok(());
            }
            self.pause(20, 150).await;
        }
    }

    async fn connect(&self) -> Outcome<SendRequest<Full<Bytes>>> {
        self.connected();
        connect(self.target).await
    }

    fn connected(&self) {
        lock(&self.seen).connects.push(Instant::now());
    }

    /// Sends one request and checks the whole answer. Says whether the server wants the connection closed.
    async fn ask(
        &mut self,
        connection: &mut SendRequest<Full<Bytes>>,
        path: &str,
        more: &str,
        last: bool,
    ) -> Outcome<bool> {
        let mut request = self.request(path, more);
        if last {
            request.headers_mut().insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
        }
        lock(&self.seen).sent += 1;
        let response = connection.send_request(request).await.map_err(|error| reason(path, &error))?;
        let (status, close) = (response.status(), says_close(&response));
        let body = response.into_body().collect().await.map_err(|error| reason(path, &error))?.to_bytes();
        if !status.is_success() {
            return Err(format!("{} on {path}: {}", status.as_u16(), String::from_utf8_lossy(&body).trim()));
        }
        let expected = format!("{} {}\n", path.trim_start_matches('/'), self.name);
        if body == expected.as_bytes() { Ok(close) } else { Err(format!("a wrong body on {path}")) }
    }

    fn request(&mut self, path: &str, more: &str) -> Request<Full<Bytes>> {
        let uri = format!("{path}?n={}{more}", self.next());
        let request = Request::get(uri).header(HOST, self.target.to_string());
        request.body(Full::default()).expect("a fixed path, numbers and an address make a request")
    }

    fn next(&mut self) -> u64 {
        self.name += 1;
        self.name
    }

    fn length(&mut self) -> Duration {
        let most = u64::try_from(self.longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.draw.u64(most / 5..=most))
    }

    async fn pause(&mut self, least: u64, most: u64) {
        sleep(Duration::from_millis(self.draw.u64(least..=most))).await;
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
