//! The PEM files of a TLS config: read together, so that they fit each other, and taken apart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore};

use super::certificate::Validity;

/// How often the files are read at most until two readings are the same: a Secret's files are swapped together, but
/// read one after the other.
const READINGS: usize = 5;

/// Why a TLS config cannot be made of its files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot read {path:?}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path:?} is not whole: {}", pem_fault(.source))]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{path:?} holds no certificate")]
    NoCertificate { path: PathBuf },
    #[error("{path:?} holds no private key")]
    NoKey { path: PathBuf },
    #[error("the key in {key:?} is not the key of the certificate in {cert:?}")]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("the certificate in {cert:?} and the key in {key:?} cannot be used")]
    Unusable { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("no certificate in {path:?} can be used to check others")]
    NoRoot { path: PathBuf },
    #[error("cannot set up the ciphers")]
    Setup(#[source] rustls::Error),
}

impl Fault {
    /// What mends it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "let the volume's files be read by the user that the proxy runs as (`fsGroup`, `defaultMode`)",
            ),
            Self::NoCertificate { .. } | Self::NoRoot { .. } => {
                Some("PEM is expected: `-----BEGIN CERTIFICATE-----`")
            }
            Self::NoKey { .. } => {
                Some("PEM is expected, without a passphrase: `-----BEGIN PRIVATE KEY-----`, RSA or EC")
            }
            Self::Mismatch { .. } | Self::Pem { .. } => Some("write both files of a pair, each in one step"),
            _ => None,
        }
    }
}

/// Without the bytes that [`pem::Error`] shows: they may be of a key.
fn pem_fault(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its end marker is missing",
        pem::Error::IllegalSectionStart { .. } => "a begin marker is malformed",
        pem::Error::Base64Decode(_) => "its base64 is malformed",
        _ => "it is no PEM",
    }
}

/// Files with what they held at one moment.
#[derive(Debug)]
pub(super) struct Files(Vec<(PathBuf, Vec<u8>)>);

/// Tells contents apart without keeping them: a key should not lie in memory twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl Files {
    /// Reads them all, until no change fell in between.
    pub(super) fn read<'a>(paths: impl Iterator<Item = &'a PathBuf> + Clone) -> Result<Self, Fault> {
        let once = || -> Result<Vec<_>, Fault> {
            let read = |path: &PathBuf| match podkit_cli::read_whole(path) {
                Ok(content) => Ok((path.clone(), content)),
                Err(source) => Err(Fault::Read { path: path.clone(), source }),
            };
            paths.clone().map(read).collect()
        };
        let mut files = once()?;
        for _ in 1..READINGS {
            let again = once()?;
            if again == files {
                break;
            }
            files = again;
        }
        Ok(Self(files))
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut context = Context::new(&SHA256);
        for (_, content) in &self.0 {
            context.update(&(content.len() as u64).to_be_bytes());
            context.update(content);
        }
        Fingerprint(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    fn content(&self, path: &Path) -> &[u8] {
        self.0.iter().find(|(other, _)| other == path).map_or(&[], |(_, content)| content)
    }

    #[cfg(test)]
    pub(super) fn text(&self, path: &Path) -> String {
        String::from_utf8(self.content(path).to_vec()).unwrap()
    }

    fn certificates(&self, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.content(path)).collect();
        match chain {
            Ok(chain) if chain.is_empty() => Err(Fault::NoCertificate { path: path.to_owned() }),
            Ok(chain) => Ok(chain),
            Err(source) => Err(Fault::Pem { path: path.to_owned(), source }),
        }
    }

    /// A certificate with its chain, and its key.
    pub(super) fn pair(&self, cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Pair, Fault> {
        let chain = self.certificates(cert)?;
        let validity = Validity::of_chain(&chain);
        let parsed = PrivateKeyDer::from_pem_slice(self.content(key)).map_err(|source| match source {
            pem::Error::NoItemsFound => Fault::NoKey { path: key.to_owned() },
            source => Fault::Pem { path: key.to_owned(), source },
        })?;
        let certified = CertifiedKey::from_der(chain, parsed, provider).map_err(|source| {
            let (cert, key) = (cert.to_owned(), key.to_owned());
            match source {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    Fault::Mismatch { cert, key }
                }
                source => Fault::Unusable { cert, key, source },
            }
        })?;
        Ok(Pair { resolver: Arc::new(SingleCertAndKey::from(certified)), validity })
    }

    /// Authorities. One that cannot be read does not spoil the others of a bundle.
    pub(super) fn roots(&self, path: &Path) -> Result<RootCertStore, Fault> {
        let mut roots = RootCertStore::empty();
        match roots.add_parsable_certificates(self.certificates(path)?) {
            (0, _) => Err(Fault::NoRoot { path: path.to_owned() }),
            _ => Ok(roots),
        }
    }
}

