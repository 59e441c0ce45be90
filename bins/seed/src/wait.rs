//! Waits until all conditions are met, each tried by a thread of its own, under the deadline of the run.
//!
//! Threads rather than a runtime: there are few conditions, and an init container should be up in milliseconds. A
//! thread may hang in the resolver for longer than the deadline, so they are never joined; they end with the process.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use podkit_cli::chain;
use podkit_lifecycle::{Backoff, Deadline};

use crate::config::Condition;
use crate::error::Error;
use crate::limits::Limits;

/// How often what is still missing is logged.
const PROGRESS: Duration = Duration::from_secs(5);

/// The first pause between tries: short, for most things appear within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: late by a second at most, and no load for what is waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// For one address; long enough for one retransmitted SYN (1 s), short enough to try the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

enum Event {
    Met(usize),
    Missed(usize, io::Error),
    Signal,
}

/// A condition that is not met yet, with the last reason.
struct Missing<'a> {
    condition: &'a Condition,
    error: Option<String>,
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.error.as_deref().unwrap_or("no answer yet");
        write!(f, "{} ({error})", self.condition)
    }
}

/// Returns when all conditions are met.
///
/// # Errors
/// A signal, or the deadline, with all that was missing.
pub(crate) fn all(conditions: &[Condition], limits: &Arc<Limits>) -> Result<(), Error> {
    if conditions.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    let (events, inbox) = mpsc::channel();
    watch_signals(Arc::clone(limits), events.clone())?;
    for (index, condition) in conditions.iter().enumerate() {
        try_until_met(index, condition.clone(), limits.deadline(), events.clone())?;
    }

    let mut missing: Vec<Option<Missing<'_>>> =
        conditions.iter().map(|condition| Some(Missing { condition, error: None })).collect();
    let mut progress = Deadline::after(PROGRESS);
    while missing.iter().any(Option::is_some) {
        limits.check(|| format!("while waiting for {}", list(&missing)))?;
        match inbox.recv_timeout(limits.deadline().min(progress).remaining()) {
            Ok(Event::Met(index)) => {
                let waited = begun.elapsed().as_secs_f64();
                tracing::info!(condition = %conditions[index], seconds = (waited * 1e3).round() / 1e3, "is there");
                missing[index] = None;
            }
            Ok(Event::Missed(index, error)) => {
                tracing::debug!(condition = %conditions[index], error = chain(&error), "not there yet");
                if let Some(missing) = &mut missing[index] {
                    missing.error = Some(chain(&error));
                }
            }
            // The check at the top of the loop ends it.
            Ok(Event::Signal) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if progress.expired() {
            let open = missing.iter().flatten().count();
            if open > 0 {
                tracing::info!("still waiting for {open} of {}: {}", conditions.len(), list(&missing));
            }
            progress = Deadline::after(PROGRESS);
        }
    }
    Ok(())
}

fn list(missing: &[Option<Missing<'_>>]) -> String {
    missing.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A send fails only when nobody waits any more, and then nobody wants to know.
fn watch_signals(limits: Arc<Limits>, events: Sender<Event>) -> Result<(), Error> {
    start("signals", move || {
        if limits.signals().wait(limits.deadline()).is_ok_and(|signal| signal.is_some()) {
            let _ = events.send(Event::Signal);
        }
    })
}

fn try_until_met(
    index: usize,
    condition: Condition,
    deadline: Deadline,
    events: Sender<Event>,
) -> Result<(), Error> {
    start("wait", move || {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let event = match is_met(&condition, deadline) {
                Ok(()) => Event::Met(index),
                Err(error) => Event::Missed(index, error),
            };
            let met = matches!(event, Event::Met(_));
            if events.send(event).is_err() || met || deadline.expired() {
                return;
            }
            thread::sleep(backoff.next_delay().min(deadline.remaining()));
        }
    })
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|source| Error::System { operation: "start a thread", source })
}

fn is_met(condition: &Condition, deadline: Deadline) -> io::Result<()> {
    match condition {
        Condition::File(path) => path.metadata().map(drop),
        Condition::Tcp { host, port } => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                // A zero timeout is an error of its own; the deadline itself is kept by the waiting side.
                let timeout = deadline.within(CONNECT_TIMEOUT).remaining().max(Duration::from_millis(1));
                match TcpStream::connect_timeout(&address, timeout) {
                    Ok(_) => return Ok(()),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}
