//! The rate of each client address, in a table of fixed size that needs no lock and no sweep.
//!
//! An address has a few slots where it can be. When all are taken, the one whose last event is the longest ago goes:
//! nearly always an idle one, of which nothing is forgotten. So no crowd of addresses can make the table grow, and a
//! crowd that overruns it is only measured more kindly; against that there is the listener's own rate.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::rate::Spread;

/// Slots of one address.
const WAYS: usize = 8;

/// Groups of slots. An address counts for one interval beyond its last event, about a second: 16,384 in that time are
/// told apart, in 256 KiB.
const SETS: usize = 2048;

#[derive(Debug, Default)]
struct Slot {
    /// A hash of the address; zero is free. The hash is keyed: nobody can choose addresses that share a slot.
    key: AtomicU64,
    /// As [`Spread::admit`] has it.
    due: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Peers {
    spread: Spread,
    hash: RandomState,
    slots: Box<[Slot]>,
}

impl Peers {
    pub(super) fn new(spread: Spread) -> Self {
        let slots = (0..SETS * WAYS).map(|_| Slot::default()).collect();
        Self { spread, hash: RandomState::new(), slots }
    }

    pub(super) fn admit(&self, peer: IpAddr, now: u64) -> Result<(), Duration> {
        let key = self.hash.hash_one(network(peer)).max(1);
        let set = (key >> 32) as usize % SETS * WAYS;
        let slots = &self.slots[set..set + WAYS];
        let slot = match slots.iter().find(|slot| slot.key.load(Ordering::Relaxed) == key) {
            Some(slot) => slot,
            None => {
                let oldest = slots.iter().min_by_key(|slot| slot.due.load(Ordering::Relaxed));
                let slot = oldest.expect("a set has slots");
                // Two threads that meet here let one event more pass at worst.
                slot.due.store(0, Ordering::Relaxed);
                slot.key.store(key, Ordering::Relaxed);
                slot
            }
        };
        self.spread.admit(&slot.due, now)
    }
}

/// What counts as one client: an IPv4 address, or the /64 that an IPv6 host has all of (RFC 4291 2.5.4).
fn network(peer: IpAddr) -> u64 {
    match peer.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        // None that a host can be in is below 2^32, where the IPv4 addresses are.
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::Rate;

    const SECOND: u64 = 1_000_000_000;

    fn peers() -> Peers {
        let rate = Rate { events: NonZeroU32::new(2).unwrap(), per: Duration::from_secs(1) };
        Peers::new(Spread::of(rate))
    }

    fn let_in(peers: &Peers, peer: &str, events: usize) -> usize {
        (0..events).filter(|_| peers.admit(peer.parse().unwrap(), SECOND).is_ok()).count()
    }

    #[test]
    fn each_address_has_its_own_rate() {
        let peers = peers();
        for peer in ["10.0.0.1", "10.0.0.2", "2001:db8::1"] {
            assert_eq!(let_in(&peers, peer, 5), 2, "{peer}");
        }
        assert_eq!(let_in(&peers, "::ffff:10.0.0.1", 1), 0, "the same client by another name");
    }

    #[test]
    fn a_host_cannot_hide_among_the_addresses_of_its_own_network() {
        let peers = peers();
        assert_eq!(let_in(&peers, "2001:db8:0:1::1", 5), 2);
        assert_eq!(let_in(&peers, "2001:db8:0:1:ffff::2", 5), 0);
        assert_eq!(let_in(&peers, "2001:db8:0:2::1", 5), 2);
    }

    #[test]
    fn a_crowd_of_addresses_takes_no_room_and_idle_ones_make_place() {
        let peers = peers();
        for n in 0..200_000_u32 {
            let peer = IpAddr::V4(n.into());
            // Each comes a second after the one before: long enough for all others to be idle.
            assert!(peers.admit(peer, u64::from(n) * SECOND).is_ok());
        }
        assert_eq!(peers.slots.len(), SETS * WAYS);
        let late = 200_001 * SECOND;
        let count = |peer: [u8; 4]| (0..5).filter(|_| peers.admit(peer.into(), late).is_ok()).count();
        assert_eq!((count([10, 0, 0, 1]), count([10, 0, 0, 1])), (2, 0));
    }
}
