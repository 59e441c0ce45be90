//! The fourth step: have ship deliver what the log files hold.

use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use super::Drain;
use crate::budget::show;

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
    /// Has ship flush. What is left, as a part of a sentence.
    pub(super) fn flush(&self) -> Option<String> {
        let started = self.budget.spent();
        self.progress.set("waiting for ship to flush");
        let end = self.flushed();
        let spent = show(self.budget.spent().saturating_sub(started));
        let left = show(self.budget.left());
        let ship = &self.config.ship.target;
        match end {
            Flushed::Delivered => {
                info!(
                    step = "flush",
                    spent, left, "{ship} has delivered every whole line that the logs held"
                );
                None
            }
            Flushed::Absent => {
                info!(step = "flush", spent, left, "no ship at {ship}: no logs to flush");
                None
            }
            Flushed::Pending(what) => {
                warn!(step = "flush", spent, left, "{what}");
                Some(what)
            }
        }
    }

    /// Asks until there is an answer: a ship that was restarted just now takes a moment.
    fn flushed(&self) -> Flushed {
        const PAUSE: Duration = Duration::from_millis(200);
        let ship = &self.config.ship;
        if self.budget.left().is_zero() && self.flush_share().is_zero() {
            return Flushed::Absent;
        }
        let mut known = ship.given;
        let mut last = format!("{} was not asked to flush: no time was left", ship.target);
        while !self.budget.left().is_zero() {
            let left = self.budget.left();
            let path = format!("/flush?wait={}ms", (left - margin(left)).as_millis());
            match ship.ask("POST", &path, self.budget.deadline(left, Duration::ZERO)) {
                Ok(answer) => match answer.status {
                    200..300 => return Flushed::Delivered,
                    504 => return Flushed::Pending(format!("logs not delivered: {}", told(&answer.body))),
                    status => {
                        last =
                            format!("logs not delivered: {} answered the flush with {status}", ship.target);
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
            thread::sleep(PAUSE.min(self.budget.left()));
        }
        Flushed::Pending(last)
    }
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
