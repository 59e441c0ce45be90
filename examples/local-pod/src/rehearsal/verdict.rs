//! Whether a pod's life kept what podkit promises. Pure: it looks at what was seen, and finds faults.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{
    life::{Outcome, TOO_EARLY},
    plan::{Plan, Way},
};
use crate::{
    pod::End,
    termination::{Event, Step},
};

/// The exit code of a deadline that passed with work left.
const LEFT: End = End::Code(75);

/// Over the end of a hook's budget, for the start of its process and for ours, which are many at once here.
const LATE_HOOK: Duration = Duration::from_secs(3);

/// Everything that must not be, one line each.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Of requests.
    pub(crate) requests: Vec<String>,
    /// Of logs, and of the way in which hooks and containers ended.
    pub(crate) others: Vec<String>,
}

impl Faults {
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.others.is_empty()
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &String> {
        self.requests.iter().chain(&self.others)
    }
}

pub(crate) fn faults(outcome: &Outcome) -> Faults {
    if !outcome.plan.way.is_held_to_it() {
        return Faults::default();
    }
    let mut requests: Vec<String> =
        outcome.seen.failed.iter().map(|(at, why)| format!("{} {why}", after(outcome.start, *at))).collect();
    // After a liveness restart an earlier drain may have closed them.
    if outcome.plan.way != Way::Restart {
        let early = outcome.seen.crossed.iter().filter(|at| **at < outcome.start);
        requests
            .extend(early.map(|at| format!("{} an idle connection was closed", after(outcome.start, *at))));
    }
    let mut others: Vec<String> =
        outcome.marks.iter().filter(|(_, what)| what == TOO_EARLY).map(|(_, what)| what.clone()).collect();
    others.extend(outcome.events.iter().filter_map(|event| ending(&outcome.plan, event)));
    others.extend(outcome.events.iter().filter_map(|event| late_hook(outcome, event)));
    others.extend(logs(outcome));
    let grace = Duration::from_secs(outcome.plan.settings.grace);
    if outcome.took() > grace {
        others.push(format!("it took {:?} of a grace period of {grace:?}", outcome.took()));
    }
    Faults { requests, others }
}

fn late_hook(outcome: &Outcome, event: &Event) -> Option<String> {
    let settings = &outcome.plan.settings;
    let budget = Duration::from_secs(settings.grace).saturating_sub(settings.reserve);
    let took = event.at.saturating_duration_since(outcome.start);
    let is_late = matches!(event.step, Step::HookEnded(_)) && took > budget + LATE_HOOK;
    is_late.then(|| format!("the hook of {} took {took:?} of a budget of {budget:?}", event.container))
}

/// SIGKILLs, and hooks that were given up.
pub(crate) fn kills(outcome: &Outcome) -> usize {
    let is_kill =
        |event: &&Event| matches!(event.step, Step::HookGivenUp | Step::Ended(End::Overdue | End::Signal(_)));
    outcome.events.iter().filter(is_kill).count()
}

/// The longest time for which the machine had stopped all clients while the endpoints still listed the pod, if with their
/// own pauses it may have been as long as the hook waits: who comes after that comes too late by contract.
pub(crate) fn stall(outcome: &Outcome) -> Option<Duration> {
    let quiet = outcome.plan.settings.quiet?;
    let last = outcome.start + outcome.plan.late + quiet;
    let stalls = outcome.seen.stalls.iter().filter(|(at, _)| *at >= outcome.start && *at <= last);
    stalls.map(|(_, stall)| *stall).max().filter(|stall| *stall >= quiet / 2)
}

fn ending(plan: &Plan, event: &Event) -> Option<String> {
    let name = event.container;
    match event.step {
        Step::HookStarted | Step::Term => None,
        Step::HookGivenUp => Some(format!("the hook of {name} was not over within the grace period")),
        Step::HookEnded(end) if !plan.can_deliver() => {
            (end != LEFT).then(|| format!("the hook of {name} ended with {end}, not 75, with lines left"))
        }
        Step::HookEnded(end) => (!end.is_clean()).then(|| format!("the hook of {name} ended with {end}")),
        Step::Ended(end) if !plan.can_deliver() && name == "ship" => {
            (end != LEFT).then(|| format!("ship ended with {end}, not 75, with lines left"))
        }
        Step::Ended(end) => (!end.is_clean()).then(|| format!("{name} ended with {end}")),
    }
}

fn logs(outcome: &Outcome) -> Vec<String> {
    let mut faults = Vec::new();
    let count = |key: &str| outcome.ledger.as_ref().and_then(|ledger| ledger[key].as_u64());
    let (read, pending) = (count("read"), count("pending"));
    if read != Some(outcome.written.bytes) {
        faults
            .push(format!("ship's ledger has {read:?} bytes read, the app wrote {}", outcome.written.bytes));
    }
    if outcome.delivery.never_written > 0 {
        faults.push(format!("{} lines arrived that nobody wrote", outcome.delivery.never_written));
    }
    let lost = outcome.delivery.lost_lines();
    if outcome.plan.can_deliver() {
        if lost > 0 {
            faults.push(format!("{lost} lines were lost: {:?}", outcome.delivery.lost));
        }
        if pending != Some(0) {
            faults.push(format!("ship's ledger has {pending:?} bytes pending"));
        }
        return faults;
    }
    if lost == 0 || pending.unwrap_or_default() == 0 {
        faults.push(format!(
            "{lost} lines lacking, {pending:?} bytes pending, with a backend that never came back"
        ));
    }
    let said = outcome.volumes.report("drain");
    let names_it = |report: &Value| report["left"].to_string().contains("pending");
    if !said.as_ref().is_some_and(names_it) {
        faults.push(format!("the hook does not say what is pending: {said:?}"));
    }
    faults
}

/// Everything that happened, for whoever has to understand a fault.
pub(crate) fn explain(outcome: &Outcome) -> String {
    /// Enough for an error and what led to it.
    const TAIL: usize = 40;
    let mut lines: Vec<(Instant, String)> = outcome.marks.clone();
    lines.extend(
        outcome.events.iter().map(|event| (event.at, format!("{}: {:?}", event.container, event.step))),
    );
    lines.extend(outcome.seen.failed.iter().map(|(at, why)| (*at, format!("FAILED {why}"))));
    if let Some(newest) = outcome.seen.connects.iter().max() {
        lines.push((*newest, "the last new connection".into()));
    }
    lines.sort_unstable();
    let mut text = format!("{:?}\n", outcome.plan);
    for (at, what) in lines {
        text.push_str(&format!("  {} {what}\n", after(outcome.start, at)));
    }
    let hooks: &[&str] = match outcome.plan.way {
        Way::Plain => &["drain", "drain-proxy", "drain-ship"],
        _ => &["drain"],
    };
    for process in ["app", "proxy", "ship"].iter().chain(hooks) {
        text.push_str(&format!("  the last lines of {process}:\n"));
        outcome.volumes.tail(process, TAIL).iter().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    text
}

/// `+1.234s`, counted from the start of the termination.
pub(crate) fn after(start: Instant, at: Instant) -> String {
    match at.checked_duration_since(start) {
        Some(after) => format!("+{:.3}s", after.as_secs_f64()),
        None => format!("-{:.3}s", (start - at).as_secs_f64()),
    }
}
