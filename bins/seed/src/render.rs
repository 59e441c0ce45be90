//! Renders templates: Jinja syntax, strict. What a template names must be there, or the error says what and where.
//!
//! In a template there are `env.NAME`, `values` and `file('/path')`. Output is text as written: nothing is escaped,
//! and the last line break stays. Reads the disk only through [`Sources`]; never writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use podkit_cli::chain;

use crate::error::Error;
use crate::path::RelPath;
use crate::source::Sources;

/// Instructions of the template engine that one file may take: about a second of work, a thousand times what a large
/// config needs. Without it a loop in a template could outlast the deadline.
const FUEL: u64 = 20_000_000;

/// Similarity from which another name is offered, as `podkit_cli` does for keys.
const NEAR: f64 = 0.8;

/// The template engine with everything that templates may name.
pub(crate) struct Renderer {
    engine: Environment<'static>,
    context: Value,
    /// `env` and `values` as data, to look for the name that may have been meant.
    known: serde_json::Value,
}

/// A template and what to call it.
pub(crate) struct Template<'a> {
    /// For messages: the path in quotes, or `its inline template`.
    pub(crate) name: String,
    pub(crate) text: &'a str,
}

impl Renderer {
    pub(crate) fn new(
        values: serde_json::Value,
        env: BTreeMap<String, String>,
        sources: &Arc<Sources>,
    ) -> Self {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut syntax = SyntaxConfig::builder();
        syntax.keep_trailing_newline(true);
        engine.set_syntax(syntax.build().expect("the delimiters are the default ones"));
        // By default names like `a.html` and `a.json` turn on escaping: a config file is text.
        engine.set_auto_escape_callback(|_| AutoEscape::None);
        engine.set_formatter(|out, state, value| match (value.kind(), value.is_true()) {
            // The engine writes Python's `True` and `None`; a config file wants them as YAML and JSON have them.
            (ValueKind::Bool, true) => Ok(out.write_str("true")?),
            (ValueKind::Bool, false) => Ok(out.write_str("false")?),
            (ValueKind::None, _) => Ok(out.write_str("null")?),
            _ => minijinja::escape_formatter(out, state, value),
        });
        engine.set_fuel(Some(FUEL));
        // Needed for the name of what is undefined.
        engine.set_debug(true);
        let inputs = Arc::clone(sources);
        engine.add_function("file", move |path: String| {
            inputs.text(Path::new(&path)).map_err(|error| {
                minijinja::Error::new(ErrorKind::InvalidOperation, chain(&error)).with_source(FromFile)
            })
        });
        let known = serde_json::json!({ "env": env, "values": values });
        let context = Value::from(Serde(&known));
        Self { engine, context, known }
    }

    /// Renders one file.
    ///
    /// # Errors
    /// [`Error::Render`] with the template's name, the line, and the undefined name.
    pub(crate) fn render(&self, target: &RelPath, template: &Template<'_>) -> Result<String, Error> {
        let rendered = self
            .engine
            .template_from_str(template.text)
            .and_then(|parsed| parsed.render(self.context.clone()));
        rendered.map_err(|error| self.explain(target, template, &error))
    }

    fn explain(&self, target: &RelPath, template: &Template<'_>, error: &minijinja::Error) -> Error {
        let undefined = error.detail().and_then(undefined_name);
        let why = match (error.kind(), undefined, error.detail()) {
            (ErrorKind::UndefinedError, Some(name), _) => format!("`{name}` is undefined"),
            (ErrorKind::OutOfFuel, ..) => "it takes too long: a loop without an end?".to_owned(),
            (_, _, Some(detail))
                if std::error::Error::source(error).is_some_and(|cause| cause.is::<FromFile>()) =>
            {
                detail.to_owned()
            }
            (kind, _, Some(detail)) => format!("{kind}: {detail}"),
            (kind, _, None) => kind.to_string(),
        };
        let line = error.line().map(|line| format!(" line {line}")).unwrap_or_default();
        Error::Render {
            target: target.to_string(),
            template: format!("{}{line}", template.name),
            why,
            hint: undefined.and_then(|name| self.meant(name)),
        }
    }

