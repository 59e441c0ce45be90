//! Which endpoint serves the next request. Pure: what is known of the endpoints goes in, and chance, too.
//!
//! SRV priorities are tiers: the next one is used only when none of this one can be. SRV weights are shares: of the
//! turns in round robin and of the draws in p2c-ewma, and of the load that least-request evens out.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Stamp;
use crate::config::Balance;

/// The longest table of turns. Weights are scaled down to fit; no endpoint is left without a turn.
const TURNS_LIMIT: u32 = 1024;

/// An endpoint as the balancer sees it.
pub(super) trait Member {
    /// Requests that it works on now.
    fn in_flight(&self) -> u32;
    /// How long its answers took lately, in any one unit; zero if that is not known.
    fn latency(&self, now: Stamp) -> f32;
}

/// Endpoints of one priority.
#[derive(Debug)]
pub(super) struct Tier<M> {
    members: Vec<M>,
    /// Shares of the load, 1 on average; empty where all have the same.
    shares: Vec<f32>,
    /// One round of turns, as indices; empty where it is each one in its order.
    turns: Vec<u32>,
}

/// What is brought to a choice.
pub(super) struct Draw<'a, M> {
    pub(super) policy: Balance,
    pub(super) now: Stamp,
    /// The number of the turn; grows for ever.
    pub(super) turn: &'a AtomicUsize,
    /// A number below this one.
    pub(super) random: &'a mut dyn FnMut(usize) -> usize,
    /// Whether a member may be chosen.
    pub(super) usable: &'a dyn Fn(&M) -> bool,
}

impl<M> Tier<M> {
    /// A tier of members with their weights; not empty.
    pub(super) fn new(members: Vec<(M, u16)>) -> Self {
        // RFC 2782 gives weight 0 "a very small chance of being selected", which is also what a weight of 1 is.
        let weights: Vec<u32> = members.iter().map(|(_, weight)| u32::from(*weight).max(1)).collect();
        let members = members.into_iter().map(|(member, _)| member).collect();
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self { members, shares: Vec::new(), turns: Vec::new() };
        }
        let mean = weights.iter().sum::<u32>() as f32 / weights.len() as f32;
        let shares = weights.iter().map(|weight| *weight as f32 / mean).collect();
        Self { members, shares, turns: spread(&weights) }
    }

    fn round(&self) -> usize {
        if self.turns.is_empty() { self.members.len() } else { self.turns.len() }
    }

    fn at(&self, turn: usize) -> usize {
        let turn = turn % self.round();
        self.turns.get(turn).map_or(turn, |index| *index as usize)
    }

    fn share(&self, index: usize) -> f32 {
        self.shares.get(index).copied().unwrap_or(1.0)
    }
}

impl<M: Member> Tier<M> {
    /// Chooses a member; `None` where none is usable.
    pub(super) fn choose(&self, draw: &mut Draw<'_, M>) -> Option<&M> {
        let index = match draw.policy {
            Balance::P2cEwma => self.better_of_two(draw),
            Balance::RoundRobin => self.next(draw),
            Balance::LeastRequest => self.least(draw),
        };
        index.map(|index| &self.members[index])
    }

    /// The next in turn, from the shared count.
    fn next(&self, draw: &Draw<'_, M>) -> Option<usize> {
        (0..self.round())
            .map(|_| self.at(draw.turn.fetch_add(1, Ordering::Relaxed)))
            .find(|index| (draw.usable)(&self.members[*index]))
    }

    /// The one with the fewest requests for its share; among equals the next in turn.
    fn least(&self, draw: &Draw<'_, M>) -> Option<usize> {
        let start = draw.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.members.len();
        let load = |index: &usize| (self.members[*index].in_flight() + 1) as f32 / self.share(*index);
        (0..count)
            .map(|step| (start % count + step) % count)
            .filter(|index| (draw.usable)(&self.members[*index]))
            .min_by(|one, other| load(one).total_cmp(&load(other)))
    }

