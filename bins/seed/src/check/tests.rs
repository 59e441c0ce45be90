use super::*;
use proptest::prelude::*;

const FORMATS: &[Format] =
    &[Format::Yaml, Format::Json, Format::Toml, Format::Ini, Format::Xml, Format::Properties, Format::Dotenv];

#[test]
fn what_is_of_the_format_passes() {
    for (format, text) in [
        (Format::Yaml, "a: 1\nb: [x, 'y']\n---\n- {a: 1}\n"),
        (Format::Yaml, "\u{feff}a: &x {b: 1}\nc: *x\n"),
        (Format::Yaml, ""),
        (Format::Json, "{\"a\": [1, -2.5e3, true, null, \"\\u00e9\", {\"a\": 1}], \"b\": {\"a\": 1}}\n"),
        (Format::Json, "\"text\""),
        (Format::Toml, "a = 1\n[t]\nb = [1, 2]\n[[l]]\nc.d = \"x\"\n"),
        (
            Format::Ini,
            "; c\n# c\nglobal=1\n[a b]  ; c\nk = v = w\nk: v\n  indented = x\nempty =\n[git \"sub\"]\n",
        ),
        (Format::Xml, "<?xml version=\"1.0\"?>\n<a xmlns:n=\"u\"><n:b c='&lt;'/><!-- c --></a>\n"),
        (
            Format::Properties,
            "# c\n! c\na=b\nc : d\ne f\nlong = one \\\n  # two\\\r\\u00e9\nsmile=\\ud83d\\ude00\nflag\n",
        ),
        (Format::Dotenv, "# c\nexport A=1\nB='two words' # c\nC=\"many\nlines\"\nD=\nE=$A\n\nF=x "),
    ] {
        assert_eq!(format::check(format, text.as_bytes()), Ok(()), "{format:?}: {text}");
    }
    assert_eq!(format::check(Format::Properties, b"latin=\xe9\n"), Ok(()));
}

#[test]
fn what_is_not_is_told_with_its_place() {
    for (format, text, line, column, why) in [
        (Format::Yaml, "a: 1\nb: [1\nc: 2\n", 3, 2, "illegal placement of ':' indicator"),
        (Format::Yaml, "a: 1\n---\nb: 1\nb: 2\n", 4, 1, "the key `b` stands here and in line 3"),
        (Format::Json, "{\"a\": 1,}", 1, 9, "trailing comma"),
        (Format::Json, "{\"a\":\n 1", 2, 2, "EOF while parsing an object"),
        (Format::Json, "{\"a\": 1, \"a\": 2}", 1, 12, "the name \"a\" stands twice in one object"),
        (Format::Json, "{} x", 1, 4, "trailing characters"),
        (Format::Json, "", 1, 0, "EOF while parsing a value"),
        (Format::Toml, "a = 1\na = 2\n", 2, 1, "duplicate key"),
        (Format::Toml, "a = \n", 1, 5, "string values must be quoted, expected literal string"),
        (Format::Ini, "[a]\nno value\n", 2, 1, "neither a section, nor `name = value`, nor a comment"),
        (Format::Ini, "  = x\n", 1, 3, "a value without a name"),
        (Format::Ini, "[a\n", 1, 1, "a section without its `]`"),
        (Format::Ini, "[ ]\n", 1, 1, "a section without a name"),
        (Format::Ini, "[a] b\n", 1, 1, "there is more after the `]` of a section"),
        (Format::Xml, "<a>\n  <b>\n</a>\n", 3, 1, "expected 'b' tag, not 'a'"),
        (
            Format::Xml,
            "<!DOCTYPE a [<!ENTITY x SYSTEM '/etc/passwd'>]><a>&x;</a>",
            0,
            0,
            "it has a DTD (`<!DOCTYPE`), and none is read",
        ),
        (Format::Properties, "a=1\nb=\\u12\n", 2, 0, "a `\\u` without four hexadecimal digits"),
        (
            Format::Properties,
            "a=1\nb=x\\\n  \\\n  \\uzzzz\n",
            2,
            0,
            "a `\\u` without four hexadecimal digits",
        ),
        (Format::Properties, " = x\n", 1, 0, "a value without a name"),
        (Format::Dotenv, "A=1\nB\n", 2, 2, dotenv::UNREADABLE),
        (Format::Dotenv, "A=1\nB=two words\n", 2, 7, dotenv::UNREADABLE),
        (Format::Dotenv, "A=1\nB=\"x\n\ny\n", 2, 0, "a quote that is not closed"),
        (Format::Dotenv, "A=1\nB='x", 2, 0, "a quote that is not closed"),
        (Format::Dotenv, "A=1\nB=\"x\ny\" z\nC=1\n", 2, 0, dotenv::UNREADABLE),
    ] {
        assert_eq!(
            format::check(format, text.as_bytes()),
            Err(Fault::new(line, column, why)),
            "{format:?}: {text}"
        );
    }
    for format in FORMATS.iter().filter(|format| **format != Format::Properties) {
        let bad = format::check(*format, b"a\n\xff");
        assert_eq!(bad, Err(Fault::new(2, 0, "it is not UTF-8 text")), "{format:?}");
    }
}

