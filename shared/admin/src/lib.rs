//! Contract 2: the admin port. Probes, metrics and status for everyone; drain, flush and quit for the pod itself.
//!
//! ```text
//!   kubelet, Prometheus ─► server (own thread, own runtime, own limits) ─► routes ─► Instance
//!   podkit-drain ────────►                                                            the binary's state
//! ```
//!
//! The server runs on a thread of its own and only reads shared state, so that it answers while the binary's own
//! work is stuck, and no proxied traffic or slow backend can starve it.

mod lease;
mod query;
mod routes;
mod server;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use prometheus::{Registry, TextEncoder};
use serde_json::Value;

pub use lease::Lease;
pub use server::{Admin, Error, LAST_ANSWERS, serve};

/// What a binary tells on its admin port. All methods answer at once, from state that is never locked for long.
pub trait Instance: Send + Sync + 'static {
    /// Why the binary's own loop does not turn; empty while it does. Never depends on a backend or the app.
    fn live(&self) -> Reasons;

    /// Why no traffic should come; empty while it may.
    fn ready(&self) -> Reasons;

    /// Why the binary's own work is not set up; empty once it is. Never waits for the app.
    fn startup(&self) -> Reasons;

    /// The metrics in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Version, phase, uptime, and the binary's own state.
    fn status(&self) -> Value;

    /// The drain of a binary that carries traffic.
    fn drain(&self) -> Option<&dyn Drain> {
        None
    }

    /// Starts to deliver all that the files hold now, for a binary that ships them; the answer comes within `wait`.
    fn flush(&self, wait: Duration) -> Option<Answer<Flushed>> {
        let _ = wait;
        None
    }

    /// Begins the ordered stop.
    fn quit(&self);
}

/// Why a probe fails; one entry for each reason.
pub type Reasons = Vec<String>;

/// An answer that takes a while.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The leases on a drain (contract 3, point 3): it lasts for as long as anybody holds one.
pub trait Drain {
    /// Starts draining, or renews the lease of this holder.
    fn start(&self, lease: Lease);

    /// Phase, in-flight work, open connections, quiet times in milliseconds, and the lease left.
    fn state(&self) -> Value;

    /// Ends the lease of this holder, or where none is named all leases; goes back to ready if none is left.
    fn undo(&self, holder: Option<&str>);
}

/// How a flush ended, with what to tell about it.
#[derive(Debug)]
pub enum Flushed {
    /// All that the files held at the call is acknowledged.
    Done(Value),
    /// The wait is over and this is still pending.
    Pending(Value),
}

/// All metrics of a registry in Prometheus' text format.
#[must_use]
pub fn metrics_text(registry: &Registry) -> String {
    // Encoding fails only for a metric family without a name or values, and a registry takes none.
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default()
}
