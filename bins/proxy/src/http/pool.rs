//! Idle upstream connections that wait for the next request.
//!
//! Never hands out one that is known to have ended, and closes them before the app's own keep-alive would.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::config::Upstream;
use crate::io::has_arrived;
use crate::worker::{Clock, Tick};

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    until: Tick,
}

/// The idle connections to one upstream; the latest is used first, so that the surplus grows old and is closed.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) upstream: Arc<Upstream>,
    clock: Rc<Clock>,
    idle: RefCell<Vec<Idle>>,
}

impl Pool {
    pub(crate) fn new(upstream: Arc<Upstream>, clock: Rc<Clock>) -> Rc<Self> {
        Rc::new(Self { upstream, clock, idle: RefCell::default() })
    }

    /// A connection that is open as far as can be told. `surely` asks the kernel too, for a request that could not
    /// be sent a second time.
    pub(crate) fn take(&self, surely: bool) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { stream, until }) = idle.pop() {
            if until > self.clock.now() && is_open(&stream) && !(surely && has_arrived(&stream)) {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection whose response was read to its end.
    pub(crate) fn put(&self, stream: TcpStream) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.upstream.pool.max_idle.get() {
            let until = self.clock.after(self.upstream.pool.idle_timeout);
            idle.push(Idle { stream, until });
        }
    }

    /// Closes what has grown old or was closed by the upstream.
    pub(crate) fn sweep(&self) {
        let now = self.clock.now();
        self.idle.borrow_mut().retain(|idle| idle.until > now && is_open(&idle.stream));
    }
}

/// Whether nothing has arrived as far as the event loop knows: on an idle connection anything is an end, or an answer
/// to no question. Costs no system call while the connection is silent.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
