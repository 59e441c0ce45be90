//! What the drain waits for right now, for whoever ends it from outside: to say it, and to end a program that runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Written by the steps, read by the thread that watches signals and the deadline.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    text: Mutex<String>,
    /// The process group of the program that runs now. It stays for a moment after the end, too short for the kernel to
    /// give its number to another one.
    program: Mutex<Option<i32>>,
}

impl Progress {
    pub(crate) fn set(&self, text: impl Into<String>) {
        *lock(&self.text) = text.into();
    }

    pub(crate) fn get(&self) -> String {
        lock(&self.text).clone()
    }

    pub(crate) fn runs(&self, group: Option<i32>) {
        *lock(&self.program) = group;
    }

    /// Ends the program that runs, and all that is left of its group.
    pub(crate) fn kill(&self) {
        if let Some(group) = lock(&self.program).take() {
            // Fails only where nobody is left.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
