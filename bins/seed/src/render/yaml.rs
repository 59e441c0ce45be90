//! Writes a value as block-style YAML that every parser, of YAML 1.1 or 1.2, reads back as the same.

use std::fmt::Write as _;

use serde_json::Value;

/// Longer keys need another syntax (YAML 1.2.2, section 8.2.2).
const LONGEST_KEY: usize = 1000;

/// The value, without a line break at its end unless that is a part of it.
///
/// # Errors
/// A key that YAML cannot have.
pub(super) fn to_yaml(value: &Value, indent: usize) -> Result<String, String> {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, indent, &mut out)?,
        Value::Array(items) if !items.is_empty() => block(value, 0, indent, &mut out)?,
        Value::String(text) => return Ok(string(text)),
        other => return Ok(scalar(other)),
    }
    if !ends_in_block(value) {
        out.pop();
    }
    Ok(out)
}

/// Whether the last line belongs to a text that has a line break at its end.
fn ends_in_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().next_back().is_some_and(ends_in_block),
        Value::Array(items) => items.last().is_some_and(ends_in_block),
        Value::String(text) => fits_block(text) && text.ends_with('\n'),
        _ => false,
    }
}

/// Writes a mapping or a list that is not empty, at its own column.
fn block(value: &Value, column: usize, indent: usize, out: &mut String) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key.len() > LONGEST_KEY {
                    return Err(format!("a key of {} bytes is longer than YAML takes", key.len()));
                }
                out.extend(std::iter::repeat_n(' ', column));
                out.push_str(&string(key));
                out.push(':');
                nested(value, column, indent, out)?;
            }
        }
        Value::Array(items) => {
            for item in items {
                out.extend(std::iter::repeat_n(' ', column));
                out.push('-');
                if is_block(item) {
                    // Its first line stands on the dash's own.
                    let mut inner = String::new();
                    block(item, column + 2, indent, &mut inner)?;
                    out.push(' ');
                    out.push_str(inner.trim_start_matches(' '));
                } else {
                    nested(item, column, indent, out)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// What stands behind a `key:`.
fn nested(value: &Value, column: usize, indent: usize, out: &mut String) -> Result<(), String> {
    match value {
        Value::String(text) if fits_block(text) => {
            out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                if !line.is_empty() {
                    out.extend(std::iter::repeat_n(' ', column + indent));
                    out.push_str(line);
                }
                out.push('\n');
            }
        }
        value if is_block(value) => {
            out.push('\n');
            block(value, column + indent, indent, out)?;
        }
        Value::String(text) => {
            out.push(' ');
            out.push_str(&string(text));
            out.push('\n');
        }
        other => {
            out.push(' ');
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    Ok(())
}

/// Whether a text can stand as it is below a `|`: of several lines, and without what a block would change.
fn fits_block(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let begins_well = !text.starts_with([' ', '\n', '\t']);
    begins_well
        && body.contains('\n')
        && !body.ends_with('\n')
        && body.split('\n').all(|line| line.is_empty() || !line.trim().is_empty())
        && text.chars().all(|letter| letter == '\n' || letter == '\t' || is_printable(letter))
}

/// What may stand unescaped in every YAML, and is no line break in any (YAML 1.1 knows more of them).
fn is_printable(letter: char) -> bool {
    !letter.is_control() && !matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn string(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// In double quotes, escaped as JSON and YAML both read it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if is_printable(letter) => out.push(letter),
            letter => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

/// Words that some parser takes for something else (YAML 1.1's `bool` and `null`).
const WORDS: &[&str] = &["y", "n", "yes", "no", "true", "false", "on", "off", "null", "nan", "inf"];

/// Whether a text needs no quotes. What begins with a digit, a sign or a dot gets them, so no number, date or time of
/// day is ever among these.
fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphabetic() || "_/".contains(letter));
    let mut letters = text.chars().peekable();
    let mut safe = true;
    while let Some(letter) = letters.next() {
        safe &= match letter {
            ':' | ' ' => letters.peek().is_some_and(|next| *next != ' '),
            _ => letter.is_ascii_alphanumeric() || "_./-@+=%".contains(letter),
        };
    }
    begins && safe && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// A number, `true`, `false`, `null`, `[]` or `{}`.
fn scalar(value: &Value) -> String {
    let text = value.to_string();
    // For YAML 1.1 `1e300` is a word: it wants a dot and a sign.
    match text.split_once('e') {
        Some((digits, power)) if value.is_number() => {
            let dot = if digits.contains('.') { "" } else { ".0" };
            let sign = if power.starts_with(['-', '+']) { "" } else { "+" };
            format!("{digits}{dot}e{sign}{power}")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_one_would_by_hand() {
        let value = json!({
            "name": "web", "port": 80, "version": "1.10", "on": "yes", "off": true, "none": null, "url": "http://a:1/b?c",
            "list": ["a", {"k": "v", "l": [1]}, ["x", []], {}],
            "script": "#!/bin/sh\n\nexec a\n", "two": "a\nb", "octal": "0644", "time": "12:30", "e": 1e300,
        });
        let text = to_yaml(&value, 2).unwrap();
        assert_eq!(
            text,
            "name: web\nport: 80\nversion: \"1.10\"\n\"on\": \"yes\"\n\"off\": true\nnone: null\nurl: \"http://a:1/b?c\"\n\
             list:\n  - a\n  - k: v\n    l:\n      - 1\n  - - x\n    - []\n  - {}\nscript: |\n  #!/bin/sh\n\n  exec a\n\
             two: |-\n  a\n  b\noctal: \"0644\"\ntime: \"12:30\"\ne: 1.0e+300"
        );
        assert_eq!(podkit_cli::parse_yaml(&text).unwrap(), value);
        assert_eq!(to_yaml(&json!({"a": {"b": "c\nd"}}), 4).unwrap(), "a:\n    b: |-\n        c\n        d");
        assert_eq!(to_yaml(&json!("a\nb\n"), 2).unwrap(), "\"a\\nb\\n\"");
        assert_eq!(to_yaml(&json!({"a": "b\nc\n"}), 2).unwrap(), "a: |\n  b\n  c\n");
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            "\\PC{0,8}",
            "[ \\n\\ta:#|>'\"{}\\[\\]&*!%@`,?-]{0,12}",
            "[a-z]{1,3}(\n|\n\n| \n|\n ){1,3}[a-z]{0,3}\n{0,2}",
            "[0-9._+:eExo-]{1,6}",
            proptest::sample::select(vec![
                "~",
                "yes",
                "NO",
                "null",
                "",
                "=",
                "<<",
                "---",
                "...",
                "\u{85}",
                "\u{feff}a"
            ])
            .prop_map(str::to_owned),
            proptest::collection::vec(any::<char>(), 0..6).prop_map(|letters| letters.into_iter().collect()),
        ]
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any_text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((any_text(), inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_value(), indent in 2usize..5) {
            let text = to_yaml(&value, indent).unwrap();
            // Below a key, as a template has it: an empty document is not what an empty text stands for.
            let below: String = text.split_inclusive('\n').map(|line| format!("  {line}")).collect();
            let document = format!("root:\n{}\nlast: 1\n", below.replace("  \n", "\n"));
            let read = podkit_cli::parse_yaml(&document);
            prop_assert_eq!(&read.map_err(|bad| bad.to_string()), &Ok(json!({"root": value, "last": 1})), "{}", document);
        }
    }
}
