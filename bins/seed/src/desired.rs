//! From the config and its inputs to everything that is wanted, whole and in memory or spooled, before the target is
//! changed.
//!
//! Inputs are read again if a mounted volume was swapped while they were read, so what is wanted is of one time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::before::Before;
use crate::config::{Archive, Config, Envsubst, FileSpec, Location, Source, Text};
use crate::content::{Content, Spooler, Tree};
use crate::downloads::{self, Downloads};
use crate::environment::{self, Variables};
use crate::error::Error;
use crate::inputs::Inputs;
use crate::limits::Limits;
use crate::render::{Rendered, Renderer, Template, show_line};
use crate::secrets::Secrets;
use crate::source::{InputKind, Sources};
use crate::state::Notes;
use crate::{archive, check, env_file, envsubst, values};

/// What rendered and downloaded files get unless told otherwise.
const DEFAULT_MODE: u32 = 0o644;

/// How often inputs are read again because a volume was swapped. The kubelet swaps a volume about once a minute at
/// most, so a second attempt all but always does.
const ATTEMPTS: usize = 5;

/// All that entries are made with, beside their own lines of the config.
pub(crate) struct Workshop<'a> {
    config: &'a Config,
    before: &'a Before,
    spooler: Spooler,
    limits: &'a Limits,
    /// Where it is noted what was read.
    inputs: &'a Inputs,
    /// What is to be remembered of archives.
    pub(crate) notes: Notes,
    pub(crate) secrets: Arc<Secrets>,
}

impl<'a> Workshop<'a> {
    pub(crate) fn new(
        config: &'a Config,
        before: &'a Before,
        spooler: Spooler,
        limits: &'a Limits,
        inputs: &'a Inputs,
    ) -> Self {
        Self { config, before, spooler, limits, inputs, notes: Notes::default(), secrets: Arc::default() }
    }
}

/// Reads and renders all files of the config.
///
/// # Errors
/// The first file that could not be made, with the number of the others, which are logged.
pub(crate) fn build(workshop: &Workshop<'_>) -> Result<Tree, Error> {
    let Workshop { before, spooler, notes, limits, .. } = workshop;
    let downloads = Downloads::new(before, spooler, notes, limits);
    let mut swapped = None;
    for _ in 0..ATTEMPTS {
        let sources = Arc::new(Sources::default());
        let built = build_once(workshop, &downloads, &sources);
        workshop.inputs.replace(&sources.inputs);
        match sources.swapped() {
            None => return built,
            Some(dir) => swapped = Some(dir),
        }
        workshop.limits.check(|| "while reading the inputs".to_owned())?;
        tracing::debug!(volume = ?swapped, "a volume was swapped; reading the inputs again");
    }
    Err(Error::Unsteady { path: swapped.unwrap_or_default() })
}

