//! What bounds a run from outside: the one deadline, and signals. Asked between steps; never waits for work itself.

use std::time::Duration;

use podkit_lifecycle::{Deadline, Signals};

use crate::error::Error;

/// The deadline of the run and the signals that end it early.
#[derive(Debug)]
pub(crate) struct Limits {
    signals: Signals,
    deadline: Deadline,
    /// As configured, for messages.
    budget: Duration,
}

impl Limits {
    /// The run begins now.
    pub(crate) fn begin(budget: Duration) -> Result<Self, Error> {
        let signals = Signals::install()
            .map_err(|source| Error::System { operation: "install signal handlers", source })?;
        Ok(Self { signals, deadline: Deadline::after(budget), budget })
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Whether the run may go on.
    ///
    /// # Errors
    /// A signal came or the deadline has passed; `during` says what was being done, and what was left.
    pub(crate) fn check(&self, during: impl FnOnce() -> String) -> Result<(), Error> {
        if self.signals.received().is_some() {
            Err(Error::Stopped { during: during() })
        } else if self.deadline.expired() {
            Err(Error::Deadline { deadline: self.budget, during: during() })
        } else {
            Ok(())
        }
    }

    /// Sleeps, but not on after a signal or the deadline.
    pub(crate) fn pause(&self, time: Duration) {
        // A pipe that cannot be read makes the pause shorter; the signal itself is seen by `check`.
        let _ = self.signals.wait(self.deadline.within(time));
    }
}
