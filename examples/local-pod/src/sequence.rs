//! Sequence numbers: found in a log line, and tallied as they arrive.
//!
//! The app numbers its lines 1, 2, 3 … so that a gap is a lost line and a repeat is a duplicate. Pure: it
//! neither reads files nor sockets.
//!
//! A *wave* is one life of ship: wave 0 until the first kill, wave 1 until the second, and so on. A line that
//! arrives again in a later wave, and was never acknowledged before, was in flight at the kill: ship had sent it, but
//! died before the answer. If it was acknowledged, the kill came between the answer and the checkpoint. A line that
//! arrives again in the same wave has no such excuse.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The number of a record as ship delivers it: a JSON line keeps its `seq` at the top level, a text line
/// carries `seq=N` in its `message`.
pub(crate) fn of_record(record: &Value) -> Option<u64> {
    match record.get("seq") {
        Some(seq) => seq.as_u64(),
        None => of_text(record.get("message")?.as_str()?),
    }
}

/// The number of a line as the app wrote it.
pub(crate) fn of_line(line: &str) -> Option<u64> {
    if line.starts_with('{') {
        return of_record(&serde_json::from_str(line).ok()?);
    }
    of_text(line)
}

fn of_text(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix("seq="))?.parse().ok()
}

/// What has arrived so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The last arrival of each line.
    seen: BTreeMap<u64, Arrival>,
    repeats: BTreeMap<usize, Repeats>,
    unexplained: u64,
}

#[derive(Debug)]
struct Arrival {
    wave: usize,
    acknowledged: bool,
}

/// Second arrivals after a kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repeats {
    /// Of lines whose batch was not yet answered at the kill.
    pub(crate) in_flight: u64,
    /// Of lines whose batch was answered, but perhaps not yet in ship's checkpoint.
    pub(crate) acknowledged: u64,
}

impl Tally {
    /// Counts one arrival in `wave`.
    pub(crate) fn arrived(&mut self, seq: u64, wave: usize) {
        let Some(before) = self.seen.insert(seq, Arrival { wave, acknowledged: false }) else { return };
        if before.wave == wave {
            self.unexplained += 1;
            return;
        }
        // The kill that ended the wave of the earlier arrival, however late the line comes again.
        let repeats = self.repeats.entry(before.wave + 1).or_default();
        *(if before.acknowledged { &mut repeats.acknowledged } else { &mut repeats.in_flight }) += 1;
    }

    /// The answer for this line is on its way.
    pub(crate) fn acknowledged(&mut self, seq: u64) {
        if let Some(arrival) = self.seen.get_mut(&seq) {
            arrival.acknowledged = true;
        }
    }

    /// Different lines so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Compares with what was `written`.
    pub(crate) fn compare(&self, written: &BTreeSet<u64>) -> Delivery {
        Delivery {
            delivered: written.iter().filter(|seq| self.seen.contains_key(seq)).count() as u64,
            lost: runs(written.iter().copied().filter(|seq| !self.seen.contains_key(seq))),
            never_written: self.seen.keys().filter(|seq| !written.contains(seq)).count() as u64,
            repeats: self.repeats.clone(),
            unexplained: self.unexplained,
        }
    }
}

/// What arrived, beside what was written.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Delivery {
    /// Different lines that were written and have arrived.
    pub(crate) delivered: u64,
    /// Lines that were written and never arrived, as runs from first to last.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Numbers that arrived although the app never wrote them.
    pub(crate) never_written: u64,
    /// Second arrivals after the kill of that number.
    pub(crate) repeats: BTreeMap<usize, Repeats>,
    /// Second arrivals without a kill in between.
    pub(crate) unexplained: u64,
}

impl Delivery {
    /// How many lines never arrived.
    pub(crate) fn lost_lines(&self) -> u64 {
        self.lost.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// All second arrivals.
    pub(crate) fn duplicates(&self) -> u64 {
        let explained = self.repeats.values().map(|repeats| repeats.in_flight + repeats.acknowledged);
        explained.sum::<u64>() + self.unexplained
    }
}

/// Joins ascending numbers into runs.
fn runs(numbers: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

/// `[(3, 5), (9, 9)]` as `3-5, 9`, at most `most` runs.
pub(crate) fn show_runs(runs: &[(u64, u64)], most: usize) -> String {
    let mut shown: Vec<String> = runs
        .iter()
        .take(most)
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    if runs.len() > most {
        shown.push(format!("and {} more runs", runs.len() - most));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tally(arrivals: &[(&[u64], usize)]) -> Tally {
        let mut tally = Tally::default();
        for (numbers, wave) in arrivals {
            numbers.iter().for_each(|&seq| tally.arrived(seq, *wave));
        }
        tally
    }

    #[test]
    fn a_number_is_found_in_text_and_in_json() {
        assert_eq!(of_line("INFO seq=17 GET /hello"), Some(17));
        assert_eq!(of_line(r#"{"level":"info","seq":18}"#), Some(18));
        assert_eq!(of_record(&json!({"message": "INFO seq=19 GET", "file": "app.log"})), Some(19));
        assert_eq!(of_record(&json!({"seq": 20, "message": "INFO seq=19"})), Some(20));
        assert_eq!(of_record(&json!({"seq": "20"})), None);
        assert_eq!(of_line("sequence=4 seq=x"), None);
        assert_eq!(of_line("{torn"), None);
    }

    #[test]
    fn a_gap_is_a_lost_line() {
        let tally = tally(&[(&[1, 2, 6, 8], 0)]);
        let delivery = tally.compare(&(1..=8).collect());
        assert_eq!((delivery.delivered, delivery.lost_lines()), (4, 4));
        assert_eq!(show_runs(&delivery.lost, 8), "3-5, 7");
        assert_eq!(show_runs(&delivery.lost, 1), "3-5, and 1 more runs");
    }

    #[test]
    fn a_repeat_is_explained_by_the_kill_before_it() {
        let mut tally = tally(&[(&[1, 2, 3], 0)]);
        tally.acknowledged(2);
        for (seq, wave) in [(2, 1), (3, 2), (4, 1), (4, 1), (4, 2), (5, 2)] {
            tally.arrived(seq, wave);
        }
        let delivery = tally.compare(&(1..=5).collect());
        let repeats = |in_flight, acknowledged| Repeats { in_flight, acknowledged };
        assert_eq!(delivery.repeats, BTreeMap::from([(1, repeats(1, 1)), (2, repeats(1, 0))]));
        assert_eq!((delivery.unexplained, delivery.duplicates(), delivery.lost_lines()), (1, 4, 0));
    }

    #[test]
    fn a_number_that_nobody_wrote_is_told() {
        let tally = tally(&[(&[1, 9], 0)]);
        assert_eq!(tally.compare(&BTreeSet::from([1])).never_written, 1);
    }
}
