//! The closing table, and the verdict: what was sent, written, delivered and lost.
//!
//! It turns what was seen into text, and starts nothing. Whether the demo's exit code is 0 or 1 is decided here, by
//! [`Report::problems`] alone.

use std::{fmt::Write, time::Duration};

use serde_json::Value;

use crate::{
    backend::Stored,
    error::Error,
    kubelet::Life,
    pod::End,
    sequence,
    sequence::{Delivery, Repeats},
    volumes::{Volumes, Written},
};

/// Everything that the table tells.
#[derive(Debug)]
pub(crate) struct Report {
    life: Life,
    written: Written,
    delivery: Delivery,
    batches: u64,
    malformed: Vec<String>,
    /// What ship itself says that it did.
    ledger: Option<Value>,
    total: Duration,
}

impl Report {
    pub(crate) fn new(
        life: Life,
        volumes: &Volumes,
        stored: &Stored,
        total: Duration,
    ) -> Result<Self, Error> {
        let (written, ledger) = (volumes.written()?, volumes.ledger());
        let delivery = stored.tally.compare(&written.numbers);
        let malformed = stored.malformed.clone();
        Ok(Self { life, written, delivery, batches: stored.batches, malformed, ledger, total })
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let (load, delivery) = (&self.life.load, &self.delivery);
        let mut table = Table::default();
        let clients = format!("{} on kept connections, {} answers said: close", load.on_kept, load.sent_away);
        table.row("requests sent", load.sent, &clients);
        table.row("requests failed", load.failures(), "");
        let slow = format!("median; 99 of 100 within {}", milliseconds(load.percentile(99)));
        table.row("answer time", milliseconds(load.percentile(50)), &slow);
        table.gap();
        let files = format!("in {} files, the last line without a newline", self.written.files);
        table.row("lines written", self.written.numbers.len(), &files);
        table.row("lines delivered", delivery.delivered, &format!("in {} batches", self.batches));
        table.row("lines duplicated", delivery.duplicates(), &self.duplicates());
        table.row("lines lost", delivery.lost_lines(), &sequence::show_runs(&delivery.lost, SHOWN_RUNS));
        if let Some(ledger) = &self.ledger {
            let count = |key: &str| ledger[key].as_u64().unwrap_or_default();
            let note = format!("bytes read of {} written; {} pending", self.written.bytes, count("pending"));
            table.row("ledger of ship", count("read"), &note);
        }
        table.gap();
        for (phase, took) in &self.life.phases {
            table.row(&format!("phase {phase}"), seconds(*took), "");
        }
        table.row("in all", seconds(self.total), "from first to last");
        table.gap();
        for (process, end) in &self.life.ends {
            let kills = if *process == "ship" { self.kills() } else { String::new() };
            table.row(&format!("exit of {process}"), end, &kills);
        }
        table.text
    }

    /// Everything that must not be, one line each. None means exit code 0.
    pub(crate) fn problems(&self) -> Vec<String> {
        let (life, delivery) = (&self.life, &self.delivery);
        let mut problems: Vec<String> = life.trouble.iter().map(|error| podkit_cli::chain(error)).collect();
        problems.extend(life.faults.iter().cloned());
        if life.trouble.is_some() {
            // What is missing after that is missing because of it.
            return problems;
        }
        problems.extend(
            life.load.failed.iter().map(|(reason, count)| format!("failed requests: {count} with {reason}")),
        );
        if delivery.lost_lines() > 0 {
            let runs = sequence::show_runs(&delivery.lost, SHOWN_RUNS);
            problems.push(format!("lost lines: {}, with the numbers {runs}", delivery.lost_lines()));
        }
        if delivery.never_written > 0 {
            problems.push(format!("lines that arrived and were never written: {}", delivery.never_written));
        }
        problems.extend(self.malformed.iter().map(|fault| format!("the backend got {fault}")));
        problems.extend(self.bad_ends().map(|(process, end)| format!("{process} ended with {end}")));
        problems
    }

    /// The processes whose output is worth a look.
    pub(crate) fn suspects(&self) -> Vec<&'static str> {
        let mut suspects: Vec<_> = self.life.trouble.iter().filter_map(Error::process).collect();
        if self.life.trouble.is_some() {
            return suspects;
        }
        suspects.extend(self.bad_ends().map(|(process, _)| process));
        if suspects.is_empty() && self.life.load.failures() > 0 {
            suspects.push("proxy");
        }
        if suspects.is_empty() && (self.delivery.lost_lines() > 0 || !self.malformed.is_empty()) {
            suspects.push("ship");
        }
        suspects
    }

    fn bad_ends(&self) -> impl Iterator<Item = (&'static str, End)> {
        self.life.ends.iter().copied().filter(|(_, end)| !end.is_clean())
    }

    fn duplicates(&self) -> String {
        let mut told = Vec::new();
        for kill in 1..=self.life.kills {
            let Repeats { in_flight, acknowledged } =
                self.delivery.repeats.get(&kill).copied().unwrap_or_default();
            told.push(format!("{in_flight} in flight at kill {kill}"));
            if acknowledged > 0 {
                told.push(format!("{acknowledged} acknowledged just before kill {kill}"));
            }
        }
        if self.delivery.unexplained > 0 {
            told.push(format!(
                "{} without a kill: sent again after an answer got lost?",
                self.delivery.unexplained
            ));
        }
        told.join(", ")
    }

    fn kills(&self) -> String {
        match self.life.kills {
            0 => String::new(),
            kills => format!("after {kills} kills on purpose and as many restarts"),
        }
    }
}