    /// The known name that a template may have meant by an undefined one.
    fn meant(&self, name: &str) -> Option<String> {
        let mut names = name.split('.');
        let mut walked: Vec<&str> = Vec::new();
        let mut at = &self.known;
        let missing = loop {
            let next = names.next()?;
            match at.get(next) {
                Some(value) => at = value,
                None => break next,
            }
            walked.push(next);
        };
        let nearest = nearest(missing, at.as_object()?.keys().map(String::as_str));
        let mut path = walked.clone();
        match nearest {
            Some(nearest) => path.push(nearest),
            // `port` where `values.port` or `env.PORT` is meant.
            None if walked.is_empty() && self.known["values"].get(missing).is_some() => {
                path.extend(["values", missing]);
            }
            None if walked.is_empty() && self.known["env"].get(missing).is_some() => {
                path.extend(["env", missing])
            }
            None if walked == ["env"] => {
                return Some(format!(
                    "set the environment variable {missing}, or write `{name} | default('…')`"
                ));
            }
            None => return None,
        }
        path.extend(names);
        Some(format!("did you mean `{}`?", path.join(".")))
    }
}

/// Marks an error that our own `file()` made: its text stands on its own.
#[derive(Debug, thiserror::Error)]
#[error("")]
struct FromFile;

/// The name in the engine's words: "`values.db.prot` is undefined".
fn undefined_name(detail: &str) -> Option<&str> {
    let (before, _) = detail.split_once("` is undefined")?;
    before.rsplit_once('`').map(|(_, name)| name)
}

fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use podkit_cli::Report as _;
    use serde_json::json;

    fn render(text: &str) -> Result<String, Error> {
        let env = BTreeMap::from([("HOST".to_owned(), "web-1".to_owned())]);
        let values = json!({"db": {"port": 5432, "host": "db"}, "list": ["b", "a"], "z": 1, "a": 2});
        let renderer = Renderer::new(values, env, &Arc::new(Sources::default()));
        let target = RelPath::parse("app.html").unwrap();
        renderer.render(&target, &Template { name: "\"/t.j2\"".to_owned(), text })
    }

    fn refused(text: &str) -> (String, Option<String>) {
        let error = render(text).unwrap_err();
        (error.to_string(), error.hint())
    }

    #[test]
    fn names_resolve_and_text_stays_as_written() {
        assert_eq!(
            render("{{ values.db.host }}:{{ values.db.port }} @{{ env.HOST }}\n").unwrap(),
            "db:5432 @web-1\n"
        );
        assert_eq!(render("a\n\n").unwrap(), "a\n\n");
        assert_eq!(render("<{{ '<&>' }}> $host ${x}").unwrap(), "<<&>> $host ${x}");
        assert_eq!(render("{% for x in values.list %}{{ x }}{% endfor %}").unwrap(), "ba");
        assert_eq!(render("{{ values.none | default('d') }}{{ values.none is defined }}").unwrap(), "dfalse");
        assert_eq!(render("{% for k in values %}{{ k }} {% endfor %}").unwrap(), "db list z a ");
    }

    #[test]
    fn yes_no_and_nothing_are_written_as_config_files_have_them() {
        assert_eq!(
            render("{{ true }} {{ 1 > 2 }} {{ none }} {{ [true] | tojson }}").unwrap(),
            "true false null [true]"
        );
    }

    #[test]
    fn what_is_undefined_is_named_with_its_line_and_its_neighbour() {
        for (text, line, name, hint) in [
            ("a\n{{ values.db.prot }}", 2, "values.db.prot", Some("did you mean `values.db.port`?")),
            ("{{ vlaues.db.port }}", 1, "vlaues", Some("did you mean `values`?")),
            ("\n\n{{ db.port }}", 3, "db", Some("did you mean `values.db`?")),
            ("{{ env.HOTS }}", 1, "env.HOTS", Some("did you mean `env.HOST`?")),
            (
                "{{ env.QQ }}",
                1,
                "env.QQ",
                Some("set the environment variable QQ, or write `env.QQ | default('…')`"),
            ),
            ("{% if values.qq %}x{% endif %}", 1, "values.qq", None),
            ("{% for x in values.qq %}x{% endfor %}", 1, "values.qq", None),
        ] {
            let (message, told) = refused(text);
            let expected =
                format!("cannot render \"app.html\" from \"/t.j2\" line {line}: `{name}` is undefined");
            assert_eq!((message.as_str(), told.as_deref()), (expected.as_str(), hint), "{text}");
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, expected) in [
            ("a\n{{ oops", "line 2: syntax error: "),
            ("{{ 1 | nosuch }}", "line 1: unknown filter: filter nosuch is unknown"),
            ("\n{{ nosuch() }}", "line 2: unknown function: nosuch is unknown"),
            ("\n\n{{ file('/no/such') }}", "line 3: cannot read \"/no/such\": no such file or directory"),
        ] {
            let (message, _) = refused(text);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_template_that_never_ends_is_ended() {
        let forever =
            "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}";
        let (message, _) = refused(forever);
        assert!(message.ends_with("it takes too long: a loop without an end?"), "{message}");
    }
}
