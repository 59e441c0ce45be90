//! YAML text to a tree that remembers lines, so that every fault can name its place.
//!
//! Owns the shape only: no value is interpreted here, and no variable expanded.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

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

/// Why a text is not YAML, or not of the kind that is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, in words that fit after the place.
    pub message: String,
}

impl Malformed {
    fn at(mark: &Marker, message: impl Into<String>) -> Self {
        Self { line: mark.line(), column: mark.col() + 1, message: message.into() }
    }
}

/// Deeper nesting than any config needs; keeps recursion over the tree short.
const MAX_DEPTH: usize = 64;
/// Values after all aliases are expanded; stops an alias bomb ("billion laughs").
const MAX_NODES: usize = 100_000;
/// Bytes of text that anchors and aliases may repeat: a few values may be long ones.
const MAX_REPEATED: usize = 16 << 20;

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

    /// Values in it, and bytes of text.
    fn weight(&self) -> (usize, usize) {
        let sum = |(nodes, bytes): (usize, usize), (more, longer)| (nodes + more, bytes + longer);
        match &self.kind {
            Kind::Scalar { text, .. } => (1, text.len()),
            Kind::List(items) => items.iter().map(Self::weight).fold((1, 0), sum),
            Kind::Map(entries) => {
                let pair = |entry: &Entry| sum((0, entry.key.len()), entry.value.weight());
                entries.iter().map(pair).fold((1, 0), sum)
            }
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
    keys: Keys,
}

/// The keys of a mapping so far, each with its line.
#[derive(Default)]
struct Keys(HashMap<String, usize>);

impl Keys {
    fn add(&mut self, key: &str, mark: &Marker) -> Result<(), Malformed> {
        match self.0.insert(key.to_owned(), mark.line()) {
            Some(first) => {
                Err(Malformed::at(mark, format!("the key `{key}` stands here and in line {first}")))
            }
            None => Ok(()),
        }
    }
}

/// Reads one document. An empty text is an empty mapping.
pub(crate) fn parse(text: &str) -> Result<Node, Malformed> {
    match read(text, 1)?.pop() {
        Some(node) if !node.is_null() => Ok(node),
        _ => Ok(Node { line: 1, kind: Kind::Map(Vec::new()) }),
    }
}

/// Reads all documents of a text.
pub(crate) fn parse_all(text: &str) -> Result<Vec<Node>, Malformed> {
    read(text, usize::MAX)
}

fn read(text: &str, max_documents: usize) -> Result<Vec<Node>, Malformed> {
    let mut stack: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut roots: Vec<Node> = Vec::new();
    let (mut nodes, mut repeated) = (0, 0);
    for step in events(text) {
        let (event, span) = step.map_err(|error| Malformed::at(error.marker(), error.info()))?;
        let line = span.start.line();
        let fail = |message: &str| Err(Malformed::at(&span.start, message));
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
                stack.push(Open { node: Node { line, kind }, anchor, key: None, keys: Keys::default() });
                continue;
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => return fail("nested too deeply"),
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(open) => (open.node, open.anchor),
                None => continue,
            },
            Event::DocumentStart(_) if roots.len() == max_documents => {
                return fail("a second document; one is read");
            }
            _ => continue,
        };
        // An alias weighs as much as what it stands for; a finished collection was counted item by item.
        let (weight, bytes) = if is_alias || anchor > 0 { node.weight() } else { (1, 0) };
        nodes += if is_alias { weight } else { 1 };
        repeated += bytes;
        if nodes > MAX_NODES {
            return fail("too many values");
        }
        if repeated > MAX_REPEATED {
            return fail("anchors and aliases repeat too much");
        }
        if anchor > 0 {
            anchors.insert(anchor, node.clone());
        }
        place(node, &span.start, &mut stack, &mut roots)?;
    }
    Ok(roots)
}

