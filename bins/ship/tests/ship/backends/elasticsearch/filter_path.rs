//! `filter_path` (docs: "Common options", response filtering): which parts of an answer are sent. Pure.

use serde_json::{Map, Value};

/// Keeps what the comma-separated paths name. `*` is any one name, `**` any number of names, a leading `-` leaves
/// out; arrays are looked through.
pub(super) fn filter(answer: Value, paths: &str) -> Value {
    let (out, kept): (Vec<&str>, Vec<&str>) =
        paths.split(',').filter(|path| !path.is_empty()).partition(|path| path.starts_with('-'));
    let split = |path: &&str| path.trim_start_matches('-').split('.').map(str::to_owned).collect::<Vec<_>>();
    let out: Vec<_> = out.iter().map(split).collect();
    let kept: Vec<_> = kept.iter().map(split).collect();
    let mut answer = answer;
    if !kept.is_empty() {
        answer = keep(answer, &kept).unwrap_or_else(|| Value::Object(Map::new()));
    }
    if !out.is_empty() {
        answer = leave_out(answer, &out).unwrap_or_else(|| Value::Object(Map::new()));
    }
    answer
}

/// What is left of each path below a member; an empty one names all of it.
fn below(paths: &[Vec<String>], name: &str) -> Vec<Vec<String>> {
    let mut rest = Vec::new();
    for path in paths {
        match path.split_first() {
            Some((first, tail)) if first == "**" => {
                rest.push(path.clone());
                rest.extend(below(&[tail.to_vec()], name));
            }
            Some((first, tail)) if first == "*" || first == name => rest.push(tail.to_vec()),
            _ => {}
        }
    }
    rest
}

fn keep(value: Value, paths: &[Vec<String>]) -> Option<Value> {
    if paths.iter().any(Vec::is_empty) {
        return Some(value);
    }
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter_map(|(name, value)| {
                let rest = below(paths, &name);
                Some((name, keep(value, &rest).filter(|_| !rest.is_empty())?))
            });
            Some(kept.collect::<Map<_, _>>()).filter(|kept| !kept.is_empty()).map(Value::Object)
        }
        Value::Array(elements) => {
            let kept: Vec<_> = elements.into_iter().filter_map(|element| keep(element, paths)).collect();
            Some(kept).filter(|kept| !kept.is_empty()).map(Value::Array)
        }
        _ => None,
    }
}

fn leave_out(value: Value, paths: &[Vec<String>]) -> Option<Value> {
    if paths.iter().any(Vec::is_empty) {
        return None;
    }
    match value {
        Value::Object(members) => {
            let left = members.into_iter().filter_map(|(name, value)| {
                let rest = below(paths, &name);
                let value = leave_out(value, &rest)?;
                Some((name, value))
            });
            Some(Value::Object(left.collect()))
        }
        Value::Array(elements) => {
            let left = elements.into_iter().filter_map(|element| leave_out(element, paths));
            Some(Value::Array(left.collect()))
        }
        other => Some(other),
    }
}
