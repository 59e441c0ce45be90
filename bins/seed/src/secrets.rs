//! The values that are never shown, and how a text is shown without them.
//!
//! A value is known with the forms in which files and messages hold it: base64, escaped as in JSON, line by line.
//! Never reads a file and never writes one; what a file holds is the real value.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;

use crate::content::Body;
use crate::environment::{Variables, nearest_variable};
use crate::error::Error;

/// What stands in the place of a secret.
pub(crate) const MASK: &str = "***";

/// A shorter value is in every other word: masking it would show where it stands. A file that has it is not shown.
const SHORTEST: usize = 4;

/// A shorter line of a secret of many lines is not worth hiding: a brace, an empty line.
const SHORTEST_LINE: usize = 8;

/// The values that are never shown, shared by all that makes or shows a text.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Long enough to be masked where they stand.
    long: BTreeSet<String>,
    short: BTreeSet<String>,
}

/// Not even by accident.
impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Known({} values)", self.long.len() + self.short.len())
    }
}

impl Secrets {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of names like `env.TOKEN`: what can be known before any input is read. Others are passed over.
    pub(crate) fn in_environment(names: &[String]) -> Self {
        let secrets = Self::default();
        for value in names.iter().filter_map(|name| std::env::var(name.strip_prefix("env.")?).ok()) {
            secrets.add(&value);
        }
        secrets
    }

