//! How many workers there are: as many as the container's CPU quota has whole CPUs, never by the node's cores.

use std::fs;
use std::num::NonZeroUsize;

/// More than this many would only fight for locks in the kernel.
pub(crate) const MAX_WORKERS: usize = 64;

/// The number of workers for this container: one where there is no quota (contract 3, point 10).
pub(crate) fn workers() -> NonZeroUsize {
    // Version 2, then version 1 (kernel: admin-guide/cgroup-v2 "cpu.max", scheduler/sched-bwc).
    let v2 = fs::read_to_string("/sys/fs/cgroup/cpu.max");
    let v1 = || {
        let quota = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?;
        let period = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?;
        std::io::Result::Ok(format!("{} {}", quota.trim(), period.trim()))
    };
    v2.or_else(|_| v1()).map_or(NonZeroUsize::MIN, |text| of_quota(&text))
}

/// Reads `QUOTA PERIOD`, both in microseconds; no quota is `max`, or negative.
fn of_quota(text: &str) -> NonZeroUsize {
    let mut numbers = text.split_whitespace().map(str::parse::<usize>);
    let whole = match (numbers.next(), numbers.next()) {
        (Some(Ok(quota)), Some(Ok(period))) => quota.checked_div(period).unwrap_or_default(),
        _ => 1,
    };
    NonZeroUsize::new(whole.min(MAX_WORKERS)).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_cpus_of_the_quota_are_workers_and_none_is_one() {
        for (text, workers) in [
            ("max 100000\n", 1),
            ("10000 100000\n", 1),
            ("100000 100000", 1),
            ("199999 100000", 1),
            ("200000 100000", 2),
            ("-1 100000", 1),
            ("100000 0", 1),
            ("99900000 100000", 64),
            ("", 1),
        ] {
            assert_eq!(of_quota(text).get(), workers, "{text:?}");
        }
    }
}
