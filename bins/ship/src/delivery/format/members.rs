//! Looks into JSON text without building a tree: its members, its elements, its strings. Pure.
//!
//! Values are handed out as they are written, so that no number is typed again on the way.

use std::borrow::Cow;
use std::fmt;

use memchr::memmem;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Hands the members of a JSON object to `each`, in order. Fails where the text is no object.
pub(crate) fn each_member<'j>(json: &'j str, each: impl FnMut(&str, &'j str)) -> serde_json::Result<()> {
    struct Members<F>(F);
    impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Text(name)) = map.next_key()? {
                let value: &'de RawValue = map.next_value()?;
                (self.0)(&name, value.get());
            }
            Ok(())
        }
    }
    let mut parser = serde_json::Deserializer::from_str(json);
    parser.deserialize_map(Members(each))?;
    parser.end()
}

/// Hands the elements of a JSON array to `each`, in order. Fails where the text is no array.
pub(super) fn each_element<'j>(json: &'j str, each: impl FnMut(&'j str)) -> serde_json::Result<()> {
    struct Elements<F>(F);
    impl<'de, F: FnMut(&'de str)> Visitor<'de> for Elements<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
            while let Some(value) = seq.next_element::<&'de RawValue>()? {
                (self.0)(value.get());
            }
            Ok(())
        }
    }
    let mut parser = serde_json::Deserializer::from_str(json);
    parser.deserialize_seq(Elements(each))?;
    parser.end()
}

/// Whether a valid JSON object has a member of this name.
pub(super) fn has_member(json: &str, name: &str) -> bool {
    // A name may be written with escapes; where there is none, text that is not there is no name.
    if memchr::memchr(b'\\', json.as_bytes()).is_none()
        && memmem::find(json.as_bytes(), name.as_bytes()).is_none()
    {
        return false;
    }
    let mut found = false;
    // What cannot be read to its end is no object, and has what was seen till there.
    let _ = each_member(json, |key, _| found |= key == name);
    found
}

/// The text of a JSON string; `None` for other values.
pub(super) fn string(json: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0)
}

/// A string, borrowed unless it has escapes in it.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(text.to_owned().into()))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_handed_out_as_they_are_written() {
        let mut seen = Vec::new();
        each_member(r#"{"a" : 1.50, "\u0062":"x\n", "c":{"d": [1]}}"#, |name, value| {
            seen.push(format!("{name}={value}"));
        })
        .unwrap();
        assert_eq!(seen, ["a=1.50", r#"b="x\n""#, r#"c={"d": [1]}"#]);
        assert_eq!(string(r#""x\n""#).as_deref(), Some("x\n"));
        assert_eq!(string("1"), None);
    }

    #[test]
    fn a_name_is_known_by_what_it_says() {
        assert!(has_member(r#"{"stream":1}"#, "stream"));
        assert!(has_member(r#"{"str\u0065am":1}"#, "stream"));
        assert!(!has_member(r#"{"a":"stream","b":{"stream":1}}"#, "stream"));
        assert!(!has_member("{}", "stream"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}", json in "[\\[\\]{}\",:a1\\\\ue ]{0,40}") {
            for text in [&text, &json] {
                let _ = each_member(text, |_, _| ());
                let _ = each_element(text, |_| ());
                let _ = has_member(text, "a");
                let _ = string(text);
            }
        }
    }
}
