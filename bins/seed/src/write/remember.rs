//! Leaves the state for the next run. No failure here is one of the run: what is lost costs a download, or leaves a file
//! that is no longer listed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::sync::Arc;

use super::Job;
use crate::before::Before;
use crate::config::Layout;
use crate::descent::Descent;
use crate::path::RelPath;
use crate::state::{Download, Key, STATE, STATE_NEXT, Seal, Sealer, State};

/// What the file says, and who writes it.
pub(super) struct Memory<'a> {
    job: &'a Job<'a>,
    /// `None` where what it says is of no use.
    written: Option<State>,
}

impl<'a> Memory<'a> {
    pub(super) fn of(job: &'a Job<'a>) -> Self {
        Self { job, written: (!job.before.is_state_lost).then(|| job.before.state.clone()) }
    }

    /// Tells of all files that are in their places or soon will be: before the first rename of the plain layout.
    pub(super) fn announce(&mut self) {
        let plan = self.job.plan;
        let mut state = self.job.before.state.clone();
        for path in &plan.stage {
            // What is not there yet has no seal; one that never holds takes its place.
            state.files.entry(Key(path.clone())).or_insert_with(|| Sealer::default().seal());
        }
        state.directories.extend(plan.directories.iter().cloned().map(Key));
        self.save(state);
    }

    /// Tells of what is in force now.
    pub(super) fn finish(&mut self) {
        match now(self.job) {
            Ok(state) => self.save(state),
            Err(error) => self.warn(&*error),
        }
    }

    /// Writes the state, unless it is the one that is there.
    fn save(&mut self, state: State) {
        if self.written.as_ref() == Some(&state) {
            return;
        }
        let saved = if state == State::default() {
            self.job.target.dir.unlink(OsStr::new(STATE))
        } else {
            write(self.job, &state.bytes())
        };
        match saved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.warn(&error),
            _ => self.written = Some(state),
        }
    }

    fn warn(&self, error: &(dyn std::error::Error + 'static)) {
        let path = self.job.target.show(STATE);
        let error = podkit_cli::chain(error);
        tracing::warn!(?path, error, "cannot leave a note for the next run; going on without");
    }
}

/// The state that goes with what is in force now.
fn now(job: &Job<'_>) -> Result<State, Box<dyn std::error::Error>> {
    let held = job.wanted.iter().filter(|(_, content)| content.holds_secret);
    let mut state = State { secret: held.map(|(path, _)| Key(path.clone())).collect(), ..State::default() };
    if job.layout == Layout::Plain {
        state.files = seals(job)?;
        state.directories = job.plan.directories.iter().cloned().map(Key).collect();
    }
    let of_files = job.wanted.iter().filter_map(|(path, content)| {
        content.validators.clone().map(|validators| (path.clone(), Some(validators), None))
    });
    let of_archives = job.notes.all().into_iter().map(|(path, note)| (path, note.validators, Some(note.sum)));
    let known: Vec<_> = of_files.chain(of_archives).collect();
    if known.is_empty() {
        return Ok(state);
    }
    let in_force = match job.layout {
        Layout::Links => job.target.generation()?.map_or_else(Before::default, Before::of_generation),
        Layout::Plain => Before::of_plain(Arc::clone(&job.target.dir), state.clone()),
    };
    for (path, validators, sum) in known {
        // An archive without a file has nothing to seal, and is unpacked again.
        if let Some(seal) = in_force.seal(&path)? {
            state.downloads.insert(Key(path), Download { seal, validators, sum });
        }
    }
    Ok(state)
}

fn seals(job: &Job<'_>) -> io::Result<BTreeMap<Key, Seal>> {
    let mut descent = Descent::new(&job.target.dir);
    let mut seal = |path: &RelPath| {
        let mut sealer = Sealer::default();
        sealer.add_stat(path, &descent.above(path)?.stat(path.last())?);
        Ok((Key(path.clone()), sealer.seal()))
    };
    job.wanted.keys().map(&mut seal).collect()
}

fn write(job: &Job<'_>, bytes: &[u8]) -> io::Result<()> {
    let dir = &job.target.dir;
    let next = OsStr::new(STATE_NEXT);
    let mut file = dir.make_file(next)?;
    let written = file.write_all(bytes).and_then(|()| if job.durable { file.sync_all() } else { Ok(()) });
    if let Err(error) = written.and_then(|()| dir.rename(next, OsStr::new(STATE))) {
        let _ = dir.unlink(next);
        return Err(error);
    }
    if job.durable { dir.sync() } else { Ok(()) }
}
