//! A moment by which something must have ended, handed down to every wait below it.

use std::time::{Duration, Instant};

/// A moment in monotonic time; waits take what is [`remaining`](Deadline::remaining).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment `budget` from now.
    #[must_use]
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    /// The time left; zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn expired(self) -> bool {
        self.remaining().is_zero()
    }

    /// The moment itself.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }

    /// This deadline or the moment `budget` from now, whichever is sooner.
    #[must_use]
    pub fn within(self, budget: Duration) -> Self {
        self.min(Self::after(budget))
    }

    /// A deadline sooner by `margin`.
    #[must_use]
    pub fn less(self, margin: Duration) -> Self {
        Self(self.0.checked_sub(margin).unwrap_or(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_below_never_outlasts_the_deadline_above() {
        let above = Deadline::after(Duration::from_secs(1));
        assert_eq!(above.within(Duration::from_secs(9)), above);
        assert!(above.within(Duration::ZERO).expired());
        assert!(above.less(Duration::from_secs(2)).expired());
        assert!(!above.expired() && above.remaining() <= Duration::from_secs(1));
    }
}
