//! The endpoints of an upstream as they are now, and which of them takes the next request.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::Stamp;
use super::balance::{Draw, Member, Tier};
use super::endpoint::{Endpoint, EndpointAddress};
use super::resolve::Place;
use crate::config::Balance;

/// An endpoint and its place among all.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) index: usize,
}

impl Member for Seat {
    fn in_flight(&self) -> u32 {
        self.endpoint.in_flight()
    }

    fn latency(&self, now: Stamp) -> f32 {
        Member::latency(&*self.endpoint, now)
    }
}

/// All endpoints, best priority first; empty before the first answer of the DNS.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// What they were made of; nothing where there is no DNS.
    places: Vec<Place>,
    all: Vec<Arc<Endpoint>>,
    /// Those of each priority; none where there is no DNS.
    tiers: Vec<Tier<Seat>>,
}

/// How a choice is made, and among whom.
pub(super) struct Choice<'a> {
    pub(super) policy: Balance,
    pub(super) turn: &'a AtomicUsize,
    pub(super) now: Stamp,
    /// Those that have failed this request already.
    pub(super) tried: &'a [Arc<Endpoint>],
}

impl Endpoints {
    /// The one endpoint of an upstream that needs no DNS.
    pub(super) fn of_one(address: EndpointAddress) -> Self {
        Self { places: Vec::new(), all: vec![Arc::new(Endpoint::new(address))], tiers: Vec::new() }
    }

    /// Those of an answer, which is in order; those that `self` has are kept with all they know.
    pub(super) fn follow(&self, places: &[Place]) -> Self {
        let endpoint = |place: &Place| {
            let address = EndpointAddress::Tcp(place.address);
            let known = self.all.iter().find(|known| known.address == address);
            known.map_or_else(|| Arc::new(Endpoint::new(address)), Arc::clone)
        };
        let all: Vec<Arc<Endpoint>> = places.iter().map(endpoint).collect();
        let seats: Vec<(u16, (Seat, u16))> = places
            .iter()
            .zip(&all)
            .enumerate()
            .map(|(index, (place, endpoint))| {
                (place.priority, (Seat { endpoint: Arc::clone(endpoint), index }, place.weight))
            })
            .collect();
        let tiers = seats
            .chunk_by(|one, next| one.0 == next.0)
            .map(|tier| Tier::new(tier.iter().map(|(_, member)| member.clone()).collect()))
            .collect();
        Self { places: places.to_vec(), all, tiers }
    }

    /// Whether an answer says nothing new.
    pub(super) fn is_of(&self, places: &[Place]) -> bool {
        self.places == places
    }

    pub(super) fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    /// Chooses where the next request goes, as an index of [`all`](Self::all), and says whether that endpoint was
    /// taken for well. `None` where there is no endpoint.
    pub(super) fn choose(&self, choice: &Choice<'_>) -> Option<(usize, bool)> {
        let tried = |seat: &Seat| choice.tried.iter().any(|tried| Arc::ptr_eq(tried, &seat.endpoint));
        let well = |seat: &Seat| seat.endpoint.is_well(choice.now);
        let random = &mut |below| fastrand::usize(..below);
        let mut pick = |usable: &dyn Fn(&Seat) -> bool| {
            let Choice { policy, turn, now, .. } = *choice;
            let mut draw = Draw { policy, now, turn, random, usable };
            self.tiers.iter().find_map(|tier| tier.choose(&mut draw)).map(|seat| seat.index)
        };
        // Where all are out, the knowledge is doubted rather than the request refused: a fault that hits all of them
        // is more often one of the network between, or of the checks.
        pick(&|seat| well(seat) && !tried(seat))
            .map(|index| (index, true))
            .or_else(|| pick(&|seat| !tried(seat)).map(|index| (index, false)))
            .or_else(|| pick(&well).map(|index| (index, true)))
            .or_else(|| pick(&|_| true).map(|index| (index, false)))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::config::Eject;
    use crate::upstream::health::Verdict;

    fn place(priority: u16, last: u8) -> Place {
        Place { priority, address: ([127, 0, 0, last], 80).into(), weight: 0 }
    }

    fn set(places: &[(u16, u8)]) -> Endpoints {
        let places: Vec<Place> = places.iter().map(|(priority, last)| place(*priority, *last)).collect();
        Endpoints::default().follow(&places)
    }

    /// Who is chosen in round robin, so many times.
    fn chosen(set: &Endpoints, tried: &[Arc<Endpoint>], times: usize) -> Vec<usize> {
        let turn = AtomicUsize::new(0);
        let choice = Choice { policy: Balance::RoundRobin, turn: &turn, now: Stamp(0), tried };
        (0..times).map(|_| set.choose(&choice).unwrap().0).collect()
    }

    #[test]
    fn who_is_unhealthy_ejected_or_tried_is_left_out_while_others_are_well() {
        let set = set(&[(0, 1), (0, 2), (0, 3), (0, 4)]);
        set.all()[1].verdict.set(Verdict::Unhealthy);
        let rules = Eject { failures: NonZeroU32::MIN, for_time: Duration::from_secs(1) };
        set.all()[2].accrual.eject(&rules, Stamp(0));
        assert_eq!(chosen(&set, &[], 4), [0, 3, 0, 3]);
        assert_eq!(chosen(&set, &set.all()[3..], 2), [0, 0]);
    }

    #[test]
    fn all_are_used_when_none_is_well() {
        let set = set(&[(0, 1), (0, 2)]);
        set.all().iter().for_each(|endpoint| endpoint.verdict.set(Verdict::Unhealthy));
        assert_eq!(chosen(&set, &[], 2), [0, 1]);
        assert_eq!(chosen(&set, &set.all()[..1], 2), [1, 1]);
        assert_eq!(chosen(&set, set.all(), 2), [0, 1], "all were tried: again");
        let turn = AtomicUsize::new(0);
        let choice = Choice { policy: Balance::P2cEwma, turn: &turn, now: Stamp(0), tried: &[] };
        assert!(!set.choose(&choice).unwrap().1);
    }

    #[test]
    fn the_next_priority_is_used_when_the_best_is_out() {
        let set = set(&[(1, 1), (1, 2), (5, 3)]);
        assert_eq!(chosen(&set, &[], 3), [0, 1, 0]);
        set.all()[0].verdict.set(Verdict::Unhealthy);
        assert_eq!(chosen(&set, &[], 2), [1, 1]);
        set.all()[1].verdict.set(Verdict::Unhealthy);
        assert_eq!(chosen(&set, &[], 2), [2, 2]);
    }

    #[test]
    fn a_single_endpoint_is_taken_whatever_was_found_of_it() {
        let set = set(&[(0, 1)]);
        set.all()[0].verdict.set(Verdict::Unhealthy);
        let turn = AtomicUsize::new(7);
        let choice = Choice { policy: Balance::RoundRobin, turn: &turn, now: Stamp(0), tried: set.all() };
        assert_eq!(set.choose(&choice), Some((0, false)));
        assert!(Endpoints::default().choose(&choice).is_none());
    }

    #[test]
    fn a_new_answer_keeps_what_is_known_of_those_it_still_has() {
        let old = set(&[(0, 1), (0, 2)]);
        old.all()[1].verdict.set(Verdict::Unhealthy);
        let new = old.follow(&[place(0, 2), place(0, 3)]);
        assert!(Arc::ptr_eq(&old.all()[1], &new.all()[0]));
        assert_eq!(new.all()[1].verdict.get(), Verdict::Unknown);
        assert_eq!(new.all()[1].address.to_string(), "127.0.0.3:80");
    }
}
