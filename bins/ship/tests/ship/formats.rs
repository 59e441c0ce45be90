//! What a line becomes: formats, times, levels, bytes that are no text, long lines, and lines that belong together.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use podkit_testkit::http;
use serde_json::{Value, json};

use crate::receiver::Receiver;
use crate::setup::{Volume, assert_balanced, ledger, lines, messages, metric, started};

const JAVA: &str = "2026-03-04 05:06:07,123 ERROR shop.Cart - cannot pay\n\
    java.lang.IllegalStateException: no card\n\
    \tat shop.Cart.pay(Cart.java:42)\n\
    Caused by: java.io.IOException: gone\n\
    \t... 7 more\n";
const PYTHON: &str = "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    x()\n\
    ValueError: bad\n";
const GO: &str =
    "panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:4 +0x1d\nexit status 2\n";
const RUBY: &str = "app.rb:3:in `pay': no card (RuntimeError)\n\tfrom app.rb:7:in `<main>'\n";
const NODE: &str =
    "TypeError: x is not a function\n    at pay (/app/cart.js:4:11)\n    at node:internal/main:1:1\n";
const DOTNET: &str = "System.InvalidOperationException: no card\n   at Shop.Cart.Pay() in /app/Cart.cs:line 4\n\
    --- End of stack trace from previous location ---\n   at Shop.Main()\n";

/// What a receiver gets of a file that is read once to its end.
fn read_once(content: impl AsRef<[u8]>, source: &str) -> Vec<Value> {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    std::fs::write(volume.file("app.log"), content).unwrap();
    let to = format!("http: {{url: \"{}\"}}", receiver.url());
    let (run, _) = volume.configured_as(source, &[&to], "");
    let finished = run.arg("--once").expect_exit(0);
    let ledger = ledger(&finished);
    assert_balanced(&ledger);
    assert_eq!(ledger["total"]["pending"], 0, "{ledger}");
    receiver.records()
}

/// A trace without its last line end.
fn message(trace: &str) -> String {
    trace.trim_end().to_owned()
}

