use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

mod presets;

fn preset(name: &str) -> RedactRule {
    RedactRule::preset(name).unwrap()
}

fn own(pattern: &str, with: &str) -> RedactRule {
    RedactRule::new(RedactRule::regex(pattern).unwrap(), with).unwrap()
}

fn redactor(rules: &[RedactRule]) -> Redactor {
    Redactor::new(rules).unwrap().unwrap()
}

fn all() -> Redactor {
    redactor(&PRESETS.each_ref().map(RedactRule::Preset))
}

fn text(redactor: &Redactor, text: &str) -> String {
    let mut hits = 0;
    let redacted = redactor.redact(Cow::Borrowed(text), &mut hits).into_owned();
    assert_eq!(hits > 0, redacted != text, "{text}");
    redacted
}

fn object(redactor: &Redactor, json: &str) -> String {
    redactor.redact_object(Cow::Borrowed(json), &mut 0).into_owned()
}

#[test]
fn unknown_presets_and_bad_groups_are_faults() {
    assert_eq!(RedactRule::preset("Bearer").unwrap_err().to_string(), "\"Bearer\" is not a preset");
    let regex = RedactRule::regex("(a)(?<b>c)").unwrap();
    for (with, fault) in [
        ("$0-$1-${2}-$b-${b}x", None),
        ("$$3 $ $-", None),
        ("${", None),
        ("$3", Some("$3")),
        ("$1a", Some("$1a")),
        ("$1 ${x}", Some("$x")),
        ("$$$c", Some("$c")),
    ] {
        let found = RedactRule::new(regex.clone(), with).err().map(|what| what.to_string());
        let want =
            fault.map(|group| format!("{with:?} names the group `{group}`, and the regex has $1, $2, $b"));
        assert_eq!(found, want);
    }
}

#[test]
fn groups_are_put_in_and_matches_of_nothing_left() {
    let redactor = redactor(&[own(r"(?<name>\w+)=(\d+)", "${name}=#$$${2}"), own(r"\b", "!")]);
    assert_eq!(text(&redactor, "a=1 b=2 c=x"), "a=#$1 b=#$2 c=x");
}

