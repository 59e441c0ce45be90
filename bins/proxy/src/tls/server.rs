//! TLS towards clients: the config of a listener, and why a handshake failed, as one word for the metric.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring::Ticketer;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, Error, ServerConfig};

use super::certificate::Validity;
use super::files::{Fault, Files};
use super::rotation::{Recipe, Rotating};
use super::{ALPN_HTTP1, ALPN_HTTP2, VERSIONS, provider};
use crate::config::{self, ClientCerts, ListenerTls, Protocol};
use crate::metrics::CertificateMetrics;

/// The TLS of one listener, as its files are.
#[derive(Debug, Clone)]
pub(crate) struct Termination(Arc<Rotating<Server>>);

#[derive(Debug)]
struct Server {
    config: ListenerTls,
    protocol: Protocol,
}

impl Termination {
    /// Reads the files. [`follow`](Self::follow) keeps it up to date.
    pub(crate) fn load(
        listener: &config::Listener,
        tls: &ListenerTls,
        metrics: CertificateMetrics,
    ) -> Result<Self, Fault> {
        let recipe = Server { config: tls.clone(), protocol: listener.protocol };
        Rotating::load(recipe, listener.told_by.clone(), metrics).map(Self)
    }

    /// What the next handshake is done by.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.0.current()
    }

    /// When its certificate ends.
    pub(crate) fn end(&self) -> Option<String> {
        self.0.validity()?.end()
    }

    /// Looks at the files, for as long as there is another that holds the same.
    pub(crate) async fn follow(self) {
        self.0.follow().await;
    }
}

impl Recipe for Server {
    type Made = Arc<ServerConfig>;

    fn paths(&self) -> impl Iterator<Item = &PathBuf> + Clone {
        let ListenerTls { cert, key, client } = &self.config;
        [cert, key].into_iter().chain(client.as_ref().map(|client| &client.ca))
    }

    fn make(&self, files: &Files) -> Result<(Self::Made, Option<Validity>), Fault> {
        let provider = provider();
        let pair = files.pair(&self.config.cert, &self.config.key, &provider)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(VERSIONS)
            .map_err(Fault::Setup)?;
        let builder = match &self.config.client {
            None => builder.with_no_client_auth(),
            Some(ClientCerts { ca, required }) => {
                let roots = Arc::new(files.roots(ca)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|error| match error {
                    VerifierBuilderError::NoRootAnchors => Fault::NoRoot { path: ca.clone() },
                    error => Fault::Setup(Error::General(error.to_string())),
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(pair.resolver);
        if self.protocol == Protocol::Http {
            config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
        }
        // Sessions live in tickets at the client, so they cost us nothing. Their keys are new with each set of files:
        // a client that a new `client_ca` does not know cannot go on with an old session.
        config.ticketer = Ticketer::new().map_err(Fault::Setup)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok((Arc::new(config), pair.validity))
    }
}

/// The label for a handshake that failed at our end, or that the client broke off.
pub(crate) fn failure(error: &Error) -> &'static str {
    match error {
        Error::NoCertificatesPresented => "no_client_certificate",
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "client_certificate_expired"
            }
            CertificateError::UnknownIssuer => "client_certificate_unknown_issuer",
            _ => "client_certificate_invalid",
        },
        // It does not trust our certificate, or does not find what it looked for.
        Error::AlertReceived(_) => "refused_by_client",
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "no_common_protocol",
        Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => "not_tls",
        _ => "protocol_error",
    }
}
