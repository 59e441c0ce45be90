use super::*;
use proptest::prelude::*;

/// 2026-11-22T05:00:00Z
const FIVE: i64 = 1_795_323_600;

fn now() -> Time {
    Time::new(FIVE + 3_600, 0).unwrap()
}

fn found(text: &str) -> Option<(Time, &str)> {
    let found = Finder::new(Zone(0)).find(text, now())?;
    Some((found.time, &text[found.end..]))
}

#[track_caller]
fn tells(text: &str, nanos: i64, rest: &str) {
    assert_eq!(found(text), Some((Time::new(FIVE, nanos).unwrap(), rest)), "{text}");
}

#[test]
fn layouts_of_rfc_3339_and_its_relatives() {
    tells("2026-11-22T05:00:00Z x", 0, " x");
    tells("2026-11-22t05:00:00z", 0, "");
    tells("2026-11-22T05:00:00.1Z", 100_000_000, "");
    tells("2026-11-22 05:00:00,123 INFO", 123_000_000, " INFO");
    tells("2026-11-22 05:00:00.123456789 x", 123_456_789, " x");
    tells("2026-11-22T07:00:00+02:00", 0, "");
    tells("2026-11-22T01:30:00.5-0330 x", 500_000_000, " x");
    tells("2026-11-22 07:00:00+02 x", 0, " x");
    tells("2026-11-22 05:00:00.5 +0000 UTC m=+0.1", 500_000_000, " UTC m=+0.1");
    tells("2026-11-22 05:00:00.123 UTC [7] LOG:", 123_000_000, " [7] LOG:");
    tells("2026-11-22 05:00:00,747 - INFO  [main]", 747_000_000, " - INFO  [main]");
    tells("[2026-11-22T05:00:00Z INFO  app] x", 0, " INFO  app] x");
    tells("[2026-11-22 05:00:00,123] x", 123_000_000, " x");
    tells("2026/11/22 05:00:00 [error] 7#7: *1", 0, " [error] 7#7: *1");
    tells("2026/11/22 05:00:00.123456 x", 123_456_000, " x");
    tells("\u{1b}[2m2026-11-22T05:00:00.5Z\u{1b}[0m x", 500_000_000, "\u{1b}[0m x");
}

#[test]
fn layouts_of_servers_and_frameworks() {
    tells("26/11/22 05:00:00 INFO executor.Executor: x", 0, " INFO executor.Executor: x");
    tells("261122 050000 148 INFO dfs.DataNode: x", 0, " 148 INFO dfs.DataNode: x");
    tells("261122 05:00:00 mysqld", 0, " mysqld");
    tells("[22/Nov/2026:05:00:00 +0000] x", 0, " x");
    tells("10.0.0.1 - - [22/Nov/2026:05:00:00 +0000] \"GET / HTTP/1.1\" 200", 0, " \"GET / HTTP/1.1\" 200");
    tells("shop:80 ::1 - bob [22/Nov/2026:07:00:00 +0200] x", 0, " x");
    tells("[Sun Nov 22 05:00:00.123456 2026] [core:notice]", 123_456_000, " [core:notice]");
    tells("[Sun Nov 22 05:00:00 2026] [notice] x", 0, " [notice] x");
    tells("Sun Nov 22 05:00:00 UTC 2026", 0, "");
    tells("22-Nov-2026 05:00:00.123 INFO [main]", 123_000_000, " INFO [main]");
    tells("1:M 22 Nov 2026 05:00:00.123 * Ready", 123_000_000, " * Ready");
    tells("Nov 22, 2026 5:00:00 AM com.shop.Main run", 0, " com.shop.Main run");
    tells("api.log.1_13:53:08 2026-11-22 05:00:00.008 25746 INFO x", 8_000_000, " 25746 INFO x");
    tells("INFO 2026-11-22 05:00:00,123 x", 123_000_000, " x");
    tells("I, [2026-11-22T05:00:00.123456 #7]  INFO -- : x", 123_456_000, " #7]  INFO -- : x");
    tells("[I 2026-11-22 05:00:00.123 App] x", 123_000_000, " App] x");
    tells("time=\"2026-11-22T05:00:00Z\" level=info", 0, " level=info");
    tells("level=info ts=2026-11-22T05:00:00.5Z caller=x", 500_000_000, " caller=x");
}

