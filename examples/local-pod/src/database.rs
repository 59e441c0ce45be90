//! The database outside the pod: it sends back what it is given, and counts the writes.
//!
//! It is also what seed waits for: [`Database::open`] is called a moment after seed has started.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::error::Error;

/// A running database; it ends with the runtime.
#[derive(Debug)]
pub(crate) struct Database {
    writes: Arc<AtomicU64>,
}

impl Database {
    /// Starts to listen at `address`.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Error> {
        let listener = TcpListener::bind(address).await.map_err(Error::io(format!("listen on {address}")))?;
        let writes = Arc::new(AtomicU64::new(0));
        let counted = writes.clone();
        tokio::spawn(async move {
            loop {
                tokio::spawn(echo(accept(&listener).await, counted.clone()));
            }
        });
        Ok(Self { writes })
    }

    /// Connections that brought data and had it sent back whole.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

/// The next connection; one that failed while it waited is skipped.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    /// Out of descriptors: some connection has to end first.
    const PAUSE: Duration = Duration::from_millis(10);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn echo(mut stream: TcpStream, writes: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut data = Vec::new();
    stream.read_to_end(&mut data).await?;
    stream.write_all(&data).await?;
    stream.shutdown().await?;
    // A probe (seed's `wait`) connects and says nothing.
    if !data.is_empty() {
        writes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
