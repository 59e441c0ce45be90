//! The end in order: the app is waited for, what the files hold is delivered, flushes are answered, the books closed.

use std::io::Write as _;
use std::time::{Duration, Instant};

use podkit_cli::{Exit, Failure, units};
use podkit_lifecycle::Deadline;
use serde_json::json;
use tokio::sync::mpsc;

use super::{Session, crash};
use crate::config::counted;
use crate::error::Error;
use crate::instance::FlushRequest;

/// At the end, how long after the last news the files are looked at again.
const LAST_LOOK: Duration = Duration::from_millis(50);

impl Session {
    /// Reads to the end and delivers, within the deadline.
    pub(crate) async fn end(&mut self, requests: &mut mpsc::Receiver<FlushRequest>) -> Result<Exit, Failure> {
        let deadline = Deadline::after(self.config.shutdown.deadline);
        let _hurry = self.shared.control.hurry(self.config.shutdown.deadline);
        self.until_left_alone(requests).await;
        self.shared.control.finish();
        let delivered =
            tokio::time::timeout_at(deadline.instant().into(), self.until_delivered(requests)).await;
        self.answer_flushes(requests).await;
        match delivered {
            // The last acknowledgement may have come with the deadline.
            Err(_) if self.ledger.pending() > 0 => {
                // Beside what is pending, files that could not be read are the lesser fault.
                let _ = self.close();
                Err(self.undelivered())
            }
            _ => self.close(),
        }
    }

    /// Goes on following until the app has ended, as far as its files tell: a plain sidecar's SIGTERM comes with the
    /// app's. Lines that have no end yet are still left alone.
    async fn until_left_alone(&mut self, requests: &mut mpsc::Receiver<FlushRequest>) {
        let quiet = self.config.shutdown.quiet;
        if quiet.is_zero() {
            return;
        }
        let (begun, longest) = (Instant::now(), self.config.shutdown.for_following());
        loop {
            self.process.heartbeat.beat();
            self.shared.catalog.borrow_mut().scan();
            self.shared.save_new();
            self.shared.control.tell();
            let written = self.shared.catalog.borrow().written(quiet).cloned();
            match written {
                None if begun.elapsed() >= quiet.min(longest) => return,
                Some(path) if begun.elapsed() >= longest => {
                    tracing::warn!("{path:?} is still written to: what comes from now on may be lost");
                    return;
                }
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LAST_LOOK) => {}
                Some(ended) = self.pipelines.join_next() => crash(ended),
                Some(request) = requests.recv() => self.flush(request),
            }
        }
    }

    /// Returns when all that the files hold is acknowledged, and a last look has found nothing more.
    pub(super) async fn until_delivered(&mut self, requests: &mut mpsc::Receiver<FlushRequest>) {
        let mut progress = self.shared.control.progress();
        let mut look = Instant::now();
        loop {
            self.process.heartbeat.beat();
            progress.mark_unchanged();
            // Acknowledgements may come faster than files change.
            if look <= Instant::now() || self.ledger.pending() == 0 {
                self.shared.catalog.borrow_mut().scan();
                self.shared.save_new();
                if self.ledger.pending() == 0 {
                    return;
                }
                self.shared.control.tell();
                look = Instant::now() + LAST_LOOK;
            }
            tokio::select! {
                _ = progress.changed() => {}
                () = tokio::time::sleep_until(look.into()) => {}
                Some(ended) = self.pipelines.join_next() => crash(ended),
                Some(request) = requests.recv() => self.flush(request),
            }
        }
    }

    /// The end is there: tells all who wait for a flush how far it came, and takes no more.
    pub(super) async fn answer_flushes(&mut self, requests: &mut mpsc::Receiver<FlushRequest>) {
        requests.close();
        while let Ok(request) = requests.try_recv() {
            self.flush(request);
        }
        self.shared.control.close();
        while self.flushes.join_next().await.is_some() {}
    }

    /// Saves the positions and closes the books. What could not be read is in no account, and so must be told.
    pub(super) fn close(&self) -> Result<Exit, Failure> {
        self.shared.save();
        // In one write: a container's runtime may keep each one as a piece of a line. Where nobody reads stderr any more
        // there is nobody to tell.
        let line = format!("{}\n", json!({"ledger": self.ledger.json()}));
        let _ = std::io::stderr().write_all(line.as_bytes());
        let catalog = self.shared.catalog.borrow();
        let mut unreadable = catalog.unreadable();
        let files = counted(unreadable.len(), "file");
        match unreadable.next() {
            Some(example) => Err(Error::Unread { files, example: example.clone() }.into()),
            None => Ok(Exit::Done),
        }
    }

    fn undelivered(&self) -> Failure {
        let files = self.shared.catalog.borrow().pending_files();
        let trouble = self.metrics.destinations.iter().find_map(|destination| destination.trouble());
        let error = Error::Undelivered {
            pending: self.ledger.pending(),
            files: counted(files, "file"),
            deadline: units::show_duration(self.config.shutdown.deadline),
            last: trouble.unwrap_or_else(|| {
                "no request failed; the files still grow, or the answers are slow".to_owned()
            }),
        };
        error.into()
    }
}
