//! Writes variables as a dotenv or properties file. Pure but for the files that hold secrets.
//!
//! A dotenv is written so that a POSIX shell (`set -a; . file`) and the parsers of dotenv files read the same; a
//! properties file as `java.util.Properties` writes it, in ASCII.

use std::fmt::Write as _;

use crate::config::{EnvFile, EnvFormat, EnvValue};
use crate::environment::{Variables, nearest_variable};
use crate::error::Error;
use crate::path::RelPath;
use crate::render::without_last_break;
use crate::secrets::Secrets;
use crate::source::Sources;

/// The text of the file `target`, sorted by name.
///
/// # Errors
/// A variable that is not set or cannot be written so, or a secret that cannot be read.
pub(crate) fn write(
    target: &RelPath,
    file: &EnvFile,
    env: &Variables,
    sources: &Sources,
    secrets: &Secrets,
) -> Result<String, Error> {
    let failed = |(why, hint)| Error::Render {
        target: target.to_string(),
        template: "the environment".to_owned(),
        why,
        hint,
    };
    let mut variables = chosen(&file.only, env).map_err(failed)?;
    for (name, value) in &file.set {
        let value = match value {
            EnvValue::Text(text) => text.clone(),
            EnvValue::Secret(path) => {
                let text = sources.text(path)?;
                let value = without_last_break(&text);
                secrets.add(value);
                value.to_owned()
            }
        };
        variables.insert(name.clone(), value);
    }
    let mut text = String::new();
    for (name, value) in &variables {
        let (name, written) = match file.format {
            EnvFormat::Dotenv if !is_name(name) => {
                let why = format!("`{name}` is no name for a dotenv file");
                let hint =
                    "a shell has no variables of such names: leave it out, or write `format: properties`";
                return Err(failed((why, Some(hint.to_owned()))));
            }
            EnvFormat::Dotenv if value.contains('\0') => {
                return Err(failed((format!("the value of `{name}` has a NUL in it"), None)));
            }
            EnvFormat::Dotenv => (name.clone(), dotenv(value)),
            EnvFormat::Properties => (properties(name, true), properties(value, false)),
        };
        secrets.follow(value, &written);
        let _ = writeln!(text, "{name}={written}");
    }
    Ok(text)
}

/// Why, and what to do.
type Told = (String, Option<String>);

