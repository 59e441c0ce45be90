//! The second step: wait until traffic has left, by the best source that answers.

use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use super::Drain;
use crate::budget::show;
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
        let started = self.budget.spent();
        let end = if sources.is_empty() { self.hold() } else { self.until_quiet(&mut sources) };
        let spent = show(self.budget.spent().saturating_sub(started));
        let left = show(self.budget.left());
        let quiet = show(self.config.rule.quiet);
        let leftover = match &end {
            End::Quiet => {
                info!(step = "quiet", source = %sources, spent, left, "quiet: nothing active, nothing new for {quiet}");
                return None;
            }
            End::NoTraffic => {
                info!(
                    step = "quiet",
                    spent, left, "no traffic to watch: no proxy and no --port; held --min-delay"
                );
                return None;
            }
            End::Blind => {
                warn!(
                    step = "quiet",
                    spent, left, "nothing could tell the traffic: held all the time there was"
                );
                return None;
            }
            End::Late(Leftover::Nothing) => {
                warn!(
                    step = "quiet", source = %sources, spent, left,
                    "nothing active and nothing new, but --quiet or --min-delay is longer than the budget"
                );
                return None;
            }
            End::Late(leftover) => describe(leftover),
        };
        warn!(step = "quiet", source = %sources, spent, left, "not quiet in time: {leftover}");
        Some(leftover)
    }

    /// Without traffic to watch there may still be some on the way that we cannot know of.
    fn hold(&self) -> End {
        self.progress.set("waiting for --min-delay");
        let end = self.config.rule.min_delay.min(self.watch_end());
        thread::sleep(end.saturating_sub(self.budget.spent()));
        End::NoTraffic
    }

    fn until_quiet(&self, sources: &mut Sources) -> End {
        let mut watch = Watch::new(self.config.rule, self.budget.spent());
        let mut pace = Pace::default();
        self.progress.set("waiting for traffic to leave");
        loop {
            if self.lease.renew() && sources.retry_best(self.short_deadline()) {
                watch.change_source(self.budget.spent());
            }
            let look = sources.look(self.short_deadline());
            let now = self.budget.spent();
            let pause = match look {
                Look::Saw(sample) => {
                    let decision = watch.observe(now, sample);
                    if decision == Decision::Quiet {
                        return End::Quiet;
                    }
                    self.progress.set(describe(&standing(sample)));
                    pace.after(now, sample, decision)
                }
                Look::Missed => Pace::FIRST,
                Look::Changed => {
                    watch.change_source(now);
                    Duration::ZERO
                }
                Look::Blind => Pace::LAST,
            };
            let end = self.watch_end();
            if now >= end {
                return match watch.last() {
                    Some(_) if look != Look::Blind => End::Late(watch.leftover(now)),
                    _ => End::Blind,
                };
            }
            thread::sleep(pause.min(end.saturating_sub(now)));
        }
    }
}

fn standing(sample: Sample) -> Leftover {
    match sample {
        Sample { active: 0, .. } => Leftover::Nothing,
        Sample { active, open, .. } => Leftover::Open { open, active },
    }
}

/// A part of a sentence: `2 connections still open`.
fn describe(leftover: &Leftover) -> String {
    let connections =
        |count| if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") };
    match *leftover {
        Leftover::Nothing => "0 connections still open, but the quiet time was not over".to_owned(),
        Leftover::Open { open, active } if open == active => format!("{} still open", connections(open)),
        Leftover::Open { open, active } => format!("{} still open ({active} in flight)", connections(open)),
        Leftover::Arriving(ago) => {
            format!("0 connections still open, but the last one came only {} ago", show(ago))
        }
    }
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
                Leftover::Arriving(Duration::from_millis(400)),
                "0 connections still open, but the last one came only 400ms ago",
            ),
        ] {
            assert_eq!(describe(&leftover), text);
        }
    }
}
