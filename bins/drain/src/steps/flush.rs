//! The last step: have ship deliver what the log files hold.

use std::thread;
use std::time::Duration;

use super::{Drain, Step};
use crate::budget::Budget;
use crate::figures::How;
use crate::sidecar::{Sidecar, each};

/// How the flush ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Flushed {
    Delivered,
    /// No ship in this pod.
    Absent,
    /// What is left, as a part of a sentence.
    Pending(String),
}

impl Drain {
    /// Has each ship flush, all at once. What is left, as a part of a sentence.
    pub(super) fn flush(&self) -> Option<String> {
        self.shared.progress.go_on();
        self.shared.progress.set("waiting for ship to flush");
        // Not shared between threads, so it is asked for beforehand.
        let has_share = !self.flush_share().is_zero();
        let (budget, started) = (self.budget, self.budget.spent());
        let ended = each(&self.config.ships, |ship| flushed(ship, &budget, has_share));
        let mut pending = Vec::new();
        for (ship, end) in self.config.ships.iter().zip(ended) {
            let ship = &ship.target;
            let (how, detail) = match end {
                Flushed::Delivered => {
                    (How::Done, format!("{ship} has delivered every whole line that the logs held"))
                }
                Flushed::Absent => (How::Skipped, format!("no ship at {ship}: no logs to flush")),
                Flushed::Pending(what) => {
                    pending.push(what.clone());
                    (How::Failed, what)
                }
            };
            Step { started, ..self.step("flush") }.end(how, detail);
        }
        (!pending.is_empty()).then(|| pending.join("; "))
    }
}

/// Asks until there is an answer: a ship that was restarted just now takes a moment.
fn flushed(ship: &Sidecar, budget: &Budget, has_share: bool) -> Flushed {
    const PAUSE: Duration = Duration::from_millis(200);
    if budget.left().is_zero() && !has_share {
        return Flushed::Absent;
    }
    let mut known = ship.given;
    let mut last = format!("{} was not asked to flush: no time was left", ship.target);
    while !budget.left().is_zero() {
        let left = budget.left();
        let path = format!("/flush?wait={}ms", (left - margin(left)).as_millis());
        match ship.ask("POST", &path, budget.deadline(left, Duration::ZERO)) {
            Ok(answer) => match answer.status {
                200..300 => return Flushed::Delivered,
                504 => return Flushed::Pending(format!("logs not delivered: {}", told(&answer.body))),
                status => {
                    last = format!("logs not delivered: {} answered the flush with {status}", ship.target);
                    // It will never flush: it is something else, at the default address of no concern to us.
                    match (status < 500, ship.given) {
                        (true, true) => return Flushed::Pending(last),
                        (true, false) => return Flushed::Absent,
                        (false, _) => {}
                    }
                }
            },
            Err(error) if !known && error.is_refused() => return Flushed::Absent,
            Err(error) => last = format!("logs not delivered: {}", podkit_cli::chain(&error)),
        }
        known = true;
        thread::sleep(PAUSE.min(budget.left()));
    }
    Flushed::Pending(last)
}

/// What ship's answer gets for its way, so that we hear what is pending rather than nothing.
fn margin(left: Duration) -> Duration {
    const MOST: Duration = Duration::from_millis(500);
    (left / 5).min(MOST)
}

/// Ship's answer as a part of one line.
fn told(body: &[u8]) -> String {
    /// Longer lines are cut by the container runtimes' logs or drown the rest.
    const MOST: usize = 400;
    let text = String::from_utf8_lossy(body);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.is_empty() => "ship does not say what is pending".to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_one_short_line() {
        assert_eq!(told(b"{\n  \"pending\": 3\n}\n"), "{ \"pending\": 3 }");
        assert_eq!(told(b""), "ship does not say what is pending");
        assert_eq!(told("ä".repeat(500).as_bytes()).chars().count(), 401);
    }

    #[test]
    fn the_answer_has_time_to_come_back() {
        assert_eq!(margin(Duration::from_secs(20)), Duration::from_millis(500));
        assert_eq!(margin(Duration::from_millis(100)), Duration::from_millis(20));
    }
}
