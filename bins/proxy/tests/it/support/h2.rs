//! An HTTP/2 client with prior knowledge, and a runtime to await it on.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::PATIENCE;

/// Runs a test's future; one that does not end is a failure.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it ends") })
}

pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A client's connection, which has a thread of its own: it lives on while a test blocks.
pub(crate) struct H2 {
    pub(crate) send: SendRequest<Bytes>,
    over: oneshot::Receiver<Result<(), h2::Error>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl H2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &h2::client::Builder::new()).await
    }

    pub(crate) async fn connect_with(address: SocketAddr, builder: &h2::client::Builder) -> Self {
        let ((begun, send), (ended, over)) = (oneshot::channel(), oneshot::channel());
        let builder = builder.clone();
        std::thread::spawn(move || {
            runtime().block_on(async {
                let stream = TcpStream::connect(address).await.expect("the proxy listens");
                stream.set_nodelay(true).unwrap();
                let (send, connection) = builder.handshake(stream).await.expect("the proxy speaks HTTP/2");
                let _ = begun.send(send);
                let _ = ended.send(connection.await);
            });
        });
        Self { send: send.await.expect("the connection begins"), over }
    }

    /// Sends a request's head, and maybe its end; waits where all streams are taken.
    pub(crate) async fn begin(
        &self,
        request: Request<()>,
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.expect("the connection takes requests");
        send.send_request(request, ends).expect("the request can be sent")
    }

    /// Sends a request with this body, and reads its answer.
    pub(crate) async fn ask(&self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (response, stream) = send.send_request(request, body.is_empty())?;
        let upload = async {
            if !body.is_empty() {
                upload(stream, body, None).await;
            }
        };
        tokio::join!(answer(response), upload).0
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, h2::Error> {
        self.ask(get(path), b"").await
    }

    /// Waits for the end of the connection, which comes without a word of ours.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        let Self { send, over } = self;
        let result = over.await.expect("the connection does not panic");
        drop(send);
        result
    }
}

/// A GET.
pub(crate) fn get(path: &str) -> Request<()> {
    request("GET", path)
}

/// A request to the host `shop`.
pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://shop{path}")).body(()).unwrap()
}

/// Sends a body to its end, as the windows allow; ends early where nobody wants it any more.
pub(crate) async fn upload(mut stream: SendStream<Bytes>, mut body: &[u8], trailers: Option<HeaderMap>) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len().min(16 << 10));
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        let (now, later) = body.split_at(room.min(body.len()));
        let ends = later.is_empty() && trailers.is_none();
        if stream.send_data(Bytes::copy_from_slice(now), ends).is_err() {
            return;
        }
        body = later;
    }
    if let Some(trailers) = trailers {
        let _ = stream.send_trailers(trailers);
    }
}

/// Reads an answer to its end.
pub(crate) async fn answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let body = body(&mut stream).await?;
    let trailers = stream.trailers().await?.unwrap_or_default();
    Ok(Answer { status: head.status.as_u16(), fields: head.headers, body, trailers })
}

/// Reads the data of a stream.
pub(crate) async fn body(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(body)
}

/// The interim answers, up to the final one.
pub(crate) async fn interim(response: &mut ResponseFuture) -> Vec<StatusCode> {
    let mut interim = Vec::new();
    while let Some(Ok(answer)) = poll_fn(|cx| response.poll_informational(cx)).await {
        interim.push(answer.status());
    }
    interim
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().expect("the field is text"))
    }
}
