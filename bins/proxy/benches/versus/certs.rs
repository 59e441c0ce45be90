//! One certificate for all proxies, and a client that believes it.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::generate_simple_self_signed;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::Result;

/// ECDSA with P-256, as most public certificates of today.
#[derive(Debug)]
pub(crate) struct Certs {
    dir: TempDir,
    pub(crate) client: Arc<ClientConfig>,
}

impl Certs {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let made = generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let dir = tempfile::tempdir()?;
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        std::fs::write(dir.path().join("cert.pem"), &cert)?;
        std::fs::write(dir.path().join("key.pem"), &key)?;
        std::fs::write(dir.path().join("both.pem"), cert + &key)?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut client = builder.with_root_certificates(roots).with_no_client_auth();
        // Each handshake is a whole one.
        client.resumption = Resumption::disabled();
        Ok(Arc::new(Self { dir, client: Arc::new(client) }))
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// The certificate and the key in one file, as HAProxy wants them.
    pub(crate) fn both(&self) -> PathBuf {
        self.dir.path().join("both.pem")
    }

    /// The name that the certificate is for.
    pub(crate) fn name() -> ServerName<'static> {
        ServerName::try_from("localhost").expect("localhost is a name")
    }
}