/// A certificate that we can show.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) resolver: Arc<SingleCertAndKey>,
    pub(super) validity: Option<Validity>,
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};

    use super::*;
    use crate::tls::provider;

    fn files(cert: &str, key: &str) -> Files {
        Files(vec![("cert".into(), cert.into()), ("key".into(), key.into())])
    }

    fn pair(cert: &str, key: &str) -> Result<Pair, Fault> {
        files(cert, key).pair(Path::new("cert"), Path::new("key"), &provider())
    }

    fn generated() -> (String, String) {
        let Generated { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    /// An EC key by `openssl ecparam -name prime256v1 -genkey`, with its certificate by `openssl req -x509`.
    const SEC1: (&str, &str) = (include_str!("testdata/sec1.crt"), include_str!("testdata/sec1.key"));

    /// An RSA key by `openssl genrsa -traditional 2048`, with its certificate by `openssl req -x509`.
    const PKCS1: (&str, &str) = (include_str!("testdata/pkcs1.crt"), include_str!("testdata/pkcs1.key"));

    #[test]
    fn every_common_form_of_a_key_is_read() {
        let (cert, key) = generated();
        for (form, cert, key) in [
            ("PRIVATE", cert.as_str(), key.as_str()),
            ("EC PRIVATE", SEC1.0, SEC1.1),
            ("RSA PRIVATE", PKCS1.0, PKCS1.1),
        ] {
            assert!(key.contains(&format!("-----BEGIN {form} KEY-----")), "{key}");
            let pair = pair(cert, key).unwrap_or_else(|fault| panic!("{form}: {fault}"));
            assert!(pair.validity.is_some());
        }
    }

    #[test]
    fn a_broken_pair_is_told_apart() {
        let ((cert, key), (_, other_key)) = (generated(), generated());
        let half = |text: &str| text[..text.len() / 2].to_owned();
        for (cert, key, expected) in [
            (
                cert.as_str(),
                other_key.as_str(),
                "the key in \"key\" is not the key of the certificate in \"cert\"",
            ),
            (&cert, "", "\"key\" holds no private key"),
            (&cert, &cert, "\"key\" holds no private key"),
            ("", &key, "\"cert\" holds no certificate"),
            (&key, &key, "\"cert\" holds no certificate"),
            (&half(&cert), &key, "\"cert\" is not whole: its end marker is missing"),
            (&cert, &half(&key), "\"key\" is not whole: its end marker is missing"),
            (&cert.replace("MII", "M*I"), &key, "\"cert\" is not whole: its base64 is malformed"),
        ] {
            let fault = pair(cert, key).unwrap_err();
            assert_eq!(fault.to_string(), expected);
            assert!(fault.hint().is_some(), "{fault}");
        }
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(pair(garbage, &key), Err(Fault::Unusable { .. })));
        assert!(matches!(files(garbage, "").roots(Path::new("cert")), Err(Fault::NoRoot { .. })));
    }

    #[test]
    fn files_are_told_apart_by_their_content_alone() {
        let one = files("a", "bc").fingerprint();
        assert_eq!(one, files("a", "bc").fingerprint());
        assert_ne!(one, files("ab", "c").fingerprint());
        let fault = Files::read([PathBuf::from("/none/tls.crt")].iter()).unwrap_err();
        assert_eq!(fault.to_string(), "cannot read \"/none/tls.crt\"");
    }
}