/// The variables of this process that the config names.
fn chosen(only: &[String], env: &Variables) -> Result<Variables, Told> {
    let mut variables = Variables::new();
    for name in only {
        if let Some(prefix) = name.strip_suffix('*') {
            let before = variables.len();
            let found = env.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
            variables.extend(found.map(|(name, value)| (name.clone(), value.clone())));
            if variables.len() == before {
                tracing::warn!(%name, "no variable is set that begins so");
            }
            continue;
        }
        let Some(value) = env.get(name) else {
            let near = nearest_variable(name, env.keys().map(String::as_str));
            let hint = near.map(|near| format!("the variable `{near}` is set; did you mean that?"));
            return Err((format!("`{name}` is not set"), hint));
        };
        variables.insert(name.clone(), value.clone());
    }
    Ok(variables)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// A value as a shell reads it: single quotes around all but quotes and backslashes, which have a backslash before
/// them. So nothing is expanded, and dotenv parsers, of which some see escapes within single quotes, agree.
fn dotenv(value: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_./:@%+,=-".contains(letter);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    let mut out = String::with_capacity(value.len() + 2);
    let mut is_open = false;
    for letter in value.chars() {
        let is_escaped = matches!(letter, '\'' | '\\');
        if is_escaped == is_open {
            out.push('\'');
            is_open = !is_open;
        }
        if is_escaped {
            out.push('\\');
        }
        out.push(letter);
    }
    if is_open {
        out.push('\'');
    }
    out
}

/// A name or value as `java.util.Properties.store` escapes it, spaces in names and at the front of values too.
fn properties(text: &str, is_name: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        match letter {
            ' ' if is_name || at == 0 => out.push_str("\\ "),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            '=' | ':' | '#' | '!' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            ' '..='~' => out.push(letter),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use podkit_cli::Report as _;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::process::Command;

    fn made(format: EnvFormat, only: &[&str], set: &[(&str, &str)]) -> Result<String, Error> {
        let env = [("APP_PORT", "80"), ("APP_NAME", "my app"), ("HOME", "/root")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let only = only.iter().map(|name| (*name).to_owned()).collect();
        let set = set.iter().map(|(name, value)| ((*name).to_owned(), EnvValue::Text((*value).to_owned())));
        let file = EnvFile { format, only, set: set.collect() };
        let target = RelPath::parse("app.env").unwrap();
        write(&target, &file, &env, &Sources::default(), &Secrets::default())
    }

    #[test]
    fn variables_are_sorted_and_what_is_set_wins() {
        let set = [("Z", "a b"), ("APP_NAME", "it's \\ $x\n#")];
        assert_eq!(
            made(EnvFormat::Dotenv, &["HOME", "APP_*"], &set).unwrap(),
            "APP_NAME='it'\\''s '\\\\' $x\n#'\nAPP_PORT=80\nHOME=/root\nZ='a b'\n"
        );
        assert_eq!(made(EnvFormat::Dotenv, &["NONE_*"], &[]).unwrap(), "");
        assert_eq!(
            made(EnvFormat::Properties, &[], &[("db.url", " a:b=c é\n"), ("k y", "a 😀")]).unwrap(),
            "db.url=\\ a\\:b\\=c \\u00E9\\n\nk\\ y=a \\uD83D\\uDE00\n"
        );
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let told = |error: Error| (error.to_string(), error.hint());
        let (why, hint) = told(made(EnvFormat::Dotenv, &["APP_PROT"], &[]).unwrap_err());
        assert_eq!(why, "cannot render \"app.env\" from the environment: `APP_PROT` is not set");
        assert_eq!(hint.as_deref(), Some("the variable `APP_PORT` is set; did you mean that?"));
        let (why, _) = told(made(EnvFormat::Dotenv, &[], &[("a.b", "")]).unwrap_err());
        assert!(why.ends_with("`a.b` is no name for a dotenv file"), "{why}");
        let (why, _) = told(made(EnvFormat::Dotenv, &[], &[("A", "\0")]).unwrap_err());
        assert!(why.ends_with("the value of `A` has a NUL in it"), "{why}");
    }

    fn variables() -> impl Strategy<Value = BTreeMap<String, String>> {
        let value =
            prop_oneof!["\\PC{0,8}", "[ '\"\\\\$`#=!~*&|;<>(){}\\n\\t\\ra-b]{0,12}", "[\\x01-\\x7f]{0,6}",];
        proptest::collection::btree_map("PODKIT_[A-Z]{1,3}", value, 0..4)
    }

    fn text(format: EnvFormat, variables: &Variables) -> String {
        let set: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        made(format, &[], &set).unwrap()
    }

    proptest! {
        #[test]
        fn a_dotenv_is_read_back_by_dotenvy(variables in variables()) {
            let text = text(EnvFormat::Dotenv, &variables);
            let read: Result<BTreeMap<_, _>, _> = dotenvy::from_read_iter(text.as_bytes()).collect();
            prop_assert_eq!(read.map_err(|error| error.to_string()), Ok(variables), "{}", text);
        }

        #[test]
        fn a_properties_file_is_read_back(
            variables in proptest::collection::btree_map("\\PC{1,6}", "\\PC{0,8}|[ \\n\\t\\\\=:#!a]{0,6}", 0..4),
        ) {
            // The reader knows no surrogate pairs, which Java reads and writes.
            let is_basic = |text: &String| text.chars().all(|letter| letter <= '\u{ffff}');
            let variables: BTreeMap<_, _> =
                variables.into_iter().filter(|(name, value)| is_basic(name) && is_basic(value)).collect();
            let text = text(EnvFormat::Properties, &variables);
            prop_assert!(text.is_ascii());
            let read = java_properties::read(text.as_bytes()).unwrap();
            prop_assert_eq!(read.into_iter().collect::<BTreeMap<_, _>>(), variables, "{}", text);
        }
    }

    proptest! {
        // Each starts a shell.
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_dotenv_is_read_back_by_a_shell(variables in variables()) {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("app.env");
            std::fs::write(&file, text(EnvFormat::Dotenv, &variables)).unwrap();
            let script = "set -a; . \"$1\"; exec env -0";
            let mut shell = Command::new("/bin/sh");
            shell.env_clear().env("PATH", "/usr/bin:/bin").args(["-c", script, "sh"]).arg(&file);
            let out = shell.output().unwrap();
            prop_assert!(out.status.success() && out.stderr.is_empty(), "{:?}", out);
            let read: BTreeMap<String, String> = String::from_utf8(out.stdout)
                .unwrap()
                .split_terminator('\0')
                .filter_map(|pair| pair.split_once('='))
                .filter(|(name, _)| name.starts_with("PODKIT_"))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            prop_assert_eq!(read, variables);
        }
    }
}
