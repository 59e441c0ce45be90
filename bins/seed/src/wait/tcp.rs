//! `tcp`: whether somebody accepts connections.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use podkit_cli::chain;
use podkit_lifecycle::Deadline;

use super::{Seen, dns};

/// Tries all addresses of a host, one after the other, until one accepts.
pub(super) fn look(host: &str, port: u16, by: Deadline) -> Seen {
    let addresses = match dns::addresses(host, by) {
        Ok(addresses) => addresses,
        Err(seen) => return seen,
    };
    let mut last = Seen::unclear("the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        match connect(SocketAddr::new(*address, port), share(by, addresses.len() - index)) {
            Ok(()) => return Seen::there("accepts connections"),
            Err(error) => last = failed(&error),
        }
    }
    last
}

/// Of the time that is left, so that one address which does not answer leaves some for the others. A zero timeout is
/// an error of its own.
fn share(by: Deadline, addresses: usize) -> Duration {
    let addresses = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
    (by.remaining() / addresses).max(Duration::from_millis(1))
}

fn connect(address: SocketAddr, timeout: Duration) -> io::Result<()> {
    let stream = TcpStream::connect_timeout(&address, timeout)?;
    if talks_to_itself(&stream)? { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
}

/// Where nobody listens on a port that the kernel hands out to clients, a client may be given that very port, and is
/// then its own server (simultaneous open, RFC 9293 3.5).
fn talks_to_itself(stream: &TcpStream) -> io::Result<bool> {
    Ok(stream.local_addr()? == stream.peer_addr()?)
}

/// What an attempt shows that did not end in a connection.
pub(super) fn failed(error: &io::Error) -> Seen {
    match error.kind() {
        // Nobody is there, as far as a client can ever tell.
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Seen::Gone(chain(error)),
        io::ErrorKind::TimedOut => Seen::gone("connection timed out"),
        // No free port, no file descriptor, a rule of this host: all ours.
        _ => Seen::Unclear(chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podkit_testkit::eventually;
    use socket2::{Domain, Socket, Type};
    use std::net::TcpListener;

    #[test]
    fn a_port_is_there_while_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let by = || Deadline::after(Duration::from_secs(30));
        assert_eq!(look("127.0.0.1", port, by()), Seen::there("accepts connections"));
        drop(listener);
        // A child of another test may have a copy of the socket until its exec.
        eventually("nobody listens", || {
            (look("127.0.0.1", port, by()) == Seen::gone("connection refused")).then_some(())
        });
    }

    #[test]
    fn a_client_that_is_its_own_server_is_known() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.connect(&socket.local_addr().unwrap()).unwrap();
        assert!(talks_to_itself(&TcpStream::from(socket)).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!talks_to_itself(&client).unwrap());
    }

    #[test]
    fn what_is_ours_tells_nothing_of_the_other_side() {
        assert_eq!(failed(&io::Error::from_raw_os_error(110)), Seen::gone("connection timed out"));
        assert_eq!(failed(&io::Error::from_raw_os_error(113)), Seen::gone("no route to host"));
        assert_eq!(failed(&io::Error::from_raw_os_error(24)), Seen::unclear("too many open files"));
        assert_eq!(failed(&io::Error::from_raw_os_error(1)), Seen::unclear("operation not permitted"));
    }
}
