//! Tells the app of a new generation: by a signal, or by HTTP. On a thread of its own, so that an app that does not
//! answer holds up neither the next pass nor the end. Reads no input and writes nothing.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use podkit_cli::chain;
use podkit_https::{Access, Client, Timeouts};
use podkit_lifecycle::{Backoff, Deadline, Process};

use crate::config::{self, Notify};
use crate::error::Error;
use crate::instance::Seeder;
use crate::net;

/// After so many tries nobody is there to tell: the app may have ended, and reads the new files when it starts.
const TRIES: usize = 5;
/// An app that is about to write its pid file or open its port does so within seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// For one answer; a reload may take an app a while.
const ANSWER: Duration = Duration::from_secs(10);

/// Whom to tell, since the thread last looked.
type Job = Arc<Mutex<Vec<Notify>>>;

/// The thread that tells.
#[derive(Debug)]
pub(crate) struct Teller {
    job: Job,
    wake: SyncSender<()>,
}

impl Teller {
    pub(crate) fn start(state: Arc<Seeder>) -> Result<Self, Error> {
        let (wake, wakes) = mpsc::sync_channel(1);
        let job = Job::default();
        let taken = Arc::clone(&job);
        let work = move || work(&wakes, &taken, &state);
        thread::Builder::new()
            .name("notify".to_owned())
            .spawn(work)
            .map_err(|source| Error::System { operation: "start a thread", source })?;
        Ok(Self { job, wake })
    }

    /// Tells them; what is still being told of an older change is told of this one.
    pub(crate) fn tell(&self, whom: &[Notify]) {
        if !whom.is_empty() {
            *self.job.lock().unwrap_or_else(PoisonError::into_inner) = whom.to_vec();
            // A channel that is full wakes the thread anyway.
            let _ = self.wake.try_send(());
        }
    }
}

fn work(wakes: &Receiver<()>, job: &Job, state: &Seeder) {
    let take = || std::mem::take(&mut *job.lock().unwrap_or_else(PoisonError::into_inner));
    while wakes.recv().is_ok() {
        let mut left = take();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut tries = 0;
        loop {
            tries += 1;
            left.retain(|notify| !try_to_tell(notify, tries, state));
            if left.is_empty() || tries == TRIES {
                break;
            }
            match wakes.recv_timeout(backoff.next_delay()) {
                Ok(()) => {
                    left = take();
                    backoff.reset();
                    tries = 0;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Whether it is told.
fn try_to_tell(notify: &Notify, tries: usize, state: &Seeder) -> bool {
    match tell(notify) {
        Ok(()) => {
            tracing::info!(how = %notify, "told the app");
            state.metrics.delivered.inc();
            true
        }
        Err(Untold { why, hint }) => {
            state.metrics.undelivered.inc();
            let tries = format!("{tries} of {TRIES}");
            tracing::warn!(how = %notify, error = why, hint, tries, "cannot tell the app");
            false
        }
    }
}

/// Why somebody was not told.
struct Untold {
    why: String,
    hint: Option<&'static str>,
}

impl From<String> for Untold {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}

impl From<io::Error> for Untold {
    fn from(error: io::Error) -> Self {
        let hint = match error.kind() {
            _ if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                Some("run podkit-seed as the app's user, or give it the capability KILL")
            }
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Some(SHARE),
            _ => None,
        };
        Self { why: chain(&error), hint }
    }
}

const SHARE: &str =
    "another container's processes are seen with `shareProcessNamespace: true` in the pod's spec";

fn tell(notify: &Notify) -> Result<(), Untold> {
    match notify {
        Notify::Signal { signal, process, .. } => {
            let processes = match process {
                config::Process::Name(name) => Process::named(name)?,
                config::Process::PidFile(path) => vec![Process::in_pid_file(path)?],
            };
            if processes.is_empty() {
                return Err(Untold { why: "there is no such process".to_owned(), hint: Some(SHARE) });
            }
            // All of them get it, whoever refuses.
            let results: Vec<_> = processes.iter().map(|process| process.signal(*signal)).collect();
            results.into_iter().collect::<io::Result<()>>().map_err(Untold::from)
        }
        Notify::Http { method, url } => {
            let timeouts = Timeouts { connect: ANSWER, request: Some(ANSWER) };
            let client = Client::open(Access::default(), net::USER_AGENT, timeouts);
            let client = client.map_err(|error| chain(&error))?;
            // Within the runtime: the request sets its timers when it is made.
            let request = async { client.request(method.clone(), url.clone()).send().await };
            let answer = net::run_until(Deadline::after(ANSWER), request)?;
            // Without its URL, which may hold a secret; the log line names it masked.
            let answer = answer.map_err(|error| chain(&error.without_url()))?;
            if answer.status().is_success() {
                Ok(())
            } else {
                Err(format!("the answer was {}", answer.status()).into())
            }
        }
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal { name, process: config::Process::Name(process), .. } => {
                write!(f, "{name} to {process}")
            }
            Self::Signal { name, process: config::Process::PidFile(path), .. } => {
                write!(f, "{name} to the process in {path:?}")
            }
            Self::Http { method, url } => write!(f, "{method} {}", podkit_cli::mask_url(url.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_be_told_is_told_of_with_what_to_mend() {
        let hint = |error: io::Error| Untold::from(error).hint.unwrap_or_default();
        assert!(hint(Errno::EPERM.into()).contains("the app's user"));
        assert!(hint(Errno::ENOENT.into()).contains("shareProcessNamespace: true"));
        assert_eq!(hint(Errno::EIO.into()), "");
        // An unreadable pid file is no matter of signals.
        assert_eq!(hint(Errno::EACCES.into()), "");
    }
}