#[test]
fn each_format_finds_time_level_message_and_members() {
    let regex = r"format: {regex: '^(?P<time>\S+) \[(?P<level>\w+)\] (?P<user>\w+): (?P<message>.*)$'}";
    for (format, line, want) in [
        (
            "format: auto",
            r#"{"time":"2026-03-04T05:06:07.5Z","severity":"WARNING","message":"m","n":1.50}"#,
            json!({"timestamp": "2026-03-04T05:06:07.500Z", "level": "warn", "message": "m", "n": 1.5}),
        ),
        (
            "format: auto",
            "2026-03-04T05:06:07Z WARN m",
            json!({"timestamp": "2026-03-04T05:06:07Z", "level": "warn", "message": "2026-03-04T05:06:07Z WARN m"}),
        ),
        (
            "format: text",
            r#"{"level":"error","message":"m"}"#,
            json!({"message": r#"{"level":"error","message":"m"}"#}),
        ),
        (
            "format: json",
            r#"{"@timestamp":"2026-03-04T05:06:07Z","log.level":"error","message":"m"}"#,
            json!({"timestamp": "2026-03-04T05:06:07Z", "level": "error", "message": "m"}),
        ),
        (
            "format: logfmt",
            r#"ts=2026-03-04T05:06:07Z level=info msg="two words" took=3ms"#,
            json!({"timestamp": "2026-03-04T05:06:07Z", "level": "info", "message": "two words", "took": "3ms"}),
        ),
        (
            "format: cri",
            "2026-03-04T05:06:07.123456789Z stderr F ERROR m",
            json!({"timestamp": "2026-03-04T05:06:07.123456789Z", "level": "error", "message": "ERROR m", "stream": "stderr"}),
        ),
        (
            regex,
            "2026-03-04T05:06:07Z [Fatal] ann: m",
            json!({"timestamp": "2026-03-04T05:06:07Z", "level": "fatal", "user": "ann", "message": "m"}),
        ),
    ] {
        let records = read_once(format!("{line}\n"), format);
        assert_eq!(records.len(), 1, "{format}: {records:?}");
        for (member, value) in want.as_object().unwrap() {
            let got = &records[0][member];
            let same_time = member == "timestamp" && time(got) == time(value);
            assert!(same_time || got == value, "{format}: {member} of {}", records[0]);
        }
    }
}

fn time(text: &Value) -> Option<std::time::SystemTime> {
    humantime::parse_rfc3339(text.as_str()?).ok()
}

#[test]
fn a_line_of_another_format_is_text_and_counted() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    volume.write("app.log", "{\"a\":1}\nno json\n");
    let to = format!("http: {{url: \"{}\"}}", receiver.url());
    let (run, admin) = volume.configured_as("format: json", &[&to], "");
    let _ship = started(run);
    receiver.wait_for(2);
    assert_eq!(receiver.messages()[1], "no json");
    assert_eq!(metric(admin, "podkit_ship_unparsed_lines_total", &[]), 1.0);
}

#[test]
fn times_without_a_zone_are_in_the_zone_of_the_source() {
    for (zone, want) in [("UTC", "05:06:07"), ("+02:00", "03:06:07"), ("-05:30", "10:36:07")] {
        let records = read_once(
            "2026-03-04 05:06:07 INFO a\n2026-03-04T05:06:07+01:00 INFO b\n",
            &format!("timezone: \"{zone}\""),
        );
        let times: Vec<&str> = records.iter().map(|record| record["timestamp"].as_str().unwrap()).collect();
        assert!(times[0].contains(want) && times[1].contains("04:06:07"), "{zone}: {times:?}");
    }
}

#[test]
fn line_ends_nuls_and_empty_lines_are_no_part_of_messages() {
    let mut content = b"one\r\ntwo\n\nthree\n".to_vec();
    content.extend([0; 9000]);
    content.extend(b"four\nfive\0six\n");
    let messages: Vec<Value> = read_once(content, "").into_iter().map(|mut r| r["message"].take()).collect();
    assert_eq!(messages, ["one", "two", "", "three", "four", "five\0six"]);
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_and_counted() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    std::fs::write(volume.file("app.log"), b"caf\xe9\nfine \xc3\xa9\n\xff\xfe\n").unwrap();
    let (run, admin) = volume.ship_with_admin(&receiver.url());
    let _ship = started(run);
    assert_eq!(receiver.wait_for(3), ["caf\u{fffd}", "fine \u{e9}", "\u{fffd}\u{fffd}"]);
    assert_eq!(metric(admin, "podkit_ship_invalid_utf8_lines_total", &[]), 2.0);
}

#[test]
fn a_long_line_is_split_and_its_parts_are_marked() {
    let long = "0123456789".repeat(250);
    let records = read_once(format!("a\n{long}\nb\n"), "max_line: 1KiB");
    let parts: Vec<(&str, bool)> =
        records.iter().map(|record| (record["message"].as_str().unwrap(), record["split"] == true)).collect();
    assert_eq!(
        parts,
        [
            ("a", false),
            (&long[..1024], true),
            (&long[1024..2048], true),
            (&long[2048..], false),
            ("b", false)
        ]
    );
}

#[test]
fn traces_of_each_language_are_one_event() {
    for (language, trace) in
        [("java", JAVA), ("python", PYTHON), ("go", GO), ("ruby", RUBY), ("node", NODE), ("dotnet", DOTNET)]
    {
        for multiline in [language, "auto"] {
            let records = read_once(format!("before\n{trace}after\n"), &format!("multiline: {multiline}"));
            let got: Vec<&str> = records.iter().map(|r| r["message"].as_str().unwrap()).collect();
            assert_eq!(got, ["before", &message(trace), "after"], "{language} with {multiline}");
        }
    }
    let records = read_once(JAVA, "multiline: java");
    assert_eq!((records.len(), &records[0]["level"]), (1, &"error".into()));
    assert!(records[0]["timestamp"].as_str().unwrap().starts_with("2026-03-04T05:06:07.123"));
    assert_eq!(read_once(JAVA, "multiline: off").len(), 5);
}

#[test]
fn start_joins_whatever_comes_up_to_the_next() {
    let records =
        read_once("2026-03-04 a\nb\n\nc\n2026-03-05 d\n2026-03-06 e\nf\n", r"multiline: {start: '^\d{4}-'}");
    let got: Vec<&str> = records.iter().map(|r| r["message"].as_str().unwrap()).collect();
    assert_eq!(got, ["2026-03-04 a\nb\n\nc", "2026-03-05 d", "2026-03-06 e\nf"]);
}

#[test]
fn a_partial_line_of_a_container_runtime_is_one_with_the_rest() {
    let records = read_once(
        "2026-03-04T05:06:07Z stdout P one \n2026-03-04T05:06:07Z stdout P two \n\
         2026-03-04T05:06:07Z stdout F three\n2026-03-04T05:06:08Z stdout F four\n",
        "format: cri",
    );
    let got: Vec<&str> = records.iter().map(|r| r["message"].as_str().unwrap()).collect();
    assert_eq!(got, ["one two three", "four"]);
}

#[test]
fn a_trace_that_is_written_in_pieces_stays_one_event() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let to = format!("http: {{url: \"{}\"}}", receiver.url());
    let (run, _) = volume.configured_as("multiline: auto", &[&to], "");
    let markers = format!("  - {{include: [\"{}\"]}}\ndestinations:", volume.file("markers.txt").display());
    volume
        .write("ship.yaml", &volume.config("multiline: auto", &[&to], "").replace("destinations:", &markers));
    let ship = started(run);
    let mut file = volume.open("app.log");
    // Cut within a line, too.
    let pieces = JAVA.as_bytes().chunks(60);
    let all = pieces.len();
    for (number, piece) in pieces.enumerate() {
        file.write_all(piece).unwrap();
        // What was written before it has been read when a line of another file comes.
        volume.append("markers.txt", &lines(number..number + 1));
        assert_eq!(receiver.wait_for(number + 1), messages(0..number + 1));
    }
    file.write_all(b"2026-03-04 05:06:08,000 INFO next\n").unwrap();
    assert_eq!(receiver.wait_for(all + 1)[all], message(JAVA));
    // Nothing follows the last one: after a while it is whole.
    assert_eq!(receiver.wait_for(all + 2)[all + 1], "2026-03-04 05:06:08,000 INFO next");
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages().len(), all + 2);
}

