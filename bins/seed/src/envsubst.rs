//! Replaces chosen variables in a text, and leaves every other byte as it is: nginx keeps its `$host`. Pure.
//!
//! `$V` and `${V}`; `${V:-text}` where V is unset or empty and `${V-text}` where it is unset; `${V:+text}` and
//! `${V+text}` where it is not; `${V:?message}` and `${V?message}` fail instead. As in POSIX (XCU 2.6.2), but a text
//! ends on its line, `\}` in it is a brace, and a chosen variable that is unset and has no text is an error.

use crate::environment::{Variables, nearest_variable};

/// How deep texts may hold others: `${A:-${B:-c}}`.
const MAX_DEPTH: usize = 8;

/// A variable that cannot be replaced: where, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unset {
    /// From 1.
    pub(crate) line: usize,
    /// In characters, from 1.
    pub(crate) column: usize,
    pub(crate) why: String,
    /// What may have been meant.
    pub(crate) hint: Option<String>,
}

/// Replaces the variables named in `only`; all other text stays as it is.
///
/// # Errors
/// The first variable of `only` that is not set, or that stands in a form that is not known.
pub(crate) fn substitute(text: &str, only: &[String], env: &Variables) -> Result<String, Unset> {
    let mut substitution = Substitution { text, only, env };
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    substitution.run(0, text.len(), 0, &mut out).map_err(|failed| {
        let before = text.get(..failed.at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        Unset {
            line: 1 + before.matches('\n').count(),
            column: 1 + line.chars().count(),
            why: failed.why,
            hint: failed.hint,
        }
    })?;
    Ok(out)
}

struct Failed {
    /// The dollar's byte.
    at: usize,
    why: String,
    hint: Option<String>,
}

struct Substitution<'a> {
    text: &'a str,
    only: &'a [String],
    env: &'a Variables,
}

/// What stands between the name and the closing brace.
struct Operator {
    /// `-`, `+` or `?`.
    kind: u8,
    /// Whether an empty value counts as unset.
    or_empty: bool,
    /// Where the text begins, and where the closing brace stands.
    from: usize,
    to: usize,
}

impl<'a> Substitution<'a> {
    /// Replaces what lies between two bytes. `depth` is above 0 in the text of a variable.
    fn run(&mut self, from: usize, to: usize, depth: usize, out: &mut String) -> Result<(), Failed> {
        let mut at = from;
        while at < to {
            let rest = &self.text[at..to];
            let Some(plain) = rest.find(['$', '\\']) else {
                out.push_str(rest);
                return Ok(());
            };
            out.push_str(&rest[..plain]);
            at += plain;
            let rest = &self.text[at..to];
            if depth > 0 && rest.starts_with("\\}") {
                out.push('}');
                at += 2;
            } else if let Some(length) = self.variable(at, to, depth, out)? {
                at += length;
            } else {
                // Both are one byte.
                out.push_str(&rest[..1]);
                at += 1;
            }
        }
        Ok(())
    }