/// Whether a text of any number of documents is YAML whose keys stand once. Builds nothing, so its size is no matter.
pub(crate) fn check(text: &str) -> Result<(), Malformed> {
    /// An open collection; a mapping with its keys, and whether a key comes next.
    enum Open {
        List,
        Map(Keys, bool),
    }
    let mut stack: Vec<Open> = Vec::new();
    for step in events(text) {
        let (event, span) = step.map_err(|error| Malformed::at(error.marker(), error.info()))?;
        let opened = match &event {
            Event::SequenceStart(..) => Some(Open::List),
            Event::MappingStart(..) => Some(Open::Map(Keys::default(), true)),
            Event::SequenceEnd | Event::MappingEnd => {
                stack.pop();
                continue;
            }
            Event::Scalar(..) | Event::Alias(_) => None,
            _ => continue,
        };
        if let Some(Open::Map(keys, is_key)) = stack.last_mut() {
            if let (true, Event::Scalar(key, ..)) = (*is_key, &event) {
                keys.add(key, &span.start)?;
            }
            *is_key = !*is_key;
        }
        if stack.len() == MAX_DEPTH && opened.is_some() {
            return Err(Malformed::at(&span.start, "nested too deeply"));
        }
        stack.extend(opened);
    }
    Ok(())
}

fn events(text: &str) -> Parser<'_, StrInput<'_>> {
    Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Puts a finished node where it belongs: into the open collection, or at the root.
fn place(node: Node, mark: &Marker, stack: &mut [Open], roots: &mut Vec<Node>) -> Result<(), Malformed> {
    let Some(open) = stack.last_mut() else {
        roots.push(node);
        return Ok(());
    };
    let line = node.line;
    match &mut open.node.kind {
        Kind::List(items) => items.push(node),
        Kind::Map(entries) => match open.key.take() {
            Some((key, line)) => entries.push(Entry { key, line, value: node }),
            None => {
                let Kind::Scalar { text, .. } = node.kind else {
                    return Err(Malformed::at(mark, "a key must be a single value"));
                };
                open.keys.add(&text, mark)?;
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
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), ["*a"; 20].join(","));
        assert_eq!(parse(&long).unwrap_err().message, "anchors and aliases repeat too much");
        assert!(parse(&long.replacen("*a,", "", 10)).is_ok());
        let nested: String = (0..40).map(|i| format!("{:indent$}- &a{i}\n", "", indent = i)).collect();
        let nested = format!("{nested}{:40}- {}\n", "", "x".repeat(1 << 20));
        assert_eq!(parse(&nested).unwrap_err().message, "anchors and aliases repeat too much");
        assert_eq!(parse(&("- ".repeat(100) + "x")).unwrap_err().message, "nested too deeply");
        assert_eq!(check(&("- ".repeat(100) + "x")).unwrap_err().message, "nested too deeply");
        assert_eq!(check(&"[".repeat(1 << 20)).unwrap_err().message, "recursion limit exceeded");
    }

    #[test]
    fn documents_are_told_apart() {
        let all = parse_all("a: 1\n---\n- &x b\n- *x\n--- \n").unwrap();
        let all: Vec<_> = all.iter().map(Node::to_json).collect();
        assert_eq!(all, [json!({"a": 1}), json!(["b", "b"]), json!(null)]);
        assert!(parse_all("# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn a_check_finds_the_place_and_takes_more_than_a_config_may_hold() {
        for text in ["", "a: 1\n---\na: 2\n", "? [x, y]\n: 1\n", "- {a: 1}\n- {a: 1}\n", "a: &a [1]\nb: *a\n"]
        {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, line, column, message) in [
            ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, 3, "the key `c` stands here and in line 3"),
            ("a: *b\n", 1, 4, "while parsing node, found unknown anchor"),
            ("a: [1\n", 2, 1, "while parsing a flow sequence, expected ',' or ']'"),
        ] {
            let error = check(text).unwrap_err();
            assert_eq!((error.line, error.column, error.message.as_str()), (line, column, message), "{text}");
        }
        assert_eq!(check(&"- x\n".repeat(MAX_NODES + 1)), Ok(()));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\\n&*\\[\\]{}:,'\"|>-]{0,200}") {
            if parse_all(&text).is_ok() {
                prop_assert_eq!(check(&text), Ok(()));
            }
        }
    }
}
