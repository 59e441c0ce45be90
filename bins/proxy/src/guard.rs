//! What a listener lets in: rates, and how many requests are in flight at a time.
//!
//! One guard is shared by all workers, so a limit holds for the process. It decides and never answers: what a refused
//! request or connection is told is its caller's. Costs nothing where no limit is set.

mod gate;
mod peers;
mod rate;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::Limits;
pub(crate) use gate::{Gate, Permit, Shut};
use peers::Peers;
use rate::{Meter, Spread};

/// The limits of one listener as they are used up.
#[derive(Debug)]
pub(crate) struct Guard {
    /// What moments are counted from.
    started: Instant,
    rate: Option<Meter>,
    peers: Option<Peers>,
    pub(crate) gate: Option<Gate>,
}

/// A request or a connection that comes too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooEarly {
    /// All clients together ask too often.
    Rate { retry: Duration },
    /// This client does.
    PeerRate { retry: Duration },
}

impl TooEarly {
    /// The metrics' word for it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::PeerRate { .. } => "peer_rate",
        }
    }
}

impl Guard {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            started: Instant::now(),
            rate: limits.rate.map(|rate| Meter::new(Spread::of(rate))),
            peers: limits.peer_rate.map(|rate| Peers::new(Spread::of(rate))),
            gate: limits.in_flight.map(|places| Gate::new(places, limits.queue)),
        }
    }

    /// Whether one more may come now. `peer` is `None` where clients have no address: on Unix sockets.
    pub(crate) fn admit(&self, peer: Option<IpAddr>, now: Instant) -> Result<(), TooEarly> {
        if self.rate.is_none() && self.peers.is_none() {
            return Ok(());
        }
        let now = u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX);
        // The one client first: what it is refused does not count against all.
        if let (Some(peers), Some(peer)) = (&self.peers, peer) {
            peers.admit(peer, now).map_err(|retry| TooEarly::PeerRate { retry })?;
        }
        match &self.rate {
            Some(rate) => rate.admit(now).map_err(|retry| TooEarly::Rate { retry }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::Rate;

    #[test]
    fn a_client_that_asks_too_often_uses_up_nothing_of_the_others() {
        let per_second = |events| {
            let events = NonZeroU32::new(events).unwrap();
            Some(Rate { events, per: Duration::from_secs(1) })
        };
        let limits = Limits { rate: per_second(4), peer_rate: per_second(2), ..Limits::default() };
        let guard = Guard::new(&limits);
        let (greedy, modest) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        let now = Instant::now();
        assert_eq!((guard.admit(greedy, now), guard.admit(greedy, now)), (Ok(()), Ok(())));
        for _ in 0..10 {
            assert!(matches!(guard.admit(greedy, now), Err(TooEarly::PeerRate { .. })));
        }
        assert_eq!((guard.admit(modest, now), guard.admit(modest, now)), (Ok(()), Ok(())));
        assert!(matches!(guard.admit(Some([10, 0, 0, 3].into()), now), Err(TooEarly::Rate { .. })));
        assert!(matches!(guard.admit(None, now), Err(TooEarly::Rate { .. })), "a Unix socket's client");
    }
}
