//! One termination against time, as text of at most 100 columns that needs no colour.
//!
//! A row for each thing that matters, a list of what happened when, and the whole beside a fixed `sleep 15`.

use std::{fmt::Write, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::{life::Outcome, samples::Sample, verdict::after};
use crate::termination::{Event, Step};

/// Of the names of the rows, and of the bars.
const NAME: usize = 24;
const BAR: usize = 72;

/// What is shown of the time before.
const BEFORE: Duration = Duration::from_millis(500);

/// The fixed time that podkit-drain stands in for.
const SLEEP: Duration = Duration::from_secs(15);

/// The whole picture.
pub(crate) fn draw(outcome: &Outcome) -> String {
    let scale = Scale::of(outcome);
    let mut text = String::from("\n");
    let mut row = |name: &str, bar: Vec<char>| {
        let bar: String = bar.into_iter().collect();
        writeln!(text, "  {name:<NAME$}{}", bar.trim_end()).expect("a String takes all text");
    };
    row("seconds", scale.ruler());
    row("endpoints list the pod", scale.span(None, Some(outcome.start + outcome.plan.late), '#'));
    row(
        "the pod is ready",
        scale.each(&outcome.samples, |sample| Some(if sample.ready? { '#' } else { '.' })),
    );
    row("new connections", scale.counts(&outcome.seen.connects));
    row("requests in flight", scale.each(&outcome.samples, |sample| sample.in_flight.map(digit)));
    for kind in ["request", "WebSocket"] {
        let mut bar = scale.empty();
        for (_, from, to) in outcome.seen.long.iter().filter(|(other, ..)| *other == kind) {
            scale.fill(&mut bar, *from, *to, '=');
        }
        row(if kind == "request" { "long requests" } else { "WebSockets" }, bar);
    }
    row("the log backend", backend(outcome, &scale));
    row(
        "lines not delivered",
        scale.each(&outcome.samples, |sample| Some(if sample.pending? > 0 { '#' } else { '.' })),
    );
    row("podkit-drain", hook(outcome, &scale));
    for container in ["app", "proxy", "ship"] {
        row(container, life(outcome, &scale, container));
    }
    text.push_str(
        "\n  podkit-drain: q waits for quiet, f has ship flush    containers: = runs, T SIGTERM, x ends\n",
    );
    text.push_str("  the backend:  x answers 503                          counts:     . none\n\n");
    for (at, what) in story(outcome) {
        writeln!(text, "  {:>9}  {what}", after(outcome.start, at)).expect("a String takes all text");
    }
    let (took, stop) = (outcome.took().as_secs_f64(), outcome.stop_took().as_secs_f64());
    let sleep = SLEEP.as_secs_f64();
    writeln!(
        text,
        "\n  from preStop to the last exit: {took:.1} s, with {} requests and {} failed\n  \
         with a fixed `sleep 15`:       {:.1} s whatever the clients do: {sleep:.0} s, and the same {stop:.1} s",
        outcome.seen.sent,
        outcome.seen.failed.len(),
        sleep + stop,
    )
    .expect("a String takes all text");
    text
}

/// What happened, in order.
fn story(outcome: &Outcome) -> Vec<(Instant, String)> {
    let mut story = outcome.marks.clone();
    let mut add = |at: Option<Instant>, what: &str| story.extend(at.map(|at| (at, what.to_owned())));
    let samples = &outcome.samples;
    let unready = samples.iter().find(|sample| sample.at >= outcome.start && sample.ready == Some(false));
    add(unready.map(|sample| sample.at), "the proxy is unready; it goes on accepting and serving");
    add(outcome.seen.connects.iter().max().copied(), "the last new connection");
    add(outcome.seen.long.iter().map(|(_, _, end)| *end).max(), "the last long request or WebSocket is over");
    let last = samples.iter().rev().find(|sample| sample.in_flight.is_some_and(|count| count > 0));
    add(last.map(|sample| sample.at), "the last look that finds a request in flight");
    for (step, _, end, detail) in steps(outcome) {
        add(Some(end), &format!("podkit-drain, {step}: {detail}"));
    }
    for Event { at, container, step } in &outcome.events {
        let what = match step {
            Step::HookStarted => format!("preStop starts: podkit-drain, in the {container}'s container"),
            Step::HookEnded(end) => format!("podkit-drain has ended with {end}"),
            Step::HookGivenUp => "podkit-drain is given up: the grace period is over".into(),
            Step::Term => format!("SIGTERM to {container}"),
            Step::Ended(end) => format!("{container} has ended with {end}"),
        };
        story.push((*at, what));
    }
    story.sort_by_key(|(at, _)| *at);
    // Within 100 columns, and no address of this machine's.
    story.into_iter().map(|(at, what)| (at, shorten(&what))).collect()
}

fn shorten(what: &str) -> String {
    const MOST: usize = 84;
    match what.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &what[..end]),
        None => what.to_owned(),
    }
}

/// The steps of podkit-drain as its report has them, one after the other.
fn steps(outcome: &Outcome) -> Vec<(String, Instant, Instant, String)> {
    let started = outcome.events.iter().find(|event| event.step == Step::HookStarted);
    let (Some(started), Some(report)) = (started, outcome.volumes.report("drain")) else { return Vec::new() };
    // What is left of the budget is told at the end of each step, and so tells when that was.
    let budget = report["budget_seconds"].as_f64().unwrap_or_default();
    let step = |step: &Value| {
        let seconds = |key: &str| step[key].as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
        let end = Duration::from_secs_f64((budget - seconds("left_seconds")?).max(0.0));
        let begin = end.saturating_sub(Duration::from_secs_f64(seconds("seconds")?));
        let text = |key: &str| step[key].as_str().map(str::to_owned);
        Some((text("step")?, started.at + begin, started.at + end, text("detail")?))
    };
    report["steps"].as_array().into_iter().flatten().filter_map(step).collect()
}