/// Nesting that a parser follows by its own stack would end the process.
#[test]
fn a_tower_is_refused_or_taken_but_never_falls() {
    for (format, opening) in [
        (Format::Yaml, "["),
        (Format::Yaml, "a: {"),
        (Format::Yaml, "- "),
        (Format::Yaml, "? "),
        (Format::Json, "["),
        (Format::Json, "{\"a\":"),
        (Format::Toml, "a=["),
        (Format::Toml, "a.a."),
        (Format::Toml, "a={a="),
        (Format::Xml, "<a>"),
        (Format::Ini, "["),
    ] {
        assert!(format::check(format, opening.repeat(100_000).as_bytes()).is_err(), "{format:?} {opening}");
    }
    let closed = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    let _ = format::check(Format::Xml, closed.as_bytes());
    let keys = format!("{}a = 1", "a.".repeat(100_000));
    let _ = format::check(Format::Toml, keys.as_bytes());
}

#[test]
fn the_line_is_shown_but_not_one_of_a_secret() {
    let text = b"[a]\npassword hunter2\n";
    let fault = format::check(Format::Ini, text).unwrap_err();
    let mut content = Content::new(text.to_vec(), 0o600);
    assert_eq!(
        fault.show(&content, text),
        "line 2 column 1: neither a section, nor `name = value`, nor a comment: `password hunter2`"
    );
    content.is_secret = true;
    assert_eq!(fault.show(&content, text), "line 2 column 1: no more is shown, for the file is secret");
    let long = "x".repeat(500);
    let shown = Fault::new(1, 0, "why").show(&Content::new(Vec::new(), 0), long.as_bytes());
    assert_eq!(shown, format!("line 1: why: `{}…`", "x".repeat(MAX_SHOWN)));
}

#[test]
fn places_are_counted_in_characters() {
    assert_eq!(Fault::at("ä\nöü=x", 7, ""), Fault::new(2, 3, ""));
    assert_eq!(Fault::at("ä", 1, ""), Fault::new(1, 1, ""));
    assert_eq!(Fault::at("a", 99, ""), Fault::new(1, 2, ""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), format in prop::sample::select(FORMATS)) {
        if let Err(fault) = format::check(format, &bytes) {
            let _ = fault.show(&Content::new(Vec::new(), 0), &bytes);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a\\[\\]{}<>/=:\"'\\\\#u0 \\n\\r$&;!?é-]{0,40}", format in prop::sample::select(FORMATS)) {
        if let Err(fault) = format::check(format, text.as_bytes()) {
            // The end of the text may be in a line of its own, and YAML breaks lines at `\r` too.
            let lines = text.matches(['\n', '\r']).count() + 2;
            prop_assert!(fault.line <= lines, "{fault:?}");
            let _ = fault.show(&Content::new(Vec::new(), 0), text.as_bytes());
        }
    }
}
