//! The receiver's TLS, tried with a client of the test's own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use podkit_testkit::{Authority, Identity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::receiver::Receiver;
use crate::setup::messages;

/// Sends one record, and returns the answer's status line.
fn post(to: &Receiver, trusted: &Authority, identity: Option<&Identity>) -> std::io::Result<String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(trusted.roots());
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