fn hook(outcome: &Outcome, scale: &Scale) -> Vec<char> {
    let mut bar = scale.empty();
    for (step, from, to, _) in steps(outcome) {
        scale.fill(&mut bar, from, to, step.chars().next().unwrap_or('?'));
    }
    bar
}

fn backend(outcome: &Outcome, scale: &Scale) -> Vec<char> {
    let mut bar = scale.span(None, None, '#');
    if let Some(outage) = outcome.plan.outage {
        let end = outage.until.map_or(scale.end, |until| outcome.start + until);
        scale.fill(&mut bar, outcome.start - outage.lead, end, 'x');
    }
    bar
}

fn life(outcome: &Outcome, scale: &Scale, container: &str) -> Vec<char> {
    let at = |wanted: fn(&Step) -> bool| {
        let mut events = outcome.events.iter();
        events.find(|event| event.container == container && wanted(&event.step)).map(|event| event.at)
    };
    let (term, end) = (at(|step| *step == Step::Term), at(|step| matches!(step, Step::Ended(_))));
    let mut bar = scale.span(None, end, '=');
    for (at, mark) in [(end, 'x'), (term, 'T')] {
        if let Some(column) = at.and_then(|at| scale.column(at)) {
            bar[column] = mark;
        }
    }
    bar
}

fn digit(count: u64) -> char {
    match count {
        0 => '.',
        1..=9 => char::from_digit(u32::try_from(count).unwrap_or(9), 10).unwrap_or('+'),
        _ => '+',
    }
}

/// From times to columns.
struct Scale {
    zero: Instant,
    begin: Instant,
    end: Instant,
}

impl Scale {
    fn of(outcome: &Outcome) -> Self {
        let end = outcome.start + outcome.took();
        Self { zero: outcome.start, begin: outcome.start - BEFORE, end }
    }

    fn empty(&self) -> Vec<char> {
        vec![' '; BAR]
    }

    /// The column of a moment, if it is in the picture.
    fn column(&self, at: Instant) -> Option<usize> {
        let whole = (self.end - self.begin).as_secs_f64();
        let part = at.checked_duration_since(self.begin)?.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the bar's width"
        )]
        let column = (part / whole * (BAR - 1) as f64).round() as usize;
        (column < BAR).then_some(column)
    }

    fn fill(&self, bar: &mut [char], from: Instant, to: Instant, mark: char) {
        let Some(last) = self.column(to.min(self.end)) else { return };
        let first = self.column(from.max(self.begin)).unwrap_or(BAR);
        bar.iter_mut().take(last + 1).skip(first).for_each(|place| *place = mark);
    }

    fn span(&self, from: Option<Instant>, to: Option<Instant>, mark: char) -> Vec<char> {
        let mut bar = self.empty();
        self.fill(&mut bar, from.unwrap_or(self.begin), to.unwrap_or(self.end), mark);
        bar
    }

    /// What the samples say; a column between two of them is as the one before.
    fn each(&self, samples: &[Sample], look: impl Fn(&Sample) -> Option<char>) -> Vec<char> {
        let mut bar = self.empty();
        for (index, sample) in samples.iter().enumerate() {
            let next = samples.get(index + 1).map_or(sample.at, |next| next.at);
            if let Some(mark) = look(sample).filter(|_| next >= self.begin) {
                self.fill(&mut bar, sample.at, next, mark);
            }
        }
        bar
    }

    fn counts(&self, moments: &[Instant]) -> Vec<char> {
        let mut counts = vec![0; BAR];
        moments.iter().filter_map(|at| self.column(*at)).for_each(|column| counts[column] += 1);
        counts.into_iter().map(digit).collect()
    }

    /// `0    1    2    3`: each second at its column.
    fn ruler(&self) -> Vec<char> {
        let mut bar = self.empty();
        for second in 0_u32.. {
            let at = self.zero + Duration::from_secs(1) * second;
            let label = second.to_string();
            match self.column(at) {
                Some(column) if at <= self.end && column + label.len() <= BAR => {
                    bar.iter_mut().skip(column).zip(label.chars()).for_each(|(place, digit)| *place = digit);
                }
                _ => break,
            }
        }
        bar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(seconds: u64) -> Scale {
        let zero = Instant::now();
        Scale { zero, begin: zero - BEFORE, end: zero + Duration::from_secs(seconds) }
    }

    #[test]
    fn a_bar_is_as_long_as_its_time() {
        let scale = scale(7);
        let bar: String =
            scale.span(Some(scale.zero), Some(scale.zero + Duration::from_secs(2)), '#').iter().collect();
        let part = bar.matches('#').count() as f64 / BAR as f64;
        assert!((part - 2.0 / 7.5).abs() < 0.02, "{bar:?}");
        let before: String = scale.span(None, Some(scale.zero), '#').iter().collect();
        assert!(before.starts_with('#') && before.ends_with(' '), "{before:?}");
    }

    #[test]
    fn the_ruler_has_each_second_within_the_bar() {
        let ruler: String = scale(15).ruler().iter().collect();
        let seconds: Vec<_> = ruler.split_whitespace().collect();
        assert_eq!(seconds[..3], ["0", "1", "2"]);
        assert!(ruler.len() == BAR && seconds.len() >= 15, "{ruler:?}");
    }

    #[test]
    fn counts_are_digits() {
        assert_eq!([0, 3, 12].map(digit), ['.', '3', '+']);
    }
}
