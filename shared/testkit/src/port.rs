//! Ports for programs that must be told one.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::getuid;
use socket2::{Domain, Socket, Type};

/// Below the kernel's usual range for outgoing connections (32768 up), so that none can take a port in between.
const FIRST: u16 = 15_000;
const LAST: u16 = 32_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A loopback TCP port that nothing listens on, and that no other test is given while this process lives.
///
/// # Panics
/// When no port is free.
#[must_use]
pub fn free_port() -> u16 {
    let dir = std::env::temp_dir().join(format!("podkit-test-ports-{}", getuid()));
    std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
    let start = u16::try_from(std::process::id() % 16_000).expect("less than 16,000");
    for _ in FIRST..LAST {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(step)) % (LAST - FIRST);
        let Ok(file) = File::create(dir.join(port.to_string())) else { continue };
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        if is_free(port).is_ok() {
            // Held until this process ends, so that no other process is given the same port.
            std::mem::forget(lock);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}

/// Fails where somebody listens on the port. Binds without listening: a child that another test forks at this moment
/// has a copy of the socket until its exec, and a copy that listened would take connections or the port itself.
fn is_free(port: u16) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
}
