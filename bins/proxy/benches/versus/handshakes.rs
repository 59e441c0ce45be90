//! The load of clients that come once: a connection, a whole TLS handshake, one request, and gone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::Result;
use crate::line::Line;
use crate::load::{GET, Shared, Times, is_whole};

/// Clients at a time: enough to keep one thread of a proxy busy.
const CLIENTS: usize = 4;

/// Comes and goes until the load is over.
pub(crate) fn shake(port: u16, tls: &Arc<ClientConfig>, shared: &Arc<Shared>) -> Result<Times> {
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (tls, shared) = (Arc::clone(tls), Arc::clone(shared));
            std::thread::spawn(move || {
                while !shared.is_over() {
                    once(port, &tls).map_err(|error| error.to_string())?;
                    shared.count(1);
                }
                Ok::<(), String>(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a client panicked")??;
    }
    Ok(Times::new())
}

fn once(port: u16, tls: &Arc<ClientConfig>) -> Result<()> {
    let mut line = Line::open(port, Some(tls))?;
    if let Line::Tls(stream) = &line {
        stream.sock.set_nonblocking(false)?;
        // No port stays behind in TIME_WAIT.
        socket2::SockRef::from(&stream.sock).set_linger(Some(Duration::ZERO))?;
    }
    line.write_all(GET)?;
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&got)? {
        match line.read(&mut buffer) {
            Ok(0) => return Err("a connection was closed before its answer".into()),
            Ok(length) => got.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
