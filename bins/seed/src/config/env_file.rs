//! `env`: a set of variables as a dotenv or properties file.

use std::path::PathBuf;

use podkit_cli::{Invalid, Section, units};
use serde_json::{Map, Value, json};

use super::envsubst::variable;
use super::name_of;

const FORMATS: &[(&str, EnvFormat)] = &[("dotenv", EnvFormat::Dotenv), ("properties", EnvFormat::Properties)];

/// Variables of this process, and others.
#[derive(Debug)]
pub(crate) struct EnvFile {
    pub(crate) format: EnvFormat,
    /// Names of variables of this process; one that ends with `*` stands for all that begin so.
    pub(crate) only: Vec<String>,
    pub(crate) set: Vec<(String, EnvValue)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnvFormat {
    Dotenv,
    Properties,
}

/// What a variable is set to.
#[derive(Debug)]
pub(crate) enum EnvValue {
    Text(String),
    /// The content of a file, which is a secret.
    Secret(PathBuf),
}

impl EnvFile {
    pub(super) fn read(file: &Section<'_>) -> Option<Self> {
        if !file.has("env") {
            return None;
        }
        let section = file.section("env");
        let format = section.value_or("format", units::choice(FORMATS), EnvFormat::Dotenv);
        let only = section.list("only", pattern);
        let set = section.section("set");
        let names: Vec<&str> = set.keys().collect();
        for name in names.iter().filter(|name| format == EnvFormat::Dotenv && variable(name).is_err()) {
            let what = Invalid::new(format!("{name:?} is no name of a variable"));
            set.fault(
                name,
                what.hint("a dotenv file takes what a shell does; `format: properties` takes all"),
            );
        }
        let set = names.into_iter().filter_map(|name| {
            let value = match set.item(name)? {
                podkit_cli::Item::Text(text) => EnvValue::Text(text),
                podkit_cli::Item::Section(section) => {
                    EnvValue::Secret(section.required("secretRef", units::path)?)
                }
            };
            Some((name.to_owned(), value))
        });
        Some(Self { format, only, set: set.collect() })
    }

    pub(super) fn effective(&self) -> Value {
        let set: Map<String, Value> = self
            .set
            .iter()
            .map(|(name, value)| {
                let shown = match value {
                    EnvValue::Text(_) => json!("***"),
                    EnvValue::Secret(path) => json!({ "secretRef": path }),
                };
                (name.clone(), shown)
            })
            .collect();
        json!({ "format": name_of(FORMATS, &self.format), "only": self.only, "set": set })
    }
}

/// The name of a variable, or the beginning of names with a `*` behind it.
fn pattern(text: &str) -> Result<String, Invalid> {
    match text.strip_suffix('*') {
        Some("") => Err(Invalid::new("\"*\" would be all variables, also those that Kubernetes sets")
            .hint("give the beginning of the names: `APP_*`")),
        beginning => variable(beginning.unwrap_or(text)).map(|_| text.to_owned()),
    }
}
