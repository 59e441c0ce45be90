//! The closing table of a rehearsal: one row for each way in which pods ended.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use super::{life::Outcome, plan::Way, verdict};

/// What became of the pods of one way.
#[derive(Debug, Default)]
struct Row {
    pods: usize,
    sent: u64,
    failed: usize,
    written: usize,
    /// Of pods whose backend came back.
    lost: u64,
    /// Bytes that ship said were left, where the backend never came back.
    pending: u64,
    stranded: usize,
    kills: usize,
    crossed: usize,
    took: Vec<Duration>,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: BTreeMap<Way, Row>,
}

impl Table {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let row = self.rows.entry(outcome.plan.way).or_default();
        row.pods += 1;
        row.sent += outcome.seen.sent;
        row.failed += outcome.seen.failed.len();
        row.written += outcome.written.numbers.len();
        row.kills += verdict::kills(outcome);
        row.crossed += outcome.seen.crossed.len();
        if outcome.plan.can_deliver() {
            row.lost += outcome.delivery.lost_lines();
            row.took.push(outcome.took());
        } else {
            row.stranded += 1;
            row.pending +=
                outcome.ledger.as_ref().and_then(|ledger| ledger["pending"].as_u64()).unwrap_or_default();
        }
    }

    pub(crate) fn pods(&self) -> usize {
        self.rows.values().map(|row| row.pods).sum()
    }

    /// Requests on idle connections that had no answer at all.
    pub(crate) fn crossed(&self) -> usize {
        self.rows.values().map(|row| row.crossed).sum()
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut put = |line: String| writeln!(text, "{}", line.trim_end()).expect("a String takes all text");
        put(format!(
            "  {:<25}{:>5}{:>10}{:>8}{:>9}{:>6}{:>9}   {}",
            "", "pods", "requests", "failed", "lines", "lost", "SIGKILL", "preStop to exit"
        ));
        for (way, row) in &self.rows {
            let mut took = row.took.clone();
            took.sort_unstable();
            let median = took.get(took.len() / 2).copied().unwrap_or_default();
            let most = took.last().copied().unwrap_or_default();
            put(format!(
                "  {:<25}{:>5}{:>10}{:>8}{:>9}{:>6}{:>9}   {} median, {} at most",
                way.name(),
                row.pods,
                row.sent,
                row.failed,
                row.written,
                row.lost,
                row.kills,
                seconds(median),
                seconds(most)
            ));
        }
        let stranded: usize = self.rows.values().map(|row| row.stranded).sum();
        if stranded > 0 {
            let pending: u64 = self.rows.values().map(|row| row.pending).sum();
            put(format!(
                "\n  of {stranded} pods the backend never came back: drain and ship ended with 75 and named what was\n  \
                 left, {pending} bytes; their time, a whole budget, is not among those above"
            ));
        }
        let crossed = self.crossed();
        if crossed > 0 {
            put(format!(
                "\n  {crossed} requests on long silent connections crossed the connection's end, had no answer, and are no\n  \
                 failures: clients send those again"
            ));
        }
        text
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
