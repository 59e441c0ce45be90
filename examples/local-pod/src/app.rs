//! The pod's app: an ordinary HTTP/1.1 server that knows nothing of podkit.
//!
//! It reads the config that seed rendered, answers on loopback, writes a numbered log line for each request and
//! keeps orders in a database that it reaches through the proxy's outbound listener. On SIGTERM it closes its
//! listener, answers what is under way, flushes to the database (so outbound must still work by then), writes
//! its last lines, the very last without a newline, and ends with 0. `linger_ms` is what else it has to do in between,
//! without a word.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{database::accept, error::Error, journal::Journal, websocket};

/// How long `/slow` thinks unless it is told: long enough for some request to be in flight at any moment.
const SLOW: Duration = Duration::from_millis(80);

/// How long the app waits for its own requests and its database while it shuts down.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// What seed renders for the app.
#[derive(Debug)]
struct Config {
    listen: SocketAddr,
    log: PathBuf,
    rotate_at: u64,
    database: SocketAddr,
    linger: Duration,
}

impl Config {
    fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(format!("read {path:?}")))?;
        Self::parse(&text).map_err(|reason| Error::AppConfig { path: path.into(), reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let json: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let text = |key: &str| json[key].as_str().ok_or_else(|| format!("no text {key:?}"));
        let address = |key: &str| text(key)?.parse().map_err(|_| format!("{key:?} is no address"));
        Ok(Self {
            listen: address("listen")?,
            database: address("database")?,
            log: text("log")?.into(),
            rotate_at: json["rotate_at"].as_u64().ok_or("no number \"rotate_at\"")?,
            linger: Duration::from_millis(json["linger_ms"].as_u64().unwrap_or_default()),
        })
    }
}

struct App {
    journal: Mutex<Journal>,
    database: SocketAddr,
}

/// Serves until SIGTERM.
pub(crate) async fn run(config: &Path) -> Result<(), Error> {
    let config = Config::read(config)?;
    let mut term = signal(SignalKind::terminate()).map_err(Error::io("listen for SIGTERM"))?;
    serve(config, async move { term.recv().await.unwrap_or_default() }).await
}

async fn serve(config: Config, term: impl Future<Output = ()>) -> Result<(), Error> {
    tokio::pin!(term);
    let journal = Journal::open(&config.log, config.rotate_at)
        .map_err(Error::io(format!("open the log {:?}", config.log)))?;
    let listener =
        TcpListener::bind(config.listen).await.map_err(Error::io(format!("listen on {}", config.listen)))?;
    let app = Arc::new(App { journal: Mutex::new(journal), database: config.database });
    app.log(&format!("listening on {}", config.listen))?;

    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = accept(&listener) => drop(connections.spawn(converse(stream, app.clone(), stopped.clone()))),
            Some(_) = connections.join_next() => {}
            () = term.as_mut() => break,
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let answered = timeout(SHUTDOWN, async { while connections.join_next().await.is_some() {} }).await;
    app.log(&format!("SIGTERM: requests answered: {}", answered.is_ok()))?;
    sleep(config.linger).await;
    app.shut_down().await
}

