//! Brings files and directories to the disk while others are still written.
//!
//! Each is waited for by fsync, on a few threads: what waits at the same moment shares one commit of the file system's
//! journal, which is what an fsync costs. `syncfs` would take one call, and would wait for all that the node's other
//! pods have written.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder, Scope};

use super::Job;
use crate::dir::Dir;
use crate::error::Error;

/// More do not make it faster, on SSDs and on network disks.
const THREADS: usize = 8;
/// What waits for a thread; each holds a descriptor.
const QUEUE: usize = 64;

/// Takes what is to be on the disk.
pub(super) struct Syncer<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    shared: &'env Shared<'env>,
    queue: Option<SyncSender<Task>>,
    threads: usize,
}

/// A file or a directory, with its path for messages.
type Task = (PathBuf, Arc<File>);

/// What the threads have in common.
struct Shared<'a> {
    job: &'a Job<'a>,
    tasks: Mutex<Receiver<Task>>,
    failed: Mutex<Option<Error>>,
}

/// Does `work`; ends when all that it gave to the [`Syncer`] is on the disk. Where that is not wanted, nothing is
/// waited for.
///
/// # Errors
/// The first thing that could not be brought to the disk, or what `work` says.
pub(super) fn with<T>(
    job: &Job<'_>,
    work: impl for<'scope, 'env> FnOnce(&mut Syncer<'scope, 'env>) -> Result<T, Error>,
) -> Result<T, Error> {
    let (queue, tasks) = mpsc::sync_channel(QUEUE);
    let shared = Shared { job, tasks: Mutex::new(tasks), failed: Mutex::new(None) };
    let done = thread::scope(|scope| {
        let queue = job.durable.then_some(queue);
        work(&mut Syncer { scope, shared: &shared, queue, threads: 0 })
    });
    match shared.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => done,
    }
}

impl Syncer<'_, '_> {
    /// Waits for a file, not here.
    ///
    /// # Errors
    /// Something given before could not be brought to the disk, or a signal or the deadline came.
    pub(super) fn file(&mut self, path: PathBuf, file: Arc<File>) -> Result<(), Error> {
        let Some(queue) = &self.queue else { return Ok(()) };
        self.shared.job.limits.check(|| format!("before {path:?} was on the disk"))?;
        if let Some(error) = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        if self.threads < THREADS {
            let shared = self.shared;
            let started = Builder::new().name("fsync".to_owned()).spawn_scoped(self.scope, || shared.work());
            self.threads += usize::from(started.is_ok());
        }
        if self.threads == 0 {
            // No thread is to be had: it is done here.
            return self.shared.job.step("sync", path, file.sync_all());
        }
        // The receiver lives as long as the scope.
        let _ = queue.send((path, file));
        Ok(())
    }

    /// Waits for the entries of a directory, not here.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub(super) fn directory(&mut self, path: PathBuf, dir: io::Result<&Dir>) -> Result<(), Error> {
        if self.queue.is_none() {
            return Ok(());
        }
        let opened = dir.and_then(Dir::duplicate);
        let opened = self.shared.job.step("sync", &path, opened)?;
        self.file(path, Arc::new(File::from(opened)))
    }
}

impl Shared<'_> {
    /// What a thread does: until the queue is closed and empty.
    fn work(&self) {
        loop {
            let next = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((path, file)) = next else { return };
            if let Err(error) = self.job.step("sync", path, file.sync_all()) {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    }
}
