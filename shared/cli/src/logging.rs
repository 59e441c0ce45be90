//! `--log-level` and `--log-format`: log lines on stderr through `tracing`.

use std::io::IsTerminal as _;

use serde_json::Value;
use tracing::Level;

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

/// Sends log lines to stderr from here on. A second call changes nothing.
pub(crate) fn init(settings: Settings) {
    let lines = tracing_subscriber::fmt()
        .with_max_level(settings.level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        // Would be told by a print to stderr, which panics where stderr itself is what fails.
        .log_internal_errors(false);
    // Only a subscriber that is already set makes this fail, and then that one stays.
    let _ = if settings.json {
        tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish())
    } else {
        tracing::subscriber::set_global_default(lines.finish())
    };
}
