//! What cannot be tested on this machine.

use std::io::Write as _;

/// Set to `1` where all can be tested, so that a test that is left out fails.
const ALL: &str = "PODKIT_TEST_ALL";

/// Whether a test can be done here. What cannot is said where the test's own output is not swallowed: a test that was
/// left out must not look like one that passed.
///
/// # Panics
/// When it cannot, and `PODKIT_TEST_ALL=1` says that every test can be done on this machine.
#[must_use]
pub fn is_possible(what: &str, is_possible: bool) -> bool {
    let all = std::env::var_os(ALL).is_some_and(|value| value == "1");
    if !is_possible {
        left_out(what, all);
    }
    is_possible
}

fn left_out(what: &str, all: bool) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(!all, "{test} needs {what}, and {ALL}=1 wants all tests done");
    let _ = writeln!(std::io::stderr(), "NOT TESTED HERE: {test} needs {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_passes_where_it_may() {
        left_out("nothing, it tests the kit", false);
    }

    #[test]
    #[should_panic(expected = "needs wings, and PODKIT_TEST_ALL=1 wants all tests done")]
    fn what_is_left_out_fails_where_all_must_be_done() {
        left_out("wings", true);
    }
}
