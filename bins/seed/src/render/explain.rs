//! From the engine's errors to what a person can act on: the place, the line as it stands there, and the name that
//! may have been meant. Pure but for the names of templates that could have been included.

use std::error::Error as _;
use std::io;

use minijinja::ErrorKind;
use podkit_cli::nearest;
use regex::Regex;
use serde_json::Value;

use super::{MAX_RENDERED, Renderer, Template, address, filters, loader};
use crate::environment::nearest_variable;
use crate::error::Error;
use crate::secrets::Secrets;

/// A line of a template as it is shown: longer ones are cut around the place.
const SHOWN: usize = 100;

/// The functions of templates.
const FUNCTIONS: &[&str] = &["debug", "dict", "file", "namespace", "range", "secret"];

/// The tests of the engine that people write: `is defined`.
const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Marks an error of our own functions and filters: its text stands on its own.
#[derive(Debug, thiserror::Error)]
#[error("")]
struct Ours;

/// An error whose text stands on its own.
pub(super) fn ours(why: impl Into<String>) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, why.into()).with_source(Ours)
}

impl Renderer {
    pub(super) fn explain(&self, target: &str, template: &Template<'_>, error: &minijinja::Error) -> Error {
        let inner = innermost(error);
        let source = inner.template_source();
        let undefined = inner.detail().and_then(undefined_name).or_else(|| {
            // In a macro the engine forgets the name, but not where it stands.
            let name = source?.get(inner.range()?)?;
            let is_name = name.chars().all(|letter| letter.is_alphanumeric() || "_.".contains(letter));
            (inner.kind() == ErrorKind::UndefinedError && is_name).then_some(name)
        });
        let begin = |text: &str, at| if undefined.is_some() { name_start(text, at) } else { at };
        let column = inner.range().zip(source).map(|(range, text)| column(text, begin(text, range.start)));
        let place = |error: &minijinja::Error, column: Option<usize>| {
            let line = error.line().map(|line| format!(" line {line}")).unwrap_or_default();
            format!("{line}{}", column.map(|column| format!(" column {column}")).unwrap_or_default())
        };
        let is_root = inner.name().is_none_or(|name| name == template.name);
        let at = if is_root {
            format!("{}{}", template.name, place(inner, column))
        } else {
            // The line of the root is known where it includes, and not where it calls a macro.
            let outer =
                if error.name() == Some(template.name.as_str()) { place(error, None) } else { String::new() };
            let name = inner.name().unwrap_or_default();
            let path = self.directory.as_ref().map(|directory| directory.join(name)).unwrap_or_default();
            format!("{}{outer}, in {path:?}{}", template.name, place(inner, column))
        };
        let text = source.unwrap_or(if is_root { template.text } else { "" });
        let meant = match inner.kind() {
            ErrorKind::OutOfFuel | ErrorKind::WriteFailure => None,
            _ => undefined.and_then(|name| self.meant(name, text)).or_else(|| self.meant_other(inner)),
        };
        let line = inner.line().filter(|_| inner.kind() != ErrorKind::OutOfFuel);
        let line = line.and_then(|line| show_line(text, line, column, &self.hidden(template, is_root)));
        let hint = match (line, meant) {
            (Some(line), Some(meant)) => Some(format!("{line} ({meant})")),
            (line, meant) => line.or(meant),
        };
        Error::Render { target: target.to_owned(), template: at, why: why(inner, undefined), hint }
    }

    /// What must not be shown of a line. Variables are expanded in an inline template, and they may hold secrets.
    fn hidden(&self, template: &Template<'_>, is_root: bool) -> Secrets {
        let hidden = Secrets::default();
        if template.is_inline && is_root {
            hidden.add_all(&self.known["env"]);
        }
        hidden
    }

