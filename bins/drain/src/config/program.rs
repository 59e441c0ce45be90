//! A program to run when traffic has left.

use std::fmt;

use podkit_cli::{Invalid, Section};
use serde_json::{Value, json};

/// A program and its arguments; no shell reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// A path, or a name that is looked for in `PATH`.
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
}

impl fmt::Display for Program {
    /// The name alone: arguments may be tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl Program {
    pub(super) fn effective(&self) -> Value {
        let arguments = self.arguments.iter().map(String::as_str);
        json!(std::iter::once(self.name.as_str()).chain(arguments).collect::<Vec<_>>())
    }
}

/// `--run`, or `run:` with texts and lists of words.
pub(super) fn read_all(root: &Section<'_>) -> Vec<Program> {
    root.command_lines("run", |words| {
        let mut words = words.into_iter();
        let bad = || Invalid::new("names no program").hint("write `/bin/app-stop --now`");
        let name = words.next().filter(|name| !name.is_empty()).ok_or_else(bad)?;
        let arguments: Vec<String> = words.collect();
        if name.contains('\0') || arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(Invalid::new("has a zero byte in it"));
        }
        Ok(Program { name, arguments })
    })
}