fn build_once(
    workshop: &Workshop<'_>,
    downloads: &Downloads<'_>,
    sources: &Arc<Sources>,
) -> Result<Tree, Error> {
    let Workshop { config, secrets, .. } = workshop;
    let (values, env) = (values::load(&config.values, sources)?, environment::variables());
    secrets.add_named(&config.secrets, &values, &env)?;
    let renderer = Renderer::new(values, env.clone(), config.templates.clone(), sources, secrets);
    let bench = Bench { workshop, downloads, sources, renderer, env };
    let mut tree = Tree::new();
    let mut errors = Vec::new();
    for spec in &workshop.config.files {
        workshop.limits.check(|| format!("before \"{}\" was made", spec.path))?;
        match bench.make(spec) {
            // Two entries cannot yield the same path: the config makes sure that no path lies in another.
            Ok(files) => tree.extend(files),
            Err(error) => errors.push(error.masked(secrets)),
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

/// What one attempt works with.
struct Bench<'a> {
    workshop: &'a Workshop<'a>,
    downloads: &'a Downloads<'a>,
    sources: &'a Arc<Sources>,
    renderer: Renderer,
    env: Variables,
}

impl Bench<'_> {
    /// Makes one entry, checks included.
    fn make(&self, spec: &FileSpec) -> Result<Tree, Error> {
        let mut tree = self.files(spec)?;
        for content in tree.values_mut() {
            content.mode = spec.mode.unwrap_or(content.mode);
            content.owner = spec.owner;
            content.is_secret |= spec.is_secret;
            content.holds_secret = content.is_secret || self.workshop.secrets.are_in(&content.body);
        }
        check::run(&tree, &spec.checks, self.sources, self.workshop.limits)?;
        Ok(tree)
    }

    fn files(&self, spec: &FileSpec) -> Result<Tree, Error> {
        let content = match &spec.source {
            Source::Template(from) => {
                let (name, text) = self.text(from, "its inline template")?;
                let is_inline = matches!(from, Text::Inline(_));
                let template = Template { name, text: &text, is_inline };
                let Rendered { text, is_secret } = self.renderer.render(&spec.path.to_string(), &template)?;
                Content { is_secret, ..Content::new(text.into_bytes(), DEFAULT_MODE) }
            }
            Source::Envsubst(envsubst) => self.made(self.substituted(spec, envsubst)?),
            Source::Env(file) => {
                self.made(env_file::write(&spec.path, file, &self.env, self.sources, &self.workshop.secrets)?)
            }
            Source::Url(remote) => self.downloads.file(spec, remote, DEFAULT_MODE)?,
            Source::Archive(archive) => return self.unpacked(spec, archive),
            Source::Copy(from) if self.sources.kind(from)? == InputKind::Directory => {
                let tree = self.sources.directory(from, &spec.path, &self.workshop.spooler)?;
                if tree.is_empty() {
                    tracing::warn!(path = %spec.path, from = ?from, "the directory to copy holds no file");
                }
                return Ok(tree);
            }
            Source::Copy(from) if spec.names_directory => {
                let why = format!("it names a directory, and {from:?} is a file");
                return Err(Error::Place { path: format!("{}/", spec.path), why });
            }
            Source::Copy(from) => self.sources.file(from, &self.workshop.spooler)?,
        };
        Ok(BTreeMap::from([(spec.path.clone(), content)]))
    }

    /// A file of a text that was made from variables.
    fn made(&self, text: String) -> Content {
        let is_secret = self.workshop.secrets.is_in_unmasked(&text);
        Content { is_secret, ..Content::new(text.into_bytes(), DEFAULT_MODE) }
    }

    fn substituted(&self, spec: &FileSpec, envsubst: &Envsubst) -> Result<String, Error> {
        let (name, text) = self.text(&envsubst.from, "its inline text")?;
        envsubst::substitute(&text, &envsubst.only, &self.env).map_err(|unset| {
            let hidden = Secrets::default();
            if matches!(envsubst.from, Text::Inline(_)) {
                // The config's own variables are expanded in it, and they may be secrets.
                self.env.values().for_each(|value| hidden.add(value));
            }
            let line = show_line(&text, unset.line, Some(unset.column), &hidden);
            Error::Render {
                target: spec.path.to_string(),
                template: format!("{name} line {} column {}", unset.line, unset.column),
                why: unset.why,
                hint: match (line, unset.hint) {
                    (Some(line), Some(hint)) => Some(format!("{line} ({hint})")),
                    (line, hint) => line.or(hint),
                },
            }
        })
    }

    fn text(&self, from: &Text, inline: &str) -> Result<(String, String), Error> {
        match from {
            Text::Inline(text) => Ok((inline.to_owned(), text.clone())),
            Text::File(path) => Ok((format!("{path:?}"), self.sources.text(path)?)),
        }
    }

    fn unpacked(&self, spec: &FileSpec, archive: &Archive) -> Result<Tree, Error> {
        match &archive.from {
            Location::Url(remote) => self.downloads.archive(spec, archive, remote),
            Location::File { path, sha256 } => {
                let Workshop { spooler, limits, .. } = self.workshop;
                let (name, body) = (format!("{path:?}"), self.sources.file(path, spooler)?.body);
                downloads::check_sum(&body, sha256.as_ref())
                    .map_err(|why| Error::Archive { archive: name.clone(), why })?;
                archive::unpack(&name, &body, archive, &spec.path, spooler, limits)
            }
        }
    }
}
