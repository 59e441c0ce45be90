//! The kubelet's HTTP probes: one GET, one deadline; and the wait until one passes.

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{error::Error, pod::Process};

/// As long as a probe's `timeoutSeconds` is by default.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a probe is sent until it passes.
const PERIOD: Duration = Duration::from_millis(25);

/// The status and body that `path` answers with.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<(StatusCode, Bytes)> {
    timeout(PATIENCE, ask(address, path)).await?
}

/// Waits until a probe passes. Who of the `running` ends in the meantime is told at once.
pub(crate) async fn passes(
    address: SocketAddr,
    path: &str,
    process: &'static str,
    running: &mut [Process],
    limit: Duration,
) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        let gone = running.iter_mut().find_map(|process| Some((process.name(), process.ended()?)));
        if let Some((process, end)) = gone {
            return Err(Error::Ended { process, end: end.to_string(), when: "before it was ready" });
        }
        if get(address, path).await.is_ok_and(|(status, _)| status.is_success()) {
            return Ok(());
        }
        sleep(PERIOD).await;
    }
    Err(Error::NotUp { process, probe: path.into(), limit })
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
