//! What is not met yet, why, and since when it should have been. Pure; bounds what is told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use podkit_lifecycle::Deadline;

use crate::config::Wait;
use crate::secrets::Secrets;

/// In bytes, for one reason: a program or a server may say anything.
const MAX_REASON: usize = 300;
/// In bytes, for all that is missing: within the 4 KiB that the kubelet keeps of a termination message.
const MAX_LIST: usize = 3000;

/// The conditions that are not met yet.
pub(super) struct Missing<'a> {
    secrets: &'a Secrets,
    open: BTreeMap<usize, Open<'a>>,
}

struct Open<'a> {
    wait: &'a Wait,
    /// Its own.
    deadline: Option<Deadline>,
    reason: Option<String>,
}

impl<'a> Missing<'a> {
    /// All of them; their own deadlines begin now.
    pub(super) fn new(conditions: &'a [Wait], secrets: &'a Secrets) -> Self {
        let open = conditions.iter().map(|wait| Open {
            wait,
            deadline: wait.deadline.map(Deadline::after),
            reason: None,
        });
        Self { secrets, open: open.enumerate().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn deadline(&self, index: usize) -> Option<Deadline> {
        self.open.get(&index)?.deadline
    }

    pub(super) fn met(&mut self, index: usize) {
        self.open.remove(&index);
    }

    /// The reason as it may be told.
    pub(super) fn missed(&mut self, index: usize, reason: &str) -> String {
        let reason = clip(&self.secrets.mask(reason), MAX_REASON);
        if let Some(open) = self.open.get_mut(&index) {
            open.reason = Some(reason.clone());
        }
        reason
    }

    /// The condition whose own deadline passed first, if one has: how long that was, and what was waited for.
    pub(super) fn overdue(&self) -> Option<(Duration, String)> {
        let late =
            self.open.iter().filter_map(|(index, open)| Some((open.deadline?, open.wait.deadline?, *index)));
        let (_, budget, index) = late.filter(|(deadline, ..)| deadline.expired()).min()?;
        let mut during = format!("while waiting for {}", self.open[&index].told(self.secrets));
        if self.open.len() > 1 {
            let others = self.open.iter().filter(|(other, _)| **other != index).map(|(_, open)| open);
            during.push_str(&format!("; also missing: {}", list(others, self.secrets)));
        }
        Some((budget, during))
    }

    /// `tcp db:5432 (connection refused), file /ready (no such file or directory)`
    pub(super) fn list(&self) -> String {
        list(self.open.values(), self.secrets)
    }
}

impl Open<'_> {
    fn told(&self, secrets: &Secrets) -> String {
        let wait = self.wait.to_string();
        format!("{} ({})", secrets.mask(&wait), self.reason.as_deref().unwrap_or("no answer yet"))
    }
}

fn list<'a>(open: impl Iterator<Item = &'a Open<'a>>, secrets: &Secrets) -> String {
    let mut text = String::new();
    let mut more = 0;
    for open in open {
        let told = open.told(secrets);
        if more > 0 || (!text.is_empty() && text.len() + told.len() > MAX_LIST) {
            more += 1;
            continue;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&clip(&told, MAX_LIST));
    }
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    text
}

/// The beginning of a text that is longer.
fn clip(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Condition, Until};

    fn wait(name: &str, until: Until, deadline: Option<Duration>) -> Wait {
        let condition = Condition::Dns(name.to_owned());
        Wait { condition, until, deadline, interval: Duration::ZERO, timeout: Duration::ZERO }
    }

    #[test]
    fn each_is_told_with_its_last_reason() {
        let secrets = Secrets::default();
        let all =
            [wait("a", Until::There, None), wait("b", Until::Gone, None), wait("c", Until::There, None)];
        let mut missing = Missing::new(&all, &secrets);
        missing.missed(1, "one");
        missing.missed(1, "two");
        assert_eq!(missing.list(), "dns a (no answer yet), dns b to be gone (two), dns c (no answer yet)");
        missing.met(0);
        missing.missed(0, "too late");
        assert_eq!((missing.len(), missing.overdue()), (2, None));
        assert_eq!(missing.list(), "dns b to be gone (two), dns c (no answer yet)");
    }

    #[test]
    fn the_first_that_is_overdue_is_named_and_the_others_beside_it() {
        let secrets = Secrets::default();
        let millis = |number| Some(Duration::from_millis(number));
        let all = [
            wait("a", Until::There, None),
            wait("b", Until::There, millis(0)),
            wait("c", Until::There, millis(3_600_000)),
        ];
        let mut missing = Missing::new(&all, &secrets);
        let during = "while waiting for dns b (no answer yet); also missing: dns a (no answer yet), dns c (no answer yet)";
        assert_eq!(missing.overdue(), Some((Duration::ZERO, during.to_owned())));
        missing.met(1);
        assert_eq!(missing.overdue(), None);
    }

    #[test]
    fn what_is_told_is_bounded() {
        let secrets = Secrets::default();
        let all: Vec<Wait> =
            (0..100).map(|n| wait(&format!("{n}.{}", "é".repeat(100)), Until::There, None)).collect();
        let mut missing = Missing::new(&all, &secrets);
        for index in 0..100 {
            missing.missed(index, &"é".repeat(10_000));
        }
        let list = missing.list();
        assert!(list.len() < MAX_LIST + 50, "{}", list.len());
        assert!(list.ends_with("…), and 95 more"), "{list}");
        let one = [wait(&"x".repeat(10_000), Until::There, None)];
        assert!(Missing::new(&one, &secrets).list().len() < MAX_LIST + 50);
    }
}
