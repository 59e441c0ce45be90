//! What all pipelines and the main loop share, and when positions go to disk.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoint, Store};
use crate::delivery::control::Control;
use crate::delivery::dead_letters::DeadLetters;
use crate::files::Catalog;

/// While batches land, this many times as long passes between two saves as a save takes, since each waits for the
/// disk. On a fast one each batch is saved.
const SAVE_PAUSE: u32 = 4;
/// The most time between two saves while batches land: after a crash what was acknowledged since is sent again.
const SAVE_EVERY: Duration = Duration::from_millis(200);

/// What all pipelines and the main loop share.
pub(crate) struct Shared {
    pub(crate) catalog: RefCell<Catalog>,
    pub(crate) control: Rc<Control>,
    pub(crate) dead_letters: DeadLetters,
    store: Rc<Store>,
    saves_failed: prometheus::IntCounter,
    save_is_failing: Cell<bool>,
    saved: Cell<Instant>,
    /// What the last save took.
    save_took: Cell<Duration>,
    /// Positions moved since the last save.
    owes_save: Cell<bool>,
}

impl Shared {
    pub(crate) fn new(
        catalog: Catalog,
        store: Rc<Store>,
        dead_letters: DeadLetters,
        saves_failed: prometheus::IntCounter,
    ) -> Self {
        Self {
            catalog: RefCell::new(catalog),
            control: Rc::new(Control::new()),
            dead_letters,
            store,
            saves_failed,
            save_is_failing: Cell::new(false),
            saved: Cell::new(Instant::now()),
            save_took: Cell::default(),
            owes_save: Cell::new(false),
        }
    }

    /// Where everything stands.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let catalog = self.catalog.borrow();
        self.store.checkpoint(catalog.last_look(), catalog.save())
    }

    /// Saves the keys of files that are new, before anything of them is sent.
    pub(crate) fn save_new(&self) {
        if self.catalog.borrow().needs_save() {
            self.save();
        }
    }

    /// Positions moved: saves them, unless that was done a moment ago.
    pub(super) fn moved(&self) {
        self.owes_save.set(true);
        let is_due = self.saved.get().elapsed() >= self.save_gap();
        // The disk space between two saves is not the app's to spare.
        if is_due || self.catalog.borrow().frees_what_is_saved() {
            self.save();
        }
    }

    /// Saves positions that moved since the last save.
    pub(crate) fn save_moved(&self) {
        if self.owes_save.get() {
            self.save();
        }
    }

    /// When positions that moved are to be saved.
    pub(super) fn save_due(&self) -> Option<Instant> {
        self.owes_save.get().then(|| self.saved.get() + self.save_gap())
    }

    fn save_gap(&self) -> Duration {
        SAVE_EVERY.min(self.save_took.get() * SAVE_PAUSE)
    }

    /// Saves all positions. A failure is told and counted, and delivery goes on: the price is duplicates after a
    /// crash, not losses.
    pub(crate) fn save(&self) {
        self.owes_save.set(false);
        let begun = Instant::now();
        let catalog = self.catalog.borrow();
        let look = catalog.last_look();
        // With many files most do not move from one save to the next.
        let saved = match catalog.moves().map(|moves| self.store.save_moves(look, moves)) {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) | None => self.store.save(look, catalog.save()),
            Some(Err(error)) => Err(error),
        };
        drop(catalog);
        self.saved.set(Instant::now());
        self.save_took.set(begun.elapsed());
        match saved {
            Ok(()) => {
                self.save_is_failing.set(false);
                self.catalog.borrow_mut().saved();
            }
            Err(error) => {
                self.saves_failed.inc();
                if !self.save_is_failing.replace(true) {
                    tracing::warn!(
                        "cannot save the positions: {}; delivering on, a crash now would send lines twice",
                        podkit_cli::chain(&error)
                    );
                }
            }
        }
    }
}