async fn converse(stream: TcpStream, app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    // A connection's error is the peer's business: whoever sent the request sees it and counts it.
    let told = async { drop(stopped.wait_for(|stopped| *stopped).await) };
    tokio::select! {
        _ = connection.as_mut() => {}
        () = told => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

impl App {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let number = parameter(&request, "n").unwrap_or("-").to_owned();
        let think =
            parameter(&request, "ms").and_then(|ms| ms.parse().ok()).map_or(SLOW, Duration::from_millis);
        if websocket::is_asked(&request) {
            return self.converse_at_length(request, number);
        }
        let (head, body) = request.into_parts();
        let (status, answer) = match (&head.method, head.uri.path()) {
            (&Method::GET, "/healthz") => return Response::new(Full::from("ok\n")),
            (&Method::GET, "/hello") => (StatusCode::OK, Bytes::from(format!("hello {number}\n"))),
            (&Method::GET, "/slow") => {
                sleep(think).await;
                (StatusCode::OK, Bytes::from(format!("slow {number}\n")))
            }
            (&Method::POST, "/orders") => match self.order(body).await {
                Ok(kept) => (StatusCode::CREATED, kept),
                Err(error) => (StatusCode::BAD_GATEWAY, Bytes::from(format!("database: {error}\n"))),
            },
            _ => (StatusCode::NOT_FOUND, Bytes::from("no such page\n")),
        };
        let line = format!("{} {} n={number} {}", head.method, head.uri.path(), status.as_u16());
        let status = if self.log(&line).is_ok() { status } else { StatusCode::INSUFFICIENT_STORAGE };
        let mut response = Response::new(Full::from(answer));
        *response.status_mut() = status;
        response
    }

    /// A WebSocket that sends back what it is sent. Nobody waits for it at the end: it is cut.
    fn converse_at_length(
        self: Arc<Self>,
        request: Request<Incoming>,
        number: String,
    ) -> Response<Full<Bytes>> {
        tokio::spawn(async move {
            let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
            let frames = echo(&mut TokioIo::new(upgraded)).await;
            // A log that takes no more shows in the requests beside.
            drop(self.log(&format!("GET /ws n={number} {frames} frames")));
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        websocket::fields(response.headers_mut(), ("sec-websocket-accept", websocket::ACCEPT));
        response
    }

    async fn order(&self, body: Incoming) -> io::Result<Bytes> {
        let order = body.collect().await.map_err(io::Error::other)?.to_bytes();
        keep(self.database, &order).await
    }

    async fn shut_down(&self) -> Result<(), Error> {
        let farewell = b"flush and close\n";
        let kept = timeout(SHUTDOWN, keep(self.database, farewell)).await.unwrap_or_else(|_| Err(overdue()));
        let told = match &kept {
            Ok(_) => "the database has taken the last write".to_owned(),
            Err(error) => format!("the database cannot be reached: {error}"),
        };
        self.log(&told)?;
        let journal = &mut self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.last_words("bye").map_err(Error::io("write the last log line"))?;
        kept.map(drop).map_err(Error::io("flush to the database during the shutdown"))
    }

    fn log(&self, message: &str) -> Result<(), Error> {
        let journal = &mut self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.line(message).map_err(Error::io("write to the log"))
    }
}

/// Sends back each frame until the client closes or is gone; returns their number.
async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> u64 {
    let mut frames = 0;
    while let Ok(frame) = websocket::receive(stream).await {
        let is_last = frame == websocket::Frame::Close;
        if websocket::send(stream, websocket::Side::Server, &frame).await.is_err() || is_last {
            break;
        }
        frames += 1;
    }
    frames
}

/// A parameter of the query, as it stands there.
fn parameter<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let mut pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn overdue() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// Hands `data` to the database and waits for it to come back: that is its way to say "kept".
async fn keep(database: SocketAddr, data: &[u8]) -> io::Result<Bytes> {
    let mut stream = TcpStream::connect(database).await?;
    stream.write_all(data).await?;
    stream.shutdown().await?;
    let mut kept = Vec::with_capacity(data.len());
    stream.read_to_end(&mut kept).await?;
    if kept != data {
        return Err(io::Error::other(format!("{} of {} bytes came back", kept.len(), data.len())));
    }
    Ok(kept.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{database::Database, load::Load, probe, volumes::Volumes};

    #[test]
    fn the_config_names_what_is_missing() {
        let whole = r#"{"listen":"127.0.0.1:1","database":"127.0.0.1:2","log":"/l/app.log","rotate_at":9}"#;
        let config = Config::parse(whole).unwrap();
        assert_eq!((config.listen.port(), config.database.port(), config.rotate_at), (1, 2, 9));
        assert_eq!(Config::parse(r#"{"listen":"x"}"#).unwrap_err(), r#""listen" is no address"#);
        let short = whole.replace(r#","rotate_at":9"#, "");
        assert_eq!(Config::parse(&short).unwrap_err(), r#"no number "rotate_at""#);
    }

    #[tokio::test]
    async fn app_clients_and_database_lose_nothing_by_themselves() {
        let free = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let [listen, database] = [(), ()].map(free);
        let volumes = Volumes::create(None).unwrap();
        let log = volumes.path("logs/app.log");
        let kept = Database::open(database).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let config = Config { listen, log, rotate_at: 2000, database, linger: Duration::ZERO };
        let app = tokio::spawn(serve(config, async move { drop(stopped.await) }));
        while probe::get(listen, "/healthz").await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }

        let load = Load::start(listen, 300);
        while load.counts().sent < 100 {
            sleep(Duration::from_millis(5)).await;
        }
        let counts = load.leave().await;
        stop.send(()).unwrap();
        app.await.unwrap().unwrap();

        assert_eq!(counts.failures(), 0, "{counts:?}");
        assert!(counts.on_kept > 0 && counts.on_kept < counts.sent, "{counts:?}");
        let written = volumes.written().unwrap();
        // The first line, the word about SIGTERM, the one about the database, the last.
        assert_eq!(written.numbers, (1..=counts.sent + 4).collect());
        assert!(written.files > 1 && kept.writes() > 1);
    }
}
