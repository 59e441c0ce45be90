//! The listener and its limits. Knows nothing of what is asked.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use podkit_cli::Report;
use tokio::sync::{Semaphore, watch};

use crate::{Instance, routes};

/// Kubelet, Prometheus, podkit-drain and a person need a handful; the rest is for those who forget to close.
const MAX_CONNECTIONS: u32 = 256;
/// A request head without a body fits many times.
const MAX_HEAD: usize = 16 << 10;
/// How long a client may take to send a head, and may stay without sending one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may leave an answer unread.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server rests when the kernel refuses a connection for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For the answers that are under way at the end of a process: they are made, and only have to be sent.
pub const LAST_ANSWERS: Duration = Duration::from_millis(500);
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

/// A running admin server; it runs until the process ends, or until it [rests](Self::rest).
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    ending: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

impl Admin {
    /// The address it listens on, with the port the kernel chose where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits until those that came are answered, but no longer than this. For the very end
    /// of a process: an answer that is under way would break off with it.
    pub fn rest(self, at_most: Duration) {
        self.ending.send_replace(true);
        // An error tells that the thread is gone, or that a client takes its time.
        let _ = self.ended.recv_timeout(at_most);
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
    let ((ending, is_ending), (tell, ended)) = (watch::channel(false), mpsc::sync_channel(1));
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            runtime.block_on(accept(listener, instance, is_ending));
            // Nobody waits where the process goes on without it.
            let _ = tell.send(());
        })
        .map_err(Error::Start)?;
    tracing::info!("admin port listens on {address}");
    Ok(Admin { address, ending, ended })
}

/// Serves until the end is told, and then until all that was asked is answered.
async fn accept(
    listener: tokio::net::TcpListener,
    instance: Arc<dyn Instance>,
    mut is_ending: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = told(&mut is_ending) => break,
        };
        let Ok(place) = place else { return };
        match accepted {
            Ok((stream, peer)) => {
                let mut is_ending = is_ending.clone();
                // A client that does not read must not keep its place: zero windows count too (tcp(7)).
                let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT));
                let instance = Arc::clone(&instance);
                tokio::spawn(async move {
                    let answer = service_fn(|request| {
                        let instance = Arc::clone(&instance);
                        async move { Ok::<_, Infallible>(routes::answer(&*instance, peer, &request).await) }
                    });
                    // A client that breaks off or talks nonsense is its own problem.
                    let mut connection = std::pin::pin!(
                        http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEAD_TIMEOUT)
                            .max_buf_size(MAX_HEAD)
                            .serve_connection(TokioIo::new(stream), answer)
                    );
                    tokio::select! {
                        _ = connection.as_mut() => {}
                        () = told(&mut is_ending) => {
                            connection.as_mut().graceful_shutdown();
                            let _ = connection.await;
                        }
                    }
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
    drop(listener);
    // All places are free again once all connections are done.
    let _ = places.acquire_many(MAX_CONNECTIONS).await;
}

/// Returns when the end is told, and never where nobody is left to tell it.
async fn told(is_ending: &mut watch::Receiver<bool>) {
    if is_ending.wait_for(|is_ending| *is_ending).await.is_err() {
        std::future::pending().await
    }
}
