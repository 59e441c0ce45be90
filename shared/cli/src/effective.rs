//! The settings in force, printed as YAML that could be read back; secrets are masked before they get here.

use serde_json::Value;

/// A config that can show itself for `check`.
pub trait Effective {
    /// The settings in force under their config keys, in units that read back, with secrets masked.
    fn effective(&self) -> Value;
}

/// A URL, or what was meant to be one, without its secrets: `http://user:***@host/path?token=***`.
///
/// A password, a user without one (a token), each value of the query and all that stands there without a name are
/// masked, and the fragment. Rather too much than too little: all before the last `@` counts as user and password,
/// whatever stands between.
#[must_use]
pub fn mask_url(url: &str) -> String {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    let (who, rest) = match rest.rsplit_once('@') {
        Some((who, rest)) => match who.split_once(':') {
            Some((user, _)) => (format!("{user}:***@"), rest),
            None => ("***@".to_owned(), rest),
        },
        None => (String::new(), rest),
    };
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, query.split('&').map(mask_pair).collect::<Vec<_>>().join("&")),
        None => (rest, String::new()),
    };
    let mark = if rest.len() > place.len() { "?" } else { "" };
    let fragment = if fragment.is_empty() { "" } else { "#***" };
    format!("{scheme}{who}{place}{mark}{query}{fragment}")
}

/// A part of a query: its name stays, if it has one.
fn mask_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) => format!("{name}=***"),
        None if pair.is_empty() => String::new(),
        None => "***".to_owned(),
    }
}

/// Block-style YAML; strings are quoted unless they are plainly words.
pub(crate) fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&" ".repeat(indent));
                out.push_str(&name(key));
                out.push(':');
                nested(value, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&" ".repeat(indent));
                out.push('-');
                if item.as_object().is_some_and(|map| !map.is_empty()) {
                    // The first key stands on the dash's line, the others below it.
                    let mut inner = String::new();
                    block(item, indent + 2, &mut inner);
                    out.push(' ');
                    out.push_str(inner.trim_start());
                } else {
                    nested(item, indent, out);
                }
            }
        }
        _ => {
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_block {
        out.push('\n');
        block(value, indent + 2, out);
    } else {
        out.push(' ');
        out.push_str(&scalar(value));
        out.push('\n');
    }
}

/// A key; nothing is expanded in keys.
fn name(key: &str) -> String {
    if is_plain(key) { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        // JSON's quoted form is YAML's double-quoted form. A dollar is doubled, or it would be expanded when read.
        Value::String(text) => Value::String(text.replace('$', "$$")).to_string(),
        other => other.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    let typed = matches!(text, "true" | "false" | "null") || is_number(text);
    let safe = |c: char| c.is_ascii_alphanumeric() || "_./-:%".contains(c);
    let edges = text.starts_with(['-', ':', '%', '.']) || text.ends_with(':');
    !text.is_empty() && !typed && !edges && !text.contains(": ") && text.chars().all(safe)
}

/// Whether a text is a number to who reads it without quotes: what `f64` parses, told without its tables, which are larger
/// than this module.
fn is_number(text: &str) -> bool {
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let text = unsigned(text);
    if ["inf", "infinity", "nan"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return true;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = unsigned(exponent);
    !(whole.is_empty() && part.is_empty() || exponent.is_empty())
        && [whole, part, exponent].into_iter().all(are_digits)
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;
    use serde_json::json;

    #[test]
    fn what_is_printed_is_read_back() {
        let value = json!({
            "state_dir": "/var/log/app/.podkit",
            "batch": {"size": "1MiB", "age": "1s"},
            "sources": [{"include": ["/a/*.log", "x"], "fields": {"k": "v: w", "n": "007", "t": "true"}}, {"include": []}],
            "empty": {},
            "text": "two\nlines # and \"quotes\"",
            "off": null,
            "on": true,
            "list": [[1, 2], ["a"]],
            "a$b": "key",
        });
        assert_eq!(yaml::parse(&to_yaml(&value)).unwrap().to_json(), value, "{}", to_yaml(&value));
    }

    #[test]
    fn passwords_in_urls_are_masked() {
        assert_eq!(mask_url("https://u:p@es:9200/x?y=z"), "https://u:***@es:9200/x?y=***");
        for (url, shown) in [
            ("https://token@es/x", "https://***@es/x"),
            ("http://es:9200/a", "http://es:9200/a"),
            ("stdout:", "stdout:"),
            ("u:p@es:80/", "u:***@es:80/"),
            ("http://u:pa/ss?w@rd@es/", "http://u:***@es/"),
            ("loki+http://u:p@es", "loki+http://u:***@es"),
            ("http://es/x?token=a&b&c=d", "http://es/x?token=***&***&c=***"),
            ("http://es/x?token", "http://es/x?***"),
            ("http://es/x?token#a=b", "http://es/x?***#***"),
            ("http://u:p@es/x?token", "http://u:***@es/x?***"),
            ("http://es/x?", "http://es/x?"),
            ("http://es/x#token", "http://es/x#***"),
            ("http://es?token", "http://es?***"),
        ] {
            assert_eq!(mask_url(url), shown);
        }
    }

    #[test]
    fn numbers_are_told_as_the_parser_tells_them() {
        let parts =
            ["", "+", "-", "1", "007", ".", "e", "E", "e5", "e-3", "inf", "NaN", "infinity", "x", "_", " "];
        for a in parts {
            for b in parts {
                for c in parts {
                    for d in parts {
                        let text = [a, b, c, d].concat();
                        assert_eq!(is_number(&text), text.parse::<f64>().is_ok(), "{text:?}");
                    }
                }
            }
        }
    }
}
