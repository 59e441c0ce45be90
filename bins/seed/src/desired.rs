//! From the config and its inputs to everything that is wanted, whole and in memory, before the target is touched.
//!
//! Inputs are read again if a mounted volume was swapped while they were read, so what is wanted is of one time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Config, FileSpec, Source};
use crate::error::Error;
use crate::limits::Limits;
use crate::plan::{Content, Tree};
use crate::render::{Renderer, Template};
use crate::source::{InputKind, Sources};
use crate::values;

/// What rendered files get unless told otherwise.
const RENDERED_MODE: u32 = 0o644;

/// How often inputs are read again because a volume was swapped. The kubelet swaps a volume about once a minute at
/// most, so a second attempt all but always does.
const ATTEMPTS: usize = 5;

/// Reads and renders all files of the config.
///
/// # Errors
/// The first file that could not be made, with the number of the others, which are logged.
pub(crate) fn build(config: &Config, limits: &Limits) -> Result<Tree, Error> {
    let mut swapped = None;
    for _ in 0..ATTEMPTS {
        let sources = Arc::new(Sources::default());
        let built = build_once(config, limits, &sources);
        match sources.swapped() {
            None => return built,
            Some(dir) => swapped = Some(dir),
        }
        limits.check(|| "while reading the inputs".to_owned())?;
        tracing::debug!(volume = ?swapped, "a volume was swapped; reading the inputs again");
    }
    Err(Error::Unsteady { path: swapped.unwrap_or_default() })
}

fn build_once(config: &Config, limits: &Limits, sources: &Arc<Sources>) -> Result<Tree, Error> {
    let values = values::load(&config.values, sources)?;
    let renderer = Renderer::new(values, environment(), sources);
    let mut tree = Tree::new();
    let mut errors = Vec::new();
    for spec in &config.files {
        limits.check(|| format!("before \"{}\" was rendered", spec.path))?;
        match make(spec, &renderer, sources) {
            // Two entries cannot yield the same path: the config makes sure that no path lies in another.
            Ok(files) => tree.extend(files),
            Err(error) => errors.push(error),
        }
    }
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(tree) };
    let mut more = 0;
    for error in errors {
        tracing::error!("{}", podkit_cli::chain(&error));
        more += 1;
    }
    Err(if more == 0 { first } else { Error::Several { first: Box::new(first), more } })
}

fn make(spec: &FileSpec, renderer: &Renderer, sources: &Sources) -> Result<Tree, Error> {
    let rendered =
        |text: String| Content { bytes: text.into_bytes(), mode: spec.mode.unwrap_or(RENDERED_MODE) };
    let content = match &spec.source {
        Source::Inline(text) => {
            let template = Template { name: "its inline template".to_owned(), text };
            rendered(renderer.render(&spec.path, &template)?)
        }
        Source::Template(path) => {
            let text = sources.text(path)?;
            let template = Template { name: format!("{path:?}"), text: &text };
            rendered(renderer.render(&spec.path, &template)?)
        }
        Source::Copy(from) if sources.kind(from)? == InputKind::Directory => {
            let mut tree = sources.directory(from, &spec.path)?;
            if tree.is_empty() {
                tracing::warn!(path = %spec.path, from = ?from, "the directory to copy holds no file");
            }
            for content in tree.values_mut() {
                content.mode = spec.mode.unwrap_or(content.mode);
            }
            return Ok(tree);
        }
        Source::Copy(from) if spec.names_directory => {
            let why = format!("it names a directory, and {from:?} is a file");
            return Err(Error::Place { path: format!("{}/", spec.path), why });
        }
        Source::Copy(from) => {
            let content = sources.file(from)?;
            Content { mode: spec.mode.unwrap_or(content.mode), ..content }
        }
    };
    Ok(BTreeMap::from([(spec.path.clone(), content)]))
}

/// The variables that are text; a template could not use the others.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
