//! The kubelet's HTTP probes: one GET, one deadline.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// As long as a probe's `timeoutSeconds` is by default.
const PATIENCE: Duration = Duration::from_secs(1);

/// The status and body that `path` answers with.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<(StatusCode, Bytes)> {
    timeout(PATIENCE, ask(address, path)).await?
}

async fn ask(address: SocketAddr, path: &str) -> io::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with `sender`; its error reaches the request.
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    Ok((status, body))
}
