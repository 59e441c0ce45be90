//! Waits until all conditions are met, each tried by a thread of its own, under the deadline of the run.
//!
//! ```text
//!   thread a condition:  look ─► not yet ─► pause ─► look ─► met
//!                                  └──── events ────┘         │
//!   all:                 the last reason of each, progress, deadlines, signals
//! ```
//!
//! Threads rather than a runtime: there are few conditions, and an init container should be up in milliseconds. A
//! thread may hang in the kernel for longer than the deadline, so only those that have a child are joined.

mod command;
mod dns;
mod file;
mod http;
mod missing;
mod port;
mod tcp;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use podkit_lifecycle::{Backoff, Deadline};

use crate::config::{Condition, Config, Until, Wait};
use crate::error::Error;
use crate::limits::Limits;
use crate::secrets::Secrets;
use missing::Missing;

/// How often what is still missing is logged.
const PROGRESS: Duration = Duration::from_secs(5);
/// The first pause between tries: short, for most things appear within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How late a signal is seen at most: nothing wakes on both a signal and an event.
const TURN: Duration = Duration::from_millis(50);
/// Events that nobody has read yet; whoever has one more waits.
const INBOX: usize = 64;

/// What a look at a condition shows, each with a few words about it that fit into brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    There(String),
    Gone(String),
    /// It cannot be told, and is neither.
    Unclear(String),
}

impl Seen {
    fn there(how: impl Into<String>) -> Self {
        Self::There(how.into())
    }

    fn gone(why: impl Into<String>) -> Self {
        Self::Gone(why.into())
    }

    fn unclear(why: impl Into<String>) -> Self {
        Self::Unclear(why.into())
    }

    /// `Err` with the reason where it is not what is waited for.
    fn is(self, until: Until) -> Result<(), String> {
        match (self, until) {
            (Self::There(_), Until::There) | (Self::Gone(_), Until::Gone) => Ok(()),
            (Self::There(why) | Self::Gone(why) | Self::Unclear(why), _) => Err(why),
        }
    }
}

/// From the thread of the condition with this index.
struct Event {
    index: usize,
    outcome: Result<(), String>,
}

/// Returns when all conditions are met.
///
/// # Errors
/// A signal, the deadline of the run, or that of one condition, with all that was missing.
pub(crate) fn all(config: &Config, limits: &Limits) -> Result<(), Error> {
    let conditions = config.wait.as_slice();
    if conditions.is_empty() {
        return Ok(());
    }
    // A program may print them.
    let secrets = Secrets::in_environment(&config.secrets);
    let begun = Instant::now();
    let (events, inbox) = mpsc::sync_channel(INBOX);
    let mut tries = Tries::default();
    let mut missing = Missing::new(conditions, &secrets);
    for (index, wait) in conditions.iter().enumerate() {
        let deadline = missing.deadline(index).map_or(limits.deadline(), |own| own.min(limits.deadline()));
        tries.start(index, wait.clone(), deadline, events.clone())?;
    }
    // What is left are those of the threads.
    drop(events);

    let mut progress = Deadline::after(PROGRESS);
    while !missing.is_empty() {
        limits.check(|| format!("while waiting for {}", missing.list()))?;
        if let Some((budget, during)) = missing.overdue() {
            return Err(Error::Deadline { deadline: budget, during });
        }
        let turn = limits.deadline().min(progress).within(TURN);
        match inbox.recv_timeout(turn.remaining()) {
            Ok(Event { index, outcome: Ok(()) }) => {
                let wait = &conditions[index];
                let seconds = (begun.elapsed().as_secs_f64() * 1e3).round() / 1e3;
                let state = if wait.until == Until::There { "is there" } else { "is gone" };
                tracing::info!(condition = %secrets.mask(&wait.condition.to_string()), seconds, "{state}");
                missing.met(index);
            }
            Ok(Event { index, outcome: Err(error) }) => {
                let wait = &conditions[index];
                let state = if wait.until == Until::There { "not there yet" } else { "not gone yet" };
                let error = missing.missed(index, &error);
                tracing::debug!(condition = %secrets.mask(&wait.condition.to_string()), error, "{state}");
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Every thread is past its deadline; the top of the loop will see that.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(turn.remaining()),
        }
        if progress.expired() {
            if !missing.is_empty() {
                let (open, all) = (missing.len(), conditions.len());
                tracing::info!("still waiting for {open} of {all}: {}", missing.list());
            }
            progress = Deadline::after(PROGRESS);
        }
    }
    Ok(())
}

/// The threads. When this is dropped, none of them has a child any more.
#[derive(Default)]
struct Tries {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// The threads that may have a child; these look at `is_over` all the time.
    parents: Vec<JoinHandle<()>>,
}

impl Tries {
    fn start(
        &mut self,
        index: usize,
        wait: Wait,
        deadline: Deadline,
        events: SyncSender<Event>,
    ) -> Result<(), Error> {
        let is_parent = matches!(wait.condition, Condition::Command(_));
        let is_over = Arc::clone(&self.is_over);
        let work = move || try_until_met(index, &wait, deadline, &is_over, &events);
        let thread = thread::Builder::new()
            .name(format!("wait {index}"))
            .spawn(work)
            .map_err(|source| Error::System { operation: "start a thread", source })?;
        if is_parent { &mut self.parents } else { &mut self.threads }.push(thread);
        Ok(())
    }
}

impl Drop for Tries {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        for thread in self.threads.iter().chain(&self.parents) {
            thread.thread().unpark();
        }
        for parent in self.parents.drain(..) {
            // It has only panicked itself.
            let _ = parent.join();
        }
    }
}

fn try_until_met(
    index: usize,
    wait: &Wait,
    deadline: Deadline,
    is_over: &AtomicBool,
    events: &SyncSender<Event>,
) {
    let mut backoff = Backoff::new(FIRST_PAUSE.min(wait.interval), wait.interval);
    while !is_over.load(Ordering::Acquire) {
        let outcome = look(wait, deadline, is_over).is(wait.until);
        let is_met = outcome.is_ok();
        if deadline.expired() && (!is_met || wait.until == Until::Gone) {
            // Cut short: what it did not see may be there all the same, and an earlier try had the better reason.
            return;
        }
        // A send fails only when nobody waits any more.
        if events.send(Event { index, outcome }).is_err() || is_met {
            return;
        }
        // May end early; then there is one try more.
        thread::park_timeout(backoff.next_delay().min(deadline.remaining()));
    }
}

/// One try, which is over by the deadline, or soon after where the kernel takes its time.
fn look(wait: &Wait, deadline: Deadline, is_over: &AtomicBool) -> Seen {
    let by = deadline.within(wait.timeout);
    match &wait.condition {
        Condition::Tcp { host, port } => tcp::look(host, *port, by),
        Condition::Http(check) => http::look(check, wait, by),
        Condition::Dns(name) => dns::look(name, by),
        Condition::File(check) => file::look(check),
        Condition::PortFree(port) => port::look(*port),
        Condition::Command(program) => command::look(program, by, is_over),
    }
}
