//! `envsubst: {from: FILE, only: [PORT, HOST]}`: a text in which chosen variables are replaced.

use podkit_cli::{Invalid, Section, units};
use serde_json::{Value, json};

use super::Text;

/// A text with `$NAME` in it, of which only some are ours.
#[derive(Debug)]
pub(crate) struct Envsubst {
    pub(crate) from: Text,
    /// The variables that are replaced; other `$words` stay as they are.
    pub(crate) only: Vec<String>,
}

impl Envsubst {
    pub(super) fn read(file: &Section<'_>) -> Option<Self> {
        if !file.has("envsubst") {
            return None;
        }
        let section = file.section("envsubst");
        let from = section.value("from", units::path).map(Text::File);
        let inline = section.value("inline", |text| Ok(text.to_owned())).map(Text::Inline);
        let only = section.list("only", variable);
        if !section.has("only") {
            section.fault(
                "only",
                Invalid::new("is required").hint("list the variables: what is not in it stays as it is"),
            );
        }
        match (section.has("from"), section.has("inline")) {
            (true, true) => {
                section.fault("inline", Invalid::new("stands beside `from`, and a text has one source"))
            }
            (false, false) => {
                section.fault("from", Invalid::new("is required").hint("name the file, or give `inline`"))
            }
            _ => {}
        }
        Some(Self { from: from.or(inline)?, only })
    }

    pub(super) fn effective(&self) -> Value {
        let key = if matches!(self.from, Text::File(_)) { "from" } else { "inline" };
        json!({ key: self.from.effective(), "only": self.only })
    }
}

/// A name that a shell would take.
pub(super) fn variable(text: &str) -> Result<String, Invalid> {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.bytes().next().is_none_or(|byte| byte.is_ascii_digit());
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new(format!("{text:?} is no name of a variable")))
    }
}
