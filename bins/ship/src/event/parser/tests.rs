use super::*;
use crate::event::MESSAGE;
use proptest::prelude::*;
use regex::Regex;

const NOW: Time = Time(1_795_327_200_000_000_000);
const FIVE: Time = Time(1_795_323_600_000_000_000);

fn parser(format: &Format) -> Parser {
    Parser::new(format, Zone(0), &["service".to_owned()])
}

fn parse<'a>(format: &Format, line: &'a str) -> Event<'a> {
    parser(format).parse(line.as_bytes(), false, NOW)
}

fn named() -> Format {
    Format::Regex(Regex::new(r"^(?P<time>\S+) (?P<level>\w+) (?P<user>\w+): (?P<message>.*)$").unwrap())
}

fn pairs<'a>(event: &'a Event<'_>) -> Vec<(&'a str, &'a str)> {
    event.pairs.iter().map(|(key, value)| (&**key, &**value)).collect()
}

fn text<'a>(event: &'a Event<'_>) -> &'a str {
    match &event.body {
        Body::Text(text) => text,
        Body::Object(object) => panic!("an object: {}", object.json),
    }
}

#[test]
fn a_text_line_is_borrowed_whole() {
    let line = "2026-11-22T05:00:00Z WARN x";
    let event = parse(&Format::Auto, line);
    assert_eq!((event.time, event.level), (FIVE, Some(Level::Warn)));
    assert!(matches!(event.body, Body::Text(Cow::Borrowed(text)) if text == line));
    assert_eq!((event.pairs.capacity(), event.unparsed, event.invalid_utf8), (0, false, false));
    assert_eq!(parse(&Format::Text, "no time").time, NOW);
}

#[test]
fn a_json_line_is_an_object_but_not_where_text_is_wanted() {
    let line = r#"{"time":"2026-11-22T05:00:00Z","level":30,"message":"hello"}"#;
    for format in [Format::Auto, Format::Json] {
        let event = parse(&format, line);
        assert_eq!((event.time, event.level, event.unparsed), (FIVE, Some(Level::Info), false));
        let Body::Object(object) = event.body else { panic!("no object") };
        assert!(object.has(MESSAGE) && matches!(object.json, Cow::Borrowed(json) if json == line));
    }
    assert_eq!(text(&parse(&Format::Text, line)), line);
    let event = parse(&Format::Json, "no json");
    assert!(event.unparsed);
    assert_eq!(text(&event), "no json");
    assert!(!parse(&Format::Auto, "{nearly").unparsed);
}

#[test]
fn a_part_of_a_line_is_text() {
    let event = parser(&Format::Json).parse(b"{}", true, NOW);
    assert_eq!((text(&event), event.split, event.unparsed), ("{}", true, false));
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_and_told() {
    let event = parser(&Format::Auto).parse(b"a\xffb\r\nc\rd", false, NOW);
    assert_eq!((text(&event), event.invalid_utf8), ("a\u{fffd}b\nc\rd", true));
}

#[test]
fn what_is_taken_out_before_parsing_is_not_seen() {
    let (text, _) = Parser::decode(br#"{"message":"secret","level":"info"}"#);
    let event =
        parser(&Format::Auto).parse_text(Cow::Owned(text.replace("secret", "***")), false, false, NOW);
    let Body::Object(object) = event.body else { panic!("no object") };
    assert_eq!(object.json, r#"{"message":"***","level":"info"}"#);
    assert_eq!(event.level, Some(Level::Info));
}

#[test]
fn logfmt_gives_pairs_and_a_message() {
    let event =
        parse(&Format::Logfmt, "time=2026-11-22T05:00:00Z level=warning msg=\"a b\" user=bob\n\tat x");
    assert_eq!((event.time, event.level, text(&event)), (FIVE, Some(Level::Warn), "a b\n\tat x"));
    assert_eq!(pairs(&event), [("time", "2026-11-22T05:00:00Z"), ("level", "warning"), ("user", "bob")]);
    let event = parse(&Format::Logfmt, "user=bob ts=1795323600");
    assert_eq!((event.time, text(&event)), (FIVE, "user=bob ts=1795323600"));
    assert!(parse(&Format::Logfmt, "plain").unparsed);
}

#[test]
fn cri_gives_the_apps_line_and_its_stream() {
    let event = parse(&Format::Cri, "2026-11-22T05:00:00Z stderr F ERROR plain");
    assert_eq!((event.time, event.level, text(&event)), (FIVE, Some(Level::Error), "ERROR plain"));
    assert_eq!(pairs(&event), [("stream", "stderr")]);
    let event =
        parse(&Format::Cri, "2026-11-22T05:00:09Z stdout F {\"time\":\"2026-11-22T05:00:00Z\",\"stream\":1}");
    assert_eq!((event.time, event.pairs.len()), (FIVE, 0));
    assert!(matches!(event.body, Body::Object(_)));
    let group = "2026-11-22T05:00:00Z stdout P {\"a\":\n2026-11-22T05:00:01Z stdout F 1}";
    assert!(matches!(parse(&Format::Cri, group).body, Body::Object(object) if object.json == "{\"a\":1}"));
    let group =
        "2026-11-22T05:00:00Z stdout F a\n2026-11-22T05:00:01Z stdout P b\n2026-11-22T05:00:01Z stdout F c";
    let event = parse(&Format::Cri, group);
    assert_eq!((text(&event), event.time), ("a\nbc", FIVE));
    assert!(parse(&Format::Cri, "plain").unparsed);
}

#[test]
fn named_groups_are_what_they_are_called() {
    let event = parse(&named(), "2026-11-22T05:00:00Z err bob: hello\n  trace");
    assert_eq!((event.time, event.level, text(&event)), (FIVE, Some(Level::Error), "hello\n  trace"));
    assert_eq!(pairs(&event), [("user", "bob")]);
    let event = parse(&named(), "then odd bob: hello");
    assert_eq!((event.time, event.level), (NOW, None));
    assert_eq!(pairs(&event), [("time", "then"), ("level", "odd"), ("user", "bob")]);
    let event = parse(&named(), "2026-11-22T05:00:00Z");
    assert_eq!((event.unparsed, event.time), (true, FIVE));
}

proptest! {
    #[test]
    fn every_format_takes_any_bytes(line in proptest::collection::vec(any::<u8>(), 0..80), split in any::<bool>()) {
        for format in [Format::Auto, Format::Text, Format::Json, Format::Logfmt, Format::Cri, named()] {
            parser(&format).parse(&line, split, NOW);
        }
    }

    #[test]
    fn text_keeps_every_character(line in "\\PC{0,80}") {
        let event = parse(&Format::Text, &line);
        prop_assert_eq!(text(&event), line.as_str());
    }

    #[test]
    fn borrowed_and_owned_text_say_the_same(line in "(2026-11-22T05:00:00Z stdout [PF] )?(\\{\"level\":\"info\"\\}|level=info msg=\"a b\" c|[a-z =\"]{0,20})(\n\\PC{0,9})?") {
        for format in [Format::Auto, Format::Json, Format::Logfmt, Format::Cri, named()] {
            let mut parser = parser(&format);
            let owned = parser.parse_text(Cow::Owned(line.clone()), false, false, NOW);
            prop_assert_eq!(parser.parse_text(Cow::Borrowed(&line), false, false, NOW), owned);
        }
    }
}
