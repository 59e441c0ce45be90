//! What `run` does: seed and end, stay and seed again, or only show what would change.

use std::sync::Arc;

use podkit_cli::{Exit, Failure, Loaded};

use crate::config::Config;
use crate::inputs::Inputs;
use crate::limits::Limits;
use crate::{dry_run, seed, watch};

/// The flag that shows and changes nothing.
pub(crate) const DRY_RUN: &str = "dry-run";

/// Does the binary's own work.
///
/// # Errors
/// What ended it; the files that were in force before still are.
pub(crate) fn run(loaded: Loaded<Config>) -> Result<Exit, Failure> {
    if loaded.flags.is_on(DRY_RUN) {
        dry_run::run(&loaded.config)
    } else if loaded.config.watch {
        watch::run(loaded)
    } else {
        once(&loaded.config)
    }
}

fn once(config: &Config) -> Result<Exit, Failure> {
    let limits = Arc::new(Limits::begin(config.deadline)?);
    seed::wait(config, &limits)?;
    if let Some(target) = &config.target {
        seed::pass(config, target, &limits, &Inputs::default())?.report(true);
    }
    Ok(Exit::Done)
}
