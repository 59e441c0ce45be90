//! `command`: a program and its arguments. There is no shell.

use std::fmt;

use podkit_cli::{Invalid, Section, mask_url};
use serde_json::{Value, json};

/// Words in the name of an argument whose value is not shown.
const SECRETIVE: &[&str] = &["pass", "pwd", "secret", "token", "key", "auth", "credential"];
/// What stands for a value that is not shown.
const MASK: &str = "***";

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
}

impl Program {
    pub(super) fn read(wait: &Section<'_>) -> Option<Self> {
        let faults = wait.fault_count();
        let words = wait.list("command", word);
        // With a fault in one of the words, what is left of them is of no use.
        if !wait.has("command") || wait.fault_count() > faults {
            return None;
        }
        let hint = "write it as a list: `[pg_isready, -h, db]`; there is no shell";
        let fault = |why: &str| wait.fault("command", Invalid::new(why).hint(hint));
        match words.split_first() {
            None => fault("names no program"),
            Some((name, [])) if name.trim().is_empty() => fault("names no program"),
            Some((name, [])) if name.contains(char::is_whitespace) => {
                fault("is one word with spaces in it, and no program");
            }
            Some((name, args)) => return Some(Self { name: name.clone(), args: args.to_vec() }),
        }
        None
    }

    pub(super) fn effective(&self) -> Value {
        json!(self.shown())
    }

    /// The words, without what looks like a secret. That is a last resort: arguments are seen by all who may list
    /// processes, and the environment is not.
    fn shown(&self) -> Vec<String> {
        let mut follows_name = false;
        let mut shown = vec![self.name.clone()];
        for arg in &self.args {
            let is_value = std::mem::take(&mut follows_name) && !arg.starts_with('-');
            shown.push(match arg.split_once('=') {
                _ if is_value => MASK.to_owned(),
                _ if arg.contains("://") => mask_url(arg),
                Some((name, _)) if is_secretive(name) => format!("{name}={MASK}"),
                None if arg.starts_with('-') => {
                    follows_name = is_secretive(arg);
                    arg.clone()
                }
                _ => arg.clone(),
            });
        }
        shown
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown().join(" "))
    }
}

fn is_secretive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETIVE.iter().any(|word| name.contains(word))
}

fn word(text: &str) -> Result<String, Invalid> {
    if text.contains('\0') {
        Err(Invalid::new(format!("{text:?} has a NUL in it")))
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        for (args, want) in [
            (&["-h", "db", "-q"][..], "x -h db -q"),
            (&["--password", "hunter2", "db"], "x --password *** db"),
            (&["--password=hunter2", "API_TOKEN=abc"], "x --password=*** API_TOKEN=***"),
            (&["--passwordless", "-v"], "x --passwordless -v"),
            (&["http://u:p@h/x?k=v", "a=b"], "x http://u:***@h/x?k=*** a=b"),
        ] {
            let args = args.iter().map(ToString::to_string).collect();
            assert_eq!(Program { name: "x".to_owned(), args }.to_string(), want);
        }
    }
}
