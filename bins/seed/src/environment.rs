//! The variables of this process, read once for a run, and the one that a mistyped name may have meant.

use std::collections::BTreeMap;

use podkit_cli::nearest;

/// Variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// The variables that are text; a file of text could not hold the others.
pub(crate) fn variables() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The name nearest to one that is not set. Names often begin with the same words, which make none of them alike:
/// `APP_DB_HOST` is not what `APP_DB_USER` meant.
pub(crate) fn nearest_variable<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let is_near = |name: &&str| {
        let shared: usize = typed
            .split_inclusive('_')
            .zip(name.split_inclusive('_'))
            .take_while(|(a, b)| a == b && a.ends_with('_'))
            .map(|(word, _)| word.len())
            .sum();
        nearest(&typed[shared..], [&name[shared..]]).is_some()
    };
    nearest(typed, names.filter(is_near))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_all_names_begin_with_do_not_count() {
        let near = |typed, names: &[&'static str]| nearest_variable(typed, names.iter().copied());
        assert_eq!(near("APP_DB_HSOT", &["APP_DB_USER", "APP_DB_HOST"]), Some("APP_DB_HOST"));
        assert_eq!(near("APP_DB_HOST", &["APP_DB_USER", "APP_PORT"]), None);
        assert_eq!(near("AP_PORT", &["APP_PORT"]), Some("APP_PORT"));
        assert_eq!(near("HOTS", &["HOST"]), Some("HOST"));
        assert_eq!(near("_", &["_", "A_", ""]), Some("_"));
    }
}
