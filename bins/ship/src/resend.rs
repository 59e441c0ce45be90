//! `podkit-ship resend FILE`: dead letters are sent again, once what they were refused for is mended.
//!
//! The file is taken over by a rename, so that a shipper that runs beside this goes on with a new one. What is refused
//! again goes back into the dead letters; what could not be sent stays in the taken file, for another call.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use podkit_cli::{Exit, Failure};

use crate::config::{BatchLimits, Config, Destination, counted};
use crate::delivery::{
    Control, DeadLetter, DeadLetters, Deliverer, Format as _, Origin, format, open, read_letters,
    take_letters,
};
use crate::error::Error;
use crate::event::Time;
use crate::ledger::Ledger;
use crate::metrics::{DestinationMetrics, Metrics, Reloads};
use crate::reading::{Batch, told_again};

/// Somebody waits before a terminal; a backend that is down for longer is for another call.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a resend ended.
#[derive(Debug, Default)]
struct Outcome {
    delivered: usize,
    refused: usize,
}

/// Sends the letters of a file again.
pub(crate) fn run(config: &Config, argument: OsString) -> Result<Exit, Failure> {
    let file = PathBuf::from(argument);
    let held = take_letters(&file).map_err(|source| Error::Letters { path: file.clone(), source })?;
    let taken = held.path.clone();
    let letters = read_letters(&taken).map_err(|source| Error::Letters { path: taken.clone(), source })?;
    let mut by_destination: BTreeMap<String, Vec<DeadLetter>> = BTreeMap::new();
    for letter in letters {
        by_destination.entry(letter.destination.clone()).or_default().push(letter);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let names = config.destinations.iter().map(|destination| destination.name.clone()).collect();
    let ledger = Arc::new(Ledger::new(names));
    let metrics = Reloads::new().and_then(|reloads| Metrics::new(ledger, &reloads));
    let metrics = metrics.expect("each metric has a valid name of its own");
    let back = DeadLetters::new(&config.state_dir, config.dead_letters);
    let left: RefCell<Vec<DeadLetter>> = RefCell::default();
    let mut total = Outcome::default();
    let mut unknown = Vec::new();
    let mut failed = None;
    for (name, letters) in by_destination {
        let known = config.destinations.iter().position(|destination| destination.name == name);
        let Some(index) = known else {
            unknown.push(name);
            left.borrow_mut().extend(letters);
            continue;
        };
        let resend = Resend {
            destination: &config.destinations[index],
            letters,
            limits: config.batch,
            metrics: Arc::clone(&metrics.destinations[index]),
            back: &back,
            left: &left,
            runtime: &runtime,
        };
        match resend.run() {
            Ok(outcome) => {
                total.delivered += outcome.delivered;
                total.refused += outcome.refused;
            }
            // The letters of other destinations go, and do not come again.
            Err(error) => failed = Some(error),
        }
    }
    let left = left.into_inner();
    finish(&taken, &left)?;
    let summary = format!(
        "{} delivered, {} refused again and kept in {:?}\n",
        counted(total.delivered, "event"),
        total.refused,
        back.path()
    );
    podkit_cli::print(summary)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    match (left.len(), unknown.first()) {
        (0, _) => Ok(Exit::Done),
        (count, Some(name)) => {
            Err(Error::UnknownDestination { count, name: name.clone(), path: taken }.into())
        }
        (count, None) => Err(Error::NotResent { count, path: taken }.into()),
    }
}

/// Keeps what is left, or removes the file.
fn finish(taken: &Path, left: &[DeadLetter]) -> Result<(), Error> {
    let write = |source| Error::Write { path: taken.to_owned(), source };
    if left.is_empty() {
        return std::fs::remove_file(taken).map_err(write);
    }
    let temporary = taken.with_extension("tmp");
    // Of a call that was killed here.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write(error)),
        _ => {}
    }
    DeadLetters::at(&temporary).append(left).map_err(write)?;
    std::fs::rename(&temporary, taken).map_err(write)
}

/// One destination's letters.
struct Resend<'a> {
    destination: &'a Destination,
    letters: Vec<DeadLetter>,
    limits: BatchLimits,
    metrics: Arc<DestinationMetrics>,
    back: &'a DeadLetters,
    left: &'a RefCell<Vec<DeadLetter>>,
    runtime: &'a tokio::runtime::Runtime,
}

impl Resend<'_> {
    fn run(self) -> Result<Outcome, Error> {
        let mut format = format(self.destination);
        let outlet = {
            // The client finds the runtime that it belongs to.
            let _guard = self.runtime.enter();
            open(self.destination, &format)
        };
        let outlet = outlet.inspect_err(|_| self.left.borrow_mut().extend(self.letters.iter().cloned()))?;
        format.read_at(Time::from(SystemTime::now()));
        let mut letters = self.letters.into_iter().peekable();
        let mut batches = Vec::new();
        while letters.peek().is_some() {
            let (mut batch, mut its) = (Batch::default(), Vec::new());
            while batch.items.len() < self.limits.lines
                && batch.chunks.len() < self.limits.size
                && let Some(letter) = letters.next()
            {
                let (event, fields) = told_again(&letter);
                let origin = Origin { file: letter.file.clone(), fields, key: letter.key() };
                let prepared = format.prepare(&origin);
                let group = format.write(&event, &prepared, letter.offset, &mut batch.chunks);
                batch.push(0, letter.offset, 0, group, event.split);
                its.push(letter);
            }
            batches.push((batch, its));
        }
        let deliverer = Deliverer::new(
            self.destination.name.clone(),
            format,
            outlet,
            1,
            self.limits.lines,
            self.metrics,
            Rc::new(Control::new()),
        );
        let mut outcome = Outcome::default();
        let mut is_down = false;
        for (batch, letters) in batches {
            if is_down {
                self.left.borrow_mut().extend(letters);
                continue;
            }
            let delivered = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, deliverer.deliver(&batch)).await });
            let Ok(refused) = delivered else {
                is_down = true;
                self.left.borrow_mut().extend(letters);
                continue;
            };
            outcome.delivered += letters.len() - refused.len();
            outcome.refused += refused.len();
            let mut letters: Vec<Option<DeadLetter>> = letters.into_iter().map(Some).collect();
            let time = Time::from(SystemTime::now()).rfc3339();
            let again = refused.into_iter().filter_map(|refused| {
                let letter = letters.get_mut(refused.item)?.take()?;
                Some(DeadLetter { reason: refused.why.message, time: time.clone(), ..letter })
            });
            let again: Vec<DeadLetter> = again.collect();
            let (kept, why) = match self.back.append(&again) {
                Ok(kept) => (kept, self.back.full()),
                Err(error) => (0, error),
            };
            if kept < again.len() {
                tracing::warn!("cannot keep what is refused again: {}", podkit_cli::chain(&why));
                outcome.refused -= again.len() - kept;
                self.left.borrow_mut().extend_from_slice(&again[kept..]);
            }
        }
        Ok(outcome)
    }
}