/// A few runs show where it happened.
const SHOWN_RUNS: usize = 6;

#[derive(Default)]
struct Table {
    text: String,
}

impl Table {
    fn row(&mut self, name: &str, value: impl ToString, note: &str) {
        let value = value.to_string();
        let line = format!("  {name:<18}{value:>10}   {note}");
        writeln!(self.text, "{}", line.trim_end()).expect("a String takes all text");
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load::Counts, sequence::Tally};

    fn report(life: Life, arrived: &[(u64, usize)]) -> Report {
        let mut tally = Tally::default();
        arrived.iter().for_each(|&(seq, wave)| tally.arrived(seq, wave));
        let mut stored = Stored::default();
        stored.tally = tally;
        let volumes = Volumes::create(None).unwrap();
        volumes.write("logs/app.log", "INFO seq=1 a\n{\"seq\":2}\nINFO seq=3 c").unwrap();
        Report::new(life, &volumes, &stored, Duration::from_secs(9)).unwrap()
    }

    fn value<'a>(table: &'a str, name: &str) -> &'a str {
        let row = table.lines().find_map(|line| line.trim_start().strip_prefix(name)).expect(name);
        row.split("   ").map(str::trim).find(|part| !part.is_empty()).expect(name)
    }

    #[test]
    fn a_whole_life_has_no_problems() {
        let life = Life { ends: vec![("seed", End::Code(0)), ("ship", End::Code(0))], ..Life::default() };
        let report = report(life, &[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(report.problems(), Vec::<String>::new());
        assert_eq!(value(&report.table(), "lines delivered"), "3");
    }

    #[test]
    fn a_lost_line_is_a_problem_and_points_at_ship() {
        let report = report(Life::default(), &[(1, 0), (3, 0)]);
        assert_eq!(report.problems(), ["lost lines: 1, with the numbers 2"]);
        assert_eq!(report.suspects(), ["ship"]);
        assert_eq!(value(&report.table(), "lines lost"), "1");
    }

    #[test]
    fn a_failed_request_is_a_problem_with_its_reason() {
        let load = Counts { sent: 2, failed: [("503 on /hello".into(), 1)].into(), ..Counts::default() };
        let report = report(Life { load, ..Life::default() }, &[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(report.problems(), ["failed requests: 1 with 503 on /hello"]);
        assert_eq!(report.suspects(), ["proxy"]);
    }

    #[test]
    fn a_process_that_did_not_end_with_0_is_a_problem() {
        let ends = vec![("app", End::Code(0)), ("ship", End::Code(75)), ("proxy", End::Overdue)];
        let report = report(Life { ends, ..Life::default() }, &[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(
            report.problems(),
            ["ship ended with 75", "proxy ended with SIGKILL after the grace period"]
        );
        assert_eq!(report.suspects(), ["ship", "proxy"]);
    }

    #[test]
    fn a_life_cut_short_says_why_and_no_more() {
        let trouble = Some(Error::Interrupted);
        let report = report(Life { trouble, ..Life::default() }, &[(1, 0), (2, 0)]);
        assert_eq!(report.problems(), ["interrupted"]);
        assert!(report.suspects().is_empty());
    }

    #[test]
    fn who_ended_too_early_is_told_once_and_suspected() {
        let trouble = Some(Error::Ended { process: "ship", end: "1".into(), when: "under load" });
        let life = Life { trouble, ends: vec![("ship", End::Code(1))], ..Life::default() };
        let report = report(life, &[(1, 0)]);
        assert_eq!(report.problems(), ["ship ended with 1 under load"]);
        assert_eq!(report.suspects(), ["ship"]);
    }

    #[test]
    fn duplicates_are_no_problem_and_are_explained() {
        let life = Life { kills: 2, ..Life::default() };
        let report = report(life, &[(1, 0), (2, 0), (2, 1), (3, 2)]);
        assert_eq!(report.problems(), Vec::<String>::new());
        let table = report.table();
        assert_eq!(value(&table, "lines duplicated"), "1");
        assert!(table.contains("1 in flight at kill 1, 0 in flight at kill 2"), "{table}");
    }
}
