//! Regexes of the config: compiled under limits, with faults that say how to mend them; and lists of them.

use std::fmt;

use podkit_cli::Invalid;
use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// The most memory that one compiled regex may take, bytes: far more than any sane one, far less than the budget.
const SIZE_LIMIT: usize = 1 << 20;
/// The most memory for the states that a regex builds while it matches, bytes. Past it, matching gets slower.
const CACHE_LIMIT: usize = 512 << 10;

/// Compiles a regex of the config.
pub(crate) fn compile(pattern: &str) -> Result<Regex, Invalid> {
    if pattern.is_empty() {
        return Err(Invalid::new("the regex is empty").hint("it would match every line; remove it"));
    }
    if let Some(before) = pattern.strip_suffix("(?i)") {
        return Err(Invalid::new(format!("the `(?i)` at the end of {pattern:?} has no effect"))
            .hint(format!("write it in front: `(?i){before}`")));
    }
    let built = RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).dfa_size_limit(CACHE_LIMIT).build();
    built.map_err(|error| refused(pattern, &error))
}

fn refused(pattern: &str, error: &regex::Error) -> Invalid {
    // A syntax error is told in several lines, with a drawing; the last one says what it is.
    let told = error.to_string();
    let reason = told.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let bad = Invalid::new(format!("{pattern:?} is not a regex ({reason})"));
    match error {
        regex::Error::CompiledTooBig(_) => {
            Invalid::new(format!("the regex {pattern:?} needs more than 1MiB of memory"))
                .hint("use smaller repetition counts, or `(?-u)` where ASCII is enough")
        }
        _ if pattern.starts_with('/') => {
            bad.hint("write the regex without slashes around it, and `(?i)` in front to ignore case")
        }
        _ if reason.contains("look-around") => {
            bad.hint("regexes here take linear time, and cannot look ahead or behind")
        }
        _ => bad.hint("see https://docs.rs/regex/#syntax; in YAML, put it in single quotes"),
    }
}

/// Up to here a regex at a time is faster than all in one pass: each skips by literals of its own (measured: three
/// on a line of 170 bytes take 53 ns one by one, 307 ns together).
const FEW: usize = 4;

/// A list of regexes.
#[derive(Clone)]
pub(crate) struct Patterns {
    each: Vec<Regex>,
    /// All in one pass, where they are many.
    set: Option<RegexSet>,
}

impl Patterns {
    /// `None` for an empty list.
    pub(crate) fn new(regexes: Vec<Regex>) -> Result<Option<Self>, Invalid> {
        if regexes.is_empty() {
            return Ok(None);
        }
        if regexes.len() <= FEW {
            return Ok(Some(Self { each: regexes, set: None }));
        }
        let set = RegexSetBuilder::new(regexes.iter().map(Regex::as_str))
            .size_limit(SIZE_LIMIT * 4)
            .dfa_size_limit(CACHE_LIMIT)
            .build()
            .map_err(|_| {
                Invalid::new("the regexes together need more than 4MiB of memory")
                    .hint("use fewer or smaller ones")
            })?;
        Ok(Some(Self { each: regexes, set: Some(set) }))
    }

    /// Whether one of them matches.
    pub(crate) fn match_any(&self, text: &str) -> bool {
        match &self.set {
            Some(set) => set.is_match(text),
            None => self.each.iter().any(|regex| regex.is_match(text)),
        }
    }

    /// The regexes as they were written.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.each.iter().map(Regex::as_str)
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.texts()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_match_where_one_does() {
        let few = ["GET /healthz", "^#"];
        let many = ["GET /healthz", "^#", "x1", "x2", "x3", "x4"];
        for list in [&few[..], &many[..]] {
            let patterns = Patterns::new(list.iter().map(|text| compile(text).unwrap()).collect());
            let patterns = patterns.unwrap().unwrap();
            assert!(patterns.match_any("1.2.3.4 GET /healthz 200"));
            assert!(patterns.match_any("# a comment"));
            assert!(!patterns.match_any("get /healthz #"));
            assert_eq!(format!("{patterns:?}"), format!("{list:?}"));
        }
        assert!(Patterns::new(Vec::new()).unwrap().is_none());
    }

    #[test]
    fn what_does_not_compile_is_told_in_one_line() {
        for (pattern, want) in [
            ("", "the regex is empty"),
            ("a(", "\"a(\" is not a regex (unclosed group)"),
            ("/a(/i", "\"/a(/i\" is not a regex (unclosed group)"),
            (
                "a(?=b)",
                "\"a(?=b)\" is not a regex (look-around, including look-ahead and look-behind, is not supported)",
            ),
            (r"\w{900}", r#"the regex "\\w{900}" needs more than 1MiB of memory"#),
            ("error(?i)", "the `(?i)` at the end of \"error(?i)\" has no effect"),
        ] {
            assert_eq!(compile(pattern).unwrap_err().to_string(), want, "{pattern}");
        }
    }
}
