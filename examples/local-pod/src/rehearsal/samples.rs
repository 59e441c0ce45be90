//! What a pod looks like from outside while it ends: readiness, the proxy's figures, what is not delivered. Asked again
//! and again, and kept with the time.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};

use crate::{probe, spec::Addresses};

/// As short as one column of the timeline.
const PERIOD: Duration = Duration::from_millis(40);

/// One look. What did not answer is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) ready: Option<bool>,
    pub(crate) in_flight: Option<u64>,
    /// Bytes that ship has read and that nobody has acknowledged.
    pub(crate) pending: Option<u64>,
}

/// Looks until it is dropped or ended.
#[derive(Debug)]
pub(crate) struct Samples {
    all: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Samples {
    pub(crate) fn start(addresses: &Addresses) -> Self {
        let all: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let (proxy, ship, kept) = (addresses.proxy_admin, addresses.ship_admin, all.clone());
        let task = tokio::spawn(async move {
            let mut turns = tokio::time::interval(PERIOD);
            loop {
                turns.tick().await;
                let at = Instant::now();
                let (ready, drain, status) = tokio::join!(
                    probe::get(proxy, "/readyz"),
                    asked(proxy, "/drain"),
                    asked(ship, "/status")
                );
                let sample = Sample {
                    at,
                    ready: ready.ok().map(|(status, _)| status.is_success()),
                    in_flight: drain.and_then(|drain| drain["in_flight"].as_u64()),
                    pending: status.and_then(|status| status["ledger"]["pending"].as_u64()),
                };
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
        });
        Self { all, task }
    }

    pub(crate) fn end(self) -> Vec<Sample> {
        self.task.abort();
        std::mem::take(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn asked(address: SocketAddr, path: &str) -> Option<Value> {
    let (_, body) = probe::get(address, path).await.ok()?;
    serde_json::from_slice(&body).ok()
}
