//! Delivery to Loki: labels, structured metadata, order, and refusals that take a part.

use crate::backends::Answer;
use crate::backends::loki::Loki;
use crate::setup::{Volume, lines, messages, missing};

fn to(loki: &Loki) -> String {
    format!("loki: {{url: \"{}\", labels: [service, level], tenant: team-a}}", loki.url())
}

#[test]
fn labels_are_those_that_are_asked_for_and_the_rest_is_metadata() {
    let (volume, loki) = (Volume::new(), Loki::start());
    loki.with(|loki| loki.admit_only("team-a"));
    volume.write("app.log", "{\"level\":\"error\",\"message\":\"boom\",\"order\":\"7\"}\nplain \"text\"\n");
    let (run, _) = volume.configured(&to(&loki));
    let _ = run.arg("--once").expect_exit(0);
    let mut taken = loki.with(|loki| loki.taken().to_vec());
    taken.sort_by_key(|entry| !entry.line.contains("boom"));
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert_eq!(
        taken[0].labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(),
        [("level", "error"), ("service", "shop")]
    );
    assert_eq!(taken[1].labels["service"], "shop");
    assert_eq!(taken[1].line, "plain \"text\"");
    let file = volume.file("app.log").display().to_string();
    assert!(taken.iter().all(|entry| entry.metadata.get("file") == Some(&file)), "{taken:?}");
    assert_eq!(loki.complaints(), [""; 0]);
}

#[test]
fn a_file_comes_in_its_order() {
    let (volume, loki) = (Volume::new(), Loki::start());
    loki.script([
        Answer::Status(200, ""),
        Answer::Status(429, "Retry-After: 0\r\n"),
        Answer::Status(503, ""),
    ]);
    volume.write("app.log", &lines(0..1000));
    let (run, _) = volume.configured(&to(&loki));
    let _ = run.args(["--once", "--batch-lines", "20"]).expect_exit(0);
    assert_eq!(loki.messages(), messages(0..1000));
    let times: Vec<i128> = loki.with(|loki| loki.taken().iter().map(|entry| entry.time).collect());
    assert!(times.is_sorted());
}

#[test]
fn entries_that_are_refused_for_good_hold_up_nothing() {
    let (volume, loki) = (Volume::new(), Loki::start());
    let old = "{\"timestamp\":\"2020-01-01T00:00:00Z\",\"message\":\"old\"}\n";
    volume.write("app.log", &format!("{}{old}{}", lines(0..10), lines(10..20)));
    let (run, _) = volume.configured(&to(&loki));
    let finished = run.arg("--once").expect_exit(0);
    assert_eq!(missing(20, &loki.messages()), [0; 0]);
    let letters = volume.dead_letters();
    let is_old = |letter: &serde_json::Value| letter["record"]["message"] == "old";
    assert!(letters.iter().any(is_old), "{letters:?}\n{}", finished.stderr);
    assert!(
        letters.iter().all(|l| l["reason"].as_str().unwrap().contains("timestamp too old")),
        "{letters:?}"
    );
}

#[test]
fn a_line_longer_than_loki_takes_holds_up_nothing() {
    let (volume, loki) = (Volume::new(), Loki::start());
    volume.write("app.log", &format!("{}{}\n{}", lines(0..2), "x".repeat(300 << 10), lines(2..4)));
    let (run, _) = volume.configured(&to(&loki));
    let _ = run.arg("--once").expect_exit(0);
    assert_eq!(missing(4, &loki.messages()), [0; 0]);
}
