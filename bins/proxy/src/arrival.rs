//! A connection from its accept to the protocol it speaks, stage by stage:
//!
//! ```text
//!   accepted ─► PROXY protocol header ─► TLS handshake ─► ALPN or preface ─► http | http2 | tcp
//! ```
//!
//! Each stage has the listener's `handshake` time; a client that does not keep it is closed and counted. A TCP
//! listener's rates are asked as soon as it is known who the client is.

mod handshake;
mod header;

use std::net::SocketAddr;
use std::rc::Rc;

use crate::config::Protocol;
use crate::listener::Service;
use crate::proxy_protocol::Ends;
use crate::tls::{ALPN_HTTP2, Certified};
use crate::wire::{Socket, Wire};
use crate::worker::{Seat, Worker};
use crate::{http, http2, tcp};

/// Who is on the other side.
#[derive(Debug)]
pub(crate) struct Peer {
    /// `None` on a Unix socket.
    pub(crate) address: Option<SocketAddr>,
    /// The IP address, as the upstream is told it; IPv4 never in IPv6's clothes.
    pub(crate) ip: Option<String>,
    /// The address that the client has connected to.
    local: Option<SocketAddr>,
    /// The version of TLS that the client speaks; `None` is plain text.
    pub(crate) tls_version: Option<&'static str>,
    /// Of a client that has shown a certificate, which was checked.
    pub(crate) certificate: Option<Certified>,
}

impl Peer {
    fn new(address: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        let ip = address.map(|address| address.ip().to_canonical().to_string());
        Self { address, ip, local, tls_version: None, certificate: None }
    }

    /// Both ends of the client's connection, for a PROXY protocol header; none of a Unix socket.
    pub(crate) fn ends(&self) -> Option<Ends> {
        Some(Ends { source: self.address?, destination: self.local? })
    }
}

/// Serves a connection from its first byte to its last.
pub(crate) async fn serve(socket: Socket, service: Rc<Service>, seat: Seat) {
    let listener = Rc::clone(&service).listener.clone();
    let timeout = listener.config.timeouts.handshake;
    let mut peer = Peer::new(socket.peer(), socket.local());
    if listener.config.proxy_protocol {
        match header_of(&socket, &peer, &service, &seat).await {
            Ok(None) => {}
            Ok(Some(Ends { source, destination })) => {
                peer = Peer::new(Some(source), Some(destination));
            }
            Err(refused) => {
                listener.numbers.connections.refused.count(refused.reason());
                return service.complain(&format!("a connection is refused: {refused}"));
            }
        }
        service.comes(|| peer.address, &seat);
    }
    // Before a handshake, which costs more than all the rest of a connection.
    if listener.config.protocol == Protocol::Tcp && !tcp::admit(&service, &peer) {
        return Wire::Socket(socket).cut();
    }
    let wire = match &listener.tls {
        None => Wire::Socket(socket),
        Some(tls) => {
            let until = seat.watch.after(timeout);
            // Boxed, so that other connections need no room for it.
            let secured = Box::pin(handshake::secure(socket, tls.config(), &service, &seat, until)).await;
            let Some(tls) = secured else { return };
            peer.tls_version = tls.version();
            peer.certificate = tls.peer_certificate().as_ref().map(Certified::of);
            Wire::Tls(Box::new(tls))
        }
    };
    let peer = Rc::new(peer);
    let is_http2 = matches!(&wire, Wire::Tls(tls) if tls.has_agreed_on(ALPN_HTTP2));
    match listener.config.protocol {
        // A task of its own: other connections need no room for it.
        Protocol::Http if is_http2 => Worker::run(http2::serve(wire, None, peer, service, seat)),
        Protocol::Http => http::serve(wire, peer, service, seat).await,
        Protocol::Tcp => tcp::serve(wire, peer, service, seat).await,
    }
}

async fn header_of(
    socket: &Socket,
    peer: &Peer,
    service: &Service,
    seat: &Seat,
) -> Result<Option<Ends>, header::Refused> {
    let config = &service.listener.config;
    if let Some(ip) = peer.address.map(|address| address.ip())
        && !config.trusts(Some(ip))
    {
        return Err(header::Refused::Untrusted(ip.to_canonical()));
    }
    header::read(socket, &seat.watch, seat.watch.after(config.timeouts.handshake)).await
}
