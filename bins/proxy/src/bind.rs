//! From a configured listener to sockets that listen, one for each worker.
//!
//! Each worker has a queue of its own in the kernel (SO_REUSEPORT), so none waits for another; of a Unix socket, which
//! knows no such thing, all have the same one.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::config::{ListenAddress, Listener};
use crate::error::Error;

/// Connections that the kernel keeps until we accept them; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How often a silent peer is asked by the kernel whether it is still there, as Go does: a client that has vanished, or
/// has closed while the app takes its time, would else hold its place and its request for ever.
pub(crate) const PROBE: Duration = Duration::from_secs(15);

/// Whoever can reach the shared volume may connect, as whoever is in the pod may connect to a port of its loopback.
const UNIX_MODE: u32 = 0o666;

/// The sockets of one listener.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// One for each worker.
    pub(crate) each: Vec<Socket>,
    /// Where they listen: port 0 is the kernel's choice. `None` for Unix sockets.
    pub(crate) address: Option<SocketAddr>,
}

/// Binds and listens.
pub(crate) fn bind(listener: &Listener, workers: usize) -> Result<Sockets, Error> {
    let sockets = match &listener.listen {
        ListenAddress::Tcp(address) => tcp(*address, workers),
        ListenAddress::Unix(path) => unix(path, workers),
    };
    sockets.map_err(|source| Error::Bind {
        told_by: listener.told_by.clone(),
        address: listener.listen.clone(),
        source,
    })
}

fn tcp(address: SocketAddr, workers: usize) -> io::Result<Sockets> {
    // The first without sharing: a port of another process is a fault, also of one that would share it.
    let first = tcp_socket(address, false)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    let each = if workers == 1 {
        vec![first]
    } else {
        drop(first);
        (0..workers).map(|_| tcp_socket(address, true)).collect::<io::Result<_>>()?
    };
    for socket in &each {
        socket.listen(BACKLOG)?;
    }
    Ok(Sockets { each, address: Some(address) })
}

fn tcp_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    // A restarted container must not wait for the old one's connections to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted connections inherit both.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE).with_interval(PROBE))?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn unix(path: &Path, workers: usize) -> io::Result<Sockets> {
    let address = SockAddr::unix(path)?;
    let new = || Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None);
    let socket = new()?;
    if let Err(error) = socket.bind(&address) {
        // What a process that was killed has left behind answers nobody.
        let is_left_over = error.kind() == io::ErrorKind::AddrInUse
            && fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
            && new()?.connect(&address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !is_left_over {
            return Err(error);
        }
        fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    socket.listen(BACKLOG)?;
    fs::set_permissions(path, fs::Permissions::from_mode(UNIX_MODE))?;
    let mut each = Vec::with_capacity(workers);
    for _ in 1..workers {
        each.push(socket.try_clone()?);
    }
    each.push(socket);
    Ok(Sockets { each, address: None })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{self, Address, Direction, Protocol};

    fn listener(listen: ListenAddress) -> Listener {
        let upstream =
            config::Upstream::new("app".into(), Address::Host { host: "127.0.0.1".into(), port: 1 });
        let kind = (Direction::Inbound, Protocol::Http);
        Listener::new("web".into(), "listener \"web\"".into(), kind, listen, Arc::new(upstream))
    }

    #[test]
    fn a_taken_port_is_refused_also_where_it_could_be_shared() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = bind(&listener(ListenAddress::Tcp(any)), 2).unwrap();
        assert_eq!(first.each.len(), 2);
        let again = ListenAddress::Tcp(first.address.unwrap());
        for workers in [1, 2] {
            let error = bind(&listener(again.clone()), workers).unwrap_err();
            assert!(matches!(error, Error::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse));
        }
    }

    #[test]
    fn a_unix_socket_that_was_left_over_is_taken_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        drop(bind(&listener(ListenAddress::Unix(path.clone())), 2).unwrap());
        let again = bind(&listener(ListenAddress::Unix(path.clone())), 2).unwrap();
        assert_eq!(again.each.len(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, UNIX_MODE);
        bind(&listener(ListenAddress::Unix(path.clone())), 1).unwrap_err();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file of the app").unwrap();
        bind(&listener(ListenAddress::Unix(path.clone())), 1).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file of the app");
    }
}
