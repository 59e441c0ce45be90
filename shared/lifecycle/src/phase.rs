//! Where a process is in its life, as `/status` and the metrics tell it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Its own work is not set up yet.
    Starting,
    /// It works.
    Running,
    /// It is unready and sends clients away, and goes back to running when the lease lapses.
    Draining,
    /// It was told to end and finishes what it has.
    Stopping,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        })
    }
}

/// A phase that other threads read, such as the admin server's.
#[derive(Debug, Clone)]
pub struct SharedPhase(Arc<AtomicU8>);

impl Default for SharedPhase {
    fn default() -> Self {
        Self(Arc::new(AtomicU8::new(Phase::Starting as u8)))
    }
}

impl SharedPhase {
    /// The phase now.
    #[must_use]
    pub fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Running,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Moves to another phase.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_comes_back_as_it_was_set() {
        let shared = SharedPhase::default();
        for phase in [Phase::Starting, Phase::Running, Phase::Draining, Phase::Stopping] {
            shared.set(phase);
            assert_eq!(shared.get(), phase);
        }
    }
}
