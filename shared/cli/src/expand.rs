//! `${VAR}`, `${VAR:-default}` and `$$` inside the strings of a config file.
//!
//! Works on parsed strings only, so a value can never change the shape of the file. Any other `$` stays as it is.

use crate::fault::Invalid;

/// Expands `text`; `lookup` gives the value of a variable, or `None` if it is not set.
///
/// `${VAR:-default}` takes the default where the variable is not set or empty, as in POSIX sh (2.6.2).
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, Invalid> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let end = inside.find('}').ok_or_else(|| {
                Invalid::new("`${` without a closing `}`").hint("write `$${` where `${` itself is meant")
            })?;
            out.push_str(&value(&inside[..end], &lookup)?);
            rest = &inside[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value(inside: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, Invalid> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(Invalid::new(format!("`${{{inside}}}` is not a variable"))
            .hint("write `$${` where `${` itself is meant"));
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Invalid::new(format!("the variable `{name}` is not set"))
            .hint(format!("set it, or give a default: `${{{name}:-default}}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "POD" => Some("web-1".into()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("a: [${POD}".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_dollars() {
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            ("${POD}", "web-1"),
            ("x-${POD}-y-${POD}", "x-web-1-y-web-1"),
            ("${NONE:-none}", "none"),
            ("${NONE:-}", ""),
            ("${EMPTY:-full}", "full"),
            ("${EMPTY}", ""),
            ("${POD:-other}", "web-1"),
            ("$$", "$"),
            ("$${POD}", "${POD}"),
            (r"password=\S+$", r"password=\S+$"),
            ("$host $1", "$host $1"),
            ("${TRICK}", "a: [${POD}"),
        ] {
            assert_eq!(expand(text, lookup).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn faults_name_the_variable() {
        for (text, want) in [
            ("${NONE}", "the variable `NONE` is not set"),
            ("${", "`${` without a closing `}`"),
            ("${a.b}", "`${a.b}` is not a variable"),
            ("${}", "`${}` is not a variable"),
            ("${1X}", "`${1X}` is not a variable"),
        ] {
            assert_eq!(expand(text, lookup).unwrap_err().message, want, "{text}");
        }
    }
}
