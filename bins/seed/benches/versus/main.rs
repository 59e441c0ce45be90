//! What seeding costs, from the start of the process to its exit: a few templates, and many files beside `cp -r`.
//!
//! ```text
//!   cargo bench -p podkit-seed --bench versus
//!   cargo bench -p podkit-seed --bench versus -- --runs 5 --only 2000 --dir /dev/shm
//!
//!   inputs ─► measured child: podkit-seed | cp -r ─► a target that is new, or as the last run left it
//! ```

#![expect(clippy::print_stdout, reason = "the table is what a bench is for")]

mod measure;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use measure::{Cost, median};

/// What goes wrong ends the bench with one sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The binary under test, as the bench profile builds it.
const SEED: &str = env!("CARGO_BIN_EXE_podkit-seed");

const TEMPLATES: usize = 10;
const FILES: usize = 2_000;
const FILE_SIZE: usize = 4 << 10;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        // This binary again, as a child of itself.
        [measure::ROLE, program @ ..] => return measure::child(program),
        // `cargo test --all-targets` runs benches too, without `--bench`.
        words if !words.contains(&"--bench") => {
            println!("versus: run it with `cargo bench -p podkit-seed --bench versus`");
            Ok(())
        }
        words => Options::read(words).and_then(|options| versus(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How much is measured, and where.
struct Options {
    runs: usize,
    /// Only scenarios with this text in their name.
    only: String,
    /// The file system to work on.
    dir: PathBuf,
}

impl Options {
    fn read(words: &[&str]) -> Result<Self> {
        let mut options = Self { runs: 15, only: String::new(), dir: std::env::temp_dir() };
        let mut words = words.iter().filter(|word| **word != "--bench");
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("{name} has no value"))?;
            match *name {
                "--runs" => options.runs = value.parse()?,
                "--only" => (*value).clone_into(&mut options.only),
                "--dir" => options.dir = value.into(),
                _ => return Err(format!("{name} is not one of --runs, --only, --dir").into()),
            }
        }
        if options.runs == 0 { Err("nothing to measure".into()) } else { Ok(options) }
    }
}

/// One row of the table.
struct Scenario {
    name: &'static str,
    does: Does,
    /// What the target is like before each run.
    target: Before,
    limits: Limits,
}

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Copy,
    /// podkit-seed with a config of this name and these arguments.
    Seed(&'static str, &'static [&'static str]),
}

#[derive(Clone, Copy, PartialEq)]
enum Before {
    New,
    Same,
    /// As the last run left it, and one of the inputs is another.
    OneChanged,
}

/// What must not be passed: milliseconds, megabytes, and times what `cp -r` takes.
#[derive(Default)]
struct Limits {
    wall: Option<f64>,
    peak: Option<f64>,
    times: Option<f64>,
}

const NONE: Limits = Limits { wall: None, peak: None, times: None };
const CP: &str = "2000 files: cp -r";

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "10 templates: first run",
        does: Does::Seed("templates", &[]),
        target: Before::New,
        limits: Limits { wall: Some(10.0), peak: Some(15.0), times: None },
    },
    Scenario {
        name: "10 templates: first run, durable: false",
        does: Does::Seed("templates", &["--durable", "false"]),
        target: Before::New,
        limits: Limits { wall: Some(10.0), peak: Some(15.0), times: None },
    },
    Scenario {
        name: "10 templates: again, nothing to do",
        does: Does::Seed("templates", &[]),
        target: Before::Same,
        limits: Limits { wall: Some(5.0), peak: Some(15.0), times: None },
    },
    Scenario { name: CP, does: Does::Copy, target: Before::New, limits: NONE },
    Scenario {
        name: "2000 files: durable: false",
        does: Does::Seed("files", &["--durable", "false"]),
        target: Before::New,
        limits: Limits { times: Some(2.0), ..NONE },
    },
    Scenario {
        name: "2000 files: durable: false, plain",
        does: Does::Seed("files", &["--durable", "false", "--layout", "plain"]),
        target: Before::New,
        limits: NONE,
    },
    Scenario {
        name: "2000 files: all on the disk",
        does: Does::Seed("files", &[]),
        target: Before::New,
        limits: NONE,
    },
    Scenario {
        name: "2000 files: again, nothing to do",
        does: Does::Seed("files", &[]),
        target: Before::Same,
        limits: NONE,
    },
    Scenario {
        name: "2000 files: one changed",
        does: Does::Seed("files", &[]),
        target: Before::OneChanged,
        limits: NONE,
    },
];

