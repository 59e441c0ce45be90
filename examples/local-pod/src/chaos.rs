//! What goes wrong, and when: the script of `--chaos`. Pure; the kubelet does the deeds.

use std::time::Duration;

/// One deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL for ship while a batch is stored but not yet acknowledged: its lines will come again.
    KillMidBatch,
    /// The backend answers 503.
    BackendLeaves,
    /// SIGKILL for ship while the backend is away: all that ship holds in memory is unacknowledged.
    Kill,
    /// The backend works again.
    BackendReturns,
}

/// The faults at their share of the load's time.
pub(crate) fn script(load: Duration) -> Vec<(Duration, Fault)> {
    [(20, Fault::KillMidBatch), (45, Fault::BackendLeaves), (60, Fault::Kill), (80, Fault::BackendReturns)]
        .map(|(percent, fault)| (load * percent / 100, fault))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_kills_one_of_them_while_the_backend_is_away() {
        let faults: Vec<_> = script(Duration::from_secs(4)).into_iter().map(|(_, fault)| fault).collect();
        let at = |fault| faults.iter().position(|&other| other == fault).unwrap();
        assert!(at(Fault::BackendLeaves) < at(Fault::Kill) && at(Fault::Kill) < at(Fault::BackendReturns));
        assert!(at(Fault::KillMidBatch) < at(Fault::BackendLeaves));
    }

    #[test]
    fn all_is_over_before_the_load_is() {
        let load = Duration::from_secs(6);
        assert!(script(load).is_sorted_by_key(|(at, _)| *at));
        assert!(script(load).iter().all(|(at, _)| *at < load));
    }
}
