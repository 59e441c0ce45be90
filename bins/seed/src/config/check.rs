//! `check`: what a file must be before any of them is visible.

use std::path::PathBuf;

use podkit_cli::{Invalid, Section, units};
use serde_json::{Value, json};

use super::name_of;

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
    /// A program that ends with 0; `{}` in its arguments stands for the file.
    Run(Vec<String>),
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
            let run = section.list("run", units::text);
            if section.has("schema") && section.has("run") {
                let what = Invalid::new("stands beside `schema`, and an item is one check");
                section.fault("run", what.hint("give each its own item, with its own `-`"));
            } else if schema.is_none() && run.is_empty() && section.fault_count() == faults {
                section.fault_here(
                    Invalid::new("names no check")
                        .hint("write `{schema: /schemas/app.json}` or `{run: [program, \"{}\"]}`"),
                );
            }
            schema.or_else(|| (!run.is_empty()).then_some(Self::Run(run)))
        })
    }

    /// As messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Format(format) => name_of(FORMATS, format).to_owned(),
            Self::Schema(path) => format!("schema {}", path.display()),
            // Without its arguments: variables are expanded in them.
            Self::Run(command) => format!("run {}", command.first().map_or("", String::as_str)),
        }
    }

    pub(super) fn effective(&self) -> Value {
        match self {
            Self::Format(format) => json!(name_of(FORMATS, format)),
            Self::Schema(path) => json!({ "schema": path }),
            Self::Run(command) => json!({ "run": command }),
        }
    }
}