    /// Power of two choices: of two drawn ones the one where a request is expected to wait less. Drawing keeps many
    /// proxies from running after the same best endpoint.
    fn better_of_two(&self, draw: &mut Draw<'_, M>) -> Option<usize> {
        let first = self.draw(draw, None)?;
        let Some(second) = self.draw(draw, Some(first)) else { return Some(first) };
        Some(if self.cost(second, draw.now) < self.cost(first, draw.now) { second } else { first })
    }

    fn draw(&self, draw: &mut Draw<'_, M>, except: Option<usize>) -> Option<usize> {
        /// Nearly all are usable nearly always.
        const TRIES: usize = 4;
        let fits = |index: &usize| Some(*index) != except && (draw.usable)(&self.members[*index]);
        for _ in 0..TRIES {
            let index = self.at((draw.random)(self.round()));
            if fits(&index) {
                return Some(index);
            }
        }
        let fitting = || (0..self.members.len()).filter(fits);
        let count = fitting().count();
        if count == 0 { None } else { fitting().nth((draw.random)(count)) }
    }

    fn cost(&self, index: usize, now: Stamp) -> f32 {
        /// One that has not answered yet is asked once, and not again before it has answered: Finagle's penalty.
        const UNKNOWN: f32 = 1e12;
        let member = &self.members[index];
        let pending = member.in_flight() as f32 / self.share(index);
        match member.latency(now) {
            latency if latency > 0.0 => latency * (pending + 1.0),
            _ if pending > 0.0 => UNKNOWN + pending,
            _ => 0.0,
        }
    }
}

/// One round of turns in which each index stands as often as its weight says, spread evenly (smooth weighted round
/// robin, as in nginx).
fn spread(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().copied().fold(0, gcd);
    let sum: u32 = weights.iter().map(|weight| weight / divisor).sum();
    // As many endpoints as the limit, or more, still have a turn each.
    let scale = sum.div_ceil(TURNS_LIMIT).max(1);
    let weights: Vec<i64> =
        weights.iter().map(|weight| i64::from((weight / divisor / scale).max(1))).collect();
    let sum: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..sum {
        for (credit, weight) in credit.iter_mut().zip(&weights) {
            *credit += weight;
        }
        let richest =
            (0..credit.len()).max_by_key(|index| (credit[*index], Reverse(*index))).unwrap_or_default();
        credit[richest] -= sum;
        turns.push(richest as u32);
    }
    turns
}