#[test]
fn a_trace_that_nothing_follows_is_whole_after_a_pause() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let to = format!("http: {{url: \"{}\"}}", receiver.url());
    let (run, _) = volume.configured_as("multiline: auto", &[&to], "");
    let _ship = started(run);
    let start = Instant::now();
    volume.write("app.log", JAVA);
    assert_eq!(receiver.wait_for(1), [message(JAVA)]);
    // Not only when something else wakes it.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn a_trace_that_is_cut_by_a_kill_stays_one_event() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let to = format!("http: {{url: \"{}\"}}", receiver.url());
    let run = || volume.configured_as("multiline: auto", &[&to], "");
    let (first, rest) = JAVA.split_at(JAVA.find("Caused").unwrap() + 3);
    let ship = started(run().0);
    volume.write("app.log", &format!("line 0\n{first}"));
    assert_eq!(receiver.wait_for(1), messages(0..1));
    volume.wait_until_saved(7);
    let _ = ship.kill();
    let ship = started(run().0);
    volume.append("app.log", rest);
    receiver.wait_for(2);
    let _ = ship.terminate().expect_exit(0);
    assert_eq!(receiver.messages(), ["line 0".to_owned(), message(JAVA)]);
}

#[test]
fn a_flush_takes_the_group_at_the_end_as_whole() {
    let (volume, receiver) = (Volume::new(), Receiver::start());
    let to = format!("http: {{url: \"{}\"}}", receiver.url());
    let (run, admin) = volume.configured_as("multiline: auto", &[&to], "");
    let _ship = started(run);
    volume.write("app.log", &format!("line 0\n{JAVA}"));
    let flushed = AtomicBool::new(false);
    let reply = std::thread::scope(|scope| {
        // The trace has no end yet, and no pause.
        scope.spawn(|| {
            while !flushed.load(Ordering::Acquire) {
                volume.append("app.log", "\tat shop.More.frames(More.java:1)\n");
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let reply = http("POST", admin, "/flush?wait=5s").unwrap();
        flushed.store(true, Ordering::Release);
        reply
    });
    assert_eq!((reply.status, &reply.json()["pending_bytes"]), (200, &0.into()), "{}", reply.body);
    let got = receiver.messages();
    assert!(got[0] == "line 0" && got[1].starts_with(&message(JAVA)), "{got:?}");
}
