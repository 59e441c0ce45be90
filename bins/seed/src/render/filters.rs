//! The filters that config files need beside those of Jinja. Each says in plain words what it cannot take.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error};
use regex::{Regex, RegexBuilder};
use sha2::{Digest as _, Sha256};

use super::explain::ours;
use super::yaml;
use crate::secrets::Secrets;

/// The names, for the one that may have been meant.
pub(super) const NAMES: &[&str] = &[
    "b64decode",
    "b64encode",
    "indent",
    "nindent",
    "quote",
    "regex_match",
    "regex_replace",
    "required",
    "sha256",
    "squote",
    "to_json",
    "to_yaml",
    "tojson",
];

/// The filters of the engine that are as they come.
pub(super) const BUILT_IN: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "trim",
    "unique",
    "upper",
    "zip",
];

/// A pattern that needs more is no pattern for a config file.
const MAX_REGEX: usize = 1 << 20;

/// Compiled patterns that are kept; a template that makes more of them than it has lines gains nothing.
const KEPT_PATTERNS: usize = 64;

/// Deeper indentation than any file has: a number gone wrong would make every line that long.
const MAX_INDENT: usize = 256;

/// Padding is not asked for: what makes base64 by hand often leaves it out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Lets templates use the filters.
pub(super) fn add(engine: &mut Environment<'static>, secrets: &Arc<Secrets>) {
    engine.add_filter("to_json", to_json);
    // The engine's own escapes `<` and `&` for HTML, which no config file wants.
    engine.add_filter("tojson", to_json);
    engine.add_filter("to_yaml", to_yaml);
    engine.add_filter("quote", |value: &Value| Ok::<_, Error>(yaml::quoted(&plain(value, "quote")?)));
    engine.add_filter("squote", |value: &Value| {
        Ok::<_, Error>(format!("'{}'", plain(value, "squote")?.replace('\'', "''")))
    });
    engine.add_filter("indent", indent);
    engine.add_filter("nindent", |value: &Value, width: usize| {
        Ok::<_, Error>(format!("\n{}", indented(&plain(value, "nindent")?, width, true, false)?))
    });
    engine.add_filter("required", required);
    let known = Arc::clone(secrets);
    engine.add_filter("b64encode", move |value: &Value| {
        let text = plain(value, "b64encode")?;
        let encoded = STANDARD.encode(&text);
        known.follow(&text, &encoded);
        Ok::<_, Error>(encoded)
    });
    let known = Arc::clone(secrets);
    engine.add_filter("b64decode", move |value: &Value| {
        let text = plain(value, "b64decode")?;
        let decoded = b64decode(&text)?;
        known.follow(&text, &decoded);
        Ok::<_, Error>(decoded)
    });
    let known = Arc::clone(secrets);
    engine.add_filter("sha256", move |value: &Value| {
        let text = plain(value, "sha256")?;
        let mut hash = String::with_capacity(64);
        for byte in Sha256::digest(&text) {
            let _ = write!(hash, "{byte:02x}");
        }
        // A short password can be guessed from it.
        known.follow(&text, &hash);
        Ok::<_, Error>(hash)
    });
    add_patterns(engine);
}

/// The text of what is no collection.
fn plain(value: &Value, filter: &str) -> Result<String, Error> {
    match value.kind() {
        // For the engine's own error, which knows the name.
        ValueKind::Undefined => i64::try_from(value.clone()).map(|number| number.to_string()),
        ValueKind::Map | ValueKind::Seq | ValueKind::Iterable => {
            Err(ours(format!("`{filter}` takes a text, and this is a {}", value.kind())))
        }
        ValueKind::None => Err(ours(format!("`{filter}` takes a text, and this is null"))),
        _ => Ok(value.to_string()),
    }
}

/// The value as data.
pub(super) fn to_tree(value: &Value) -> Result<serde_json::Value, Error> {
    if value.is_undefined() {
        i64::try_from(value.clone())?;
    }
    serde_json::to_value(value).map_err(|error| ours(format!("this is no data: {error}")))
}

fn to_json(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = indent.or(options.get("indent")?);
    options.assert_all_used()?;
    let tree = to_tree(value)?;
    let Some(width) = indent else { return Ok(tree.to_string()) };
    let indent = " ".repeat(checked_width(width)?);
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(&tree, &mut serializer)
        .map_err(|error| ours(format!("this is no data: {error}")))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn to_yaml(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = indent.or(options.get("indent")?).unwrap_or(2);
    options.assert_all_used()?;
    // One space would put a list's dashes where some parsers take them for the mapping's own.
    yaml::to_yaml(&to_tree(value)?, checked_width(indent)?.max(2)).map_err(ours)
}

/// As Jinja's: all lines but the first and the empty ones. The line break at the end stays.
fn indent(
    value: &Value,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<String, Error> {
    let width = width.or(options.get("width")?).unwrap_or(4);
    let first = first.or(options.get("first")?).unwrap_or(false);
    let blank = blank.or(options.get("blank")?).unwrap_or(false);
    options.assert_all_used()?;
    indented(&plain(value, "indent")?, width, first, blank)
}

fn indented(text: &str, width: usize, first: bool, blank: bool) -> Result<String, Error> {
    let space = " ".repeat(checked_width(width)?);
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_blank = line.trim_end_matches(['\n', '\r']).is_empty();
        if (number > 0 || first) && (blank || !is_blank) {
            out.push_str(&space);
        }
        out.push_str(line);
    }
    Ok(out)
}

fn checked_width(width: usize) -> Result<usize, Error> {
    if width > MAX_INDENT {
        return Err(ours(format!("an indentation of {width} is more than {MAX_INDENT}")));
    }
    Ok(width)
}

/// As Helm's: what is undefined, null or empty is an error with the words that the template gives.
fn required(value: &Value, message: Option<String>) -> Result<Value, Error> {
    let is_missing = value.is_undefined() || value.is_none() || value.as_str() == Some("");
    if !is_missing {
        return Ok(value.clone());
    }
    Err(ours(message.unwrap_or_else(|| "a value is required and is not there".to_owned())))
}

fn b64decode(text: &str) -> Result<String, Error> {
    let packed: String = text.split_ascii_whitespace().collect();
    let bytes = LENIENT.decode(packed).map_err(|_| ours("`b64decode` was given what is no base64"))?;
    String::from_utf8(bytes).map_err(|_| ours("`b64decode` makes texts, and what is in this base64 is none"))
}

/// Patterns are compiled when they are first used, and once.
fn add_patterns(engine: &mut Environment<'static>) {
    let patterns: Arc<Mutex<HashMap<String, Regex>>> = Arc::default();
    let compiled = move |pattern: &str| {
        let mut patterns = patterns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = patterns.get(pattern) {
            return Ok::<_, Error>(known.clone());
        }
        let regex = RegexBuilder::new(pattern).size_limit(MAX_REGEX).build().map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            ours(format!("{pattern:?} is no regular expression: {why}"))
        })?;
        if patterns.len() < KEPT_PATTERNS {
            patterns.insert(pattern.to_owned(), regex.clone());
        }
        Ok(regex)
    };
    let replace = compiled.clone();
    engine.add_filter("regex_replace", move |value: &Value, pattern: String, with: String| {
        let text = plain(value, "regex_replace")?;
        Ok::<_, Error>(replace(&pattern)?.replace_all(&text, with.as_str()).into_owned())
    });
    engine.add_filter("regex_match", move |value: &Value, pattern: String| {
        Ok::<_, Error>(compiled(&pattern)?.is_match(&plain(value, "regex_match")?))
    });
}
