use super::*;
use proptest::prelude::*;

fn shown(nanos: i64) -> String {
    let mut out = Vec::new();
    Time(nanos).write_rfc3339(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn times_are_written_with_as_many_digits_as_they_have() {
    for (nanos, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1_795_323_600_000_000_000, "2026-11-22T05:00:00.000Z"),
        (1_795_323_600_120_000_000, "2026-11-22T05:00:00.120Z"),
        (1_795_323_600_123_400_000, "2026-11-22T05:00:00.123400Z"),
        (1_795_323_600_000_000_001, "2026-11-22T05:00:00.000000001Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
        (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
        (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
    ] {
        assert_eq!(shown(nanos), text);
    }
}

#[test]
fn a_system_time_may_be_before_1970() {
    let second = std::time::Duration::from_secs(1);
    assert_eq!(Time::from(UNIX_EPOCH + second), Time(NANOS));
    assert_eq!(Time::from(UNIX_EPOCH - second), Time(-NANOS));
}

#[test]
fn impossible_dates_do_not_exist() {
    for (year, month, day, exists) in [
        (2024, 2, 29, true),
        (2026, 2, 29, false),
        (1900, 2, 29, false),
        (2000, 2, 29, true),
        (2026, 2, 30, false),
        (2026, 13, 1, false),
        (2026, 0, 1, false),
        (2026, 4, 31, false),
        (2026, 12, 31, true),
        (2026, 12, 0, false),
    ] {
        assert_eq!(Date { year, month, day }.exists(), exists, "{year}-{month}-{day}");
    }
}

#[test]
fn names_have_the_date_of_the_event() {
    let name = |pattern: &str, nanos: i64| {
        let mut out = Vec::new();
        DatePattern::parse(pattern).unwrap().write(Time(nanos), &mut out);
        String::from_utf8(out).unwrap()
    };
    let time = 1_795_323_600_000_000_000;
    assert_eq!(name("logs-%Y.%m.%d", time), "logs-2026.11.22");
    assert_eq!(name("a-%y-%j-%H-%%", time), "a-26-326-05-%");
    assert_eq!(name("plain", time), "plain");
    // 2027-01-01 is a Friday, still in the last week of 2026.
    assert_eq!(name("%G-w%V", 1_798_761_600_000_000_000), "2026-w53");
}

#[test]
fn a_name_changes_with_the_hour() {
    let mut pattern = DatePattern::parse("l-%d%H").unwrap();
    let mut out = Vec::new();
    for hour in [0, 0, 1, 24, 0] {
        pattern.write(Time(hour * 3_600 * NANOS + 7), &mut out);
        out.push(b' ');
    }
    assert_eq!(out, b"l-0100 l-0100 l-0101 l-0200 l-0100 ");
}

#[test]
fn an_unknown_part_of_a_date_is_a_fault() {
    for text in ["logs-%Q", "logs-%", "%é", ""] {
        assert!(DatePattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn zones_are_offsets() {
    for (text, seconds, name) in [
        ("UTC", 0, "UTC"),
        ("Z", 0, "UTC"),
        ("+02:00", 7_200, "+02:00"),
        ("-0330", -12_600, "-03:30"),
        ("+14:00", 50_400, "+14:00"),
    ] {
        let zone = Zone::parse(text).unwrap();
        assert_eq!((zone.0, zone.name().as_str()), (seconds, name));
    }
    for text in ["", "Europe/Berlin", "+25:00", "2", "+02:00x", "+02:60"] {
        assert!(Zone::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn a_date_and_its_days_are_one(days in -107_000_i64..107_000) {
        let date = Date::of_days(days);
        prop_assert!(date.exists());
        prop_assert_eq!(date.days(), days);
    }

    #[test]
    fn a_written_time_is_read_back(nanos in any::<i64>()) {
        let text = shown(nanos);
        let found = super::super::stamp::Finder::new(Zone(7_200)).find(&text, Time(0)).unwrap();
        prop_assert_eq!(found.time, Time(nanos));
        prop_assert_eq!(found.end, text.len());
    }

    #[test]
    fn times_of_one_second_and_others_are_written_as_each_alone(
        nanos in proptest::collection::vec(prop_oneof![0_i64..3 * NANOS, any::<i64>()], 1..20),
    ) {
        let (writer, mut written, mut alone) = (Rfc3339::default(), Vec::new(), Vec::new());
        for nanos in nanos {
            writer.write(Time(nanos), &mut written);
            Time(nanos).write_rfc3339(&mut alone);
        }
        prop_assert_eq!(written, alone);
    }

    #[test]
    fn no_pattern_makes_it_panic(pattern in "\\PC{0,20}", nanos in any::<i64>()) {
        if let Ok(mut pattern) = DatePattern::parse(&pattern) {
            pattern.write(Time(nanos), &mut Vec::new());
        }
    }
}
