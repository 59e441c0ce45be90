//! The waits between retries: exponential with full jitter, so that many pods do not retry in step.

use std::time::Duration;

/// Waits drawn evenly from zero to a ceiling that doubles with each try, up to a cap. ("Full jitter" of Marc
/// Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    /// The first wait is at most `base`, no wait is longer than `cap`.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, tries: 0 }
    }

    /// The next wait.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.base.saturating_mul(2_u32.saturating_pow(self.tries)).min(self.cap);
        self.tries = self.tries.saturating_add(1);
        ceiling.mul_f64(fastrand::f64())
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_stay_below_a_doubling_ceiling(base in 1_u64..1_000, cap in 1_u64..60_000, tries in 1_u32..80) {
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(cap));
            let mut backoff = Backoff::new(base, cap);
            for n in 0..tries {
                let ceiling = base.saturating_mul(2_u32.saturating_pow(n)).min(cap);
                prop_assert!(backoff.next_delay() <= ceiling);
            }
            backoff.reset();
            prop_assert!(backoff.next_delay() <= base);
        }
    }
}
