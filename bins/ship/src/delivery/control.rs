//! What the main loop tells the pipelines, and hears from them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// One for all pipelines.
pub(crate) struct Control {
    /// The files have changed, or the rules have.
    news: watch::Sender<()>,
    /// Something was acknowledged.
    progress: watch::Sender<()>,
    /// A reader saw that a file is not what it was.
    replaced: Notify,
    /// The end: no waiting for a batch to fill, and partial lines are lines.
    finishing: Cell<bool>,
    /// The end has begun, or somebody waits for a flush: who waits to try again tries now.
    hurry_began: Notify,
    /// Nothing more is read under this config.
    resting: watch::Sender<bool>,
    /// What is not delivered by now is not in this process.
    closing: watch::Sender<bool>,
    /// What each has in all who waits with a deadline, a flush or the end: no waiting for a batch to fill.
    budgets: RefCell<Vec<Duration>>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            news: watch::Sender::new(()),
            progress: watch::Sender::new(()),
            replaced: Notify::new(),
            finishing: Cell::new(false),
            hurry_began: Notify::new(),
            resting: watch::Sender::new(false),
            closing: watch::Sender::new(false),
            budgets: RefCell::default(),
        }
    }

    /// Tells the pipelines to look at the catalog again.
    pub(crate) fn tell(&self) {
        self.news.send_replace(());
    }

    /// Hears of each [`tell`](Self::tell) from now on.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Begins the end.
    pub(crate) fn finish(&self) {
        self.finishing.set(true);
        self.hurry_began.notify_waiters();
        self.tell();
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.get()
    }

    /// Returns when the end begins, or a flush, and at once where that has been.
    pub(crate) async fn hurried(&self) {
        while !self.is_hurried() {
            self.hurry_began.notified().await;
        }
    }

    /// Ends the pipelines when what is on its way is acknowledged.
    pub(crate) fn rest(&self) {
        self.resting.send_replace(true);
    }

    pub(crate) fn is_resting(&self) -> bool {
        *self.resting.borrow()
    }

    /// Returns when the pipelines are to end.
    pub(crate) async fn resting(&self) {
        // The sender is in `self`, so the channel is never closed while this waits.
        let _ = self.resting.subscribe().wait_for(|resting| *resting).await;
    }

    /// Nothing more is delivered.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Returns when nothing more is delivered.
    pub(crate) async fn closing(&self) {
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Sends what there is without waiting for more, and what was refused soon again, for as long as the guard lives.
    /// Somebody waits for it, who has `budget` in all.
    pub(crate) fn hurry(self: &Rc<Self>, budget: Duration) -> Hurry {
        self.budgets.borrow_mut().push(budget);
        self.hurry_began.notify_waiters();
        self.tell();
        Hurry { control: Rc::clone(self), budget }
    }

    /// The budget of whoever waits and has the least; `None` where nobody waits.
    pub(crate) fn least_budget(&self) -> Option<Duration> {
        self.budgets.borrow().iter().min().copied()
    }

    /// Whether there is no time to wait for batches to fill.
    pub(crate) fn is_hurried(&self) -> bool {
        self.finishing.get() || self.least_budget().is_some()
    }

    /// Something was acknowledged.
    pub(crate) fn progressed(&self) {
        self.progress.send_replace(());
    }

    /// Hears of each acknowledgement from now on.
    pub(crate) fn progress(&self) -> watch::Receiver<()> {
        self.progress.subscribe()
    }

    /// A reader saw that a file is not what it was.
    pub(crate) fn suspect(&self) {
        self.replaced.notify_one();
    }

    /// Returns when a reader has seen that a file is not what it was.
    pub(crate) async fn replaced(&self) {
        self.replaced.notified().await;
    }
}

/// Keeps the pipelines from waiting for batches to fill.
pub(crate) struct Hurry {
    control: Rc<Control>,
    budget: Duration,
}

impl Drop for Hurry {
    fn drop(&mut self) {
        let mut budgets = self.control.budgets.borrow_mut();
        let own = budgets.iter().position(|budget| *budget == self.budget);
        own.map(|own| budgets.swap_remove(own));
    }
}
