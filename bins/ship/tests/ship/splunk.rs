//! Delivery to Splunk's HTTP Event Collector.

use crate::backends::Answer;
use crate::backends::splunk::{Splunk, TOKEN};
use crate::setup::{Volume, lines, messages, missing, started};

fn to(splunk: &Splunk, token: &str) -> String {
    format!("splunk: {{url: \"{}\", token: \"{token}\"}}", splunk.url())
}

#[test]
fn the_facts_are_in_the_members_that_splunk_has_for_them() {
    let (volume, splunk) = (Volume::new(), Splunk::start());
    volume.write(
        "app.log",
        "{\"timestamp\":\"2026-03-04T05:06:07.250Z\",\"level\":\"error\",\"message\":\"boom\"}\nplain\n",
    );
    let (run, _) = volume.configured(&to(&splunk, TOKEN));
    let _ = run.arg("--once").expect_exit(0);
    let events = splunk.records();
    assert_eq!(splunk.messages(), ["boom", "plain"]);
    let time = &events[0]["time"];
    let time = time.as_f64().or_else(|| time.as_str()?.parse().ok());
    assert_eq!(time, Some(1_772_600_767.25), "{}", events[0]);
    for event in &events {
        assert_eq!(event["source"], volume.file("app.log").display().to_string(), "{event}");
        assert_eq!(event["fields"]["service"], "shop", "{event}");
    }
    assert_eq!(splunk.complaints(), [""; 0]);
}

#[test]
fn a_busy_splunk_is_waited_for() {
    let (volume, splunk) = (Volume::new(), Splunk::start());
    splunk.script([
        Answer::Body(503, "{\"text\":\"Server is busy\",\"code\":9}"),
        Answer::Body(500, "{\"text\":\"Internal server error\",\"code\":8}"),
    ]);
    volume.write("app.log", &lines(0..10));
    let (run, _) = volume.configured(&to(&splunk, TOKEN));
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!(splunk.messages(), messages(0..10));
    assert!(volume.dead_letters().is_empty());
}

#[test]
fn a_wrong_token_is_the_operators_fault_and_loses_nothing() {
    let (volume, splunk) = (Volume::new(), Splunk::start());
    splunk.with(|splunk| splunk.admit_only("another"));
    volume.write("app.log", &lines(0..10));
    let (run, _) = volume.configured(&to(&splunk, TOKEN));
    let ship = started(run);
    splunk.wait_for_requests(2);
    ship.wait_for_stderr("403");
    splunk.with(|splunk| splunk.admit_only(TOKEN));
    splunk.wait_for(10);
    let finished = ship.terminate().expect_exit(0).refuse_stderr(TOKEN);
    assert!(volume.dead_letters().is_empty(), "{}", finished.stderr);
}

#[test]
fn an_empty_line_holds_up_nothing() {
    let (volume, splunk) = (Volume::new(), Splunk::start());
    volume.write("app.log", "line 0\n\nline 1\n   \nline 2\n");
    let (run, _) = volume.configured(&to(&splunk, TOKEN));
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!(missing(3, &splunk.messages()), [0; 0]);
}
