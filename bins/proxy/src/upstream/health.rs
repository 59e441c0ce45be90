//! Whether an endpoint is taken for healthy, from the checks' outcomes. Pure: never checks anything itself.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::Health;

/// What the checks say of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was not checked yet.
    Unknown,
    Healthy,
    Unhealthy,
}

/// A verdict that other threads read.
#[derive(Debug, Default)]
pub(super) struct SharedVerdict(AtomicU8);

impl SharedVerdict {
    pub(super) fn get(&self) -> Verdict {
        match self.0.load(Ordering::Relaxed) {
            0 => Verdict::Unknown,
            1 => Verdict::Healthy,
            _ => Verdict::Unhealthy,
        }
    }

    pub(super) fn set(&self, verdict: Verdict) {
        let number = match verdict {
            Verdict::Unknown => 0,
            Verdict::Healthy => 1,
            Verdict::Unhealthy => 2,
        };
        self.0.store(number, Ordering::Relaxed);
    }
}

/// Checks in a row that said something else than the verdict.
#[derive(Debug, Default)]
pub(super) struct Hysteresis(u32);

impl Hysteresis {
    /// Takes in a check, and gives the verdict if it changes. The first check decides at once: an app that has just
    /// started is ready with its first answer.
    pub(super) fn take(&mut self, now: Verdict, good: bool, rules: &Health) -> Option<Verdict> {
        let (needed, next) = match (now, good) {
            (Verdict::Unknown, true) => (1, Verdict::Healthy),
            (Verdict::Unknown, false) => (1, Verdict::Unhealthy),
            (Verdict::Healthy, false) => (rules.unhealthy.get(), Verdict::Unhealthy),
            (Verdict::Unhealthy, true) => (rules.healthy.get(), Verdict::Healthy),
            (Verdict::Healthy, true) | (Verdict::Unhealthy, false) => {
                self.0 = 0;
                return None;
            }
        };
        self.0 += 1;
        if self.0 < needed {
            return None;
        }
        self.0 = 0;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;

    fn verdicts(checks: &str) -> Vec<Verdict> {
        let number = |count| NonZeroU32::new(count).unwrap();
        let second = Duration::from_secs(1);
        let rules = Health {
            path: None,
            interval: second,
            timeout: second,
            healthy: number(2),
            unhealthy: number(3),
        };
        let (shared, mut hysteresis) = (SharedVerdict::default(), Hysteresis::default());
        let take = |check| {
            if let Some(verdict) = hysteresis.take(shared.get(), check == '+', &rules) {
                shared.set(verdict);
            }
            shared.get()
        };
        checks.chars().map(take).collect()
    }

    #[test]
    fn the_first_check_decides_and_later_ones_only_in_a_row() {
        use Verdict::{Healthy as H, Unhealthy as U};
        assert_eq!(verdicts("+--+---"), [H, H, H, H, H, H, U]);
        assert_eq!(verdicts("-+-+++-"), [U, U, U, U, H, H, H]);
    }
}
