//! One flag, and the values that flags and their environment twins were given.
//!
//! Values stay text here; what they mean is decided where the config is read.

use std::collections::HashMap;

use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

/// One flag; its config key is the same name with underscores, unless it is [of one verb](Flag::of) only.
#[derive(Debug)]
pub struct Flag {
    pub(crate) name: &'static str,
    pub(crate) value: &'static str,
    pub(crate) help: &'static str,
    pub(crate) verb: Option<&'static str>,
    kind: FlagKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlagKind {
    Value,
    List,
    Switch,
}

impl Flag {
    /// A flag with one value: `Flag::value("state-dir", "DIR", "where checkpoints live")`.
    #[must_use]
    pub const fn value(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value, help, verb: None, kind: FlagKind::Value }
    }

    /// A flag that may be given several times. In the environment the values are separated by commas.
    #[must_use]
    pub const fn list(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value, help, verb: None, kind: FlagKind::List }
    }

    /// A flag that needs no value; `--once=false` turns it off where the environment or file turned it on.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { name, value: "BOOL", help, verb: None, kind: FlagKind::Switch }
    }

    /// Makes it a flag of one verb (`check`, `run` or one of the binary's own): it has an environment twin but no
    /// config key, and says how to do this one call. The binary gets it as [`VerbFlags`].
    #[must_use]
    pub const fn of(mut self, verb: &'static str) -> Self {
        self.verb = Some(verb);
        self
    }

    /// The flag as clap knows it. `tool` is the name without `podkit-`.
    pub(crate) fn argument(&self, tool: &str, help: String) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .value_name(self.value)
            .help(help)
            .env(env_name(tool, self.name))
            .hide_env(true);
        match self.kind {
            FlagKind::Value => arg.action(ArgAction::Set),
            FlagKind::List => arg.action(ArgAction::Append),
            FlagKind::Switch => {
                let arg = arg
                    .action(ArgAction::Set)
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .hide_possible_values(true);
                // A config key is checked with the config; nobody else checks the flag of a verb.
                match self.verb {
                    Some(_) => arg.value_parser(PossibleValuesParser::new(["true", "false"])),
                    None => arg,
                }
            }
        }
    }
}

/// `PODKIT_SHIP_STATE_DIR`
pub(crate) fn env_name(tool: &str, flag: &str) -> String {
    format!("PODKIT_{tool}_{flag}").to_uppercase().replace('-', "_")
}

/// The values of config flags and their environment twins, by flag name.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: HashMap<&'static str, (Source, Vec<String>)>,
    /// All flags there are, given or not.
    known: Vec<&'static str>,
    prefix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Env,
}

impl Given {
    pub(crate) fn get(&self, flag: &str) -> Option<(Source, &[String])> {
        self.values.get(flag).map(|(source, values)| (*source, values.as_slice()))
    }

    pub(crate) fn knows(&self, flag: &str) -> bool {
        self.known.contains(&flag)
    }

    /// The environment twin of a flag: `PODKIT_SHIP_STATE_DIR`.
    pub(crate) fn env_name(&self, flag: &str) -> String {
        env_name(&self.prefix, flag)
    }

    /// The values given before the verb and after it. Those of a list are joined; else the later wins.
    pub(crate) fn collect<'m>(
        tool: &str,
        flags: impl Iterator<Item = &'static Flag>,
        matches: impl Iterator<Item = &'m ArgMatches> + Clone,
    ) -> Self {
        let mut given = Self { prefix: tool.to_owned(), ..Self::default() };
        for flag in flags {
            given.known.push(flag.name);
            given.values.extend(values(flag, matches.clone()).map(|values| (flag.name, values)));
        }
        given
    }
}

/// The values of the flags that belong to the verb of this call.
#[derive(Debug, Default)]
pub struct VerbFlags(HashMap<&'static str, Vec<String>>);

impl VerbFlags {
    /// The value of a flag, if it is given.
    #[must_use]
    pub fn get(&self, flag: &str) -> Option<&str> {
        self.all(flag).last().map(String::as_str)
    }

    /// All values of a flag that is a list.
    #[must_use]
    pub fn all(&self, flag: &str) -> &[String] {
        self.0.get(flag).map_or(&[], Vec::as_slice)
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is_on(&self, flag: &str) -> bool {
        self.get(flag) == Some("true")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn collect<'m>(
        flags: impl Iterator<Item = &'static Flag>,
        matches: impl Iterator<Item = &'m ArgMatches> + Clone,
    ) -> Self {
        Self(flags.filter_map(|flag| Some((flag.name, values(flag, matches.clone())?.1))).collect())
    }
}

fn values<'m>(flag: &Flag, matches: impl Iterator<Item = &'m ArgMatches>) -> Option<(Source, Vec<String>)> {
    let mut typed: Vec<String> = Vec::new();
    let mut in_environment: Vec<String> = Vec::new();
    for matches in matches {
        let values = matches.get_many::<String>(flag.name).into_iter().flatten().cloned();
        match matches.value_source(flag.name) {
            Some(ValueSource::CommandLine) => typed.extend(values),
            Some(_) => in_environment = values.flat_map(|text| split(flag.kind, &text)).collect(),
            None => {}
        }
    }
    if !typed.is_empty() {
        Some((Source::Flag, typed))
    } else if !in_environment.is_empty() {
        Some((Source::Env, in_environment))
    } else {
        None
    }
}

/// The values of an environment twin. As in sh, an empty variable is one that is not set.
fn split(kind: FlagKind, text: &str) -> Vec<String> {
    let separator = match kind {
        FlagKind::List if text.contains('\n') => '\n',
        FlagKind::List => ',',
        FlagKind::Value | FlagKind::Switch => {
            return Some(text.to_owned()).filter(|text| !text.is_empty()).into_iter().collect();
        }
    };
    text.split(separator).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_in_the_environment_have_commas_or_line_ends() {
        assert_eq!(split(FlagKind::List, " a, b,,"), ["a", "b"]);
        assert_eq!(split(FlagKind::List, "a,b\nc\n"), ["a,b", "c"]);
        assert_eq!(split(FlagKind::Value, "a,b"), ["a,b"]);
        assert!(split(FlagKind::Value, "").is_empty() && split(FlagKind::List, " ").is_empty());
    }
}