    /// What may have been meant by the undefined `values.db.prot`.
    fn meant(&self, name: &str, text: &str) -> Option<String> {
        let path = segments(name);
        let mut at = &self.known;
        let mut walked: Vec<&str> = Vec::new();
        let mut rest = path.iter().map(String::as_str);
        let missing = loop {
            let next = rest.next()?;
            match at.get(next) {
                Some(value) => at = value,
                None => break next,
            }
            walked.push(next);
        };
        let keys = at.as_object()?.keys().map(String::as_str);
        let known = |place: &str| self.known[place].get(missing).is_some();
        let mut path = walked.clone();
        if !walked.is_empty() {
            let nearest =
                if walked == ["env"] { nearest_variable(missing, keys) } else { nearest(missing, keys) };
            match nearest {
                Some(nearest) => path.push(nearest),
                None if walked == ["env"] => {
                    return Some(format!(
                        "set the environment variable {missing}, or write `{name} | default('…')`"
                    ));
                }
                None => return None,
            }
        } else if known("values") {
            // `port` where `values.port` or `env.PORT` is meant.
            path.extend(["values", missing]);
        } else if known("env") {
            path.extend(["env", missing]);
        } else {
            let locals = locals(text);
            if locals.iter().any(|local| local == missing) {
                // A name of the template's own, `server` in `server.hots`: what it holds is not known any more.
                let keys = all_keys(&self.known["values"]);
                let below = rest.next()?;
                return Some(format!("did you mean `{missing}.{}`?", nearest(below, keys)?));
            }
            let names = keys.chain(locals.iter().map(String::as_str)).chain(FUNCTIONS.iter().copied());
            let nearest = nearest(missing, names)?;
            let after: String = rest.map(|key| format!(".{key}")).collect();
            return Some(format!("did you mean `{nearest}{after}`?"));
        }
        path.extend(rest);
        Some(format!("did you mean `{}`?", path.join(".")))
    }

    /// What may have been meant by an unknown filter, test, function or template.
    fn meant_other(&self, error: &minijinja::Error) -> Option<String> {
        let detail = error.detail().unwrap_or_default();
        let word = |n: usize| detail.split(' ').nth(n).unwrap_or_default();
        let filters = || filters::NAMES.iter().chain(filters::BUILT_IN).chain(address::NAMES).copied();
        let near = match error.kind() {
            ErrorKind::UnknownFilter => nearest(word(1), filters())?.to_owned(),
            ErrorKind::UnknownTest => nearest(word(1), TESTS.iter().copied())?.to_owned(),
            ErrorKind::UnknownFunction => {
                let name = word(0);
                if filters().any(|filter| filter == name) {
                    return Some(format!("it is a filter: write `value | {name}`"));
                }
                nearest(name, FUNCTIONS.iter().chain(address::NAMES).copied())?.to_owned()
            }
            // As in Python: `values.name.upper()`.
            ErrorKind::UnknownMethod => {
                let name = detail.rsplit(' ').next().unwrap_or_default();
                let filter = filters().find(|filter| *filter == name)?;
                return Some(format!("write `value | {filter}`"));
            }
            ErrorKind::TemplateNotFound => {
                let names = self.directory.as_deref().map(loader::names).unwrap_or_default();
                nearest(quoted(detail)?, names.iter().map(String::as_str))?.to_owned()
            }
            _ if self.directory.is_none() && detail.ends_with("no directory `templates`") => {
                return Some("set `templates: DIR` in the config: others are included from there".to_owned());
            }
            _ => return None,
        };
        Some(format!("did you mean `{near}`?"))
    }
}

/// The error that all others were made of: that of the template in which it happened.
fn innermost(error: &minijinja::Error) -> &minijinja::Error {
    let mut inner = error;
    while let Some(cause) = inner.source().and_then(|cause| cause.downcast_ref()) {
        inner = cause;
    }
    inner
}

