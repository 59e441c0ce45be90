//! The drain as a pure state machine over time: leases that can lapse, a stop that cannot, when it is quiet, and whose
//! coming is traffic.
//!
//! Never reads a clock, a socket or a signal: every call is told what time it is.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use podkit_admin::Lease;
use podkit_lifecycle::Phase;

/// What a call changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A drain began.
    Started,
    /// Its holder held the drain already, or shares the place of one who did: that lease has a new end.
    Renewed,
    /// Another one holds the drain too.
    Joined,
    /// A lease was given back, and another one holds the drain.
    Left,
    /// The drain was undone by request.
    Undone,
    /// The last lease ran out and no stop had come: a liveness kill of the app leads here (contract 3, point 3).
    Lapsed,
    /// Nothing changed.
    Nothing,
}

/// Whether what comes from a peer is traffic, which the drain waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Never.
    Ignored,
    /// But for probes: the kubelet's come from the node, which may be what clients look like too.
    Prober,
    Client,
}

/// So many hold a drain by name; one more shares the place of those without a name.
const MOST_HOLDERS: usize = 16;

/// One that wants the drain to last.
#[derive(Debug)]
struct Holder {
    lease: Lease,
    ends: Instant,
    /// Others share it for want of room, as long as it lasts: they cannot renew by name what is theirs.
    is_crowd: bool,
}

impl Holder {
    fn standing(&self, peer: IpAddr) -> Standing {
        if self.lease.ignored.iter().any(|block| block.contains(&peer)) {
            Standing::Ignored
        } else if self.lease.probing.iter().any(|block| block.contains(&peer)) {
            Standing::Prober
        } else {
            Standing::Client
        }
    }

    fn leaves_out(&self) -> bool {
        !(self.lease.ignored.is_empty() && self.lease.probing.is_empty())
    }
}

