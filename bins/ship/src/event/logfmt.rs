//! `key=value key="quoted \"value\"" flag`: the pairs of a line, in its order. Go's logfmt libraries are the measure.

use std::borrow::Cow;

/// A key and what it is set to; a flag is `true`.
pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Splits a line; `None` where it is not logfmt: the first word is no pair, a quote does not end, or a key is odd.
pub(crate) fn split(line: &str) -> Option<Vec<Pair<'_>>> {
    let mut pairs = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let key_end = rest.bytes().position(|byte| byte <= b' ' || byte == b'=').unwrap_or(rest.len());
        let (key, after) = rest.split_at(key_end);
        if key.is_empty() || key.contains('"') {
            return None;
        }
        let Some(value) = after.strip_prefix('=') else {
            if pairs.is_empty() {
                return None;
            }
            pairs.push((Cow::Borrowed(key), Cow::Borrowed("true")));
            rest = after.trim_ascii_start();
            continue;
        };
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = value.bytes().position(|byte| byte <= b' ').unwrap_or(value.len());
                let (value, after) = value.split_at(end);
                (Cow::Borrowed(value), after)
            }
        };
        if after.bytes().next().is_some_and(|byte| byte > b' ') {
            return None;
        }
        pairs.push((Cow::Borrowed(key), value));
        rest = after.trim_ascii_start();
    }
    (!pairs.is_empty()).then_some(pairs)
}

/// What is said up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = memchr::memchr2(b'"', b'\\', text.as_bytes())?;
    if text.as_bytes()[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = text[..end].to_owned();
    let mut chars = text[end..].char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((Cow::Owned(value), &text[end + at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                plain @ ('"' | '\\' | '/' | '\'') => value.push(plain),
                'u' => {
                    let digits = text.get(end + at + 2..end + at + 6)?;
                    let code = u32::from_str_radix(digits, 16).ok()?;
                    // Half a pair stays as it is written.
                    match char::from_u32(code) {
                        Some(char) => value.push(char),
                        None => value.extend(["\\u", digits]),
                    }
                    chars.nth(3)?;
                }
                // Not one of Go's escapes: kept as it is.
                other => value.extend(['\\', other]),
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(line: &str) -> Option<Vec<(String, String)>> {
        split(line).map(|pairs| {
            pairs.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
        })
    }

    #[test]
    fn pairs_quotes_and_flags() {
        let line = r#" level=info msg="a \"q\" \\ \u00e9\n" dur=1.5ms empty= eq=a=b flag "#;
        let want = [
            ("level", "info"),
            ("msg", "a \"q\" \\ é\n"),
            ("dur", "1.5ms"),
            ("empty", ""),
            ("eq", "a=b"),
            ("flag", "true"),
        ];
        let want: Vec<_> = want.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(pairs(line), Some(want));
        assert!(matches!(split("a=\"plain\"").unwrap()[0].1, Cow::Borrowed("plain")));
    }

    #[test]
    fn other_lines_are_not_logfmt() {
        for line in [
            "",
            "  ",
            "plain text",
            "text then=pair",
            "=x",
            "a=\"open",
            "a=\"x\"y",
            "\"a\"=b",
            "a=\"\\",
            "a=\"\\u12",
        ] {
            assert_eq!(pairs(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(given in proptest::collection::vec(("[a-z.@_é]{1,8}", "\\PC{0,12}"), 1..6)) {
            let line: Vec<String> = given.iter().map(|(key, value)| format!("{key}={}", serde_json::json!(value))).collect();
            prop_assert_eq!(pairs(&line.join(" ")), Some(given));
        }

        #[test]
        fn no_line_makes_it_panic(line in "[a-z=\" \\\\u0é]{0,40}") {
            pairs(&line);
        }
    }
}
