//! How many requests are in flight at a time, and those that wait for one of them to end: first come, first served.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A place among the requests in flight; dropping it lets the next one in, on whichever worker it waits.
pub(crate) type Permit = OwnedSemaphorePermit;

#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    /// The most that wait.
    queue: usize,
    waiting: AtomicUsize,
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shut<E> {
    /// As many wait as may.
    Full,
    /// It gave up while it waited.
    GaveUp(E),
}

impl Gate {
    pub(super) fn new(places: NonZeroUsize, queue: usize) -> Self {
        let places = Arc::new(Semaphore::new(places.get().min(Semaphore::MAX_PERMITS)));
        Self { places, queue, waiting: AtomicUsize::new(0) }
    }

    /// A place, if there is one and nobody waits for it.
    pub(crate) fn try_enter(&self) -> Option<Permit> {
        // A freed place goes to whoever waits the longest before it could be seen here.
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for a place. `give_up` is asked each time the task is woken; it has to see to that itself.
    pub(crate) async fn wait<E>(
        &self,
        mut give_up: impl FnMut(&mut Context<'_>) -> Option<E>,
    ) -> Result<Permit, Shut<E>> {
        let _waiter = Waiter::new(self).ok_or(Shut::Full)?;
        let mut turn = pin!(Arc::clone(&self.places).acquire_owned());
        poll_fn(|cx| match turn.as_mut().poll(cx) {
            Poll::Ready(place) => Poll::Ready(Ok(place.expect("a gate is never closed"))),
            Poll::Pending => give_up(cx).map_or(Poll::Pending, |why| Poll::Ready(Err(Shut::GaveUp(why)))),
        })
        .await
    }
}

/// Counts who waits, for as long as it does.
#[derive(Debug)]
struct Waiter<'a>(&'a Gate);

impl<'a> Waiter<'a> {
    fn new(gate: &'a Gate) -> Option<Self> {
        let waiter = Self(gate);
        (gate.waiting.fetch_add(1, Ordering::Relaxed) < gate.queue).then_some(waiter)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::Pin;
    use std::task::Waker;

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Permit, Shut<&'static str>>> + 'a>>;

    fn gate(places: usize, queue: usize) -> Gate {
        Gate::new(NonZeroUsize::new(places).unwrap(), queue)
    }

    fn poll(waiting: &mut Waiting<'_>) -> Poll<Result<Permit, Shut<&'static str>>> {
        waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_waits_the_longest_is_let_in_first_and_nobody_passes_by() {
        let gate = gate(1, 2);
        let first = gate.try_enter().expect("there is a place");
        assert!(gate.try_enter().is_none());
        let mut second: Waiting<'_> = Box::pin(gate.wait(|_| None));
        let mut third: Waiting<'_> = Box::pin(gate.wait(|_| None));
        assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
        drop(first);
        assert!(gate.try_enter().is_none(), "the place is the second's already");
        assert!(poll(&mut third).is_pending());
        let Poll::Ready(Ok(second)) = poll(&mut second) else { panic!("it is its turn") };
        drop(second);
        assert!(matches!(poll(&mut third), Poll::Ready(Ok(_))));
    }

    #[test]
    fn the_queue_is_bounded_and_who_leaves_it_makes_room() {
        let gate = gate(1, 1);
        let place = gate.try_enter();
        let gives_up = Cell::new(None);
        let mut first: Waiting<'_> = Box::pin(gate.wait(|_| gives_up.get()));
        assert!(poll(&mut first).is_pending());
        let mut second: Waiting<'_> = Box::pin(gate.wait(|_| None));
        assert!(matches!(poll(&mut second), Poll::Ready(Err(Shut::Full))));
        gives_up.set(Some("too late"));
        assert!(matches!(poll(&mut first), Poll::Ready(Err(Shut::GaveUp("too late")))));
        drop(first);
        let mut third: Waiting<'_> = Box::pin(gate.wait(|_| None));
        assert!(poll(&mut third).is_pending());
        drop(place);
        assert!(matches!(poll(&mut third), Poll::Ready(Ok(_))));
    }

    #[test]
    fn a_place_that_came_too_late_for_its_waiter_is_not_lost() {
        let gate = gate(1, 1);
        let place = gate.try_enter();
        let mut waiting: Waiting<'_> = Box::pin(gate.wait(|_| None));
        assert!(poll(&mut waiting).is_pending());
        drop(place);
        drop(waiting);
        assert!(gate.try_enter().is_some());
    }

    #[test]
    fn without_a_queue_nobody_waits() {
        let gate = gate(1, 0);
        let _place = gate.try_enter();
        assert!(matches!(
            poll(&mut (Box::pin(gate.wait(|_| None)) as Waiting<'_>)),
            Poll::Ready(Err(Shut::Full))
        ));
    }
}
