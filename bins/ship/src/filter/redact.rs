//! Masks what must not leave the pod: in a text anywhere, in a JSON object in its string values only.
//!
//! Names and the structure of an object stay, and so do its numbers: a number that is a card would have to become
//! another type or another number, and a backend refuses whole events for the one and is misled by the other.
//! A line that has no hit is passed on as it is, after one fast look for what all hits have in them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use podkit_cli::Invalid;
use regex::{Captures, Regex};

use super::json;
use super::preset::{Find, Needs, PRESETS, Preset, cards, may_have_card};
use super::select::{Patterns, compile};

/// What stands for a match of a regex unless it is said.
pub(crate) const DEFAULT_WITH: &str = "***";

/// One thing to mask.
#[derive(Debug, Clone)]
pub(crate) enum RedactRule {
    Preset(&'static Preset),
    Regex { regex: Regex, with: String },
}

impl RedactRule {
    /// A preset by its name.
    pub(crate) fn preset(name: &str) -> Result<Self, Invalid> {
        Preset::named(name).map(Self::Preset).ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            Invalid::new(format!("{name:?} is not a preset")).hint(format!(
                "presets: {}; write your own as `{{regex: '…', with: '***'}}`",
                names.join(", ")
            ))
        })
    }

    /// What may be masked by: a regex that never matches nothing.
    pub(crate) fn regex(pattern: &str) -> Result<Regex, Invalid> {
        let regex = compile(pattern)?;
        if regex.is_match("") {
            return Err(Invalid::new(format!("the regex {pattern:?} matches where nothing is"))
                .hint("write `+` in place of `*`, or leave out what may be missing"));
        }
        Ok(regex)
    }

    /// A regex and what stands in its place, which may name groups: `$1`, `${name}`.
    pub(crate) fn new(regex: Regex, with: &str) -> Result<Self, Invalid> {
        match groups(with).find(|group| !has_group(&regex, group)) {
            None => Ok(Self::Regex { regex, with: with.to_owned() }),
            Some(group) => {
                let known = (1..regex.captures_len()).map(|at| format!("${at}"));
                let named = regex.capture_names().flatten().map(|name| format!("${name}"));
                let known: Vec<String> = known.chain(named).collect();
                let has = if known.is_empty() { "no groups".to_owned() } else { known.join(", ") };
                Err(Invalid::new(format!("{with:?} names the group `${group}`, and the regex has {has}")).hint(
                    "a name goes on through letters, digits and `_`: end it with `$${1}x`; write a dollar as `$$$$`",
                ))
            }
        }
    }
}

/// The groups that a replacement names, as the regex crate reads it.
fn groups(with: &str) -> impl Iterator<Item = &str> {
    let mut rest = with;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find('$')? + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                rest = after;
            } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                rest = after;
                return Some(name);
            } else {
                let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let length = rest.find(|c| !name(c)).unwrap_or(rest.len());
                let (name, after) = rest.split_at(length);
                if length > 0 {
                    rest = after;
                    return Some(name);
                }
            }
        }
    })
}

fn has_group(regex: &Regex, group: &str) -> bool {
    match group.parse::<usize>() {
        Ok(number) => number < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|name| name == group),
    }
}

/// Masks by a list of rules, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Redactor {
    rules: Vec<Rule>,
    /// What the presets need: literals, an `@`, digits.
    literals: Option<Regex>,
    at: bool,
    digits: bool,
    own: Option<Patterns>,
    /// An own regex may look at the edges of the text. Then it says nothing of a value to have it look at the line.
    own_sees_edges: bool,
    /// What a value with escapes says, here so that it is allocated once.
    decoded: RefCell<String>,
}

impl Redactor {
    /// `None` where there are no rules.
    pub(crate) fn new(rules: &[RedactRule]) -> Result<Option<Self>, Invalid> {
        if rules.is_empty() {
            return Ok(None);
        }
        let (mut own, mut literals, mut at, mut digits) = (Vec::new(), Vec::new(), false, false);
        for rule in rules {
            match rule {
                RedactRule::Regex { regex, .. } => own.push(regex.clone()),
                RedactRule::Preset(preset) => match preset.needs {
                    Needs::Literals(some) => literals.push(some),
                    Needs::At => at = true,
                    Needs::Digits => digits = true,
                },
            }
        }
        Ok(Some(Self {
            rules: rules.iter().map(Rule::new).collect::<Result<_, _>>()?,
            literals: if literals.is_empty() { None } else { Some(compile(&literals.join("|"))?) },
            at,
            digits,
            own_sees_edges: own.iter().any(|regex| sees_edges(regex.as_str())),
            own: Patterns::new(own)?,
            decoded: RefCell::default(),
        }))
    }

