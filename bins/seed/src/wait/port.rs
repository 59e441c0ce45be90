//! `port_free`: whether nobody listens on a port of this pod, by binding to it for a moment.
//!
//! With `SO_REUSEADDR`, as servers bind: connections of an earlier server that are still in TIME_WAIT do not count, and
//! a listener does. Never listens, so no client is accepted by mistake.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use podkit_cli::chain;
use socket2::{Domain, Socket, Type};

use super::Seen;
use crate::config::Port;

pub(super) fn look(port: Port) -> Seen {
    let (addresses, is_one): (&[SocketAddr], bool) = match port {
        Port::At(address) => (&[address], true),
        Port::Everywhere(port) => (
            &[
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            ],
            false,
        ),
    };
    for address in addresses {
        match bind(*address) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Seen::gone(format!("{address} is in use"));
            }
            // A pod may have one family only.
            Err(error) if !is_one && lacks_family(&error) => {}
            Err(error) => return Seen::unclear(format!("cannot bind {address}: {}", chain(&error))),
        }
    }
    Seen::there("nobody listens on it")
}

fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Each family is looked at by itself.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

fn lacks_family(error: &io::Error) -> bool {
    let is_unsupported = error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32);
    is_unsupported || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use podkit_testkit::eventually;
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_listener_on_any_address_takes_the_port() {
        for at in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            // Not every host has both families.
            let Ok(listener) = TcpListener::bind(at) else { continue };
            let address = listener.local_addr().unwrap();
            for port in [Port::Everywhere(address.port()), Port::At(address)] {
                let seen = look(port);
                assert!(
                    matches!(&seen, Seen::Gone(why) if why.ends_with(" is in use")),
                    "{at} {port}: {seen:?}"
                );
            }
        }
    }

    #[test]
    fn connections_that_are_over_do_not_take_the_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        // Closed by the server first: TIME_WAIT stays on its port.
        drop(listener.accept().unwrap());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        drop((client, listener));
        for port in [Port::At(address), Port::Everywhere(address.port())] {
            // A child of another test may have a copy of the listener until its exec; TIME_WAIT lasts for a minute.
            eventually("the port is free", || {
                (look(port) == Seen::there("nobody listens on it")).then_some(())
            });
        }
    }

    #[test]
    fn an_address_of_another_host_is_neither_free_nor_taken() {
        let seen = look(Port::At("192.0.2.1:80".parse().unwrap()));
        assert!(
            matches!(&seen, Seen::Unclear(why) if why.starts_with("cannot bind 192.0.2.1:80: ")),
            "{seen:?}"
        );
    }
}
