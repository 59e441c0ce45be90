use super::*;
use proptest::prelude::*;

fn found(line: &str) -> Option<Level> {
    let now = crate::event::Time(1_795_323_600_000_000_000);
    let finder = stamp::Finder::new(crate::event::time::Zone(0));
    Level::find(line, finder.find(line, now).map_or(0, |found| found.end))
}

#[test]
fn all_usual_spellings_are_known() {
    use Level::*;
    for (words, level) in [
        ("trace TRACE finest t", Trace),
        ("debug DBG fine Finer d verbose", Debug),
        ("info INFO Information i", Info),
        ("notice", Notice),
        ("warn WARNING wrn W", Warn),
        ("error err E SEVERE", Error),
        ("crit critical alert dpanic", Critical),
        ("fatal emerg emergency panic F", Fatal),
    ] {
        for word in words.split(' ') {
            assert_eq!(Level::parse(word), Some(level), "{word}");
        }
        assert_eq!(Level::parse(level.name()), Some(level));
    }
    for word in ["", "x", "errors", "informationals", "10"] {
        assert_eq!(Level::parse(word), None, "{word}");
    }
}

#[test]
fn numbers_are_levels_where_the_key_says_so() {
    assert_eq!(Level::of_value("30"), Some(Level::Info));
    assert_eq!(Level::of_value("60"), Some(Level::Fatal));
    assert_eq!(Level::of_value("300"), Some(Level::Warn));
    assert_eq!(Level::of_value("3"), None);
    assert_eq!(Level::of_priority("3"), Some(Level::Error));
    assert_eq!(Level::of_priority("8"), None);
    assert_eq!(Level::of_priority("info"), Some(Level::Info));
}

#[test]
fn a_level_in_the_head_is_found() {
    for (line, level) in [
        ("2026-11-22 05:00:00,123 INFO [main] org.x.Main: error in prose", Level::Info),
        ("2026-11-22 05:00:00,747 - WARN  [SendWorker:7@688] - Send worker", Level::Warn),
        ("[Sun Nov 22 05:00:00 2026] [error] mod_jk child in error state 6", Level::Error),
        ("[Sun Nov 22 05:00:00.1 2026] [mpm_event:notice] [pid 1] AH00489", Level::Notice),
        ("2026/11/22 05:00:00 [warn] 7#7: *1 an upstream", Level::Warn),
        ("I1122 05:00:00.123456 7 main.go:1] ERROR is what it says", Level::Info),
        ("E1122 05:00:00.123456 7 main.go:1] x", Level::Error),
        ("<11>Nov 22 05:00:00 host su: x", Level::Error),
        ("time=\"2026-11-22T05:00:00Z\" level=warning msg=\"an ERROR\"", Level::Warn),
        ("level=info ts=2026-11-22T05:00:00Z msg=x", Level::Info),
        ("prefix {\"level\": \"debug\", \"x\": 1}", Level::Debug),
        ("[INFO ] 2026-11-22 05:00:00 x", Level::Info),
        ("INFO:     Started server process [7]", Level::Info),
        ("fail: Shop.Cart[0]", Level::Error),
        ("\u{1b}[2m2026-11-22T05:00:00Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m app: x", Level::Info),
        ("\u{1b}[31mERROR\u{1b}[0m x", Level::Error),
        ("F, [2026-11-22T05:00:00.1 #7] FATAL -- : x", Level::Fatal),
        ("[I 2026-11-22 05:00:00.123 App] x", Level::Info),
        ("05:00:00.123 [http-nio-8080-exec-12] DEBUG c.s.Cart - x", Level::Debug),
        ("2026-11-22 05:00:00 [7] LOG:  x\n ERROR y", Level::Error),
        ("aaaaaaa ERROR across two words of eight", Level::Error),
        ("aaaaaa ERR", Level::Error),
    ] {
        assert_eq!(found(line), Some(level), "{line}");
    }
}

#[test]
fn prose_and_parts_of_words_are_no_level() {
    for line in [
        "an error came up, with a warning",
        "GET /INFO HTTP/1.1",
        "the ERRORS and INFORMATION_SCHEMA",
        "MY_ERROR and ERROR_CODE and xERROR",
        "errors: 0, level of water",
        "it took 5 s: fine",
        "[information technology",
        "sealevel=high level=",
        "",
        "é",
    ] {
        assert_eq!(found(line), None, "{line}");
    }
    let far = format!("{} ERROR", "x ".repeat(60));
    assert_eq!(found(&far), None);
}

#[test]
fn numbers_for_otlp_rise_with_the_level() {
    use Level::*;
    let levels = [Trace, Debug, Info, Notice, Warn, Error, Critical, Fatal];
    let numbers: Vec<u8> = levels.iter().map(|level| level.severity_number()).collect();
    assert_eq!(numbers, [1, 5, 9, 10, 13, 17, 18, 21]);
}

proptest! {
    #[test]
    fn capitals_are_told_from_all_other_bytes(bytes in proptest::collection::vec(any::<u8>(), 8)) {
        let bits = upper_bits(load(&bytes, 0));
        for (index, byte) in bytes.iter().enumerate() {
            prop_assert_eq!(bits >> (8 * index + 7) & 1 == 1, byte.is_ascii_uppercase());
            let equal = equal_bits(load(&bytes, 0), bytes[0]);
            prop_assert_eq!(equal >> (8 * index + 7) & 1 == 1, *byte == bytes[0]);
        }
    }

    #[test]
    fn a_level_is_found_wherever_it_stands_in_the_head(before in "([a-z0-9]{1,9} ){0,8}", after in "[ :,|]") {
        prop_assert_eq!(found(&format!("{before}ERROR{after}")), Some(Level::Error));
    }

    #[test]
    fn no_line_makes_it_panic(line in "\\PC{0,120}", end in 0_usize..120) {
        let end = end.min(line.len());
        Level::find(&line, end);
    }
}