#[test]
fn a_time_without_a_year_is_the_last_such() {
    tells("Nov 22 05:00:00 host sshd[1]: x", 0, " host sshd[1]: x");
    tells("<34>Nov 22 05:00:00 host su: x", 0, " host su: x");
    tells("<34>1 2026-11-22T05:00:00Z host app - - x", 0, " host app - - x");
    tells("I1122 05:00:00.123456    7 main.go:1] x", 123_456_000, "    7 main.go:1] x");
    let day = |text| {
        found(text).map(|(time, _)| {
            let mut out = Vec::new();
            time.write_rfc3339(&mut out);
            String::from_utf8(out).unwrap()
        })
    };
    // At most a day ahead of now, so that a clock that runs ahead does not lose a year.
    assert_eq!(day("Nov 23 05:59:59 h").as_deref(), Some("2026-11-23T05:59:59.000Z"));
    assert_eq!(day("Nov 23 06:00:01 h").as_deref(), Some("2025-11-23T06:00:01.000Z"));
    assert_eq!(day("Dec  1 05:00:00 h").as_deref(), Some("2025-12-01T05:00:00.000Z"));
    assert_eq!(day("Feb 29 05:00:00 h").as_deref(), Some("2024-02-29T05:00:00.000Z"));
    let january = Time::new(1_767_225_600, 0).unwrap();
    let found = Finder::new(Zone(0)).find("Jan  1 01:00:00 h", Time(january.0 - 1)).unwrap();
    assert_eq!(found.time, Time::new(1_767_229_200, 0).unwrap());
}

#[test]
fn a_time_without_a_zone_is_of_the_source() {
    let finder = Finder::new(Zone(7_200));
    for text in ["2026-11-22 07:00:00 x", "Nov 22 07:00:00 x", "2026-11-22T05:00:00Z", "26/11/22 07:00:00 x"]
    {
        assert_eq!(finder.find(text, now()).map(|found| found.time), Time::new(FIVE, 0), "{text}");
    }
}

#[test]
fn what_is_no_time() {
    for text in [
        "",
        "2",
        "2026",
        "2026-11-22",
        "2026-13-01 05:00:00",
        "2026-02-30T05:00:00Z",
        "2026-00-10 05:00:00",
        "2026-11-22 24:00:00",
        "2026-11-22 05:60:00",
        "2026-11-22 05:00:61",
        "2026-11-22 05:00:001",
        "2026-11-22T05:00:00.1234567890",
        "31/Feb/2026:05:00:00 +0000",
        "Starting the server",
        "123456 7",
        "Now 22",
        "error at 2026-11-22 05:00:00 x",
        "Nov 31 05:00:00 x",
        "I1301 05:00:00.1 x",
        "081309 203615 1",
        "<192>Nov 22 05:00:00 x",
        "http: server closed",
        "[main] x [22/Nov/26] y",
        "time=now",
        "2026年11月22日",
        "\u{1b}",
        "\u{1b}[",
        "[",
        "<1>",
        "a [",
    ] {
        assert_eq!(found(text), None, "{text}");
        assert!(!begins_with_time(text.as_bytes()), "{text}");
    }
    assert!(begins_with_time(b"Feb 29 05:00:00 host x"));
}

#[test]
fn numbers_since_1970() {
    for (text, nanos) in [
        ("1795323600", 0),
        ("1795323600.5", 500_000_000),
        ("1795323600.1234567", 123_456_700),
        ("1795323600.1234567891234", 123_456_789),
        ("1795323600123", 123_000_000),
        ("1795323600123.5", 123_500_000),
        ("1795323600123456", 123_456_000),
        ("1795323600123456789", 123_456_789),
    ] {
        assert_eq!(epoch(text), Time::new(FIVE, nanos), "{text}");
    }
    for text in [
        "",
        "0.25",
        "12345",
        "1795323600.",
        "1795323600x",
        "-1795323600",
        "17953236001",
        "9999999999999999999",
    ] {
        assert_eq!(epoch(text), None, "{text}");
    }
}

#[test]
fn most_lines_are_told_at_a_glance() {
    for line in [
        "2026-11-22T05:00:00.123Z x",
        "2026-11-22 05:00:00,123 x",
        "2026-11-22T05:00:00Z",
        "2026-11-22 05:00:00",
    ] {
        assert!(begins_dated(line.as_bytes()), "{line}");
    }
    for line in ["2026-11-31T05:00:00Z", "2026-11-22T05:00:00.1234567890Z", "2026-11-22T05:00:000"] {
        assert!(!begins_dated(line.as_bytes()), "{line}");
    }
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(text in "\\PC{0,60}", now in any::<i64>()) {
        if let Some(found) = Finder::new(Zone(-3_600)).find(&text, Time(now)) {
            prop_assert!(text.is_char_boundary(found.end));
        }
        let _ = epoch(&text);
    }

    #[test]
    fn what_is_nearly_a_time_makes_no_panic(
        text in "[\\[<]?(Nov |Sun |I|time=|ab )?[0-9]{1,4}[-/: ][0-9N]{1,2}[-/: o][0-9v]{1,2}[ T:/-][0-9]{1,2}:[0-9]{2}:[0-9]{2}[.,]?[0-9é]{0,12}[ Z+-]{0,2}[0-9:]{0,5}",
    ) {
        Finder::new(Zone(0)).find(&text, now());
        begins_with_time(text.as_bytes());
    }

    #[test]
    fn what_is_told_at_a_glance_is_a_time(
        line in "(2026|1[67]00|2[0-2]00)-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.,][0-9]{0,11})?[Z +]?.?",
    ) {
        prop_assert!(!begins_dated(line.as_bytes()) || Finder::new(Zone(0)).find(&line, Time(0)).is_some());
    }
}
