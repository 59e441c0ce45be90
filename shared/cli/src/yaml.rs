//! YAML text to a tree that remembers lines, so that every fault can name its place.
//!
//! Owns the shape only: no value is interpreted here, and no variable expanded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// A value and the line where it starts (from 1).
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// `plain` is false for quoted and block scalars, which are always strings.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) value: Node,
}

/// Why a text is not a config document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// Deeper nesting than any config needs; keeps recursion over the tree short.
const MAX_DEPTH: usize = 64;
/// Values after all aliases are expanded; stops an alias bomb ("billion laughs").
const MAX_NODES: usize = 100_000;

impl Node {
    /// `key:` with nothing after it, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What the node is, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// The node as a free-form value, plain scalars typed by the YAML 1.2 core schema.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            Kind::Scalar { text, plain: false } => Value::String(text.clone()),
            Kind::Scalar { text, plain: true } => match text.as_str() {
                "" | "~" | "null" => Value::Null,
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => number(text).map_or_else(|| Value::String(text.clone()), Value::Number),
            },
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect())
            }
        }
    }

    fn weight(&self) -> usize {
        1 + match &self.kind {
            Kind::Scalar { .. } => 0,
            Kind::List(items) => items.iter().map(Self::weight).sum(),
            Kind::Map(entries) => entries.iter().map(|e| e.value.weight()).sum(),
        }
    }
}

/// A number as JSON writes it. `0644`, `1_000` and `+1` stay strings: they mean different things to different people.
fn number(text: &str) -> Option<serde_json::Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") {
        return None;
    }
    text.parse().ok()
}

/// A collection that is being read: its items so far, and for a mapping the key that waits for its value.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, usize)>,
}

/// Reads one document. An empty text is an empty mapping.
pub(crate) fn parse(text: &str) -> Result<Node, Malformed> {
    let mut stack: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut root: Option<Node> = None;
    let mut nodes = 0;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for step in Parser::new_from_str(text) {
        let (event, span) = step
            .map_err(|error| Malformed { line: error.marker().line(), message: error.info().to_owned() })?;
        let line = span.start.line();
        let fail = |message: &str| Err(Malformed { line, message: message.to_owned() });
        let is_alias = matches!(event, Event::Alias(_));
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let kind = Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                (Node { line, kind }, anchor)
            }
            Event::Alias(id) => match anchors.get(&id) {
                Some(node) => (node.clone(), 0),
                None => return fail("this alias stands inside its own anchor"),
            },
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) if stack.len() < MAX_DEPTH => {
                let kind = match event {
                    Event::MappingStart(..) => Kind::Map(Vec::new()),
                    _ => Kind::List(Vec::new()),
                };
                stack.push(Open { node: Node { line, kind }, anchor, key: None });
                continue;
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => return fail("nested too deeply"),
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(open) => (open.node, open.anchor),
                None => continue,
            },
            Event::DocumentStart(_) if root.is_some() => return fail("a second document; one is read"),
            _ => continue,
        };
        // An alias weighs as much as what it stands for; a finished collection was counted item by item.
        nodes += if is_alias { node.weight() } else { 1 };
        if nodes > MAX_NODES {
            return fail("too many values");
        }
        if anchor > 0 {
            anchors.insert(anchor, node.clone());
        }
        place(node, &mut stack, &mut root)?;
    }
    match root {
        Some(node) if !node.is_null() => Ok(node),
        _ => Ok(Node { line: 1, kind: Kind::Map(Vec::new()) }),
    }
}

/// Puts a finished node where it belongs: into the open collection, or at the root.
fn place(node: Node, stack: &mut [Open], root: &mut Option<Node>) -> Result<(), Malformed> {
    let Some(open) = stack.last_mut() else {
        *root = Some(node);
        return Ok(());
    };
    let line = node.line;
    match &mut open.node.kind {
        Kind::List(items) => items.push(node),
        Kind::Map(entries) => match open.key.take() {
            Some((key, line)) => entries.push(Entry { key, line, value: node }),
            None => {
                let Kind::Scalar { text, .. } = node.kind else {
                    return Err(Malformed { line, message: "a key must be a single value".to_owned() });
                };
                if let Some(first) = entries.iter().find(|e| e.key == text) {
                    let message = format!("the key `{text}` stands here and in line {}", first.line);
                    return Err(Malformed { line, message });
                }
                open.key = Some((text, line));
            }
        },
        Kind::Scalar { .. } => unreachable!("only collections are opened"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn lines_and_types_are_kept() {
        let node = parse("a: 1\nb:\n  - x\n  - 'y'\nc: |\n  t\n").unwrap();
        let Kind::Map(entries) = &node.kind else { panic!("{node:?}") };
        assert_eq!(entries.iter().map(|e| e.line).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!(node.to_json(), json!({"a": 1, "b": ["x", "y"], "c": "t\n"}));
    }

    #[test]
    fn scalars_are_typed_by_the_core_schema() {
        let node = parse("[1, -2, 1.5, 0, 0644, '7', true, null, ~, 1e3, no, .5]").unwrap();
        assert_eq!(node.to_json(), json!([1, -2, 1.5, 0, "0644", "7", true, null, null, 1e3, "no", ".5"]));
    }

    #[test]
    fn json_is_yaml_and_nothing_is_an_empty_mapping() {
        assert_eq!(parse("{\"a\": {\"b\": [true]}}").unwrap().to_json(), json!({"a": {"b": [true]}}));
        assert_eq!(parse("# only a comment\n").unwrap().to_json(), json!({}));
    }

    #[test]
    fn faults_name_their_line() {
        for (text, line, message) in [
            ("a: 1\na: 2\n", 2, "the key `a` stands here and in line 1"),
            ("a: 1\n---\nb: 2\n", 2, "a second document; one is read"),
            ("? [x]\n: 1\n", 1, "a key must be a single value"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.message.as_str()), (line, message), "{text}");
        }
        assert_eq!(parse("a: [1\nb: 2\n").unwrap_err().line, 2);
    }

    #[test]
    fn an_alias_bomb_and_a_tower_are_refused() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..9 {
            let items = vec![format!("*a{}", i - 1); 10].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{items}]\n"));
        }
        assert_eq!(parse(&bomb).unwrap_err().message, "too many values");
        assert_eq!(parse(&("- ".repeat(100) + "x")).unwrap_err().message, "nested too deeply");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\\n&*\\[\\]{}:,'\"|>-]{0,200}") {
            let _ = parse(&text);
        }
    }
}
