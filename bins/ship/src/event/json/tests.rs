use super::*;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

fn valid(text: &str) -> bool {
    walk(text, |_| true).is_some()
}

/// What serde_json says of a text without line ends.
fn reference(text: &str) -> bool {
    serde_json::from_str::<BTreeMap<String, IgnoredAny>>(text).is_ok()
}

#[test]
fn members_are_shown_as_written() {
    let mut members = Vec::new();
    let text = r#" { "a" : 1.50 ,"\u0062":"x\"y", "c":{"d":[1,{},[]]},"":null} "#;
    let object = walk(text, |member| {
        members.push((member.key, member.escaped, member.value));
        true
    });
    assert_eq!(object, Some(text.trim()));
    let want = [
        ("a", false, "1.50"),
        (r"\u0062", true, r#""x\"y""#),
        ("c", false, r#"{"d":[1,{},[]]}"#),
        ("", false, "null"),
    ];
    assert_eq!(members, want);
}

#[test]
fn what_is_no_json_object_is_told() {
    for text in [
        "",
        "{",
        "}",
        "{}x",
        "{}{}",
        "[1]",
        "\"a\"",
        "1",
        "{\"a\":}",
        "{\"a\":01}",
        "{'a':1}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":+1}",
        "{\"a\":-}",
        "{\"a\":tru}",
        "{\"a\":nul",
        "{\"a\":[1,]}",
        "{\"a\":[1}",
        "{\"a\":[}]}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u00g0\"}",
        "{\"a\":\"\\u12",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"x}",
        "{a:1}",
        "{\"a\":1}]",
        "{\"a\":NaN}",
        "\u{feff}{}",
    ] {
        assert!(!valid(text), "{text}");
        assert!(!reference(text), "{text}");
    }
    assert!(!valid("{\"a\":\n1}"), "an object over lines");
    assert!(valid("{}") && valid(" {}\r\n") && valid("{\"a\":\"\u{7f}é\u{10ffff}\"}"));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(valid(&nested(127)));
    assert!(!valid(&nested(128)));
    assert!(!valid(&"{\"a\":[".repeat(100_000)));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    assert!(valid(&objects(128)));
    assert!(!valid(&objects(129)));
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((".{0,9}", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn all_that_serde_json_writes_is_taken(value in value()) {
        let text = value.to_string();
        prop_assert_eq!(valid(&text), value.is_object());
        let text = format!("{{\"v\":{text}}}");
        let mut seen = None;
        walk(&text, |member| { seen = Some(member.value); true });
        prop_assert_eq!(seen, Some(&text[5..text.len() - 1]));
    }

    #[test]
    fn it_agrees_with_serde_json_on_nearly_json(text in r#"\{("(a|\\n|\\u0041)?" ?:( |-)?(1|0|0\.1|1e-1|"x"|\[|\]|\{|\}|true|,|null|"){0,5},?){0,3}\}?"#) {
        prop_assert_eq!(valid(&text), reference(&text), "{}", text);
    }

    #[test]
    fn it_agrees_after_a_change_of_one_byte(value in value(), at in any::<prop::sample::Index>(), byte in 32_u8..127) {
        let mut bytes = format!("{{\"v\":{value}}}").into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            // serde_json refuses numbers out of f64's range and halves of surrogate pairs; the grammar does not.
            if valid(&text) != reference(&text) {
                let error = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(&text).unwrap_err().to_string();
                prop_assert!(error.contains("out of range") || error.contains("surrogate"), "{}: {}", error, text);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}") {
        valid(&text);
    }
}