    /// Replaces the variable that begins at a byte, and tells its length; `None` if none of ours begins there.
    fn variable(
        &mut self,
        at: usize,
        to: usize,
        depth: usize,
        out: &mut String,
    ) -> Result<Option<usize>, Failed> {
        let Some(after) = self.text[at..to].strip_prefix('$') else { return Ok(None) };
        let braced = after.starts_with('{');
        let begin = at + 1 + usize::from(braced);
        let name = name_at(&self.text[begin..to]);
        if !self.only.iter().any(|known| known == name) {
            return Ok(None);
        }
        let end = begin + name.len();
        let failed = |why: String, hint: Option<String>| Failed { at, why, hint };
        if !braced {
            out.push_str(self.value(name, at)?);
            return Ok(Some(end - at));
        }
        if self.text[end..to].starts_with('}') {
            out.push_str(self.value(name, at)?);
            return Ok(Some(end + 1 - at));
        }
        if depth == MAX_DEPTH {
            return Err(failed(format!("`${{{name}` is nested more than {MAX_DEPTH} deep"), None));
        }
        let operator = operator(&self.text[..to], end).ok_or_else(|| {
            let line = self.text[end..to].lines().next().unwrap_or_default();
            if !line.contains('}') {
                failed(format!("`${{{name}` has no closing brace on its line"), None)
            } else {
                let sign: String = line.chars().take(2).collect();
                let hint = "known are `${V}`, `${V:-text}`, `${V:+text}` and `${V:?message}`, and these without the colon";
                failed(format!("`${{{name}{sign}…}}` is no form that is known"), Some(hint.to_owned()))
            }
        })?;
        let set = self.env.get(name).filter(|value| !(operator.or_empty && value.is_empty()));
        match (operator.kind, set) {
            (b'-', None) | (b'+', Some(_)) => self.run(operator.from, operator.to, depth + 1, out)?,
            (b'+', None) => {}
            (b'?', None) => {
                let state = if self.env.contains_key(name) { "is empty" } else { "is not set" };
                let message = match &self.text[operator.from..operator.to] {
                    "" => String::new(),
                    message => format!(": {message}"),
                };
                return Err(failed(format!("`{name}` {state}{message}"), self.meant(name)));
            }
            (_, Some(value)) => out.push_str(value),
            _ => {}
        }
        Ok(Some(operator.to + 1 - at))
    }

    fn value(&self, name: &str, at: usize) -> Result<&'a str, Failed> {
        self.env.get(name).map(String::as_str).ok_or_else(|| Failed {
            at,
            why: format!("`{name}` is not set"),
            hint: self.meant(name).or_else(|| Some(format!("set it, or write `${{{name}:-default}}`"))),
        })
    }

    fn meant(&self, name: &str) -> Option<String> {
        if self.env.contains_key(name) {
            return None;
        }
        let near = nearest_variable(name, self.env.keys().map(String::as_str))?;
        Some(format!("the variable `{near}` is set; did you mean that?"))
    }
}

/// The name that a text begins with; empty if it begins with none.
fn name_at(text: &str) -> &str {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let length = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
    if text.starts_with(|letter: char| letter.is_ascii_digit()) { "" } else { &text[..length] }
}

