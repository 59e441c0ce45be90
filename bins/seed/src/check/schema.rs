//! YAML or JSON against a JSON Schema, of any draft that it names.
//!
//! A schema may refer to others in its own directory and below, never to anything else: a check must not depend on a
//! server, nor show what other files hold.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boon::{CompileError, Compiler, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use podkit_cli::parse_yaml_documents;
use reqwest::Url;
use serde_json::Value;

use super::{Fault, cut, json};
use crate::error::Error;
use crate::source::Sources;

/// Of all that is wrong. Mostly one mistake, seen by several rules.
const MAX_SHOWN: usize = 5;

/// A schema, ready for use.
pub(super) struct Schema {
    /// It, and those that it refers to.
    all: Schemas,
    index: SchemaIndex,
}

impl Schema {
    /// Reads a schema and what it refers to.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub(super) fn load(path: &Path, sources: &Arc<Sources>) -> Result<Self, Error> {
        let unusable = |why: String| Error::Input { path: path.to_owned(), why };
        let absolute =
            std::path::absolute(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let schema = read(path, sources)?;
        let base = Url::from_file_path(&absolute).map_err(|()| unusable("it has no URL".to_owned()))?;
        let below = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(Nearby { below, sources: Arc::clone(sources) }));
        let mut all = Schemas::new();
        let no_schema = |bad: CompileError| unusable(why_no_schema(&bad));
        compiler.add_resource(base.as_str(), schema).map_err(no_schema)?;
        let index = compiler.compile(base.as_str(), &mut all).map_err(no_schema)?;
        Ok(Self { all, index })
    }

    /// Whether all documents of a text fit.
    ///
    /// # Errors
    /// The first few places where they do not.
    pub(super) fn check(&self, bytes: &[u8], is_secret: bool) -> Result<(), String> {
        let documents = super::text(bytes).and_then(documents).map_err(|fault| match is_secret {
            true => format!("line {}: no more is shown, for the file is secret", fault.line),
            false => format!("line {} column {}: {}", fault.line, fault.column, fault.why),
        })?;
        let mut found = Vec::new();
        let mut more = 0;
        for (index, document) in documents.iter().enumerate() {
            let number = if documents.len() > 1 { format!("document {} ", index + 1) } else { String::new() };
            let Err(bad) = self.all.validate(document, self.index) else { continue };
            for bad in leaves(&bad) {
                if found.len() == MAX_SHOWN {
                    more += 1;
                } else if is_secret {
                    let rule = bad.schema_url.rsplit_once('#').map_or("", |(_, rule)| rule);
                    found.push(format!("{number}breaks the schema at {rule:?}"));
                } else {
                    found.push(format!("{number}{}", describe(bad)));
                }
            }
        }
        match (found.is_empty(), more) {
            (true, _) => Ok(()),
            (false, 0) => Err(found.join("; ")),
            (false, more) => Err(format!("{} (and {more} more)", found.join("; "))),
        }
    }
}

fn why_no_schema(bad: &CompileError) -> String {
    match bad {
        CompileError::LoadUrlError { url, src } => format!("it refers to {url}, {src}"),
        CompileError::ValidationError { src, .. } => {
            let wrong: Vec<_> = leaves(src).into_iter().take(MAX_SHOWN).map(describe).collect();
            format!("it is no JSON Schema: {}", wrong.join("; "))
        }
        _ => format!("it is no JSON Schema: {}", cut(&bad.to_string())),
    }
}

/// The rules that were broken, without those above them that say no more than that.
fn leaves<'a, 's, 'v>(bad: &'a ValidationError<'s, 'v>) -> Vec<&'a ValidationError<'s, 'v>> {
    // Which of several ways was meant nobody knows, so each of them would be told as broken.
    let is_choice = matches!(bad.kind, ErrorKind::AnyOf | ErrorKind::OneOf(_));
    if bad.causes.is_empty() || is_choice { vec![bad] } else { bad.causes.iter().flat_map(leaves).collect() }
}

fn describe(bad: &ValidationError<'_, '_>) -> String {
    let why = match bad.kind {
        ErrorKind::AnyOf | ErrorKind::OneOf(None) => "none of the alternatives fits".to_owned(),
        ErrorKind::OneOf(Some(_)) => "more than one of the alternatives fits".to_owned(),
        _ => bad.kind.to_string(),
    };
    match bad.instance_location.to_string().as_str() {
        "" => cut(&why).into_owned(),
        path => format!("{path}: {}", cut(&why)),
    }
}

/// All documents of a text. JSON is YAML, but its own reader takes more of it.
fn documents(text: &str) -> Result<Vec<Value>, Fault> {
    if text.trim_start().starts_with(['{', '['])
        && json::check(text).is_ok()
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(vec![value]);
    }
    parse_yaml_documents(text).map_err(|bad| Fault::new(bad.line, bad.column, bad.message))
}

fn read(path: &Path, sources: &Sources) -> Result<Value, Error> {
    let unusable = |why: String| Error::Input { path: path.to_owned(), why };
    let text = sources.text(path)?;
    let mut documents = documents(&text)
        .map_err(|bad| unusable(format!("line {} column {}: {}", bad.line, bad.column, bad.why)))?;
    match (documents.pop(), documents.is_empty()) {
        (Some(schema), true) => Ok(schema),
        _ => Err(unusable("it is no JSON Schema: it must be one document".to_owned())),
    }
}

/// Reads the files that a schema refers to.
struct Nearby {
    below: PathBuf,
    sources: Arc<Sources>,
}

impl UrlLoader for Nearby {
    fn load(&self, url: &str) -> Result<Value, Box<dyn StdError>> {
        let url = Url::parse(url)?;
        if url.scheme() != "file" {
            return Err("which is not in its directory, and nothing is downloaded for a check".into());
        }
        match url.to_file_path() {
            Ok(path) if path.starts_with(&self.below) => read(&path, &self.sources)
                .map_err(|error| format!("but {}", podkit_cli::chain(&error)).into()),
            _ => Err("which is not in its directory".into()),
        }
    }
}
