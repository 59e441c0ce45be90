//! An app that speaks HTTP/2, by the `h2` crate, or by hand.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, request};
use podkit_testkit::eventually;
use tokio::net::{TcpListener, TcpStream};

use super::frames::{END_HEADERS, END_STREAM, Frame, HEADERS, SETTINGS, frame};
use super::h2::runtime;
use super::origin::Connection;

/// An app that speaks HTTP/2 with prior knowledge.
pub(crate) struct H2Origin {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<request::Parts>>>,
}

impl H2Origin {
    /// An origin that does with each stream what `serve` says.
    pub(crate) fn start<F, S>(serve: S) -> Self
    where
        S: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(Builder::new(), serve)
    }

    /// As [`start`](Self::start), by settings of the test's choice.
    pub(crate) fn with<F, S>(builder: Builder, serve: S) -> Self
    where
        S: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            seen: Arc::default(),
        };
        let (connections, seen) = (Arc::clone(&origin.connections), Arc::clone(&origin.seen));
        std::thread::spawn(move || {
            runtime().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.expect("accept works");
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(connection(builder.clone(), stream, serve.clone(), Arc::clone(&seen)));
                }
            });
        });
        origin
    }

    /// The heads of all requests so far.
    pub(crate) fn seen(&self) -> Vec<request::Parts> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    pub(crate) fn wait_for(&self, count: usize) {
        eventually(&format!("the origin has got {count} requests"), || {
            (self.seen.lock().unwrap().len() >= count).then_some(())
        });
    }
}

async fn connection<F, S>(
    builder: Builder,
    stream: TcpStream,
    serve: S,
    seen: Arc<Mutex<Vec<request::Parts>>>,
) where
    S: Fn(Request<RecvStream>, SendResponse<Bytes>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    stream.set_nodelay(true).unwrap();
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (parts, body) = request.into_parts();
        seen.lock().unwrap().push(parts.clone());
        tokio::spawn(serve(Request::from_parts(parts, body), respond));
    }
}

/// The start of an answer.
pub(crate) fn begin(
    respond: &mut SendResponse<Bytes>,
    fields: &[(&str, &str)],
    ends: bool,
) -> SendStream<Bytes> {
    let mut answer = Response::new(());
    for (name, value) in fields {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        answer.headers_mut().append(name, http::HeaderValue::from_str(value).unwrap());
    }
    respond.send_response(answer, ends).expect("the proxy takes an answer")
}

/// Fields.
pub(crate) fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
        .collect()
}

/// A connection at an origin that writes its frames by hand.
pub(crate) struct RawServer(pub(crate) Connection);

impl RawServer {
    /// Takes the client's preface, and sends ours.
    pub(crate) fn begin(mut connection: Connection) -> Self {
        connection.exactly(24).expect("the client has a preface");
        connection.send(frame(SETTINGS, 0, 0, &[]));
        Self(connection)
    }

    /// The next frame; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let head = self.0.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.0.exactly(length as usize)?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this type; `None` at the end.
    pub(crate) fn next_of(&mut self, kind: u8) -> Option<Frame> {
        std::iter::from_fn(|| self.next()).find(|frame| frame.kind == kind)
    }

    /// Answers 200 without a body.
    pub(crate) fn ok(&mut self, stream: u32) {
        self.0.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88]));
    }
}

/// One address for two apps: by the first byte of a connection it goes to the one that speaks HTTP/1.1, or HTTP/2.
pub(crate) fn either(http_1: SocketAddr, http_2: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map(|client| client.expect("accept works")) {
            std::thread::spawn(move || {
                let mut start = [0; 3];
                while client.peek(&mut start).is_ok_and(|count| (1..3).contains(&count)) {}
                let to = if &start == b"PRI" { http_2 } else { http_1 };
                let app = std::net::TcpStream::connect(to).expect("the app listens");
                let (mut from, mut back) = (client.try_clone().unwrap(), app.try_clone().unwrap());
                let down = std::thread::spawn(move || std::io::copy(&mut back, &mut { client }));
                let _ = std::io::copy(&mut from, &mut &app);
                let _ = app.shutdown(std::net::Shutdown::Write);
                let _ = down.join();
            });
        }
    });
    address
}
