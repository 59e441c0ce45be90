//! Sockets without waiting, and the one place that waits for many of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::Result;

/// How long anything may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Readiness of many descriptors, told by number; level-triggered.
pub(crate) struct Waiter {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Waiter {
    pub(crate) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); 256] })
    }

    pub(crate) fn add(&self, what: impl AsFd, number: usize, flags: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.add(what, EpollEvent::new(flags, number as u64))?)
    }

    pub(crate) fn change(&self, what: impl AsFd, number: usize, flags: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.modify(what, &mut EpollEvent::new(flags, number as u64))?)
    }

    /// The numbers that are ready, and for what.
    pub(crate) fn wait(&mut self, timeout: EpollTimeout) -> io::Result<&[EpollEvent]> {
        loop {
            match self.epoll.wait(&mut self.events, timeout) {
                Ok(count) => return Ok(&self.events[..count]),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Listens on loopback with a long queue: thousands of connections come at once.
pub(crate) fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Connects, and then never waits.
pub(crate) fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Accepts all that wait.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Some(stream))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns when something listens on the port.
pub(crate) fn wait_until_listening(port: u16) -> Result<()> {
    let started = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if started.elapsed() > PATIENCE {
            return Err(format!("nothing listens on port {port} after {PATIENCE:?}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// As many descriptors as this process may have; its children inherit it.
pub(crate) fn raise_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// So many connections, or as many as descriptors allow: a proxy needs two for each. Tells when they are fewer.
pub(crate) fn connections_allowed(wanted: usize) -> usize {
    const OTHERS: usize = 400;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let allowed = (usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OTHERS)) / 2;
    if allowed < wanted {
        println!(
            "\n{allowed} connections in place of {wanted}: the limit is {limit} descriptors (`ulimit -Hn`)"
        );
    }
    allowed.min(wanted)
}