    /// Makes a value known in all its forms. An empty value is no secret.
    pub(crate) fn add(&self, value: &str) {
        let value = value.trim_matches(['\n', '\r']);
        if value.is_empty() {
            return;
        }
        let mut known = self.known();
        if value.len() < SHORTEST {
            known.short.insert(value.to_owned());
            return;
        }
        let escaped = Value::from(value).to_string();
        known.long.insert(escaped[1..escaped.len() - 1].to_owned());
        known.long.insert(value.replace('\'', "''"));
        known.long.insert(STANDARD_NO_PAD.encode(value));
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE);
        known.long.extend(lines.map(str::to_owned));
        known.long.insert(value.to_owned());
    }

    /// Makes all values of a tree known, but not what only says yes, no or nothing.
    pub(crate) fn add_all(&self, tree: &Value) {
        match tree {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => self.add(&number.to_string()),
            Value::String(text) => self.add(text),
            Value::Array(items) => items.iter().for_each(|item| self.add_all(item)),
            Value::Object(map) => map.values().for_each(|value| self.add_all(value)),
        }
    }

    /// Makes what was made of a text known, if the text holds a secret: the base64 of `user:password`.
    pub(crate) fn follow(&self, from: &str, to: &str) {
        if self.is_in(from) || self.known().short.contains(from) {
            self.add(to);
        }
    }

    /// Makes the values of names like `values.db.password` and `env.TOKEN` known.
    ///
    /// # Errors
    /// Nothing has that name: a name with a typing error would protect nothing.
    pub(crate) fn add_named(&self, names: &[String], values: &Value, env: &Variables) -> Result<(), Error> {
        for name in names {
            let missing = |known: Option<String>| Error::Secret { name: name.clone(), nearest: known };
            let (root, rest) = name.split_once('.').unwrap_or((name, ""));
            if root == "env" {
                let value = env.get(rest).ok_or_else(|| {
                    let near = nearest_variable(rest, env.keys().map(String::as_str));
                    missing(near.map(|near| format!("env.{near}")))
                })?;
                self.add(value);
                continue;
            }
            let mut at = values;
            let mut walked = root.to_owned();
            for key in rest.split('.').filter(|key| !key.is_empty()) {
                let below = at.get(key).or_else(|| at.get(key.parse::<usize>().ok()?));
                at = below.ok_or_else(|| {
                    let keys = at.as_object().into_iter().flat_map(|map| map.keys().map(String::as_str));
                    missing(podkit_cli::nearest(key, keys).map(|near| format!("{walked}.{near}")))
                })?;
                walked = format!("{walked}.{key}");
            }
            self.add_all(at);
        }
        Ok(())
    }

    /// Whether a text holds a secret that [`Secrets::mask`] would hide.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.known().long.iter().any(|value| text.contains(value.as_str()))
    }

    /// Whether a file in memory holds a secret. A larger one is never shown, so nobody asks.
    pub(crate) fn are_in(&self, body: &Body) -> bool {
        let Body::Memory(bytes) = body else { return false };
        std::str::from_utf8(bytes).is_ok_and(|text| self.is_in(text) || self.is_in_unmasked(text))
    }

    /// Whether a text holds a secret that is too short to be masked: it must not be shown at all.
    pub(crate) fn is_in_unmasked(&self, text: &str) -> bool {
        self.known().short.iter().any(|value| text.contains(value.as_str()))
    }

    /// The text with each secret in it replaced by `***`; secrets that overlap become one.
    pub(crate) fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let known = self.known();
        let mut all: Vec<(usize, usize)> = Vec::new();
        for value in &known.long {
            let mut found: Vec<(usize, usize)> = Vec::new();
            let mut from = 0;
            while let Some(at) = text[from..].find(value.as_str()) {
                let start = from + at;
                match found.last_mut() {
                    // Of one value: a text that repeats it is one piece, and takes no more memory than that.
                    Some(last) if (last.0..=last.1).contains(&start) => last.1 = start + value.len(),
                    _ => found.push((start, start + value.len())),
                }
                // Not behind the whole of it: in `abababx` the value `abab` stands twice.
                from = start + text[start..].chars().next().map_or(1, char::len_utf8);
            }
            all.append(&mut found);
        }
        if all.is_empty() {
            return Cow::Borrowed(text);
        }
        all.sort_unstable();
        let mut masked = String::with_capacity(text.len());
        let mut shown_to = 0;
        let mut hidden_to = 0;
        for (start, end) in all {
            if start >= hidden_to {
                masked.push_str(&text[shown_to.max(hidden_to)..start]);
                masked.push_str(MASK);
                shown_to = start;
            }
            hidden_to = hidden_to.max(end);
        }
        masked.push_str(&text[hidden_to..]);
        Cow::Owned(masked)
    }

    /// Masks all texts of a tree.
    pub(crate) fn mask_all(&self, tree: &mut Value) {
        match tree {
            Value::String(text) => *text = self.mask(text).into_owned(),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_all(item)),
            Value::Object(map) => map.values_mut().for_each(|value| self.mask_all(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Two versions of a file as a diff may show them. Where the new one holds secrets, or the old one `held` some, the
    /// old one may hold values that nobody knows any more: of it only the lines that are also in the new one are shown.
    pub(crate) fn mask_versions(&self, old: &str, held: bool, new: &str) -> (String, String) {
        let masked = self.mask(new).into_owned();
        let old = self.mask(old).into_owned();
        if masked == new && !held {
            return (old, masked);
        }
        let shown: BTreeSet<&str> = masked.split_inclusive('\n').collect();
        let hide = |line: &'_ str| match (shown.contains(line), line.ends_with('\n')) {
            (true, _) => line.to_owned(),
            (false, true) => format!("{MASK}\n"),
            (false, false) => MASK.to_owned(),
        };
        (old.split_inclusive('\n').map(hide).collect(), masked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use podkit_cli::Report as _;
    use proptest::prelude::*;
    use serde_json::json;

    fn secrets(values: &[&str]) -> Secrets {
        let secrets = Secrets::default();
        values.iter().for_each(|value| secrets.add(value));
        secrets
    }

    #[test]
    fn a_secret_is_masked_in_each_form_that_files_have_it_in() {
        let secrets = secrets(&["pa\"ss\\wo'rd"]);
        for text in [
            "url: x:pa\"ss\\wo'rd@db",
            r#"{"p": "pa\"ss\\wo'rd"}"#,
            "p: 'pa\"ss\\wo''rd'",
            STANDARD.encode("pa\"ss\\wo'rd").as_str(),
        ] {
            let masked = secrets.mask(text);
            assert!(masked.contains(MASK) && !masked.contains("wo"), "{text}: {masked}");
        }
        assert_eq!(secrets.mask("nothing here"), "nothing here");
    }

    #[test]
    fn a_secret_of_many_lines_is_masked_where_it_is_indented_too() {
        let secrets = secrets(&["-----BEGIN KEY-----\nMIIEvQIBADANBg\nx==\n-----END KEY-----\n"]);
        let shown =
            secrets.mask("key: |\n  -----BEGIN KEY-----\n  MIIEvQIBADANBg\n  x==\n  -----END KEY-----\n");
        assert_eq!(shown, "key: |\n  ***\n  ***\n  x==\n  ***\n");
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_between_them() {
        assert_eq!(secrets(&["abcd1234", "34xyz"]).mask("_abcd1234xyz_"), "_***_");
        assert_eq!(secrets(&["abab"]).mask("abababx"), "***x");
        assert_eq!(secrets(&["abcd", "abcdef"]).mask("abcdef abcd"), "*** ***");
        assert_eq!(secrets(&["üüüü"]).mask("üüüüü é"), "*** é");
    }

    #[test]
    fn a_short_secret_hides_the_whole_text_and_an_empty_one_nothing() {
        let secrets = secrets(&["abc", "", "\n"]);
        assert_eq!(secrets.mask("abcd"), "abcd");
        assert!(secrets.is_in_unmasked("xabcx") && !secrets.is_in_unmasked("xx"));
    }

    #[test]
    fn what_is_made_of_a_secret_is_one() {
        let secrets = secrets(&["hunter2", "xy"]);
        let basic = STANDARD.encode("admin:hunter2");
        secrets.follow("admin:hunter2", &basic);
        secrets.follow("other", "b3RoZXI");
        secrets.follow("xy", "eHkxx");
        assert_eq!(secrets.mask(&format!("{basic} b3RoZXI eHkxx")), "*** b3RoZXI ***");
    }

    #[test]
    fn names_lead_to_values_and_a_wrong_one_is_told() {
        let values =
            json!({"db": {"password": "hunter2", "port": 5432, "on": true}, "list": [{"k": "secret9"}]});
        let env = Variables::from([("TOKEN".to_owned(), "t0k3n".to_owned())]);
        let secrets = Secrets::default();
        let named = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            secrets.add_named(&names, &values, &env)
        };
        named(&["values.db", "env.TOKEN", "values.list.0.k"]).unwrap();
        assert_eq!(secrets.mask("hunter2 5432 true t0k3n secret9"), "*** *** true *** ***");
        for (name, near) in [
            ("values.db.pasword", Some("did you mean `values.db.password`?")),
            ("env.TOKNE", Some("did you mean `env.TOKEN`?")),
            ("values.zzz", None),
        ] {
            let error = named(&[name]).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot hide the secret `{name}`: nothing has that name"));
            assert_eq!(error.hint().as_deref(), near);
        }
    }

    #[test]
    fn a_diff_never_shows_what_a_secret_was_before() {
        let secrets = secrets(&["new-password"]);
        assert_eq!(
            secrets.mask_versions("a: 1\np: old-password\nz: 1", false, "a: 1\np: new-password\nz: 2"),
            ("a: 1\n***\n***".to_owned(), "a: 1\np: ***\nz: 2".to_owned())
        );
        assert_eq!(
            secrets.mask_versions("a: 1\n", false, "a: 2\n"),
            ("a: 1\n".to_owned(), "a: 2\n".to_owned())
        );
    }

    proptest! {
        #[test]
        fn no_secret_is_left_in_any_text(
            values in proptest::collection::vec("[ab]{4,7}", 1..4),
            text in "[abx\\n ]{0,40}",
        ) {
            let known = secrets(&values.iter().map(String::as_str).collect::<Vec<_>>());
            let masked = known.mask(&text);
            for value in &values {
                prop_assert!(!masked.contains(value.as_str()), "{masked}");
            }
        }
    }
}
