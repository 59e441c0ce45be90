//! HTTP and HTTPS to servers outside the pod, for the binaries that talk to such: which certificates they trust, how
//! they prove who they are, and what happens when those files are rotated. For the pod's own loopback ports there is
//! `podkit-http-client`.
//!
//! ```text
//!   Section ─► Access { auth, tls } ─► Client ─► reqwest::RequestBuilder
//!                                        └─ refresh: the files, once a second at most
//! ```
//!
//! Never retries, and never shows a secret.

mod answer;
mod auth;
mod client;
mod dns;
mod files;
mod tls;

use std::io;
use std::path::PathBuf;

pub use answer::{cause, distrust, retry_after};
pub use auth::{Auth, Secret, decode, userinfo};
pub use client::{Access, Client, Timeouts};
pub use tls::TlsFiles;

/// What keeps a client from being set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The library refuses what it was given.
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// A file with a secret or a certificate cannot be read.
    #[error("cannot read {path:?}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file is not what it is given as.
    #[error("{path:?} holds no {what} in PEM form")]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
        /// The cause.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate is of no use, or does not go with its key.
    #[error("cannot use the certificate in {path:?}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// Its value is not told.
    #[error("the secret in {path:?} has characters that no HTTP header may have")]
    Secret {
        /// The file.
        path: PathBuf,
    },
}