fn why(error: &minijinja::Error, undefined: Option<&str>) -> String {
    let detail = error.detail().unwrap_or_default();
    let word = |n: usize| detail.split(' ').nth(n).unwrap_or_default();
    if error.source().is_some_and(|cause| cause.is::<Ours>()) {
        return detail.to_owned();
    }
    match (error.kind(), undefined) {
        (_, Some(name)) => format!("`{name}` is undefined"),
        (ErrorKind::OutOfFuel, _) => TOO_LONG.to_owned(),
        (ErrorKind::WriteFailure, _) if is_timeout(error) => TOO_LONG.to_owned(),
        (ErrorKind::WriteFailure, _) => format!("it renders to more than {} MiB", MAX_RENDERED >> 20),
        (ErrorKind::UnknownFilter, _) => format!("there is no filter `{}`", word(1)),
        (ErrorKind::UnknownTest, _) => format!("there is no test `{}`", word(1)),
        (ErrorKind::UnknownFunction, _) => format!("there is no function `{}`", word(0)),
        (ErrorKind::TemplateNotFound, _) => match quoted(detail) {
            Some(name) => format!("there is no template {name:?}"),
            None => detail.to_owned(),
        },
        (ErrorKind::InvalidOperation, _) if detail.contains("recursion limit") => {
            "its includes or macros call each other without an end".to_owned()
        }
        (ErrorKind::InvalidOperation, _) if !detail.is_empty() => detail.to_owned(),
        (kind, _) if detail.is_empty() => kind.to_string(),
        (kind, _) => format!("{kind}: {detail}"),
    }
}

const TOO_LONG: &str = "it takes too long: a loop without an end?";

fn is_timeout(error: &minijinja::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

/// The name in the engine's words: "`values.db.prot` is undefined".
fn undefined_name(detail: &str) -> Option<&str> {
    let (before, _) = detail.split_once("` is undefined")?;
    before.rsplit_once('`').map(|(_, name)| name)
}

/// What stands in quotes in a text, double or single ones.
fn quoted(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(['"', '\''])?;
    rest.rsplit_once(['"', '\'']).map(|(name, _)| name)
}

/// `values.a["b"][0]` as `values`, `a`, `b`, `0`.
fn segments(name: &str) -> Vec<String> {
    let parts = name.split(['.', '[', ']']).map(|part| part.trim_matches(['"', '\'']));
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The names that a template gives itself: by `set`, `for`, `macro` and `import`.
fn locals(text: &str) -> Vec<String> {
    const NAMES: &str = r"\{%[-+]?\s*(?:set|for|macro|with|import\s+\S+\s+as)\s+(\w+)(?:\s*,\s*(\w+))?";
    let Ok(pattern) = Regex::new(NAMES) else { return Vec::new() };
    let found = pattern.captures_iter(text).flat_map(|names| [names.get(1), names.get(2)]);
    found.flatten().map(|name| name.as_str().to_owned()).collect()
}

/// The keys of all mappings in a tree.
fn all_keys(tree: &Value) -> Vec<&str> {
    match tree {
        Value::Object(map) => {
            map.iter().flat_map(|(key, value)| std::iter::once(key.as_str()).chain(all_keys(value))).collect()
        }
        Value::Array(items) => items.iter().flat_map(all_keys).collect(),
        _ => Vec::new(),
    }
}

/// Where the name begins that a byte belongs to: the engine points at its last dot.
fn name_start(text: &str, at: usize) -> usize {
    let is_part = |letter: char| letter.is_alphanumeric() || "_.[]'\"".contains(letter);
    let before = text.get(..at).unwrap_or_default();
    before.trim_end_matches(is_part).len()
}

/// The column of a byte, counted in characters from 1.
fn column(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    1 + before.rsplit('\n').next().unwrap_or_default().chars().count()
}

/// A line as a message shows it: `line 3: port: {{ values.db.prot }}`; nothing for a line that says nothing.
pub(crate) fn show_line(text: &str, line: usize, column: Option<usize>, hidden: &Secrets) -> Option<String> {
    let masked = hidden.mask(text.lines().nth(line.checked_sub(1)?)?).into_owned();
    let shown = masked.trim();
    if shown.is_empty() {
        return None;
    }
    let letters: Vec<char> = shown.chars().collect();
    if letters.len() <= SHOWN {
        return Some(format!("line {line}: {shown}"));
    }
    // The place stands a third from the left, or the line's end at the right.
    let at = column.unwrap_or(1).saturating_sub(1 + masked.len() - masked.trim_start().len());
    let from = at.saturating_sub(SHOWN / 3).min(letters.len() - SHOWN);
    let piece: String = letters[from..from + SHOWN].iter().collect();
    let (before, after) =
        (if from > 0 { "…" } else { "" }, if from + SHOWN < letters.len() { "…" } else { "" });
    Some(format!("line {line}: {before}{piece}{after}"))
}