fn versus(options: &Options) -> Result<()> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    inputs(dir.path())?;
    let mut scenarios: Vec<(&Scenario, Vec<Cost>)> = SCENARIOS
        .iter()
        .filter(|scenario| scenario.name.contains(&options.only))
        .map(|scenario| (scenario, Vec::new()))
        .collect();
    // Interleaved, so that what else the machine does falls on all alike. The first turn warms all caches.
    for run in 0..=options.runs {
        for (at, (scenario, costs)) in scenarios.iter_mut().enumerate() {
            let cost = once(scenario, dir.path(), &dir.path().join(format!("out-{at}")), run)?;
            costs.extend((run > 0).then_some(cost));
        }
        eprintln!("turn {run} of {} done", options.runs);
    }
    print_table(&scenarios);
    Ok(())
}

/// Templates with values, and files; a config for each.
fn inputs(dir: &Path) -> Result<()> {
    fs::write(dir.join("values.yaml"), "db: {host: db.prod, port: 5432}\nreplicas: [a, b, c]\n")?;
    let mut templates = format!("values: {}/values.yaml\nfiles:\n", dir.display());
    for n in 0..TEMPLATES {
        let template = dir.join(format!("{n}.j2"));
        fs::write(
            &template,
            "url: postgres://{{ values.db.host }}:{{ values.db.port }}\n\
             {% for one in values.replicas %}- {{ one | upper }}\n{% endfor %}",
        )?;
        writeln!(templates, "  - {{path: conf/{n}.yaml, template: {}}}", template.display())?;
    }
    fs::write(dir.join("templates.yaml"), templates)?;
    fs::create_dir(dir.join("in"))?;
    for n in 0..FILES {
        fs::write(dir.join(format!("in/{n}")), format!("{n:07}\n").repeat(FILE_SIZE / 8))?;
    }
    fs::write(dir.join("files.yaml"), format!("files: [{{path: all/, copy: {}/in}}]\n", dir.display()))?;
    Ok(())
}

/// Runs a scenario once.
fn once(scenario: &Scenario, dir: &Path, target: &Path, run: usize) -> Result<Cost> {
    let is_first = !target.exists();
    if scenario.target == Before::New && !is_first {
        fs::remove_dir_all(target)?;
    }
    if scenario.target == Before::OneChanged {
        fs::write(dir.join("in/7"), run.to_string())?;
    }
    // What others have written is not waited for by whom comes next.
    nix::unistd::sync();
    let path = target.display().to_string();
    let cost = match scenario.does {
        Does::Copy => measure::of(&["cp", "-r", &dir.join("in").display().to_string(), &path])?,
        Does::Seed(config, args) => {
            let config = dir.join(format!("{config}.yaml")).display().to_string();
            let mut words = vec![SEED, "--config", &config, "--target", &path];
            words.extend(args);
            measure::of(&words)?
        }
    };
    if scenario.target == Before::OneChanged {
        fs::write(dir.join("in/7"), format!("{:07}\n", 7).repeat(FILE_SIZE / 8))?;
        if is_first {
            return once(scenario, dir, target, run);
        }
    }
    Ok(cost)
}

fn print_table(scenarios: &[(&Scenario, Vec<Cost>)]) {
    let wall = |costs: &[Cost]| median(costs.iter().map(|cost| cost.wall));
    let cp = scenarios.iter().find(|(scenario, _)| scenario.name == CP).map(|(_, costs)| wall(costs));
    println!();
    println!("| medians | ms | least ms | peak MB | of cp -r | limits |");
    println!("|---|---|---|---|---|---|");
    for (scenario, costs) in scenarios {
        let (time, peak) = (wall(costs), median(costs.iter().map(|cost| cost.peak)));
        let least = costs.iter().map(|cost| cost.wall).fold(f64::INFINITY, f64::min);
        let times = cp.filter(|_| scenario.name.starts_with("2000")).map(|cp| time / cp);
        let mut kept = String::new();
        let Limits { wall, peak: most, times: at_most } = scenario.limits;
        for (limit, value, unit) in
            [(wall, Some(time), "ms"), (most, Some(peak), "MB"), (at_most, times, "x")]
        {
            if let (Some(limit), Some(value)) = (limit, value) {
                let verdict = if value <= limit { "kept" } else { "MISSED" };
                let _ = write!(kept, "{limit} {unit}: {verdict}; ");
            }
        }
        let times = times.map(|times| format!("{times:.2}")).unwrap_or_default();
        let kept = kept.trim_end_matches("; ");
        println!("| {} | {time:.2} | {least:.2} | {peak:.1} | {times} | {kept} |", scenario.name);
    }
}
