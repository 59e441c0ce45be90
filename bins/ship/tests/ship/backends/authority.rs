//! A certificate authority of the test's own, and what servers and clients need of it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

/// Signs certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(&[], name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For a server on the loopback address.
    pub(crate) fn server(&self) -> Identity {
        self.server_of(&["127.0.0.1", "localhost"])
    }

    /// For a server of these names.
    pub(crate) fn server_of(&self, names: &[&str]) -> Identity {
        self.sign(params(names, "server"), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client.
    pub(crate) fn client(&self, name: &str) -> Identity {
        self.sign(params(&[name], name), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Identity {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

impl Identity {
    /// A server of this identity; with an authority, only for clients that have a certificate of it.
    pub(crate) fn serve(&self, clients: Option<&Authority>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        Arc::new(config.with_single_cert(vec![cert], key).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, StreamOwned};

    use super::*;
    use crate::receiver::Receiver;
    use crate::setup::messages;

    /// Sends one record, and returns the answer's status line.
    fn post(to: &Receiver, trusted: &Authority, identity: Option<&Identity>) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let cert = CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        let address = to.url()["https://".len()..].split('/').next().unwrap().to_owned();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(client, TcpStream::connect(address)?);
        let body = "{\"message\":\"line 0\"}\n";
        let head = "POST /logs HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nContent-Length:";
        write!(stream, "{head} {}\r\n\r\n{body}", body.len())?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    #[test]
    fn who_is_not_known_is_not_served() {
        let (ours, other) = (Authority::new("ours"), Authority::new("other"));
        let server = ours.server();
        let receiver = Receiver::start_tls(server.serve(Some(&other)));
        assert!(post(&receiver, &ours, None).is_err());
        assert!(post(&receiver, &ours, Some(&ours.client("ship"))).is_err());
        assert!(post(&receiver, &other, Some(&other.client("ship"))).is_err());
        assert_eq!(receiver.requests(), 0);
        assert_eq!(post(&receiver, &ours, Some(&other.client("ship"))).unwrap(), "HTTP/1.1 200");
        receiver.rotate_tls(server.serve(None));
        receiver.admit_only("Bearer x");
        assert_eq!(post(&receiver, &ours, None).unwrap(), "HTTP/1.1 401");
        assert_eq!(receiver.messages(), messages(0..1));
    }
}
