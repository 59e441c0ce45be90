//! `check`: what a file must be before any of them is visible.

use std::path::PathBuf;
use std::time::Duration;

use podkit_cli::{Invalid, Section, units};
use serde_json::{Value, json};

use super::name_of;

/// For one program and one file. Long for a look at a config, short for a deadline of two minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

const FORMATS: &[(&str, Format)] = &[
    ("yaml", Format::Yaml),
    ("json", Format::Json),
    ("toml", Format::Toml),
    ("ini", Format::Ini),
    ("xml", Format::Xml),
    ("properties", Format::Properties),
    ("dotenv", Format::Dotenv),
    ("nonempty", Format::Nonempty),
];

/// One thing that a file must be.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    Format(Format),
    /// YAML or JSON that a JSON Schema accepts.
    Schema(PathBuf),
    /// A program that ends with 0 in time; `{}` in its arguments stands for the file.
    Run {
        command: Vec<String>,
        timeout: Duration,
    },
}

/// What a text can be parsed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Json,
    Toml,
    Ini,
    Xml,
    Properties,
    Dotenv,
    /// Anything but nothing.
    Nonempty,
}

impl Check {
    /// Reads the key `check`: one check, or a list of them.
    pub(super) fn read_all(file: &Section<'_>) -> Vec<Self> {
        let format = |text: &str| units::choice(FORMATS)(text).map(Self::Format);
        file.items("check", format, |section| {
            let faults = section.fault_count();
            let schema = section.value("schema", units::path).map(Self::Schema);
            let command = section.list("run", units::text);
            let timeout = section.value_or("timeout", units::positive_duration, DEFAULT_TIMEOUT);
            if section.has("schema") && section.has("run") {
                let what = Invalid::new("stands beside `schema`, and an item is one check");
                section.fault("run", what.hint("give each its own item, with its own `-`"));
            } else if schema.is_none() && command.is_empty() && section.fault_count() == faults {
                section.fault_here(
                    Invalid::new("names no check")
                        .hint("write `{schema: /schemas/app.json}` or `{run: [program, \"{}\"]}`"),
                );
            }
            if section.has("timeout") && section.has("schema") {
                let what = Invalid::new("stands beside `schema`, and is for a program");
                section.fault("timeout", what.hint("leave it out, or write `{run: [program, \"{}\"]}`"));
            }
            schema.or_else(|| (!command.is_empty()).then_some(Self::Run { command, timeout }))
        })
    }

    /// As messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Format(format) => name_of(FORMATS, format).to_owned(),
            Self::Schema(path) => format!("schema {}", path.display()),
            // Without its arguments: variables are expanded in them.
            Self::Run { command, .. } => format!("run {}", command.first().map_or("", String::as_str)),
        }
    }

    pub(super) fn effective(&self) -> Value {
        match self {
            Self::Format(format) => json!(name_of(FORMATS, format)),
            Self::Schema(path) => json!({ "schema": path }),
            Self::Run { command, timeout } => {
                json!({ "run": command, "timeout": units::show_duration(*timeout) })
            }
        }
    }
}