/// The operator at a byte, and its text up to the brace that closes it.
fn operator(text: &str, at: usize) -> Option<Operator> {
    let bytes = text.as_bytes();
    let or_empty = *bytes.get(at)? == b':';
    let at = at + usize::from(or_empty);
    let kind = *bytes.get(at)?;
    if !matches!(kind, b'-' | b'+' | b'?') {
        return None;
    }
    let mut open = 0;
    let mut to = at + 1;
    loop {
        match *bytes.get(to)? {
            b'\n' => return None,
            b'\\' if bytes.get(to + 1) == Some(&b'}') => to += 1,
            b'$' if bytes.get(to + 1) == Some(&b'{') => {
                open += 1;
                to += 1;
            }
            b'}' if open == 0 => return Some(Operator { kind, or_empty, from: at + 1, to }),
            b'}' => open -= 1,
            _ => {}
        }
        to += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env() -> Variables {
        let set =
            [("HOST", "web-1"), ("PORT", "80"), ("EMPTY", ""), ("HOSTNAME", "other"), ("DOLLAR", "$PORT")];
        set.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn only(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn replaced(text: &str) -> Result<String, Unset> {
        substitute(text, &only(&["HOST", "PORT", "EMPTY", "NONE", "DOLLAR"]), &env())
    }

    #[test]
    fn chosen_variables_are_replaced_and_all_else_stays() {
        for (text, expected) in [
            ("$HOST:${PORT}", "web-1:80"),
            ("${EMPTY}|$EMPTY|", "||"),
            (
                "$host $HOSTNAME ${HOSTNAME} ${host} $remote_addr",
                "$host $HOSTNAME ${HOSTNAME} ${host} $remote_addr",
            ),
            ("$$ $ ${ $1 ${1} ${} $( $", "$$ $ ${ $1 ${1} ${} $( $"),
            ("$$HOST \\$HOST", "$web-1 \\web-1"),
            ("${other:-${PORT}} ${x", "${other:-80} ${x"),
            ("${NONE:-d} ${NONE-d} ${EMPTY:-d} ${EMPTY-d} ${HOST:-d}", "d d d  web-1"),
            ("${NONE:+a} ${NONE+a} ${EMPTY:+a} ${EMPTY+a} ${HOST:+a}", "   a a"),
            ("${NONE:-} ${NONE:-a b/c?d} ${NONE:-$x}", " a b/c?d $x"),
            ("${NONE:-${HOST}:${PORT}} ${NONE:-${NONE:-${x}}}", "web-1:80 ${x}"),
            ("${NONE:-a\\}b} \\} ${NONE:-a\\b}", "a}b \\} a\\b"),
            ("${HOST:?no} ${EMPTY?no}", "web-1 "),
            // What a variable holds is text, and is not looked at again.
            ("$DOLLAR ${NONE:-$DOLLAR}", "$PORT $PORT"),
            ("é${HOST}é\r\n", "éweb-1é\r\n"),
        ] {
            assert_eq!(replaced(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_told_with_its_place() {
        for (text, line, column, why) in [
            ("a\né $NONE", 2, 3, "`NONE` is not set"),
            ("${NONE}", 1, 1, "`NONE` is not set"),
            ("${NONE:?give it}", 1, 1, "`NONE` is not set: give it"),
            ("${EMPTY:?}", 1, 1, "`EMPTY` is empty"),
            ("${PORT:-${NONE}} ${NONE:-${NONE}}", 1, 26, "`NONE` is not set"),
            ("${HOST%%.*}", 1, 1, "`${HOST%%…}` is no form that is known"),
            ("${HOST:=x}", 1, 1, "`${HOST:=…}` is no form that is known"),
            ("${HOST:-x\n}", 1, 1, "`${HOST` has no closing brace on its line"),
            ("${HOST", 1, 1, "`${HOST` has no closing brace on its line"),
        ] {
            let unset = replaced(text).unwrap_err();
            assert_eq!((unset.line, unset.column, unset.why.as_str()), (line, column, why), "{text}");
        }
        let unset = substitute("$HOSTS", &only(&["HOSTS"]), &env()).unwrap_err();
        assert_eq!(unset.hint.as_deref(), Some("the variable `HOST` is set; did you mean that?"));
        let tower = format!("{}{}", "${NONE:-".repeat(20), "}".repeat(20));
        assert!(replaced(&tower).unwrap_err().why.ends_with("nested more than 8 deep"));
    }

    fn any_text() -> impl Strategy<Value = String> {
        "([$]|[{]|[}]|HOST|PORT|NONE|:-|:[?]|-|[\\\\]|\n|[a-z ]|\\PC){0,30}"
    }

    proptest! {
        #[test]
        fn nothing_changes_where_nothing_is_chosen(text in any_text()) {
            prop_assert_eq!(substitute(&text, &[], &env()), Ok(text));
        }

        #[test]
        fn text_without_chosen_names_stays(text in any_text(), name in "[a-z]{3}_X") {
            prop_assume!(!text.contains(&name));
            prop_assert_eq!(substitute(&text, &[name], &env()), Ok(text));
        }

        #[test]
        fn a_second_time_changes_nothing(text in "([$](HOST|PORT|host|[{]HOST[}]|[{]PORT:-x[}]|[{]x[}])|[ a-z{}]){0,20}") {
            if let Ok(once) = substitute(&text, &only(&["HOST", "PORT"]), &env()) {
                prop_assert_eq!(substitute(&once, &only(&["HOST", "PORT"]), &env()), Ok(once));
            }
        }
    }
}
