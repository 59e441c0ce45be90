//! Renders templates: Jinja syntax, strict. What a template names must be there, or the error says what and where.
//!
//! In a template there are `values`, `env.NAME`, `file('/path')` and `secret('/path')`, and what [`filters`] and
//! [`address`] add. Output is text as written: nothing is escaped, and the last line break stays. Reads the disk only
//! through [`Sources`]; never writes.

mod address;
mod explain;
mod filters;
mod guard;
mod loader;
pub(crate) mod verb;
mod yaml;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use crate::environment::Variables;
use crate::error::Error;
use crate::secrets::Secrets;
use crate::source::Sources;

pub(crate) use explain::show_line;

/// Instructions of the template engine that one file may take: about a second of work, a thousand times what a large
/// config needs. Without it a loop in a template could outlast the deadline.
const FUEL: u64 = 20_000_000;

/// The size of what one template makes. A config that is larger is a loop that went wrong, and would be held in memory.
const MAX_RENDERED: usize = 16 << 20;

/// The fuel does not count what one instruction does: a filter may go through a long list each time.
const MAX_TIME: Duration = Duration::from_secs(10);

/// How deep macros and includes may call each other; each level takes stack.
const MAX_DEPTH: usize = 200;

/// The template engine with everything that templates may name.
pub(crate) struct Renderer {
    engine: Environment<'static>,
    context: Value,
    /// `env` and `values` as data, to look for the name that may have been meant.
    known: serde_json::Value,
    /// Where includes are looked for.
    directory: Option<PathBuf>,
    secrets: Arc<Secrets>,
    /// Whether a template called `secret()` since this was last looked at.
    took_secret: Arc<AtomicBool>,
}

/// A template and what to call it.
pub(crate) struct Template<'a> {
    /// For messages: the path in quotes, or `its inline template`.
    pub(crate) name: String,
    pub(crate) text: &'a str,
    /// It stands in the config, where variables were expanded: its lines may hold what was in them.
    pub(crate) is_inline: bool,
}

/// What a template became.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// It holds a secret that cannot be masked, so nothing of it is to be shown.
    pub(crate) is_secret: bool,
}

impl Renderer {
    /// `directory` is where templates include others from.
    pub(crate) fn new(
        values: serde_json::Value,
        env: Variables,
        directory: Option<PathBuf>,
        sources: &Arc<Sources>,
        secrets: &Arc<Secrets>,
    ) -> Self {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut syntax = SyntaxConfig::builder();
        syntax.keep_trailing_newline(true);
        engine.set_syntax(syntax.build().expect("the delimiters are the default ones"));
        // By default names like `a.html` and `a.json` turn on escaping: a config file is text.
        engine.set_auto_escape_callback(|_| AutoEscape::None);
        engine.set_formatter(|out, state, value| match (value.kind(), value.is_true()) {
            // The engine writes Python's `True`, `None` and `['a']`; a config file wants what YAML and JSON have.
            (ValueKind::Bool, true) => Ok(out.write_str("true")?),
            (ValueKind::Bool, false) => Ok(out.write_str("false")?),
            (ValueKind::None, _) => Ok(out.write_str("null")?),
            (ValueKind::Seq | ValueKind::Map | ValueKind::Iterable, _) => match filters::to_tree(value) {
                Ok(tree) => Ok(write!(out, "{tree}")?),
                Err(_) => minijinja::escape_formatter(out, state, value),
            },
            _ => minijinja::escape_formatter(out, state, value),
        });
        engine.set_fuel(Some(FUEL));
        engine.set_recursion_limit(MAX_DEPTH);
        // Needed for the name of what is undefined.
        engine.set_debug(true);
        filters::add(&mut engine, secrets);
        address::add(&mut engine);
        loader::add(&mut engine, directory.clone(), sources);
        let took_secret = Arc::new(AtomicBool::new(false));
        add_files(&mut engine, sources, secrets, &took_secret);
        let known = serde_json::json!({ "env": env, "values": values });
        let context = Value::from(Serde(&known));
        Self { engine, context, known, directory, secrets: Arc::clone(secrets), took_secret }
    }

    /// Renders the file `target`.
    ///
    /// # Errors
    /// [`Error::Render`] with the template, the place in it, and the undefined name.
    pub(crate) fn render(&self, target: &str, template: &Template<'_>) -> Result<Rendered, Error> {
        self.render_until(target, template, Instant::now() + MAX_TIME)
    }

    fn render_until(&self, target: &str, template: &Template<'_>, end: Instant) -> Result<Rendered, Error> {
        guard::refuse(template.text).map_err(|why| Error::Render {
            target: target.to_owned(),
            template: template.name.clone(),
            why,
            hint: None,
        })?;
        self.took_secret.store(false, Ordering::Relaxed);
        let mut out = Bounded { bytes: Vec::new(), end };
        self.engine
            .template_from_named_str(&template.name, template.text)
            .and_then(|parsed| parsed.render_captured_to(self.context.clone(), &mut out).map(drop))
            .map_err(|error| self.explain(target, template, &error))?;
        // The engine writes whole strings only.
        let text = String::from_utf8(out.bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        // A secret that is nowhere to be seen may be there in a form that we do not know: cut, or turned around.
        let unseen = self.took_secret.load(Ordering::Relaxed) && !self.secrets.is_in(&text);
        Ok(Rendered { is_secret: unseen || self.secrets.is_in_unmasked(&text), text })
    }
}

/// `file('/path')` and `secret('/path')`.
fn add_files(
    engine: &mut Environment<'static>,
    sources: &Arc<Sources>,
    secrets: &Arc<Secrets>,
    took_secret: &Arc<AtomicBool>,
) {
    let inputs = Arc::clone(sources);
    let read = move |path: &str| {
        inputs.text(Path::new(path)).map_err(|error| explain::ours(podkit_cli::chain(&error)))
    };
    let read_secret = read.clone();
    engine.add_function("file", move |path: String| read(&path));
    let (secrets, took_secret) = (Arc::clone(secrets), Arc::clone(took_secret));
    engine.add_function("secret", move |path: String| {
        let text = read_secret(&path)?;
        let value = without_last_break(&text);
        secrets.add(value);
        took_secret.store(true, Ordering::Relaxed);
        Ok::<_, minijinja::Error>(value.to_owned())
    });
}

/// What an editor or `echo` adds to a file that holds one value is no part of it.
pub(crate) fn without_last_break(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// Takes so much and for so long, and no more.
struct Bounded {
    bytes: Vec<u8>,
    end: Instant,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_RENDERED {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if Instant::now() > self.end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
