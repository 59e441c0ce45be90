//! The second stage: the TLS handshake, where the listener has a certificate.

use std::cell::Cell;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::{CertificateError, ServerConfig};

use crate::config::Protocol;
use crate::io::{self, before, linger};
use crate::listener::Service;
use crate::tls::{Validity, failure, words};
use crate::wire::{Handshake, HandshakeError, Socket, Tls, Wire};
use crate::worker::{Seat, Tick};

/// What an HTTP client is told that does not speak TLS.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 43\r\n\
    Connection: close\r\n\r\nthis port speaks TLS: ask it with https://\n";

/// A TLS connection, or `None` where there is none, which is counted, and the client told as far as it can be.
pub(super) async fn secure(
    socket: Socket,
    config: Arc<ServerConfig>,
    service: &Service,
    seat: &Seat,
    until: Tick,
) -> Option<Tls> {
    let counts = &service.listener.numbers.connections.handshakes;
    let refused = |result: &str, why: &str| {
        counts.count(result);
        let why = format!("no TLS with a client ({result}): {why}");
        // Others come of scanners, and of clients that change their mind.
        if result.contains("client") {
            service.complain(&why);
        } else {
            tracing::debug!(listener = service.listener.config.name, "{why}");
        }
    };
    let mut handshake = Handshake::server(socket, config)
        .inspect_err(|error| refused("protocol_error", &error.to_string()))
        .ok()?;
    let outcome = before(&seat.watch, until, |cx| handshake.poll(cx)).await;
    let last_words = match outcome {
        Some(Ok(())) => match check(handshake.finish()) {
            Ok(tls) => {
                counts.count("ok");
                return Some(tls);
            }
            Err(error) => {
                refused(failure(&error), &words(&error));
                return None;
            }
        },
        Some(Err(HandshakeError::Tls(error))) => {
            refused(failure(&error), &words(&error));
            &[]
        }
        Some(Err(HandshakeError::NotTls)) => {
            refused("not_tls", "it does not speak TLS");
            if service.listener.config.protocol == Protocol::Http { SPEAK_TLS } else { &[] }
        }
        Some(Err(HandshakeError::Socket(error))) => {
            refused("closed", &error.to_string());
            return None;
        }
        None => {
            refused("timeout", "it took too long");
            return None;
        }
    };
    let wire = Wire::Socket(handshake.into_socket());
    if io::write(&wire, [last_words, &[]], &seat.watch, until, &Cell::new(0)).await.is_ok() {
        // Else what it has sent meanwhile would turn the alert, or the answer, into a reset.
        linger(&wire, seat.worker.buffers.lend(), &seat.watch).await;
    }
    None
}

/// A session goes on with the certificate that it began with, which may have expired since.
fn check(tls: Tls) -> Result<Tls, rustls::Error> {
    let validity = tls.peer_certificate().and_then(|certificate| Validity::of(&certificate));
    match validity.and_then(|validity| validity.fault(SystemTime::now())) {
        None => Ok(tls),
        Some(_) => Err(rustls::Error::InvalidCertificate(CertificateError::Expired)),
    }
}
