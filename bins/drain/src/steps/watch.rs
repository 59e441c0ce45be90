//! The second step: wait until traffic has left, by the best source that answers.

use std::thread;
use std::time::Duration;

use podkit_lifecycle::Deadline;

use super::Drain;
use crate::budget::show;
use crate::figures::How;
use crate::quiet::{Decision, Leftover, Pace, Sample, Watch};
use crate::source::{Look, Sources};

/// How the watch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// Traffic has left.
    Quiet,
    /// There is nothing to watch.
    NoTraffic,
    /// Nobody could tell: all the time that could be waited was.
    Blind,
    /// The time is up.
    Late(Leftover),
}

impl Drain {
    /// Waits for quiet. What is left if it never came, as a part of a sentence.
    pub(super) fn watch(&self, mut sources: Sources) -> Option<String> {
        let mut step = self.step("quiet");
        let end = if sources.is_empty() { self.hold() } else { self.until_quiet(&mut sources) };
        let quiet = show(self.config.rule.quiet);
        let (source, how, detail) = match &end {
            End::Quiet => (true, How::Done, format!("quiet: nothing active, nothing new for {quiet}")),
            End::NoTraffic => {
                let text = "no traffic to watch: no proxy and no --port; held --min-delay";
                (false, How::Skipped, text.to_owned())
            }
            End::Blind => {
                let text = "nothing could tell the traffic: held all the time there was";
                (false, How::Failed, text.to_owned())
            }
            End::Late(Leftover::Nothing { .. }) => {
                let text =
                    "nothing active and nothing new, but --quiet or --min-delay is longer than the budget";
                (true, How::Failed, text.to_owned())
            }
            End::Late(leftover) => (true, How::Failed, format!("not quiet in time: {}", describe(leftover))),
        };
        if source {
            step.source = Some(sources.to_string());
            self.shared.figures.source(sources.to_string());
        }
        step.end(how, detail);
        match &end {
            End::Late(Leftover::Nothing { .. }) => None,
            End::Late(leftover) => Some(describe(leftover)),
            _ => None,
        }
    }

    /// Without traffic to watch there may still be some on the way that we cannot know of.
    fn hold(&self) -> End {
        self.shared.progress.set("waiting for --min-delay");
        let end = self.config.rule.min_delay.min(self.watch_end());
        thread::sleep(end.saturating_sub(self.budget.spent()));
        End::NoTraffic
    }

    fn until_quiet(&self, sources: &mut Sources) -> End {
        let mut watch = Watch::new(self.config.rule, self.budget.spent());
        let mut pace = Pace::default();
        self.shared.progress.set("waiting for traffic to leave");
        let mut heard = self.shared.leases.answers();
        self.shared.figures.source(sources.to_string());
        loop {
            let answers = self.shared.leases.answers();
            if answers != heard && sources.retry_best(self.look_deadline()) {
                self.change_source(&mut watch, sources);
            }
            heard = answers;
            let before = self.budget.spent();
            let look = sources.look(self.look_deadline());
            let now = self.budget.spent();
            let cost = now.saturating_sub(before);
            let pause = match look {
                Look::Saw(sample) => {
                    let decision = watch.observe(now, sample);
                    self.shared.figures.sample(sample, now);
                    if decision == Decision::Quiet {
                        if !self.another_tells(sources) {
                            return End::Quiet;
                        }
                        self.change_source(&mut watch, sources);
                    }
                    self.shared.progress.set(describe(&standing(sample)));
                    pace.after(now, sample, decision, cost)
                }
                // What did not answer most likely took its time waiting, and costs nobody anything.
                Look::Missed => Pace::FIRST,
                Look::Changed => {
                    self.change_source(&mut watch, sources);
                    Duration::ZERO
                }
                Look::Blind => Pace::LAST,
            };
            let last = self.watch_end().saturating_sub(self.last_look());
            if now >= last {
                return match watch.last() {
                    Some(_) if look != Look::Blind => End::Late(watch.leftover(now)),
                    _ => End::Blind,
                };
            }
            thread::sleep(pause.min(last.saturating_sub(now)));
        }
    }

    fn change_source(&self, watch: &mut Watch, sources: &Sources) {
        watch.change_source(self.budget.spent());
        self.shared.figures.source(sources.to_string());
    }

    /// Traffic counts as gone only once the proxies that do not tell it were asked again: what was away for a moment may be
    /// back, and what it has in flight by loopback the kernel's table leaves out. True if one tells it from now on.
    fn another_tells(&self, sources: &mut Sources) -> bool {
        let is_best = sources.is_best();
        self.shared.leases.retry(!is_best, self.look_patience())
            && (is_best || sources.retry_best(self.look_deadline()))
    }

    /// For one question of the watch, which leaves the later steps their share.
    fn look_patience(&self) -> Duration {
        self.budget.patience().min(self.watch_end().saturating_sub(self.budget.spent()))
    }

    fn look_deadline(&self) -> Deadline {
        self.budget.deadline(self.look_patience(), Duration::ZERO)
    }
}

fn standing(sample: Sample) -> Leftover {
    match sample {
        Sample { active: 0, open, .. } => Leftover::Nothing { open },
        Sample { active, open, .. } => Leftover::Open { open, active },
    }
}

/// A part of a sentence: `2 connections still open`.
fn describe(leftover: &Leftover) -> String {
    let (open, active, but) = match *leftover {
        Leftover::Nothing { open } => (open, 0, ", but the quiet time was not over".to_owned()),
        Leftover::Open { open, active } => (open, active, String::new()),
        Leftover::Arriving { open, ago } => {
            (open, 0, format!(", but the last one came only {} ago", show(ago)))
        }
    };
    let plural = if open == 1 { "" } else { "s" };
    let in_flight = match active {
        _ if active == open => String::new(),
        0 => " (none in flight)".to_owned(),
        _ => format!(" ({active} in flight)"),
    };
    format!("{open} connection{plural} still open{in_flight}{but}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_said_in_words() {
        for (leftover, text) in [
            (Leftover::Open { open: 1, active: 1 }, "1 connection still open"),
            (Leftover::Open { open: 2, active: 2 }, "2 connections still open"),
            (Leftover::Open { open: 5, active: 1 }, "5 connections still open (1 in flight)"),
            (
                Leftover::Arriving { open: 0, ago: Duration::from_millis(400) },
                "0 connections still open, but the last one came only 400ms ago",
            ),
            (
                Leftover::Arriving { open: 1, ago: Duration::from_secs(2) },
                "1 connection still open (none in flight), but the last one came only 2.0s ago",
            ),
            (
                Leftover::Nothing { open: 7 },
                "7 connections still open (none in flight), but the quiet time was not over",
            ),
        ] {
            assert_eq!(describe(&leftover), text);
        }
    }
}
