//! Both ends of TLS over a socket of the kernel.

use std::future::poll_fn;

use podkit_testkit::eventually;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore};
use socket2::{Domain, SockAddr, Type};
use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::wire::Door;

fn run<T>(test: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap().block_on(test)
}

/// A client's end and a server's.
async fn pair() -> (Tls, Tls) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();

    let listening = socket2::Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
    listening.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    listening.listen(1).unwrap();
    let address = listening.local_addr().unwrap();
    let door = Door::new(listening).unwrap();
    let (near, far) = tokio::join!(Socket::connect(&address), door.accept());
    let session = Session::client(Arc::new(client), "localhost".try_into().unwrap(), Alpn::None).unwrap();
    let mut client = Handshake { socket: near.unwrap(), session, is_first: false };
    let mut server = Handshake::server(far.unwrap(), Arc::new(server)).unwrap();
    let (one, other) = tokio::join!(poll_fn(|cx| client.poll(cx)), poll_fn(|cx| server.poll(cx)));
    one.and(other).unwrap();
    (client.finish(), server.finish())
}

async fn read(tls: &Tls) -> io::Result<Vec<u8>> {
    let mut space = [0; 32 << 10];
    let count = poll_fn(|cx| tls.poll_read(cx, &mut space)).await?;
    Ok(space[..count].to_vec())
}

async fn write(tls: &Tls, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = poll_fn(|cx| tls.poll_write(cx, [rest, &[]])).await.unwrap();
        rest = &rest[count..];
    }
}

#[test]
fn a_sessions_own_messages_are_no_news_and_bytes_are() {
    run(async {
        let (client, server) = pair().await;
        // The tickets come with the server's last flight.
        eventually("they arrive", || client.socket.has_arrived().then_some(()));
        assert!(!client.has_arrived() && client.is_silent());
        write(&server, b"hello").await;
        eventually("it arrives", || client.has_arrived().then_some(()));
        assert!(!client.is_silent());
        assert_eq!(read(&client).await.unwrap(), b"hello");
        assert!(!client.has_arrived());
        drop(server);
        eventually("it arrives", || client.has_arrived().then_some(()));
        assert!(!client.is_silent());
        assert_eq!(read(&client).await.unwrap(), b"", "the end was told");
    });
}

#[test]
fn an_end_that_was_not_told_is_an_error() {
    run(async {
        let (client, server) = pair().await;
        server.cut();
        drop(server);
        assert!(read(&client).await.is_err());
        let (client, server) = pair().await;
        server.socket.shutdown().unwrap();
        eventually("it arrives", || client.has_arrived().then_some(()));
        assert_eq!(read(&client).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_write_that_was_given_up_does_not_swallow_the_next_one() {
    run(async {
        let (client, server) = pair().await;
        let cx = &mut Context::from_waker(Waker::noop());
        let block = vec![1_u8; 16 << 10];
        let mut sent = 0;
        while let Poll::Ready(count) = client.poll_write(cx, [&block, &[]]) {
            sent += count.unwrap();
        }
        // The block waits in a record, and the caller does not come back for it.
        let (last, other) = (vec![2_u8; 100], vec![3_u8; 100]);
        let read_all = async {
            let mut got = Vec::new();
            while !got.ends_with(&[3; 100]) {
                got.extend(read(&server).await.unwrap());
            }
            got
        };
        let write_both = async {
            write(&client, &last).await;
            write(&client, &other).await;
        };
        let (got, ()) = tokio::join!(read_all, write_both);
        let count = |byte: u8| got.iter().filter(|other| **other == byte).count();
        assert_eq!((count(1), count(2), count(3)), (sent + block.len(), 100, 100));
    });
}

#[test]
fn a_write_that_comes_again_with_more_behind_it_is_sent_once() {
    run(async {
        let (client, server) = pair().await;
        let cx = &mut Context::from_waker(Waker::noop());
        let mut block: Vec<u8> = (0..8 << 10).map(|at| (at % 251) as u8).collect();
        let mut sent = 0;
        while let Poll::Ready(count) = client.poll_write(cx, [&block, &[]]) {
            sent += count.unwrap();
        }
        // As `h2` does with frames that come up while the others wait; their buffer may move as it grows.
        let mut expected = block.repeat(sent / block.len());
        assert_eq!(expected.len(), sent, "a block is one record");
        block.extend_from_slice(&[255; 100]);
        expected.extend_from_slice(&block);
        let again = block.clone();
        let read_all = async {
            let mut got = Vec::new();
            while got.len() < expected.len() {
                got.extend(read(&server).await.unwrap());
            }
            got
        };
        let (got, ()) = tokio::join!(read_all, write(&client, &again));
        assert!(got == expected, "{} bytes came in place of {}", got.len(), expected.len());
    });
}