/// The leases and the stop.
#[derive(Debug)]
pub(crate) struct Drain {
    bound: bool,
    holders: Vec<Holder>,
    /// Since when clients and endpoints are told to go away, by lease or stop, without a break.
    unready_since: Option<Instant>,
    stopping: bool,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self { bound: false, holders: Vec::new(), unready_since: None, stopping: false }
    }

    /// The listeners are bound.
    pub(crate) fn bound(&mut self) {
        self.bound = true;
    }

    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self { stopping: true, .. } => Phase::Stopping,
            Self { holders, .. } if !holders.is_empty() => Phase::Draining,
            Self { bound: true, .. } => Phase::Running,
            _ => Phase::Starting,
        }
    }

    /// Starts or renews the lease of its holder: from now on it has this length.
    pub(crate) fn lease(&mut self, now: Instant, mut lease: Lease) -> Change {
        self.tick(now);
        let is_first = self.holders.is_empty();
        self.unready_since.get_or_insert(now);
        let mut ends = now + lease.length;
        let is_crowd = match self.place_of(&lease.holder) {
            Some(place) => place.is_crowd,
            None => self.holders.len() >= MOST_HOLDERS,
        };
        if is_crowd {
            lease = Lease { length: lease.length, ..Lease::default() };
            // Nobody's lease is cut short by that, and nobody's traffic is left out.
            ends = self.place_of("").map_or(ends, |place| place.ends.max(ends));
        }
        let change = match self.place_of(&lease.holder) {
            Some(_) => Change::Renewed,
            None if is_first => Change::Started,
            None => Change::Joined,
        };
        self.holders.retain(|holder| holder.lease.holder != lease.holder);
        self.holders.push(Holder { lease, ends, is_crowd });
        change
    }

    fn place_of(&self, name: &str) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.lease.holder == name)
    }

    /// Ends a holder's lease by request, or all. A stop cannot be undone.
    pub(crate) fn undo(&mut self, holder: Option<&str>) -> Change {
        let before = self.holders.len();
        self.holders.retain(|held| holder.is_some_and(|name| held.lease.holder != name));
        match self.holders.len() {
            after if after == before => Change::Nothing,
            0 => {
                self.back_to_ready();
                Change::Undone
            }
            _ => Change::Left,
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) -> Change {
        let was_held = !self.holders.is_empty();
        self.holders.retain(|holder| now < holder.ends);
        if !was_held || !self.holders.is_empty() {
            return Change::Nothing;
        }
        self.back_to_ready();
        if self.stopping { Change::Nothing } else { Change::Lapsed }
    }

    fn back_to_ready(&mut self) {
        if !self.stopping {
            self.unready_since = None;
        }
    }

    /// The stop has begun.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.stopping = true;
        self.unready_since.get_or_insert(now);
    }

    /// What is left of the longest lease.
    pub(crate) fn lease_left(&self, now: Instant) -> Option<Duration> {
        self.holders.iter().map(|holder| holder.ends.saturating_duration_since(now)).max()
    }

    /// How many leases are held.
    pub(crate) fn leases(&self) -> usize {
        self.holders.len()
    }

    /// What comes from a peer is left out only where all who wait say so.
    pub(crate) fn standing(&self, peer: IpAddr) -> Standing {
        let peer = peer.to_canonical();
        self.holders.iter().map(|holder| holder.standing(peer)).max().unwrap_or(Standing::Client)
    }

    /// Whether there may be a peer that is no client.
    pub(crate) fn leaves_out(&self) -> bool {
        !self.holders.is_empty() && self.holders.iter().all(Holder::leaves_out)
    }

    /// For how long it has been quiet: since we turned unready or, if later, since the last arrival.
    /// `None` while ready. A lease that was quiet before the stop counts, so that the stop need not wait again.
    pub(crate) fn quiet_for(&self, now: Instant, last_arrival: Option<Instant>) -> Option<Duration> {
        let since = self.unready_since?;
        let since = last_arrival.map_or(since, |arrival| arrival.max(since));
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn of(holder: &str, length: Duration) -> Lease {
        Lease { length, holder: holder.to_owned(), ..Lease::default() }
    }

    fn ready() -> (Drain, Instant) {
        let mut drain = Drain::new();
        assert_eq!(drain.phase(), Phase::Starting);
        drain.bound();
        assert_eq!(drain.phase(), Phase::Running);
        (drain, Instant::now())
    }

    #[test]
    fn a_lease_starts_is_renewed_and_is_undone() {
        let (mut drain, t) = ready();
        assert_eq!(drain.lease(t, of("", 60 * SECOND)), Change::Started);
        assert_eq!(drain.phase(), Phase::Draining);
        assert_eq!(drain.lease_left(t + 10 * SECOND), Some(50 * SECOND));
        assert_eq!(drain.lease(t + 10 * SECOND, of("", 60 * SECOND)), Change::Renewed);
        assert_eq!(drain.lease_left(t + 10 * SECOND), Some(60 * SECOND));
        assert_eq!(drain.undo(None), Change::Undone);
        assert_eq!((drain.phase(), drain.lease_left(t)), (Phase::Running, None));
        assert_eq!(drain.undo(None), Change::Nothing);
    }

    #[test]
    fn a_lapsed_lease_goes_back_to_ready_once() {
        let (mut drain, t) = ready();
        drain.lease(t, of("", SECOND));
        assert_eq!(drain.tick(t + SECOND / 2), Change::Nothing);
        assert_eq!(drain.tick(t + SECOND), Change::Lapsed);
        assert_eq!(drain.phase(), Phase::Running);
        assert_eq!(drain.tick(t + 2 * SECOND), Change::Nothing);
        assert_eq!(drain.quiet_for(t + 9 * SECOND, None), None);
    }

    #[test]
    fn a_renewal_behind_the_end_is_a_new_drain() {
        let (mut drain, t) = ready();
        drain.lease(t, of("", SECOND));
        assert_eq!(drain.lease(t + 5 * SECOND, of("", SECOND)), Change::Started);
        assert_eq!(drain.quiet_for(t + 6 * SECOND, None), Some(SECOND), "the first drain's quiet is over");
    }

    #[test]
    fn a_stop_stays_whatever_becomes_of_the_lease() {
        let (mut drain, t) = ready();
        drain.lease(t, of("", SECOND));
        drain.stop(t);
        assert_eq!(drain.tick(t + 2 * SECOND), Change::Nothing);
        assert_eq!(drain.phase(), Phase::Stopping);
        drain.lease(t + 2 * SECOND, of("", SECOND));
        assert_eq!(drain.phase(), Phase::Stopping);
        drain.undo(None);
        assert_eq!(drain.phase(), Phase::Stopping);
        assert_eq!(drain.quiet_for(t + 3 * SECOND, None), Some(3 * SECOND));
    }

    #[test]
    fn quiet_counts_from_the_last_arrival() {
        let (mut drain, t) = ready();
        assert_eq!(drain.quiet_for(t, None), None, "a ready proxy is never quiet");
        drain.stop(t);
        assert_eq!(drain.quiet_for(t + SECOND, None), Some(SECOND));
        assert_eq!(drain.quiet_for(t + 5 * SECOND, Some(t + 2 * SECOND)), Some(3 * SECOND));
    }

    #[test]
    fn quiet_before_the_drain_does_not_count() {
        let (mut drain, t) = ready();
        drain.stop(t + 10 * SECOND);
        assert_eq!(drain.quiet_for(t + 10 * SECOND, Some(t)), Some(Duration::ZERO));
    }

    #[test]
    fn quiet_during_the_lease_counts_for_the_stop() {
        let (mut drain, t) = ready();
        drain.lease(t, of("", 60 * SECOND));
        drain.stop(t + 10 * SECOND);
        assert_eq!(drain.quiet_for(t + 10 * SECOND, Some(t + 4 * SECOND)), Some(6 * SECOND));
    }

    #[test]
    fn a_drain_lasts_while_anybody_holds_it() {
        let (mut drain, t) = ready();
        assert_eq!(drain.lease(t, of("a", 60 * SECOND)), Change::Started);
        assert_eq!(drain.lease(t, of("b", 10 * SECOND)), Change::Joined);
        assert_eq!((drain.leases(), drain.lease_left(t)), (2, Some(60 * SECOND)));
        assert_eq!(drain.undo(Some("c")), Change::Nothing);
        assert_eq!(drain.undo(Some("a")), Change::Left);
        assert_eq!((drain.phase(), drain.lease_left(t)), (Phase::Draining, Some(10 * SECOND)));
        drain.lease(t, of("a", 5 * SECOND));
        assert_eq!(drain.tick(t + 6 * SECOND), Change::Nothing, "the other one's runs on");
        assert_eq!(drain.tick(t + 10 * SECOND), Change::Lapsed);
        drain.lease(t, of("a", SECOND));
        drain.lease(t, of("b", SECOND));
        assert_eq!((drain.undo(None), drain.phase()), (Change::Undone, Phase::Running));
    }

    #[test]
    fn a_crowd_of_holders_is_held_together_and_cuts_nobody_short() {
        let (mut drain, t) = ready();
        for number in 0..MOST_HOLDERS {
            let lease =
                Lease { ignored: vec!["10.0.0.0/8".parse().unwrap()], ..of(&number.to_string(), SECOND) };
            drain.lease(t, lease);
        }
        assert!(drain.leaves_out());
        drain.lease(t, of("late", 9 * SECOND));
        drain.lease(t, of("later", SECOND));
        let ignored = vec!["10.0.0.0/8".parse().unwrap()];
        drain.lease(t, Lease { ignored, ..of("", SECOND) });
        assert_eq!((drain.leases(), drain.lease_left(t)), (MOST_HOLDERS + 1, Some(9 * SECOND)));
        assert!(!drain.leaves_out(), "nobody's traffic is left out for want of room");
        assert_eq!(drain.undo(Some("late")), Change::Nothing);
        drain.tick(t + SECOND);
        drain.lease(t + SECOND, of("", SECOND));
        assert_eq!(drain.lease_left(t + SECOND), Some(8 * SECOND), "also where there is room again");
    }

    #[test]
    fn a_peer_is_left_out_only_where_all_holders_say_so() {
        let (mut drain, t) = ready();
        let (node, client) = ("10.0.0.5".parse().unwrap(), "10.2.0.1".parse().unwrap());
        let lease = |holder, ignored: &[&str], probing: &[&str]| {
            let blocks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            Lease { ignored: blocks(ignored), probing: blocks(probing), ..of(holder, SECOND) }
        };
        assert_eq!(drain.standing(node), Standing::Client);
        drain.lease(t, lease("a", &["10.0.0.5/32"], &[]));
        assert_eq!((drain.standing(node), drain.standing(client)), (Standing::Ignored, Standing::Client));
        assert_eq!(drain.standing("::ffff:10.0.0.5".parse().unwrap()), Standing::Ignored);
        drain.lease(t, lease("b", &[], &["10.0.0.0/16"]));
        assert_eq!((drain.standing(node), drain.leaves_out()), (Standing::Prober, true));
        drain.lease(t, of("c", SECOND));
        assert_eq!((drain.standing(node), drain.leaves_out()), (Standing::Client, false));
        drain.undo(Some("c"));
        assert_eq!(drain.standing(node), Standing::Prober);
        drain.tick(t + SECOND);
        assert_eq!((drain.standing(node), drain.leaves_out()), (Standing::Client, false));
    }
}