    /// Masks a text; adds the number of places to `hits`.
    pub(crate) fn redact<'a>(&self, mut text: Cow<'a, str>, hits: &mut u64) -> Cow<'a, str> {
        if !self.may_match(&text) {
            return text;
        }
        for rule in &self.rules {
            let found = rule.matches(&text);
            if !found.is_empty() {
                *hits += found.len() as u64;
                text = Cow::Owned(splice(&text, &found));
            }
        }
        text
    }

    /// Masks the string values of a valid JSON object at any depth; adds the number of places to `hits`. All else
    /// stays byte for byte.
    pub(crate) fn redact_object<'a>(&self, json: Cow<'a, str>, hits: &mut u64) -> Cow<'a, str> {
        // A value says the same as its bytes unless it has escapes, and the quotes around it are no more a part of a
        // word than the edges of a text: where the whole has no match, such values have none.
        let tells_all = !self.own_sees_edges && !self.may_match(&json);
        if tells_all && !self.may_hide(&json) {
            return json;
        }
        let mut out = String::new();
        let mut kept = 0;
        for value in json::string_values(&json) {
            if tells_all && !self.may_hide(&json[value.clone()]) {
                continue;
            }
            if let Some(redacted) = self.redact_value(&json[value.clone()], hits) {
                out.reserve(json.len());
                out.push_str(&json[kept..value.start]);
                out.push_str(&redacted);
                kept = value.end;
            }
        }
        if kept == 0 {
            return json;
        }
        out.push_str(&json[kept..]);
        Cow::Owned(out)
    }

    /// The content of a JSON string; `None` where it stays.
    fn redact_value(&self, raw: &str, hits: &mut u64) -> Option<String> {
        let mut buffer = self.decoded.borrow_mut();
        if !self.may_match(json::decode(raw, &mut buffer)) {
            return None;
        }
        let mut redacted = None;
        for rule in &self.rules {
            let raw = redacted.as_deref().unwrap_or(raw);
            let found = rule.matches(json::decode(raw, &mut buffer));
            if !found.is_empty() {
                *hits += found.len() as u64;
                redacted = Some(json::splice(raw, &found));
            }
        }
        redacted
    }

    /// Whether a rule may match; false only where none does.
    fn may_match(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        (self.at && memchr::memchr(b'@', bytes).is_some())
            || self.literals.as_ref().is_some_and(|literals| literals.is_match(text))
            || (self.digits && may_have_card(bytes))
            || self.own.as_ref().is_some_and(|own| own.match_any(text))
    }

    /// Whether what is written may not show what it says, by escapes. What the presets need is letters, digits and
    /// signs that only `\u` can hide.
    fn may_hide(&self, json: &str) -> bool {
        let bytes = json.as_bytes();
        memchr::memchr_iter(b'\\', bytes).any(|at| self.own.is_some() || bytes.get(at + 1) == Some(&b'u'))
    }
}

/// Whether a regex may have an assertion of a text's begin or end; true rather too often.
fn sees_edges(pattern: &str) -> bool {
    ["^", "$", r"\A", r"\z"].iter().any(|edge| pattern.contains(edge))
}

/// Places in a text, ascending, and what stands there instead.
type Found<'a> = Vec<(Range<usize>, Cow<'a, str>)>;

fn splice(text: &str, found: &Found<'_>) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut kept = 0;
    for (range, with) in found {
        out.push_str(&text[kept..range.start]);
        out.push_str(with);
        kept = range.end;
    }
    out.push_str(&text[kept..]);
    out
}

/// A rule, ready to be used.
#[derive(Debug, Clone)]
struct Rule {
    /// It never matches without an `@`, and finds that out slowly.
    needs_at: bool,
    finder: Finder,
    with: String,
}

#[derive(Debug, Clone)]
enum Finder {
    Cards,
    /// The replacement names no groups.
    Plain(Regex),
    /// The replacement names groups; only some matches are meant.
    Groups(Regex, fn(&Captures<'_>) -> bool),
}

impl Rule {
    fn new(rule: &RedactRule) -> Result<Self, Invalid> {
        let (finder, with) = match rule {
            RedactRule::Preset(preset) => match preset.find {
                Find::Cards => (Finder::Cards, preset.with),
                Find::Pattern(pattern, is_meant) => {
                    (Finder::Groups(compile(pattern)?, is_meant), preset.with)
                }
            },
            RedactRule::Regex { regex, with } if with.contains('$') => {
                (Finder::Groups(regex.clone(), |_| true), with.as_str())
            }
            RedactRule::Regex { regex, with } => (Finder::Plain(regex.clone()), with.as_str()),
        };
        let needs_at = matches!(rule, RedactRule::Preset(Preset { needs: Needs::At, .. }));
        Ok(Self { needs_at, finder, with: with.to_owned() })
    }

    /// All matches but those of nothing, such as `\b` has.
    fn matches(&self, text: &str) -> Found<'_> {
        if self.needs_at && memchr::memchr(b'@', text.as_bytes()).is_none() {
            return Vec::new();
        }
        match &self.finder {
            Finder::Cards if !may_have_card(text.as_bytes()) => Vec::new(),
            Finder::Cards => cards(text).map(|range| (range, Cow::Borrowed(&*self.with))).collect(),
            Finder::Plain(regex) => regex
                .find_iter(text)
                .filter(|found| !found.is_empty())
                .map(|found| (found.range(), Cow::Borrowed(&*self.with)))
                .collect(),
            Finder::Groups(regex, is_meant) => regex
                .captures_iter(text)
                .filter(|found| !found.get_match().is_empty() && is_meant(found))
                .map(|found| {
                    let mut with = String::new();
                    found.expand(&self.with, &mut with);
                    (found.get_match().range(), Cow::Owned(with))
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests;
