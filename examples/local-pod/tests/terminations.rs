//! Pods end, more than a hundred of them, under the kubelet's own rules: what podkit promises is asked of each.
//!
//! The lives are the same in each run, so that a failure is due to the change at hand; `PODKIT_SEED=N` draws others, as
//! `cargo demo --terminations 500` does, and `PODKIT_TERMINATIONS=N` makes the run longer.

use std::process::Command;

/// Beside them a few are restarted, take the default times, or `sleep 15`.
const TERMINATIONS: &str = "104";

/// With this one a backend falls silent just before a liveness restart.
const SEED: &str = "907512655";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[test]
fn no_request_fails_no_line_is_lost_and_nothing_is_killed() {
    let terminations = variable("PODKIT_TERMINATIONS").unwrap_or_else(|| TERMINATIONS.to_owned());
    let mut demo = Command::new(env!("CARGO_BIN_EXE_local-pod"));
    let seed = variable("PODKIT_SEED").unwrap_or_else(|| SEED.to_owned());
    demo.args(["--terminations", &terminations, "--seed", &seed]);
    let output = demo.output().expect("the demo starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    // For `--nocapture`: the comparison is worth a look.
    println!("{told}");
    assert!(output.status.success(), "{told}{complaint}");
    assert!(told.contains("no failed request, no lost line, nothing killed"), "{told}");

    let row = |name: &str| {
        let row = told.lines().find_map(|line| line.trim_start().strip_prefix(name));
        let row = row.unwrap_or_else(|| panic!("no {name:?} in\n{told}"));
        row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let (native, plain) = (row("native sidecars"), row("plain containers"));
    let pods = |row: &[String]| row[0].parse::<usize>().expect("a number of pods");
    assert!(pods(&native) + pods(&plain) >= 100, "{told}");
    for row in [&native, &plain, &row("after a liveness restart"), &row("drain's default times")] {
        assert_eq!((row[2].as_str(), row[4].as_str(), row[5].as_str()), ("0", "0", "0"), "{told}");
    }
    let median = |row: &[String]| row[6].parse::<f64>().expect("a time in seconds");
    let sleep = row("sleep 15, no drain");
    assert!(median(&sleep) > 15.0, "{told}");
    assert!(median(&native) < 15.0 && median(&plain) < 15.0, "{told}");
    assert!(told.contains("the backend never came back"), "{told}");
}
