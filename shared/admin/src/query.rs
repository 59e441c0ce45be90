//! The query of a request: pairs of known names. Knows nothing of what they mean.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// All pairs of a query, in order. A name that is not known is refused, since a mistyped one would be a silent default;
/// `example` is what to write.
pub(crate) fn pairs<'a>(
    query: Option<&'a str>,
    known: &[&str],
    example: &str,
) -> Result<Vec<(&'a str, Cow<'a, str>)>, String> {
    let all = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    all.map(|pair| match pair.split_once('=').filter(|(name, _)| known.contains(name)) {
        Some((name, text)) => Ok((name, percent_decode_str(text).decode_utf8_lossy())),
        None => Err(format!("{pair:?} is not known here; write `{example}`")),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved_and_what_is_none_stays() {
        let read = pairs(Some("a=10.0.0.0%2F8&b=100%&a=%zz%2"), &["a", "b"], "a=1").unwrap();
        let texts: Vec<_> = read.iter().map(|(_, text)| text.as_ref()).collect();
        assert_eq!(texts, ["10.0.0.0/8", "100%", "%zz%2"]);
    }

    #[test]
    fn a_name_that_is_not_known_is_refused() {
        let read = |query| pairs(Some(query), &["a", "b"], "a=1");
        assert_eq!(read("a=1&&b=2&a=3").unwrap().len(), 3);
        for bad in ["c=1", "a", "a=1&x"] {
            assert!(read(bad).unwrap_err().ends_with("is not known here; write `a=1`"), "{bad}");
        }
        assert!(pairs(None, &[], "").unwrap().is_empty());
    }
}
