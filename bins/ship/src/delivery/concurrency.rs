//! How many requests may be on their way at once: found by trying. Pure.
//!
//! Additive increase while the backend keeps its pace, multiplicative decrease when it cannot (AIMD, as in TCP's
//! congestion control and Vector's adaptive request concurrency).

use std::time::Duration;

/// An answer this much slower than usual means that requests queue at the backend.
const TOO_SLOW: f64 = 1.5;
/// Below this, answers differ for other reasons than load.
const NOISE: Duration = Duration::from_millis(20);
/// The weight of the last answer in the usual pace.
const WEIGHT: f64 = 0.1;

/// The limit of one destination.
#[derive(Debug)]
pub(crate) struct Concurrency {
    limit: f64,
    most: usize,
    /// Seconds that an answer usually takes.
    usual: Option<f64>,
}

impl Concurrency {
    /// Starts at one request.
    pub(crate) fn new(most: usize) -> Self {
        Self { limit: 1.0, most: most.max(1), usual: None }
    }

    /// The number of requests that may be on their way.
    pub(crate) fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and `most`")]
        let whole = self.limit as usize;
        whole
    }

    /// How long an answer usually takes; zero before the first.
    pub(crate) fn usual_latency(&self) -> Duration {
        Duration::try_from_secs_f64(self.usual.unwrap_or_default()).unwrap_or(Duration::MAX)
    }

    /// A request was taken. `in_flight` is the number that was on its way with it: a limit that is not used is no
    /// reason for a higher one.
    pub(crate) fn taken(&mut self, latency: Duration, in_flight: usize) {
        let seconds = latency.as_secs_f64();
        let usual = *self.usual.get_or_insert(seconds);
        self.usual = Some(usual + WEIGHT * (seconds - usual));
        if seconds > usual.max(NOISE.as_secs_f64()) * TOO_SLOW {
            self.limit = (self.limit - 1.0).max(1.0);
        } else if in_flight >= self.limit() {
            // One more for each round of answers.
            self.limit = (self.limit + 1.0 / self.limit).min(self.most_limit());
        }
    }

    /// The backend is overloaded, down, or does not answer.
    pub(crate) fn overloaded(&mut self) {
        self.limit = (self.limit / 2.0).max(1.0);
    }

    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    fn most_limit(&self) -> f64 {
        self.most as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_millis(50);

    fn grown() -> Concurrency {
        let mut concurrency = Concurrency::new(4);
        assert_eq!(concurrency.limit(), 1);
        for _ in 0..50 {
            concurrency.taken(PACE, concurrency.limit());
        }
        concurrency
    }

    #[test]
    fn it_grows_to_the_most_while_the_pace_holds() {
        assert_eq!(grown().limit(), 4);
    }

    #[test]
    fn what_is_not_used_does_not_grow() {
        let mut concurrency = Concurrency::new(4);
        for _ in 0..50 {
            concurrency.taken(PACE, 0);
        }
        assert_eq!(concurrency.limit(), 1);
    }

    #[test]
    fn an_overload_halves_it_and_slow_answers_take_one() {
        let mut concurrency = grown();
        concurrency.taken(PACE * 3, 4);
        assert_eq!(concurrency.limit(), 3);
        concurrency.overloaded();
        assert_eq!(concurrency.limit(), 1);
        concurrency.overloaded();
        assert_eq!(concurrency.limit(), 1);
    }

    #[test]
    fn small_answers_that_differ_are_noise() {
        let mut concurrency = Concurrency::new(4);
        for millis in [1, 9, 2, 15, 1, 20, 3, 12, 1, 9, 9, 9] {
            concurrency.taken(Duration::from_millis(millis), concurrency.limit());
        }
        assert!(concurrency.limit() > 2);
    }
}
