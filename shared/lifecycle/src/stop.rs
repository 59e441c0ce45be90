//! The ordered stop, as tokio tasks see it: one switch that everything waits on.

use std::io;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::Signals;

/// A switch that is turned once: the stop has begun.
#[derive(Debug, Clone, Default)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// A stop that begins with the first SIGTERM or SIGINT. Needs a running tokio runtime with I/O.
    ///
    /// # Errors
    /// The signals' pipe cannot be watched.
    pub fn on_signal(signals: Signals) -> io::Result<Self> {
        let stop = Self::default();
        let mut wake = UnixStream::from_std(signals.wake.try_clone()?)?;
        let begin = stop.clone();
        tokio::spawn(async move {
            // A handler writes a byte; it keeps the other end open for as long as the process lives.
            let _ = wake.read_u8().await;
            if let Some(signal) = signals.received() {
                tracing::info!("{signal}: stopping; a second signal ends at once");
            }
            begin.begin();
        });
        Ok(stop)
    }

    /// Begins the stop; repeats change nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether the stop has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the stop has begun.
    pub async fn begun(&self) {
        // The sender is in `self`, so the channel is never closed while this waits.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_wait_see_the_stop() {
        let stop = Stop::default();
        let waits = [tokio::spawn({
            let stop = stop.clone();
            async move { stop.begun().await }
        })];
        assert!(!stop.has_begun());
        stop.begin();
        for wait in waits {
            wait.await.unwrap();
        }
        stop.begun().await;
        assert!(stop.has_begun());
    }
}
