//! How long an endpoint's answers take: a peak-sensitive moving average, shared by threads in one atomic.
//!
//! As in Finagle and linkerd ("Peak EWMA"): a slower answer counts at once and in full, quicker ones only by and by,
//! so that an endpoint in trouble is left before it is too late, and tried again carefully.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Stamp;

/// How long a peak is remembered: after so much time a third of it is left. linkerd's default.
const DECAY: Duration = Duration::from_secs(10);

/// What a failure counts as. An endpoint that fails at once must not look like the quickest of all.
pub(super) const FAILURE: Duration = Duration::from_secs(1);

/// A moving average of times. A lost update between two threads costs one sample.
#[derive(Debug, Default)]
pub(super) struct Latency(AtomicU64);

/// The average in microseconds, and the low bits of the moment it was taken, packed into one word.
#[derive(Debug, Clone, Copy)]
struct Sample {
    micros: f32,
    at: u32,
}

impl Sample {
    fn unpack(word: u64) -> Self {
        Self { micros: f32::from_bits((word >> 32) as u32), at: word as u32 }
    }

    fn pack(self) -> u64 {
        u64::from(self.micros.to_bits()) << 32 | u64::from(self.at)
    }

    /// The share of the average that is left at `now`.
    fn weight(self, now: u32) -> f32 {
        // Wraps after 49 days. Another thread may have written a later moment.
        let age = now.wrapping_sub(self.at).cast_signed().max(0);
        (-(age as f32) / DECAY.as_millis() as f32).exp()
    }
}

impl Latency {
    /// Takes in how long an answer took.
    pub(super) fn observe(&self, took: Duration, now: Stamp) {
        let now = now.0 as u32;
        let micros = took.as_secs_f32() * 1e6;
        let old = Sample::unpack(self.0.load(Ordering::Relaxed));
        if micros <= old.micros && now == old.at {
            // Of a moment in which many answers come, the slowest and the first stand for all.
            return;
        }
        let micros = if micros > old.micros {
            micros
        } else {
            let weight = old.weight(now);
            old.micros * weight + micros * (1.0 - weight)
        };
        self.0.store(Sample { micros, at: now }.pack(), Ordering::Relaxed);
    }

    /// The average now, in microseconds. It falls with time, so that a slow endpoint is asked again one day.
    pub(super) fn micros(&self, now: Stamp) -> f32 {
        let sample = Sample::unpack(self.0.load(Ordering::Relaxed));
        sample.micros * sample.weight(now.0 as u32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let latency = Latency::default();
        latency.observe(ms(1), Stamp(0));
        latency.observe(ms(500), Stamp(10));
        assert_eq!(latency.micros(Stamp(10)), 500_000.0);
        latency.observe(ms(1), Stamp(20));
        let soon = latency.micros(Stamp(20));
        assert!((490_000.0..500_000.0).contains(&soon), "{soon}");
        for at in 1..60 {
            latency.observe(ms(1), Stamp(at * 1000));
        }
        let late = latency.micros(Stamp(60_000));
        assert!((900.0..5_000.0).contains(&late), "{late}");
    }

    #[test]
    fn without_answers_the_average_falls_too() {
        let latency = Latency::default();
        latency.observe(ms(1000), Stamp(5));
        let third = latency.micros(Stamp(10_005));
        assert!((367_000.0..369_000.0).contains(&third), "{third}");
        assert!(latency.micros(Stamp(200_000)) < 1.0);
    }

    #[test]
    fn the_clock_may_wrap_and_another_thread_may_be_ahead() {
        let latency = Latency::default();
        let end = u64::from(u32::MAX);
        latency.observe(ms(10), Stamp(end));
        assert_eq!(latency.micros(Stamp(end - 5)), 10_000.0);
        let after = latency.micros(Stamp(end + 1 + 10_000));
        assert!((3_600.0..3_700.0).contains(&after), "{after}");
    }

    proptest! {
        #[test]
        fn it_stays_between_the_quickest_and_the_slowest(
            times in prop::collection::vec((1_u64..10_000, 0_u64..5_000), 1..100),
        ) {
            let latency = Latency::default();
            let (mut now, mut slowest) = (0, 0);
            for (took, pause) in times {
                now += pause;
                slowest = slowest.max(took);
                latency.observe(ms(took), Stamp(now));
                let micros = latency.micros(Stamp(now));
                prop_assert!(micros >= took as f32 * 999.0 && micros <= slowest as f32 * 1001.0);
            }
        }
    }
}
