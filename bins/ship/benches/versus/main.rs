//! What shipping costs: podkit-ship beside rsyslog, and beside the least that any shipper must do.
//!
//! ```text
//!   cargo bench -p podkit-ship --bench versus                    all scenarios
//!   cargo bench -p podkit-ship --bench versus -- files           the cost of followed files
//!   cargo bench -p podkit-ship --bench versus -- --lines 100000 --runs 1
//!
//!   generated file ─► measured child: podkit-ship | rsyslogd | limit ─► sink: reads and discards, in this process
//!                          └─ CPU seconds and peak memory, by the kernel's own books of that child alone
//! ```

#![expect(clippy::print_stdout, reason = "the tables are what a bench is for")]

mod files;
mod input;
mod limit;
mod measure;
mod rival;
mod sink;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use measure::{Cost, median};
use sink::{Does, Sink};

/// What goes wrong ends the bench with one sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The binary under test, as the bench profile builds it.
const SHIP: &str = env!("CARGO_BIN_EXE_podkit-ship");

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        // This binary again, as a child of itself.
        [measure::ROLE, program @ ..] => return measure::child(program),
        [limit::ROLE, kind, compression, file] => limit::run(kind, compression, Path::new(file)),
        // `cargo test --all-targets` runs benches too, without `--bench`.
        words if !words.contains(&"--bench") => {
            println!("versus: run it with `cargo bench -p podkit-ship --bench versus`");
            Ok(())
        }
        words => Options::read(words).and_then(|options| {
            if words.contains(&"files") { files::run(&options) } else { versus(&options) }
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How much is measured.
struct Options {
    lines: usize,
    runs: usize,
    /// For how long files are followed.
    seconds: u64,
    /// Bulks are answered with an item for each event, also where few of its members are asked for.
    items: bool,
    /// Only scenarios with this text in their name.
    only: String,
}

impl Options {
    fn read(words: &[&str]) -> Result<Self> {
        let mut options = Self { lines: 1_000_000, runs: 5, seconds: 20, items: false, only: String::new() };
        let mut words = words.iter().filter(|word| !matches!(**word, "--bench" | "files"));
        while let Some(name) = words.next() {
            if *name == "--items" {
                options.items = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{name} has no value"))?;
            match *name {
                "--lines" => options.lines = value.parse()?,
                "--runs" => options.runs = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                "--only" => (*value).clone_into(&mut options.only),
                _ => {
                    return Err(
                        format!("{name} is not one of --lines, --runs, --seconds, --only, --items").into()
                    );
                }
            }
        }
        if options.lines == 0 || options.runs == 0 || options.seconds == 0 {
            return Err("nothing to measure".into());
        }
        Ok(options)
    }
}

/// One row of the table.
struct Scenario {
    name: &'static str,
    input: Input,
    who: Who,
    /// The row that this one is compared with.
    limit: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Input {
    Text,
    Json,
}

enum Who {
    /// podkit-ship, to this URL, where `SINK` stands for the sink's address, and with this compression.
    Ship(&'static str, &'static str),
    /// A loop that reads, splits, wraps and compresses.
    Limit(&'static str),
    Rsyslog,
}

const HTTP: &str = "http://SINK/logs";
const SEARCH: &str = "elasticsearch+http://SINK";

const LIMIT_ZSTD: &str = "limit: text, zstd 1";
const LIMIT_GZIP: &str = "limit: text, gzip 1";
const LIMIT_JSON: &str = "limit: JSON, zstd 1";

const SCENARIOS: &[Scenario] = &[
    row(LIMIT_ZSTD, Input::Text, Who::Limit("zstd"), LIMIT_ZSTD),
    row(LIMIT_GZIP, Input::Text, Who::Limit("gzip"), LIMIT_GZIP),
    row(LIMIT_JSON, Input::Json, Who::Limit("zstd"), LIMIT_JSON),
    row("podkit-ship: text, http, zstd", Input::Text, Who::Ship(HTTP, "zstd"), LIMIT_ZSTD),
    row("podkit-ship: text, http, gzip", Input::Text, Who::Ship(HTTP, "gzip"), LIMIT_GZIP),
    row("podkit-ship: JSON, http, zstd", Input::Json, Who::Ship(HTTP, "zstd"), LIMIT_JSON),
    row("podkit-ship: text, elasticsearch, gzip", Input::Text, Who::Ship(SEARCH, "gzip"), LIMIT_GZIP),
    row("rsyslogd: text, elasticsearch", Input::Text, Who::Rsyslog, LIMIT_GZIP),
];

const fn row(name: &'static str, input: Input, who: Who, limit: &'static str) -> Scenario {
    Scenario { name, input, who, limit }
}

fn versus(options: &Options) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let text = dir.path().join("text.log");
    let json = dir.path().join("json.log");
    let sizes = (input::text(&text, options.lines)?, input::json(&json, options.lines)?);
    let of = |input| if input == Input::Text { text.as_path() } else { json.as_path() };
    let lines = options.lines;
    println!("{lines} lines of text, {} bytes; {lines} of JSON, {} bytes", sizes.0, sizes.1);
    let mut scenarios: Vec<(&Scenario, Vec<Cost>)> = Vec::new();
    for scenario in SCENARIOS {
        let is_wanted = scenario.name.contains(&options.only)
            || SCENARIOS
                .iter()
                .any(|other| other.limit == scenario.name && other.name.contains(&options.only));
        if !is_wanted {
            continue;
        }
        // Once with a sink that counts, so that what is measured is known to do its work.
        let rehearsal = Does { count: true, items: options.items };
        if let Err(why) = once(scenario, dir.path(), of(scenario.input), lines, rehearsal) {
            println!("{}: left out: {why}", scenario.name);
            continue;
        }
        scenarios.push((scenario, Vec::new()));
    }
    // Interleaved, so that what else the machine does falls on all alike.
    for run in 1..=options.runs {
        for (scenario, costs) in &mut scenarios {
            let does = Does { count: false, items: options.items };
            costs.push(once(scenario, dir.path(), of(scenario.input), lines, does)?);
        }
        println!("run {run} of {} done", options.runs);
    }
    print_table(&scenarios, lines);
    Ok(())
}

/// Runs a scenario once. Where the sink counts, all must arrive.
fn once(scenario: &Scenario, dir: &Path, file: &Path, lines: usize, does: Does) -> Result<Cost> {
    let work: PathBuf = tempfile::tempdir_in(dir)?.keep();
    // rsyslogd does not end by itself: there, lines are always counted.
    let sink = Sink::start(Does { count: does.count || matches!(scenario.who, Who::Rsyslog), ..does })?;
    let cost = match &scenario.who {
        Who::Limit(compression) => {
            let kind = if scenario.input == Input::Text { "text" } else { "json" };
            let file = file.display().to_string();
            return measure::of_this(&[limit::ROLE, kind, compression, &file]);
        }
        Who::Ship(to, compression) => {
            let config = work.join("ship.yaml").display().to_string();
            std::fs::write(&config, ship_config(&work, file))?;
            let to = to.replace("SINK", &sink.address());
            let words = [SHIP, "--once", "--admin", "off", "--config", &config, "--to", &to];
            measure::of(&[&words[..], &["--compression", compression]].concat())?
        }
        Who::Rsyslog => rival::rsyslog(&work, file, &sink, lines)?,
    };
    if sink.counts() && sink.lines() < lines {
        return Err(format!("{} of {lines} lines arrived", sink.lines()).into());
    }
    Ok(cost)
}

/// With `file` these are the four constant fields of all contestants.
fn ship_config(work: &Path, file: &Path) -> String {
    format!(
        "state_dir: {}/state\nsources:\n  - include: [{}]\n    \
         fields: {{service: shop, pod: web-7d4b9c-x2x1z, namespace: prod}}\n",
        work.display(),
        file.display()
    )
}

fn print_table(scenarios: &[(&Scenario, Vec<Cost>)], lines: usize) {
    let cpu = |costs: &[Cost]| median(costs.iter().map(|cost| cost.cpu));
    println!();
    println!("| medians | CPU s | lines/s per core | peak MB | of the limit |");
    println!("|---|---|---|---|---|");
    for (scenario, costs) in scenarios {
        let seconds = cpu(costs);
        let limit = scenarios.iter().find(|(other, _)| other.name == scenario.limit);
        let share =
            limit.map_or_else(|| "?".to_owned(), |(_, of)| format!("{:.0} %", cpu(of) / seconds * 100.0));
        let peak = median(costs.iter().map(|cost| cost.peak as f64)) / 1e6;
        let pace = lines as f64 / seconds;
        println!("| {} | {seconds:.2} | {pace:.0} | {peak:.1} | {share} |", scenario.name);
    }
}
