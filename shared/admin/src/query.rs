//! The query of a request: pairs of known names. Knows nothing of what they mean.

use std::borrow::Cow;

/// The pairs of a query, in order.
pub(crate) struct Query;

impl Query {
    /// All pairs. A name that is not known is refused, since a mistyped one would be a silent default; `example` is what
    /// to write.
    pub(crate) fn read<'a>(
        query: Option<&'a str>,
        known: &[&str],
        example: &str,
    ) -> Result<Vec<(&'a str, Cow<'a, str>)>, String> {
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').filter(|(name, _)| known.contains(name)) {
                Some((name, text)) => pairs.push((name, decoded(text))),
                None => return Err(format!("{pair:?} is not known here; write `{example}`")),
            }
        }
        Ok(pairs)
    }
}

/// The text with its `%2F` and the like resolved; what is no such thing, or no text, stays as it is.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        (rest, _) = match byte.filter(|_| *first == b'%') {
            Some(byte) => (&after[2..], bytes.push(byte)),
            None => (after, bytes.push(*first)),
        };
    }
    String::from_utf8(bytes).map_or(text.into(), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved_and_what_is_none_stays() {
        for (text, plain) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0%2F8", "10.0.0.0/8"),
            ("fd00%3a%3A%2f8", "fd00::/8"),
            ("100%", "100%"),
            ("%zz%2", "%zz%2"),
            ("%ff", "%ff"),
        ] {
            assert_eq!(decoded(text), plain);
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_refused() {
        let read = |query| Query::read(Some(query), &["a", "b"], "a=1");
        assert_eq!(read("a=1&&b=2&a=3").unwrap().len(), 3);
        for bad in ["c=1", "a", "a=1&x"] {
            assert!(read(bad).unwrap_err().ends_with("is not known here; write `a=1`"), "{bad}");
        }
        assert!(Query::read(None, &[], "").unwrap().is_empty());
    }
}
