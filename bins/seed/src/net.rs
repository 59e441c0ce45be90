//! All that goes over the network: one current-thread runtime, made when it is first needed, that any thread may use.
//!
//! Nothing here outlives its call: what is not done by a deadline or when a signal comes is dropped.

use std::future::Future;
use std::io;
use std::sync::OnceLock;

use podkit_lifecycle::Deadline;
use tokio::runtime::{Builder, Runtime};

use crate::error::Error;
use crate::limits::Limits;

/// What the server reads of us.
pub(crate) const USER_AGENT: &str = concat!("podkit-seed/", env!("CARGO_PKG_VERSION"));

/// Does work to its end, or to the end of the run: a signal, or its deadline. Not from within other such work.
///
/// # Errors
/// The run has ended; `during` says what was being done, and what was left.
pub(crate) fn run<T>(
    limits: &Limits,
    during: impl FnOnce() -> String,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    let done = runtime().map_err(no_runtime)?.block_on(async {
        tokio::select! {
            // What is done counts, though the deadline passed at the same time.
            biased;
            done = work => Some(done),
            // Where signals cannot be awaited, they are still seen at the deadline.
            Ok(_) = limits.signals().come() => None,
            () = tokio::time::sleep_until(limits.deadline().instant().into()) => None,
        }
    });
    match done {
        Some(done) => Ok(done),
        None => Err(limits.ended(during())),
    }
}

/// Does work to its end, but not past a deadline: for threads that a signal need not end. Not from within other such
/// work.
///
/// # Errors
/// `TimedOut`, or whatever keeps the runtime from being made.
pub(crate) fn run_until<T>(deadline: Deadline, work: impl Future<Output = T>) -> io::Result<T> {
    let done = runtime()?.block_on(async { tokio::time::timeout_at(deadline.instant().into(), work).await });
    done.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))
}

/// Threads may share it: one of them drives all that waits, and hands over to another when its own work is done.
fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = Builder::new_current_thread().enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| made))
}

fn no_runtime(source: io::Error) -> Error {
    Error::System { operation: "set up the network", source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn work_ends_with_the_run() {
        let limits = Limits::begin(Duration::from_millis(20)).unwrap();
        let begun = Instant::now();
        let error = run(&limits, || "while waiting".to_owned(), std::future::pending::<()>()).unwrap_err();
        assert_eq!(error.to_string(), "the deadline of 20ms passed while waiting");
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert_eq!(run(&limits, String::new, async { 7 }).unwrap(), 7, "what is done counts");
    }

    #[test]
    fn threads_share_the_runtime_and_none_waits_for_another() {
        let deadline = Deadline::after(Duration::from_secs(30));
        std::thread::scope(|threads| {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            // Whoever came first drives the runtime; it is done first, and the other goes on.
            let waits = threads.spawn(move || run_until(deadline, receiver).unwrap());
            let sends = threads.spawn(move || {
                run_until(deadline, async {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    sender.send(7)
                })
            });
            sends.join().unwrap().unwrap().unwrap();
            assert_eq!(waits.join().unwrap().unwrap(), 7);
        });
        let late = run_until(Deadline::after(Duration::from_millis(5)), std::future::pending::<()>());
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
