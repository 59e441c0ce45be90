//! The listener and its limits. Knows nothing of what is asked.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use podkit_cli::Report;
use tokio::sync::Semaphore;

use crate::{Instance, routes};

/// Kubelet, Prometheus, podkit-drain and a person need a handful; the rest is for those who forget to close.
const MAX_CONNECTIONS: usize = 256;
/// A request head without a body fits many times.
const MAX_HEAD: usize = 16 << 10;
/// How long a client may take to send a head, and may stay without sending one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may leave an answer unread.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server rests when the kernel refuses a connection for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What goes on failing is logged this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Why there is no admin port.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("cannot listen on {address} for --admin")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel gives no thread or no event queue.
    #[error("cannot start the admin server")]
    Start(#[source] io::Error),
}

impl Report for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Some(
                "another process of this pod listens there; choose another port with `--admin`, or `off`"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// A running admin server; it runs until the process ends.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
}

impl Admin {
    /// The address it listens on, with the port the kernel chose where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Listens on `address` and answers for `instance` from a thread of its own.
///
/// # Errors
/// The address cannot be listened on, or the thread cannot be started.
pub fn serve(address: SocketAddr, instance: Arc<dyn Instance>) -> Result<Admin, Error> {
    let listener = TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?;
    listener.set_nonblocking(true).map_err(Error::Start)?;
    let address = listener.local_addr().map_err(Error::Start)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(Error::Start)?
    };
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || runtime.block_on(accept(listener, instance)))
        .map_err(Error::Start)?;
    tracing::info!("admin port listens on {address}");
    Ok(Admin { address })
}

async fn accept(listener: tokio::net::TcpListener, instance: Arc<dyn Instance>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut complained: Option<Instant> = None;
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                // A client that does not read must not keep its place: zero windows count too (tcp(7)).
                let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT));
                let instance = Arc::clone(&instance);
                tokio::spawn(async move {
                    let answer = service_fn(|request| {
                        let instance = Arc::clone(&instance);
                        async move { Ok::<_, Infallible>(routes::answer(&*instance, peer, &request).await) }
                    });
                    // A client that breaks off or talks nonsense is its own problem.
                    let _ = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .max_buf_size(MAX_HEAD)
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                    drop(place);
                });
            }
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                    complained = Some(Instant::now());
                    tracing::warn!("the admin port cannot take a connection: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
