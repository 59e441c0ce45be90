//! The `values` files: YAML or JSON, merged deeply, later over earlier. Nothing is expanded in them: they are data.
//! All of them are held in memory, and so bounded: each, and together.

use std::path::PathBuf;

use podkit_cli::units::show_size;
use podkit_cli::{MAX_WHOLE, parse_yaml};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::source::Sources;

/// Reads and merges the files in order.
///
/// # Errors
/// A file that cannot be read or parsed, or that is no mapping.
pub(crate) fn load(paths: &[PathBuf], sources: &Sources) -> Result<Value, Error> {
    let mut merged = Map::new();
    let mut left = MAX_WHOLE;
    for path in paths {
        let text = sources.text(path)?;
        let unusable = |why: String| Error::Input { path: path.clone(), why };
        left = left.checked_sub(text.len() as u64).ok_or_else(|| {
            unusable(format!("with it, the values are larger than {} together", show_size(MAX_WHOLE)))
        })?;
        match parse_yaml(&text).map_err(|what| unusable(what.to_string()))? {
            Value::Object(map) => merge(&mut merged, map),
            _ => return Err(unusable("values must be a mapping of names".to_owned())),
        }
    }
    Ok(Value::Object(merged))
}

/// Lays one mapping over another: mappings are merged, anything else is replaced.
fn merge(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(texts: &[&str]) -> Value {
        let mut under = Map::new();
        for text in texts {
            if let Value::Object(over) = parse_yaml(text).unwrap() {
                merge(&mut under, over);
            }
        }
        Value::Object(under)
    }

    #[test]
    fn later_wins_deeply_and_lists_are_replaced() {
        assert_eq!(
            merged(&["a: {x: 1, y: 2}\nl: [1, 2]\n", "a: {y: 3, z: 4}\nl: [3]\n", "{\"b\": true}"]),
            json!({"a": {"x": 1, "y": 3, "z": 4}, "l": [3], "b": true})
        );
        assert_eq!(merged(&["a: {x: 1}", "a: ~"]), json!({"a": null}));
        assert_eq!(merged(&["# nothing\n", ""]), json!({}));
    }
}
