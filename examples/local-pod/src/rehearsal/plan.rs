//! What one pod of a rehearsal is to go through, drawn from a seed. Pure: the same seed gives the same plan.

use std::time::Duration;

use crate::{backend::Mood, spec::Settings};

/// How a pod ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// podkit-drain in the app's container; the sidecars are native ones.
    Native,
    /// podkit-drain in every container; the sidecars are plain containers.
    Plain,
    /// First the app alone, by its liveness probe; then as `Native`.
    Restart,
    /// As `Native`, with podkit-drain's own defaults in place of short times.
    Defaults,
    /// `sleep 15` in the app's container in place of podkit-drain; native sidecars.
    Sleep,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native sidecars",
            Self::Plain => "plain containers",
            Self::Restart => "after a liveness restart",
            Self::Defaults => "drain's default times",
            Self::Sleep => "sleep 15, no drain",
        }
    }

    /// Whether what podkit promises is asked of it.
    pub(crate) fn is_held_to_it(self) -> bool {
        self != Self::Sleep
    }
}

/// The log backend is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    pub(crate) mood: Mood,
    /// From so long before the termination starts.
    pub(crate) lead: Duration,
    /// Until so long after the termination starts; none: for good.
    pub(crate) until: Option<Duration>,
}

/// How many clients of each kind come to one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowd {
    /// A connection for each request, without a pause that is as long as `--quiet`.
    pub(crate) newcomers: u32,
    /// Keep their connection for as long as they are let.
    pub(crate) keepers: u32,
    /// Ask for what takes long.
    pub(crate) slow: u32,
    /// Hold WebSockets.
    pub(crate) websockets: u32,
    /// Keep a connection, and are silent on it for long.
    pub(crate) idlers: u32,
    /// The longest request or WebSocket session.
    pub(crate) longest: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) number: usize,
    /// Of all that is drawn while the pod lives.
    pub(crate) seed: u64,
    pub(crate) way: Way,
    pub(crate) settings: Settings,
    pub(crate) crowd: Crowd,
    /// How long the load runs before the termination starts.
    pub(crate) load: Duration,
    /// From the start of the termination until the last client has heard of it.
    pub(crate) late: Duration,
    pub(crate) outage: Option<Outage>,
}

/// The pods of a rehearsal in which the backend stays away: one of so many.
const ONE_IN_FOR_GOOD: usize = 16;

/// Longer than the second after which a draining proxy closes what is idle: its `shutdown.quiet`.
const QUIET: Duration = Duration::from_millis(1500);

impl Plan {
    /// The plan of pod `number` of a rehearsal with this seed.
    pub(crate) fn of(seed: u64, number: usize, way: Way) -> Self {
        // Neighbouring numbers make neighbouring seeds, and the first draw of those is alike.
        let mut draw = fastrand::Rng::with_seed(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        draw.u64(..);
        let may_stay_away = matches!(way, Way::Native | Way::Plain);
        let for_good = may_stay_away && number % ONE_IN_FOR_GOOD == ONE_IN_FOR_GOOD / 2;
        let mut between = |least: u64, most: u64| Duration::from_millis(draw.u64(least..=most));
        let (load, linger) = (between(200, 700), between(0, 700));
        let is_short = is_short(way, for_good);
        let late = between(0, if is_short { 300 } else { 1500 });
        let longest = between(300, if is_short { 600 } else { 1800 });
        let (lead, back) = (between(0, 300), between(300, 3500));
        let crowd = Crowd {
            newcomers: draw.u32(1..=2),
            keepers: draw.u32(1..=3),
            slow: draw.u32(0..=2),
            websockets: draw.u32(0..=2),
            idlers: draw.u32(0..=2),
            longest,
        };
        let mood = if draw.bool() { Mood::Refuses } else { Mood::Silent };
        let until = (!for_good).then_some(back);
        let outage = (for_good || (way != Way::Sleep && draw.bool())).then_some(Outage { mood, lead, until });
        let settings = settings(way, for_good, linger);
        Self { number, seed: draw.u64(..), way, settings, crowd, load, late, outage }
    }

    /// The one that is drawn as a timeline: a bit of everything, and podkit-drain's own default times.
    pub(crate) fn shown(seed: u64) -> Self {
        let ms = Duration::from_millis;
        let outage = Outage { mood: Mood::Refuses, lead: ms(200), until: Some(ms(2500)) };
        let crowd = Crowd { newcomers: 2, keepers: 2, slow: 1, websockets: 1, idlers: 1, longest: ms(2500) };
        Self {
            crowd,
            load: ms(800),
            late: ms(1500),
            outage: Some(outage),
            ..Self::of(seed, 0, Way::Defaults)
        }
    }

    /// Whether all that the app wrote can be delivered in time.
    pub(crate) fn can_deliver(&self) -> bool {
        self.outage.is_none_or(|outage| outage.until.is_some())
    }
}

/// A budget that is used up, since the backend never comes back, or gone through twice is a short one.
fn is_short(way: Way, for_good: bool) -> bool {
    for_good || way == Way::Restart
}

/// A budget in which everything has its share: the hooks `grace - reserve`, then the app, the proxy and ship.
fn settings(way: Way, for_good: bool, linger: Duration) -> Settings {
    let ms = Duration::from_millis;
    let is_short = is_short(way, for_good);
    let (grace, reserve) = match (way, for_good) {
        (Way::Restart, _) => (7, ms(3000)),
        (_, true) => (10, ms(6000)),
        _ => (30, ms(10_000)),
    };
    let mine = !matches!(way, Way::Defaults | Way::Sleep);
    Settings {
        grace,
        reserve,
        quiet: mine.then_some(QUIET),
        min_delay: mine.then_some(ms(500)),
        proxy_deadline: Some(ms(if is_short { 1500 } else { 4000 })),
        ship_deadline: Some(match (way, is_short) {
            (_, false) => ms(4000),
            // Its SIGTERM comes with the app's, not after the proxy's end.
            (Way::Plain, true) => ms(3500),
            (_, true) => ms(1000),
        }),
        plain: way == Way::Plain,
        rotate_at: 4 << 10,
        linger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_another() {
        let shown = |seed, number| format!("{:?}", Plan::of(seed, number, Way::Native));
        assert_eq!(shown(7, 3), shown(7, 3));
        assert_ne!(shown(7, 3), shown(8, 3));
        assert_ne!(shown(7, 3), shown(7, 4));
    }

    #[test]
    fn a_hundred_pods_have_everything_among_them() {
        let plans: Vec<_> = (0..100).map(|number| Plan::of(1, number, Way::Native)).collect();
        let has = |what: &dyn Fn(&Plan) -> bool| assert!(plans.iter().any(what));
        has(&|plan| plan.outage.is_none());
        has(&|plan| plan.outage.is_some_and(|outage| outage.mood == Mood::Silent && outage.until.is_some()));
        has(&|plan| plan.outage.is_some_and(|outage| outage.mood == Mood::Refuses && outage.until.is_some()));
        has(&|plan| !plan.can_deliver());
        has(&|plan| plan.crowd.websockets > 0 && plan.crowd.slow > 0 && plan.crowd.idlers > 0);
        has(&|plan| plan.late > QUIET / 2);
        assert!(plans.iter().all(|plan| plan.crowd.newcomers > 0 && plan.crowd.keepers > 0));
    }
}
