//! What comes first on a new connection to an upstream: the PROXY protocol header, then TLS, then HTTP/2's SETTINGS.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use http::uri::Scheme;

use super::Upstream;
use super::connect::ConnectError;
use crate::http2::Shared;
use crate::proxy_protocol::{Ends, header};
use crate::tls::{ALPN_HTTP2, Alpn, Failure};
use crate::wire::{Handshake, HandshakeError, Socket, Wire};

/// How long an upstream may not take what a request has sent: longer than any `write` timeout would be set. A TCP
/// listener's peers may well pause for longer.
const UNTAKEN: Duration = Duration::from_secs(120);

/// Whom a connection is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    /// The client's connection; `None` where it has no addresses, or where it is us who asks.
    pub(crate) ends: Option<Ends>,
    /// What is spoken, as far as there is a choice.
    pub(crate) alpn: Alpn,
}

/// A connection that is ready for its first request.
#[derive(Debug)]
pub(super) enum Opened {
    /// For one request after the other.
    Wire(Wire),
    /// HTTP/2: for many at a time.
    Shared(Rc<Shared>),
}

impl Opened {
    /// The connection for one request alone.
    pub(super) fn into_wire(self) -> Wire {
        match self {
            Self::Wire(wire) => wire,
            Self::Shared(shared) => shared.begin_stream(),
        }
    }
}

/// Makes a connected socket ready for the first request. The caller keeps the time.
pub(super) async fn start(
    socket: Socket,
    upstream: &Upstream,
    address: &impl fmt::Display,
    purpose: Purpose,
) -> Result<Opened, ConnectError> {
    let failed = |source| ConnectError::Connect { address: address.to_string(), source };
    if purpose.alpn != Alpn::None {
        socket.give_up_after(UNTAKEN);
    }
    let wire = secure(socket, upstream, address, purpose).await?;
    let (is_http2, scheme) = match (&wire, purpose.alpn) {
        (Wire::Tls(tls), Alpn::Both) => (tls.has_agreed_on(ALPN_HTTP2), Scheme::HTTPS),
        (Wire::Tls(_), alpn) => (alpn == Alpn::Http2, Scheme::HTTPS),
        (_, alpn) => (alpn == Alpn::Http2, Scheme::HTTP),
    };
    if !is_http2 {
        return Ok(Opened::Wire(wire));
    }
    Shared::begin(wire, scheme, upstream.metrics.open.clone()).await.map(Opened::Shared).map_err(failed)
}

async fn secure(
    socket: Socket,
    upstream: &Upstream,
    address: &impl fmt::Display,
    purpose: Purpose,
) -> Result<Wire, ConnectError> {
    let failed = |source| ConnectError::Connect { address: address.to_string(), source };
    if let Some(version) = upstream.config.proxy_protocol {
        send(&socket, &header(version, purpose.ends)).await.map_err(failed)?;
    }
    let Some(tls) = &upstream.tls else { return Ok(Wire::Socket(socket)) };
    let refused = |error| {
        let failure = Failure::of(&error);
        upstream.metrics.handshakes.count(failure.result);
        let name = tls.name().to_str().into_owned();
        ConnectError::Tls { address: address.to_string(), name, failure }
    };
    let mut handshake = Handshake::client(socket, tls, purpose.alpn).map_err(refused)?;
    match poll_fn(|cx| handshake.poll(cx)).await {
        Ok(()) => {
            upstream.metrics.handshakes.count("ok");
            Ok(Wire::Tls(Box::new(handshake.finish())))
        }
        Err(HandshakeError::Tls(error)) => Err(refused(error)),
        Err(HandshakeError::NotTls) => unreachable!("only a server looks who is there"),
        Err(HandshakeError::Socket(source)) => {
            upstream.metrics.handshakes.count("closed");
            Err(failed(source))
        }
    }
}

async fn send(socket: &Socket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match poll_fn(|cx| socket.poll_write(cx, [bytes, &[]])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}
