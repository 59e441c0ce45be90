//! Which servers are trusted: Mozilla's roots, compiled in, since a distroless image has no others, and private ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use podkit_cli::{Invalid, Section, units};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::files::Files;

/// PEM files, read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Trusted beside the roots that are compiled in.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Reads the mapping `tls`: `ca`, and `cert` with `key`.
    #[must_use]
    pub fn read(section: &Section<'_>) -> Self {
        let ca = section.value("ca", units::path);
        let client = match (section.value("cert", units::path), section.value("key", units::path)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                section.fault_here(Invalid::new("needs `cert` and `key` together"));
                None
            }
        };
        Self { ca, client }
    }

    /// As the key `tls` shows it; `None` for none.
    #[must_use]
    pub fn effective(&self) -> Option<Value> {
        let mut tls = Map::new();
        tls.extend(self.ca.as_ref().map(|ca| ("ca".to_owned(), json!(ca))));
        if let Some((cert, key)) = &self.client {
            tls.extend([("cert".to_owned(), json!(cert)), ("key".to_owned(), json!(key))]);
        }
        (!tls.is_empty()).then_some(Value::Object(tls))
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca.iter().chain(client).cloned().collect()
    }

    pub(crate) fn config(&self, contents: &Files) -> Result<rustls::ClientConfig, Error> {
        let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = &self.ca {
            for certificate in certificates(path, contents)? {
                roots.add(certificate).map_err(|source| Error::Certificate { path: path.clone(), source })?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring offers TLS 1.2 and 1.3")
            .with_root_certificates(roots);
        match &self.client {
            None => Ok(config.with_no_client_auth()),
            Some((cert, key)) => {
                let chain = certificates(cert, contents)?;
                let pem = PrivateKeyDer::from_pem_slice(contents.content(key));
                let pem =
                    pem.map_err(|source| Error::Pem { path: key.clone(), what: "private key", source })?;
                config
                    .with_client_auth_cert(chain, pem)
                    .map_err(|source| Error::Certificate { path: cert.clone(), source })
            }
        }
    }
}

fn certificates(path: &Path, contents: &Files) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |source| Error::Pem { path: path.to_owned(), what: "certificate", source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents.content(path)).collect();
    let found = found.map_err(wrong)?;
    if found.is_empty() {
        return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_none_is_named_with_what_it_should_be() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let empty = write("ca.crt", "not PEM\n");
        let broken = write("tls.crt", "-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n");
        let useless = write("other.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let fault = |ca: &PathBuf| {
            let tls = TlsFiles { ca: Some(ca.clone()), client: None };
            let contents = Files::read(tls.paths()).map_err(|(path, _)| path).unwrap();
            tls.config(&contents).unwrap_err().to_string()
        };
        assert_eq!(fault(&empty), format!("{empty:?} holds no certificate in PEM form"));
        assert_eq!(fault(&broken), format!("{broken:?} holds no certificate in PEM form"));
        assert_eq!(fault(&useless), format!("cannot use the certificate in {useless:?}"));
    }
}
