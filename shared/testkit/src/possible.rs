//! What cannot be tested on this machine.

use std::io::Write as _;

/// Whether a test can be done here. What cannot is said where the test's own output is not swallowed: a test that was
/// left out must not look like one that passed.
#[must_use]
pub fn is_possible(what: &str, is_possible: bool) -> bool {
    if !is_possible {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "NOT TESTED HERE: {test} needs {what}");
    }
    is_possible
}
