//! What the drain waits for right now, for the message of whoever ends it from outside.

use std::sync::{Mutex, PoisonError};

/// Written by the steps, read by the thread that watches signals and the deadline.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<String>);

impl Progress {
    pub(crate) fn set(&self, text: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    pub(crate) fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
