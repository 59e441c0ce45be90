//! `--log-level` and `--log-format`: log lines on stderr through `tracing`.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use serde_json::Value;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Registry, reload};

use crate::section::Section;
use crate::units;

/// How log lines look and which are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    level: Level,
    json: bool,
}

const LEVELS: &[(&str, Level)] = &[
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];
const FORMATS: &[(&str, bool)] = &[("text", false), ("json", true)];

impl Settings {
    /// The settings in force, for `check`.
    pub(crate) fn effective(self) -> [(String, Value); 2] {
        let level = LEVELS.iter().find(|(_, level)| *level == self.level).map(|(name, _)| *name);
        let format = FORMATS.iter().find(|(_, json)| *json == self.json).map(|(name, _)| *name);
        [("log_level".to_owned(), level.into()), ("log_format".to_owned(), format.into())]
    }

    pub(crate) fn read(root: &Section<'_>) -> Self {
        Self {
            level: root.value_or("log_level", units::choice(LEVELS), Level::INFO),
            json: root.value_or("log_format", units::choice(FORMATS), !std::io::stderr().is_terminal()),
        }
    }
}

/// The level of the subscriber in force, once there is one.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Sends log lines to stderr from here on. A second call changes nothing.
pub(crate) fn init(settings: Settings) {
    let (level, handle) = reload::Layer::new(LevelFilter::from_level(settings.level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        // Would be told by a print to stderr, which panics where stderr itself is what fails.
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(level);
    let set = if settings.json {
        tracing::subscriber::set_global_default(registry.with(lines.json().flatten_event(true)))
    } else {
        tracing::subscriber::set_global_default(registry.with(lines))
    };
    // Only a subscriber that is already set makes this fail, and then that one stays.
    if set.is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Goes over to the level of a config that was read again. The format stays until the next start, and that is told.
pub(crate) fn change(old: Settings, new: Settings) {
    if let Some(level) = LEVEL.get().filter(|_| old.level != new.level) {
        // Fails only where the subscriber is gone, and the global one never goes.
        let _ = level.reload(LevelFilter::from_level(new.level));
    }
    if old.json != new.json {
        tracing::warn!("log_format is taken at the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_changes_while_the_process_runs() {
        let (quiet, loud) =
            (Settings { level: Level::ERROR, json: true }, Settings { level: Level::DEBUG, json: true });
        init(quiet);
        assert!(!tracing::enabled!(Level::INFO));
        change(quiet, loud);
        assert!(tracing::enabled!(Level::DEBUG) && !tracing::enabled!(Level::TRACE));
        change(loud, quiet);
        assert!(!tracing::enabled!(Level::INFO) && tracing::enabled!(Level::ERROR));
    }
}
