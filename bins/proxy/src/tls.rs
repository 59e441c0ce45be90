//! TLS on both sides: configs made of files that may change, the session that turns records into bytes, and what a
//! certificate says. Never does I/O on sockets: `wire::tls` does.

mod certificate;
mod client;
mod files;
mod record;
mod rotation;
mod server;
mod session;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, Error, OtherError, SupportedProtocolVersion};

pub(crate) use certificate::{Certified, Validity};
pub(crate) use client::{Alpn, Failure, Origination};
pub(crate) use files::Fault;
pub(crate) use server::{Termination, failure};
pub(crate) use session::Session;

/// What is spoken; older ones are broken (RFC 8996).
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Protocol names of ALPN (RFC 7301 6, RFC 9113 3.2).
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";

/// The ciphers, given to each config by hand: a process-wide default could be another one some day.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// What is wrong with TLS, for a log line. `rustls` tells in Debug form what its verifier has no words for.
pub(crate) fn words(error: &Error) -> String {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = error else {
        return error.to_string();
    };
    match other.to_string().as_str() {
        "CaUsedAsEndEntity" => "the certificate is that of an authority: issue one with `CA:FALSE`, \
             as `openssl req -x509 -addext basicConstraints=critical,CA:FALSE` does"
            .to_owned(),
        other => format!("invalid peer certificate: {other}"),
    }
}