#[test]
fn rules_work_one_after_the_other() {
    let redactor = redactor(&[own("a", "b"), own("bb", "c")]);
    let mut hits = 0;
    assert_eq!(redactor.redact("aab".into(), &mut hits), "cb");
    assert_eq!(redactor.redact_object(r#"{"a":"aab"}"#.into(), &mut hits), r#"{"a":"cb"}"#);
    assert_eq!(hits, 6);
}

#[test]
fn a_regex_cannot_break_an_object() {
    let redactor = redactor(&[own(r"password=\S+", "password=\"*\"\\")]);
    let json =
        r#"{"m": "x password=a\"b,\"c\":1 \u00e9\/", "password=x":"y", "n":[ {"d":"password=z"} ],"e":1e2}"#;
    let want =
        r#"{"m": "x password=\"*\"\\ \u00e9\/", "password=x":"y", "n":[ {"d":"password=\"*\"\\"} ],"e":1e2}"#;
    assert_eq!(object(&redactor, json), want);
}

#[test]
fn values_are_matched_as_what_they_say() {
    let presets = all();
    assert_eq!(object(&presets, r#"{"a":"x\u0040y.de"}"#), r#"{"a":"***@***"}"#);
    assert_eq!(object(&presets, r#"{"a":"\u0034111111111111111"}"#), r#"{"a":"[card ***]"}"#);
    let lines = redactor(&[own("a\nb", "*")]);
    assert_eq!(object(&lines, r#"{"a":"a\nb"}"#), r#"{"a":"*"}"#);
    // The edges of a value are not those of the line.
    let edges = redactor(&[own("^secret$", "*")]);
    assert_eq!(object(&edges, r#"{"a":"secret","b":"a secret"}"#), r#"{"a":"*","b":"a secret"}"#);
}

#[test]
fn numbers_and_names_stay() {
    let json = r#"{"card":4111111111111111,"4111111111111111":"x","a@b.de":[true,null]}"#;
    assert_eq!(object(&all(), json), json);
}

#[test]
fn what_has_no_hit_is_not_copied() {
    let mut hits = 0;
    for given in [r#"{"a":"b","c":"@\n"}"#, "plain 12345678901234567890", "jane@"] {
        assert!(matches!(all().redact(Cow::Borrowed(given), &mut hits), Cow::Borrowed(_)));
        assert!(matches!(all().redact_object(Cow::Borrowed(given), &mut hits), Cow::Borrowed(_)));
    }
    assert_eq!(hits, 0);
}

/// All strings that are values.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(map) => map.values().for_each(|item| strings(item, found)),
        _ => {}
    }
}

/// The value with its strings masked one by one: what [`Redactor::redact_object`] must come to.
fn masked(redactor: &Redactor, value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(redactor.redact(text.into(), &mut 0).into_owned()),
        Value::Array(items) => items.into_iter().map(|item| masked(redactor, item)).collect(),
        Value::Object(map) => map.into_iter().map(|(name, item)| (name, masked(redactor, item))).collect(),
        other => other,
    }
}

/// Texts with a good chance of secrets, quotes, escapes and what looks like them.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "password=[a-z\"\\\\ ]{0,4}",
        "[ -~]{0,6}",
        "[\\x00-\\x1f\"\\\\é😀/ =:,{}]{0,4}",
        Just("jane@example.com".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("http://u:p@h/".to_owned()),
        Just("Bearer 0123456789abcdef".to_owned()),
        "[0-9 -]{0,24}",
    ];
    proptest::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

fn objects() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => texts().prop_map(Value::String),
        1 => any::<i64>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(texts(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    });
    proptest::collection::btree_map(texts(), value, 0..5).prop_map(|map| map.into_iter().collect())
}

/// The same JSON with some characters of its strings written as `\u`.
fn escaped(json: &str, every: usize) -> String {
    let mut out = String::new();
    // How many of the next characters belong to an escape that is there.
    let (mut in_string, mut of_escape) = (false, 0_usize);
    for (at, char) in json.char_indices() {
        let is_plain = in_string && of_escape == 0 && char != '"' && char != '\\';
        if is_plain && at % every == 0 {
            for unit in char.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04X}"));
            }
        } else {
            out.push(char);
        }
        match of_escape {
            0 if char == '"' => in_string = !in_string,
            0 if char == '\\' => of_escape = 1,
            1 if char == 'u' && out.ends_with("\\u") => of_escape = 4,
            left => of_escape = left.saturating_sub(1),
        }
    }
    out
}

proptest! {
    #[test]
    fn objects_stay_valid_and_have_no_match_left(value in objects(), every in 1_usize..12) {
        let password = r"password=\S+";
        let rules = [own(password, "***"), preset("email"), preset("credit_card")];
        for json in [value.to_string(), escaped(&value.to_string(), every)] {
            for redactor in [redactor(&rules), all(), redactor(&rules[..1]), redactor(&rules[1..])] {
                let mut hits = 0;
                let redacted = redactor.redact_object(Cow::Borrowed(&json), &mut hits);
                let parsed: Value = serde_json::from_str(&redacted).unwrap();
                prop_assert_eq!(&parsed, &masked(&redactor, value.clone()));
                prop_assert_eq!(hits == 0, redacted == json.as_str());
                let mut left = Vec::new();
                strings(&parsed, &mut left);
                // A rule may make a match for one before it: what is left is asked of one that is alone.
                let alone = redactor.rules.len() == 1;
                prop_assert!(!alone || !left.iter().any(|text| Regex::new(password).unwrap().is_match(text)));
            }
        }
    }

    #[test]
    fn edges_are_those_of_the_value(value in objects(), every in 1_usize..12) {
        let redactor = redactor(&[own(r"\Ap|[a-z]$|(?m)^\S", "***")]);
        let json = escaped(&value.to_string(), every);
        let redacted = redactor.redact_object(Cow::Borrowed(&json), &mut 0);
        let parsed: Value = serde_json::from_str(&redacted).unwrap();
        prop_assert_eq!(parsed, masked(&redactor, value));
    }

    #[test]
    fn the_first_look_misses_nothing(given in texts()) {
        for rule in PRESETS.each_ref().map(RedactRule::Preset) {
            let found = !Rule::new(&rule).unwrap().matches(&given).is_empty();
            prop_assert!(!found || redactor(&[rule]).may_match(&given));
        }
    }

    #[test]
    fn no_text_makes_them_panic(given in "\\PC{0,60}|[{}\"\\\\u0-9: ]{0,40}", with in "[${}a0-9]{0,8}") {
        let _ = (text(&all(), &given), object(&all(), &given));
        if let Ok(rule) = RedactRule::new(RedactRule::regex("(x)(?<a>y)").unwrap(), &with) {
            redactor(&[rule]).redact("xyxy".into(), &mut 0);
        }
    }
}
