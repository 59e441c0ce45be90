//! What the person at the terminal sees while the pod lives: one line for each thing that happens.
//!
//! Lines only ever follow each other, so the output reads the same in a terminal, a pipe and a CI log; a
//! terminal gets the phase in bold. A closed pipe is no reason to fail: the exit code still tells.

use std::{
    cell::Cell,
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Instant,
};

/// The standard output with a clock.
#[derive(Debug)]
pub(crate) struct Screen {
    zero: Cell<Instant>,
    bold: bool,
}

impl Screen {
    /// The clock starts now.
    pub(crate) fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { zero: Cell::new(Instant::now()), bold: io::stdout().is_terminal() && !plain }
    }

    /// The clock starts again: the build does not count as life of the pod.
    pub(crate) fn restart_clock(&self) {
        self.zero.set(Instant::now());
    }

    /// When the clock started.
    pub(crate) fn zero(&self) -> Instant {
        self.zero.get()
    }

    /// One thing that happened in `phase`.
    pub(crate) fn line(&self, phase: &str, what: impl Display) {
        let time = self.zero.get().elapsed().as_secs_f64();
        let (on, off) = if self.bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.raw(&format!("{time:>6.1}s  {on}{phase:<8}{off}  {what}\n"));
    }

    /// Text as it is.
    pub(crate) fn raw(&self, text: &str) {
        let mut out = io::stdout().lock();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}
