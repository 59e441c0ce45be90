//! Many pods end, a few at a time, each by a plan of its own; what podkit promises is asked of every one.
//!
//! ```text
//!   seed ─► plan ─► life (clients, backend, kubelet's termination) ─► verdict ─► table
//! ```
//!
//! `cargo demo --terminations N`. Beside the pods with podkit-drain a few have `sleep 15` for a hook: to compare, not to
//! be held to anything.

mod clients;
mod life;
mod plan;
mod samples;
mod table;
mod timeline;
mod verdict;

use std::{collections::VecDeque, sync::Arc};

use podkit_cli::Exit;
use tokio::task::JoinSet;

use crate::{
    binaries::Binaries,
    error::Error,
    options::{Rehearsal, Timeline},
    screen::Screen,
};

use self::{
    life::{Outcome, live},
    plan::{Plan, Way},
    table::Table,
    verdict::Faults,
};

/// Beside so many pods whose sidecars are native or plain.
const RESTARTS: usize = 3;
const DEFAULTS: usize = 2;
const SLEEPS: usize = 3;

/// So many faulty pods are enough to look into.
const FAULTY: usize = 5;

/// Between two lines of progress.
const NEWS: usize = 20;

/// More requests than one, and one of so many pods, do not cross the end of their connections by chance: it takes that a
/// client asks in the fraction of a millisecond in which the proxy closes.
const MOST_CROSSED: usize = 1;
const CROSSED_IN: usize = 50;

/// More pods that have to be left out than this say that the machine is too busy to tell anything.
const LEFT_OUT: usize = 20;

/// Runs them all, and prints what came of it.
pub(crate) async fn rehearse(options: &Rehearsal, screen: &Screen) -> Result<Exit, Error> {
    let binaries = Arc::new(Binaries::build(screen).await?);
    screen.restart_clock();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(1..1_000_000_000));
    let again = format_args!(
        "seed {seed}: --terminations {} --seed {seed} does the same again",
        options.terminations
    );
    screen.line("rehearse", again);
    let mut queue = queue(options.terminations);
    let (mut next, mut left_out) = (queue.len(), 0);
    let mut table = Table::default();
    let mut running = JoinSet::new();
    let mut faulty = 0;
    loop {
        while running.len() < options.at_once
            && faulty < FAULTY
            && let Some((number, way)) = queue.pop_front()
        {
            let (binaries, plan) = (binaries.clone(), Plan::of(seed, number, way));
            running.spawn(async move { live(plan, &binaries, false).await });
        }
        let Some(ended) = running.join_next().await else { break };
        let outcome = ended.map_err(|error| Error::io("run a pod")(error.into()))??;
        let faults = verdict::faults(&outcome);
        let is_excused = !faults.requests.is_empty() && faults.others.is_empty();
        if let (Some(stall), true) = (verdict::stall(&outcome), is_excused) {
            left_out += 1;
            let told = format_args!("pod {} is left out: no client ran for {stall:?}", outcome.plan.number);
            screen.line("rehearse", told);
            if left_out > LEFT_OUT {
                return Err(Error::TooBusy { left_out });
            }
            queue.push_back((next, outcome.plan.way));
            next += 1;
            continue;
        }
        if !faults.is_empty() {
            faulty += 1;
            tell(screen, seed, &outcome, &faults);
        }
        table.add(&outcome);
        if table.pods().is_multiple_of(NEWS) {
            screen.line(
                "rehearse",
                format_args!("{} pods have ended, {faulty} not as they should", table.pods()),
            );
        }
    }
    screen.raw(&format!("\n{}\n", table.text()));
    if left_out > 0 {
        screen
            .raw(&format!("  {left_out} pods were left out, since the machine had stopped their clients\n"));
    }
    if table.crossed() > MOST_CROSSED + table.pods() / CROSSED_IN {
        screen
            .raw("  PROBLEM: that many requests do not cross an end by chance: they were read and dropped\n");
        return Ok(Exit::Failed);
    }
    if faulty > 0 {
        screen.raw(&format!("  PROBLEM: {faulty} pods did not end as they should; the seed was {seed}\n"));
        return Ok(Exit::Failed);
    }
    screen.raw("  no failed request, no lost line, nothing killed\n");
    Ok(Exit::Done)
}

/// Those that take longest come first.
fn queue(terminations: usize) -> VecDeque<(usize, Way)> {
    let few = [(Way::Sleep, SLEEPS), (Way::Restart, RESTARTS), (Way::Defaults, DEFAULTS)];
    let few = few.into_iter().flat_map(|(way, count)| std::iter::repeat_n(way, count));
    let many =
        (0..terminations).map(|number| if number.is_multiple_of(2) { Way::Native } else { Way::Plain });
    few.chain(many).enumerate().collect()
}

fn tell(screen: &Screen, seed: u64, outcome: &Outcome, faults: &Faults) {
    let (number, way) = (outcome.plan.number, outcome.plan.way.name());
    screen.raw(&format!("\nPROBLEM: pod {number} ({way}), seed {seed}\n"));
    faults.lines().for_each(|fault| screen.raw(&format!("  {fault}\n")));
    screen.raw(&verdict::explain(outcome));
}

/// One termination, looked at all the time and drawn.
pub(crate) async fn timeline(options: &Timeline, screen: &Screen) -> Result<Exit, Error> {
    let binaries = Binaries::build(screen).await?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(1..1_000_000_000));
    let outcome = live(Plan::shown(seed), &binaries, true).await?;
    screen.raw(&timeline::draw(&outcome));
    let faults = verdict::faults(&outcome);
    if faults.is_empty() {
        return Ok(Exit::Done);
    }
    tell(screen, seed, &outcome, &faults);
    Ok(Exit::Failed)
}
