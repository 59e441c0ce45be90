//! One pass: from the config and its inputs to the target, whole or not at all.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::before::Before;
use crate::config::Config;
use crate::content::Spooler;
use crate::desired::{self, Workshop};
use crate::error::Error;
use crate::generation::DATA;
use crate::inputs::Inputs;
use crate::limits::Limits;
use crate::path::RelPath;
use crate::plan::Change;
use crate::target::{self, Target};
use crate::{wait, write};

/// With more files than these, only those that changed are told one by one.
const TOLD_ONE_BY_ONE: usize = 100;

/// What a pass has done.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Every file that is wanted or was there, with its size.
    pub(crate) files: BTreeMap<RelPath, (Change, u64)>,
    /// The generation in force, in a layout that has them.
    pub(crate) generation: Option<String>,
    took: Duration,
}

/// Waits for all conditions, once it is known that the target can be used.
///
/// # Errors
/// What is missing at the deadline, or a target that cannot be used.
pub(crate) fn wait(config: &Config, limits: &Arc<Limits>) -> Result<(), Error> {
    let begun = Instant::now();
    if let Some(path) = &config.target {
        target::check(path)?;
    }
    wait::all(config, limits)?;
    if config.target.is_none() {
        tracing::info!(seconds = seconds(begun.elapsed()), "all conditions are met");
    }
    Ok(())
}

/// Brings the target to what the config says. What was read is noted in `inputs`, also where the pass fails.
///
/// # Errors
/// Whatever it is, the files that were in force before still are.
pub(crate) fn pass(
    config: &Config,
    target: &Path,
    limits: &Limits,
    inputs: &Inputs,
) -> Result<Outcome, Error> {
    let begun = Instant::now();
    // A large file is an open one until it has a name. Where the limit stays, so does what it allows.
    let _ = podkit_lifecycle::raise_file_limit();
    let target = Target::open(target, limits)?;
    let before = Before::look(&target)?;
    let spooler = Spooler::onto(Arc::clone(&target.dir), target.path());
    let workshop = Workshop::new(config, &before, spooler, limits, inputs);
    let wanted = desired::build(&workshop)?;
    let plan = target.plan(&wanted, &before, config.layout)?;
    write::apply(&write::Job {
        target: &target,
        before: &before,
        wanted: &wanted,
        notes: &workshop.notes,
        plan: &plan,
        layout: config.layout,
        durable: config.durable,
        limits,
    })?;
    let generation = target.dir.link(OsStr::new(DATA)).ok().map(|to| to.display().to_string());
    Ok(Outcome { files: plan.files, generation, took: begun.elapsed() })
}

impl Outcome {
    /// How many files had a change of this kind.
    pub(crate) fn count(&self, change: Change) -> usize {
        self.files.values().filter(|(other, _)| *other == change).count()
    }

    /// Whether the app sees anything else than before.
    pub(crate) fn has_changes(&self) -> bool {
        self.count(Change::Unchanged) < self.files.len()
    }

    /// Whether there were files of ours before this pass.
    pub(crate) fn had_files(&self) -> bool {
        self.count(Change::Created) < self.files.len()
    }

    /// The size of all files that are there now.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().filter(|(change, _)| *change != Change::Removed).map(|(_, size)| size).sum()
    }

    /// One line a file, then the totals. A pass of many, where most find nothing new, tells less.
    pub(crate) fn report(&self, is_first: bool) {
        let tells_all = is_first && self.files.len() <= TOLD_ONE_BY_ONE;
        for (path, (change, size)) in &self.files {
            if *change == Change::Unchanged && !tells_all {
                tracing::debug!(%path, size, "{}", change.as_str());
            } else {
                tracing::info!(%path, size, "{}", change.as_str());
            }
        }
        macro_rules! totals {
            ($level:ident, $what:literal) => {
                tracing::$level!(
                    created = self.count(Change::Created),
                    changed = self.count(Change::Changed),
                    unchanged = self.count(Change::Unchanged),
                    removed = self.count(Change::Removed),
                    bytes = self.bytes(),
                    seconds = seconds(self.took),
                    $what
                )
            };
        }
        match (self.has_changes(), is_first) {
            (true, _) => totals!(info, "seeded"),
            (false, true) => totals!(info, "unchanged"),
            (false, false) => totals!(debug, "unchanged"),
        }
    }

    /// How long it took.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }
}

/// In seconds, to the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}