fn gcd(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    struct Fake {
        id: usize,
        in_flight: u32,
        latency: f32,
        usable: bool,
    }

    impl Member for Fake {
        fn in_flight(&self) -> u32 {
            self.in_flight
        }

        fn latency(&self, _: Stamp) -> f32 {
            self.latency
        }
    }

    fn fake(id: usize) -> Fake {
        Fake { id, in_flight: 0, latency: 1.0, usable: true }
    }

    /// How often each member is chosen of so many times.
    fn shares(policy: Balance, members: &[(Fake, u16)], times: usize) -> Vec<usize> {
        let mut chosen = vec![0; members.len()];
        for id in order(policy, members, times) {
            chosen[id] += 1;
        }
        chosen
    }

    fn order(policy: Balance, members: &[(Fake, u16)], times: usize) -> Vec<usize> {
        let tier = Tier::new(members.to_vec());
        let (turn, mut random) = (AtomicUsize::new(0), fastrand::Rng::with_seed(7));
        let mut random = |below| random.usize(..below);
        let usable = |member: &Fake| member.usable;
        let mut draw = Draw { policy, now: Stamp(0), turn: &turn, random: &mut random, usable: &usable };
        (0..times).filter_map(|_| tier.choose(&mut draw).map(|member| member.id)).collect()
    }

    fn members(count: usize) -> Vec<(Fake, u16)> {
        (0..count).map(|id| (fake(id), 100)).collect()
    }

    #[test]
    fn round_robin_is_exact_and_skips_who_is_out() {
        assert_eq!(order(Balance::RoundRobin, &members(3), 7), [0, 1, 2, 0, 1, 2, 0]);
        let mut some = members(4);
        some[1].0.usable = false;
        assert_eq!(order(Balance::RoundRobin, &some, 6), [0, 2, 3, 0, 2, 3]);
    }

    #[test]
    fn weights_are_shares_of_the_turns_evenly_spread() {
        let weighted = [(fake(0), 50), (fake(1), 10), (fake(2), 10)];
        assert_eq!(order(Balance::RoundRobin, &weighted, 7), [0, 0, 1, 0, 2, 0, 0]);
        let tiny = [(fake(0), 65_535), (fake(1), 0)];
        let shares = shares(Balance::RoundRobin, &tiny, 10_000);
        assert!((1..=11).contains(&shares[1]), "{shares:?}");
    }

    #[test]
    fn least_request_takes_the_idlest_for_its_weight_and_equals_in_turn() {
        let mut some = members(3);
        assert_eq!(order(Balance::LeastRequest, &some, 4), [0, 1, 2, 0]);
        (some[0].0.in_flight, some[2].0.in_flight) = (2, 1);
        assert_eq!(order(Balance::LeastRequest, &some, 3), [1, 1, 1]);
        (some[0].0.in_flight, some[1].0.in_flight, some[2].0.in_flight) = (5, 2, 2);
        some[0].1 = 400;
        assert_eq!(order(Balance::LeastRequest, &some, 3), [0, 0, 0]);
    }

    #[test]
    fn p2c_leaves_a_slow_endpoint_and_a_busy_one() {
        assert!(shares(Balance::P2cEwma, &members(4), 4000).iter().all(|share| (900..1100).contains(share)));
        let mut some = members(4);
        some[0].0.latency = 50.0;
        let shares_slow = shares(Balance::P2cEwma, &some, 4000);
        assert_eq!(shares_slow[0], 0, "{shares_slow:?}");
        some[0].0 = Fake { in_flight: 3, ..fake(0) };
        assert_eq!(shares(Balance::P2cEwma, &some, 4000)[0], 0);
    }

    #[test]
    fn p2c_asks_a_new_endpoint_once_before_it_knows_more() {
        let mut some = members(2);
        some[0].0.latency = 0.0;
        assert_eq!(shares(Balance::P2cEwma, &some, 100), [100, 0]);
        some[0].0.in_flight = 1;
        assert_eq!(shares(Balance::P2cEwma, &some, 100), [0, 100]);
    }

    #[test]
    fn p2c_draws_by_weight() {
        let weighted = [(fake(0), 30), (fake(1), 10)];
        let shares = shares(Balance::P2cEwma, &weighted, 4000);
        assert!((2900..3100).contains(&shares[0]), "{shares:?}");
    }

    #[test]
    fn a_lonely_usable_one_is_always_found() {
        for policy in [Balance::P2cEwma, Balance::RoundRobin, Balance::LeastRequest] {
            let mut some = members(100);
            some.iter_mut().for_each(|(member, _)| member.usable = member.id == 63);
            assert_eq!(order(policy, &some, 50), vec![63; 50], "{policy:?}");
            some[63].0.usable = false;
            assert_eq!(order(policy, &some, 1), [0; 0], "{policy:?}");
        }
    }

    proptest! {
        #[test]
        fn every_weight_has_its_turns(weights in prop::collection::vec(any::<u16>(), 1..40)) {
            let weights: Vec<u32> = weights.into_iter().map(|weight| u32::from(weight).max(1)).collect();
            let turns = spread(&weights);
            prop_assert!(turns.len() <= TURNS_LIMIT as usize + weights.len());
            let sum: u32 = weights.iter().sum();
            for (index, weight) in weights.iter().enumerate() {
                let count = turns.iter().filter(|turn| **turn as usize == index).count();
                prop_assert!(count >= 1);
                let fair = *weight as f32 / sum as f32 * turns.len() as f32;
                prop_assert!((count as f32 - fair).abs() <= 1.0 + fair * 0.1, "{count} turns for {fair}");
            }
        }
    }
}
