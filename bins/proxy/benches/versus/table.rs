//! Medians, and tables that can be pasted into a text.

use crate::measure::Row;
use crate::peers::Peer;

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a Markdown table under a heading.
pub(crate) fn print(heading: &str, columns: &[&str], rows: &[Vec<String>]) {
    println!("\n{heading}\n\n| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

/// One line a peer, with its CPU beside HAProxy's.
pub(crate) fn print_requests(heading: &str, rows: &[Row]) {
    let cpu = |row: &Row| row.median(|sample| sample.cpu);
    let of = |peer| rows.iter().find(|row| row.peer == peer).map(cpu);
    let ratio =
        |row: &Row, peer| of(peer).map_or_else(|| "?".to_owned(), |other| format!("{:.2}", cpu(row) / other));
    let floor = of(Peer::Bare).is_some();
    let mut columns =
        vec!["", "CPU us", "of haproxy", "least us", "requests/s", "p50 us", "p99 us", "RSS MB"];
    if floor {
        columns.insert(3, "of bare");
    }
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut line = vec![
                row.peer.name().to_owned(),
                format!("{:.2}", cpu(row)),
                ratio(row, Peer::HaProxy),
                format!("{:.2}", row.samples.iter().map(|sample| sample.cpu).fold(f64::INFINITY, f64::min)),
                format!("{:.0}", row.median(|sample| sample.per_second)),
                format!("{:.0}", row.median(|sample| sample.p50)),
                format!("{:.0}", row.median(|sample| sample.p99)),
                format!("{:.1}", row.median(|sample| sample.resident) / 1e6),
            ];
            if floor {
                line.insert(3, ratio(row, Peer::Bare));
            }
            line
        })
        .collect();
    print(heading, &columns, &lines);
}
