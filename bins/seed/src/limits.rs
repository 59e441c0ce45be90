//! What bounds a run from outside: the one deadline, and signals. Asked between steps; never waits for work itself.

use std::sync::Arc;
use std::time::Duration;

use podkit_lifecycle::{Deadline, Signals};

use crate::error::Error;

/// The deadline of the run and the signals that end it early.
#[derive(Debug)]
pub(crate) struct Limits {
    signals: Arc<Signals>,
    deadline: Deadline,
    /// As configured, for messages.
    budget: Duration,
}

impl Limits {
    /// The run begins now.
    pub(crate) fn begin(budget: Duration) -> Result<Self, Error> {
        let signals = Signals::install()
            .map_err(|source| Error::System { operation: "install signal handlers", source })?;
        Ok(Self { signals: Arc::new(signals), deadline: Deadline::after(budget), budget })
    }

    /// Another pass of the same process begins now.
    pub(crate) fn again(&self, budget: Duration) -> Self {
        Self { signals: Arc::clone(&self.signals), deadline: Deadline::after(budget), budget }
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    pub(crate) fn signals(&self) -> &Arc<Signals> {
        &self.signals
    }

    /// Whether the run may go on.
    ///
    /// # Errors
    /// A signal came or the deadline has passed; `during` says what was being done, and what was left.
    pub(crate) fn check(&self, during: impl FnOnce() -> String) -> Result<(), Error> {
        if self.signals.received().is_some() || self.deadline.expired() {
            Err(self.ended(during()))
        } else {
            Ok(())
        }
    }

    /// Why the run is over, when it is.
    pub(crate) fn ended(&self, during: String) -> Error {
        match self.signals.received() {
            Some(_) => Error::Stopped { during },
            None => Error::Deadline { deadline: self.budget, during },
        }
    }

    /// Sleeps, but not on after a signal or the deadline.
    pub(crate) fn pause(&self, time: Duration) {
        // A pipe that cannot be read makes the pause shorter; the signal itself is seen by `check`.
        let _ = self.signals.wait(self.deadline.within(time));
    }
}
