//! What the drain waits for right now, for whoever ends it from outside: to say it, to end a program that runs, and to
//! have nothing more begin.

use std::io;
use std::process::Child;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// For a program that is being started when the drain ends; one on a stuck volume may never start.
const STARTING: Duration = Duration::from_millis(50);

/// Written by the steps, read by the thread that watches signals and the deadline.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    text: Mutex<String>,
    state: Mutex<State>,
    started: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The outcome is known, and no step is to change anything any more.
    is_over: bool,
    is_starting: bool,
    /// The process group of the program that runs now. It stays for a moment after the end, too short for the kernel to
    /// give its number to another one.
    program: Option<i32>,
}

impl State {
    fn kill(&mut self) {
        if let Some(group) = self.program.take() {
            // Fails only where nobody is left.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

impl Progress {
    pub(crate) fn set(&self, text: impl Into<String>) {
        *lock(&self.text) = text.into();
    }

    pub(crate) fn get(&self) -> String {
        lock(&self.text).clone()
    }

    /// Starts a program that leads a process group of its own.
    pub(crate) fn start(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
        self.state().is_starting = true;
        // Without the lock: it may take its time, and whoever ends the drain has none.
        let child = start();
        let mut state = lock(&self.state);
        state.is_starting = false;
        state.program = child.as_ref().ok().and_then(|child| i32::try_from(child.id()).ok());
        if state.is_over {
            state.kill();
        }
        self.started.notify_all();
        child
    }

    /// Ends the program that runs, and all that is left of its group.
    pub(crate) fn kill(&self) {
        lock(&self.state).kill();
    }

    /// The program that ran has ended.
    pub(crate) fn ended(&self) {
        lock(&self.state).program = None;
        self.go_on();
    }

    /// From here on no step begins anything, and the program that runs is ended.
    pub(crate) fn end(&self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        let waited = self.started.wait_timeout_while(state, STARTING, |state| state.is_starting);
        waited.unwrap_or_else(PoisonError::into_inner).0.kill();
    }

    /// To be called before each thing that a step does: it does not return once the drain is over, and the process ends
    /// without this thread.
    pub(crate) fn go_on(&self) {
        drop(self.state());
    }

    /// The state of a drain that is not over.
    fn state(&self) -> MutexGuard<'_, State> {
        loop {
            let state = lock(&self.state);
            if !state.is_over {
                return state;
            }
            drop(state);
            thread::park();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
