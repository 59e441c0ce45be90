//! TLS towards upstreams: the config of an upstream, and why a handshake failed, in words and with what mends it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore};

use super::certificate::Validity;
use super::files::{Fault, Files};
use super::rotation::{Recipe, Rotating};
use super::{ALPN_HTTP1, ALPN_HTTP2, VERSIONS, provider, words};
use crate::config::{self, Identity, UpstreamTls};
use crate::metrics::CertificateMetrics;

/// Sessions of an upstream that are kept for the next connections: as many as a client may try at once.
const SESSIONS: usize = 8;

/// The TLS of one upstream, as its files are.
#[derive(Debug, Clone)]
pub(crate) struct Origination {
    rotating: Arc<Rotating<Client>>,
    name: ServerName<'static>,
}

#[derive(Debug)]
struct Client(UpstreamTls);

/// The protocols that an upstream is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// For bytes that we do not understand.
    None,
    Http1,
    Http2,
    Both,
}

impl Alpn {
    pub(crate) fn protocols(self) -> Vec<Vec<u8>> {
        let protocols: &[&[u8]] = match self {
            Self::None => &[],
            Self::Http1 => &[ALPN_HTTP1],
            Self::Http2 => &[ALPN_HTTP2],
            Self::Both => &[ALPN_HTTP2, ALPN_HTTP1],
        };
        protocols.iter().map(|protocol| protocol.to_vec()).collect()
    }
}

impl Origination {
    /// Reads the files. [`follow`](Self::follow) keeps it up to date.
    pub(crate) fn load(
        upstream: &config::Upstream,
        tls: &UpstreamTls,
        metrics: CertificateMetrics,
    ) -> Result<Self, Fault> {
        let name = tls.name(&upstream.address).expect("a config without a name to check is refused");
        let told_by = format!("upstream {:?}", upstream.name);
        let rotating = Rotating::load(Client(tls.clone()), told_by, metrics)?;
        Ok(Self { rotating, name })
    }

    /// What the next handshake is done by.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.rotating.current()
    }

    /// The name that the upstream's certificate must have.
    pub(crate) fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// When the certificate ends that upstreams are shown, if they are shown one.
    pub(crate) fn end(&self) -> Option<String> {
        self.rotating.validity()?.end()
    }

    /// Looks at the files, for as long as there is another that holds the same.
    pub(crate) async fn follow(self) {
        let Self { rotating, .. } = self;
        rotating.follow().await;
    }
}

impl Recipe for Client {
    type Made = Arc<ClientConfig>;

    fn paths(&self) -> impl Iterator<Item = &PathBuf> + Clone {
        let pair = self.0.identity.iter().flat_map(|Identity { cert, key }| [cert, key]);
        self.0.ca.iter().chain(pair)
    }

    fn make(&self, files: &Files) -> Result<(Self::Made, Option<Validity>), Fault> {
        let provider = provider();
        let roots = match &self.0.ca {
            Some(ca) => files.roots(ca)?,
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(VERSIONS)
            .map_err(Fault::Setup)?
            .with_root_certificates(roots);
        let (mut config, validity) = match &self.0.identity {
            None => (builder.with_no_client_auth(), None),
            Some(Identity { cert, key }) => {
                let pair = files.pair(cert, key, &provider)?;
                (builder.with_client_cert_resolver(pair.resolver), pair.validity)
            }
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok((Arc::new(config), validity))
    }
}

/// Why a handshake with an upstream failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The label of `podkit_proxy_upstream_tls_handshakes_total`.
    pub(crate) result: &'static str,
    words: String,
    /// What mends it.
    hint: Option<&'static str>,
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hint {
            Some(hint) => write!(to, "{} ({hint})", self.words),
            None => to.write_str(&self.words),
        }
    }
}

impl Failure {
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::AlertReceived(AlertDescription::CertificateRequired) => Self::new(
                "refused_by_upstream",
                "it wants a client certificate",
                "set the upstream's `tls.cert` and `tls.key`",
            ),
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => {
                Self::new(
                    "no_common_protocol",
                    "it speaks none of the HTTP versions that it was offered",
                    "set the upstream's `protocol` to the one that it speaks",
                )
            }
            Error::AlertReceived(_) => Self::bare("refused_by_upstream", error),
            Error::PeerIncompatible(_) => Self::bare("no_common_protocol", error),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::new(
                "not_tls",
                "it does not speak TLS",
                "take the upstream's TLS port, or leave out its `tls`",
            ),
            _ => Self::bare("protocol_error", error),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::new(
                "unknown_issuer",
                "its certificate was issued by an authority that is not known",
                "set the upstream's `tls.ca` to the file that holds the authority",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::new(
                "expired",
                "its certificate has expired",
                "renew the certificate, or look at this node's clock",
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::new("not_valid_yet", "its certificate is not valid yet", "look at this node's clock")
            }
            CertificateError::NotValidForName => Self::of_name(&[]),
            CertificateError::NotValidForNameContext { presented, .. } => Self::of_name(presented),
            error => Self::bare("certificate_invalid", &Error::InvalidCertificate(error.clone())),
        }
    }

    fn of_name(presented: &[String]) -> Self {
        const HINT: &str = "set the upstream's `tls.server_name` to a name that its certificate has";
        let names = if presented.is_empty() { "none".to_owned() } else { presented.join(", ") };
        Self::new("name_mismatch", &format!("its certificate is not for that name; its names: {names}"), HINT)
    }

    fn new(result: &'static str, words: &str, hint: &'static str) -> Self {
        Self { result, words: words.to_owned(), hint: Some(hint) }
    }

    fn bare(result: &'static str, error: &Error) -> Self {
        Self { result, words: words(error), hint: None }
    }
}
