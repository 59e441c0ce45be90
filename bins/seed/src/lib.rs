//! podkit-seed: puts config in place on a shared volume before the app starts, whole or not at all.
//!
//! ```text
//!   flags, env, YAML ─► config ─► wait ──► desired ────────► target ──► plan ──► write ─► report
//!                                 tcp      source  values    open,      wanted   files, fsync,
//!                                 file     render            lock,      against  flip ..data,
//!                                                            look       seen     clean up
//!                                 └──────── nothing is written ─────────────┘    └─ one rename
//! ```
//!
//! Everything is in memory and planned before the first byte is written, and what is written is invisible until one
//! rename. So a failure at any step leaves what was there before.

mod config;
mod desired;
mod dir;
mod error;
mod generation;
mod limits;
mod path;
mod plan;
mod render;
mod source;
mod target;
mod values;
mod wait;
mod write;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

use podkit_cli::{Exit, Failure, Flag, Tool, Verb};

pub use config::Config;
pub use error::Error;

use limits::Limits;
use plan::{Change, Plan};
use target::Target;

/// The command line.
pub static TOOL: Tool = Tool {
    name: "seed",
    about: "Puts config in place on a shared volume before the app starts, whole or not at all",
    examples: "  podkit-seed --config seed.yaml          Wait, render and copy as the file says, then exit
  podkit-seed check --config seed.yaml    Print every fault of the file, or the settings in force
  podkit-seed --config seed.yaml --target /tmp/out --deadline 5s
                                          The same into another directory, to try it out
  podkit-seed install /shared/bin         Copy this binary for use in another container

A config file:
  target: /shared/config
  wait:
    - tcp: db:5432
    - file: /secrets/ready
  values: [/values/base.yaml, /values/prod.yaml]
  files:
    - path: app.yaml
      template: /templates/app.yaml.j2
      mode: \"0640\"
    - path: tls/
      copy: /secrets/tls
",
    flags: &[
        Flag::value("target", "DIR", "Where the files go"),
        Flag::value("deadline", "DURATION", "One budget for waiting, rendering and writing [default: 2m]"),
    ],
    verbs: &[Verb::Install],
    admin: None,
    termination_message: true,
};

/// Does what the command line says.
///
/// # Errors
/// A [`Failure`] with the exit code and the lines to print.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Failure> {
    podkit_cli::dispatch(&TOOL, args, Config::read, |config| {
        seed(&config)?;
        Ok(Exit::Done)
    })
}

/// Waits, then brings the target to what the config says.
///
/// # Errors
/// Whatever it is, the files that were in force before still are.
pub fn seed(config: &Config) -> Result<(), Error> {
    let begun = Instant::now();
    let limits = Arc::new(Limits::begin(config.deadline)?);
    if let Some(path) = &config.target {
        target::check(path)?;
    }
    wait::all(&config.wait, &limits)?;
    let Some(path) = &config.target else {
        tracing::info!(seconds = seconds(begun), "all conditions are met");
        return Ok(());
    };
    let wanted = desired::build(config, &limits)?;
    let target = Target::open(path, &limits)?;
    let plan = target.plan(&wanted)?;
    write::apply(&target, &wanted, &plan, &limits)?;
    report(&plan, begun);
    Ok(())
}

/// One line a file, then the totals.
fn report(plan: &Plan, begun: Instant) {
    let mut bytes = 0;
    for (path, (change, size)) in &plan.files {
        tracing::info!(%path, size, "{}", change.as_str());
        bytes += if *change == Change::Removed { 0 } else { *size };
    }
    tracing::info!(
        created = plan.count(Change::Created),
        changed = plan.count(Change::Changed),
        unchanged = plan.count(Change::Unchanged),
        removed = plan.count(Change::Removed),
        bytes,
        seconds = seconds(begun),
        "{}",
        if plan.rewrite { "seeded" } else { "unchanged" },
    );
}

/// Seconds since `begun`, to the millisecond.
fn seconds(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 1e3).round() / 1e3
}
