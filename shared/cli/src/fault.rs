//! One mistake in a config or on the command line: where it stands, what it is, and how to mend it.

use std::fmt;

/// Why a text is not a value of the wanted kind; the place is added by whoever read the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Invalid {
    /// A message that fits after the name of the field: `"5" has no unit`.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Invalid {}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// `--state-dir`
    Flag(String),
    /// `PODKIT_SHIP_STATE_DIR`
    Env(String),
    /// `files`, where no config file is given that could have it.
    Field(String),
    /// `ship.yaml`, line 4, `sources[0].include`; the field is empty for the document itself.
    File { path: String, line: usize, field: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Env(name) | Self::Field(name) => f.write_str(name),
            Self::File { path, line, field } if field.is_empty() => write!(f, "{path}:{line}"),
            Self::File { path, line, field } => write!(f, "{path}:{line}: {field}"),
        }
    }
}

/// One mistake, ready to be printed.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) what: Invalid,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// The known name nearest to a mistyped one, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Jaro-Winkler similarity from which a name is offered; lower values offer unrelated names.
    const NEAR: f64 = 0.8;
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
