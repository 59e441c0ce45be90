//! One mapping of the config, read field by field, with the faults found on the way.
//!
//! Reading a field marks it as known; when the section is dropped, every key that nobody asked for is a fault. So a
//! config type only reads its fields, and nothing in a file is ever ignored.

use std::cell::RefCell;
use std::net::SocketAddr;

use crate::command::Task;
use crate::fault::{Invalid, Place, nearest};
use crate::flag::Source;
use crate::settings::{Context, join};
use crate::units;
use crate::yaml::{Entry, Kind, Node};

/// One mapping of the config; the root also has the flags and their environment twins.
pub struct Section<'a> {
    context: &'a Context<'a>,
    /// `sources[0]`; empty for the root.
    path: String,
    line: usize,
    entries: &'a [Entry],
    /// False below a list: such fields have no flags.
    has_flags: bool,
    asked: RefCell<Vec<String>>,
}

/// A field that may have several shapes.
pub enum Item<'a> {
    /// A single value, as text.
    Text(String),
    /// A mapping.
    Section(Section<'a>),
}

impl<'a> Section<'a> {
    pub(crate) fn new(
        context: &'a Context<'a>,
        path: String,
        line: usize,
        entries: &'a [Entry],
        has_flags: bool,
    ) -> Self {
        Self { context, path, line, entries, has_flags, asked: RefCell::default() }
    }

    /// A field with one value. `None` where it is not given, or given wrongly, which is then a fault.
    pub fn value<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Option<T> {
        // The file's value is checked also where a flag wins over it.
        let in_file = self.entry(key).and_then(|node| {
            let place = self.place(node.line, key);
            self.scalar(node, key).and_then(|text| self.checked(place, parse(text)))
        });
        match self.given(key) {
            Some((place, values)) => self.checked(place, parse(values.last()?)),
            None => in_file,
        }
    }

    /// A field with one value and a default.
    pub fn value_or<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, Invalid>, default: T) -> T {
        self.value(key, parse).unwrap_or(default)
    }

    /// A field that must be given; a fault where it is not.
    pub fn required<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Option<T> {
        let faults = self.fault_count();
        let value = self.value(key, parse);
        if value.is_none() && self.fault_count() == faults {
            self.missing(key);
        }
        value
    }

    /// A `true` or `false`; false where it is not given.
    pub fn switch(&self, key: &str) -> bool {
        self.value_or(key, units::boolean, false)
    }

    /// A field with any number of values; in the file a list, or a single value. Values given by flag or
    /// environment replace those of the file.
    pub fn list<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, Invalid>) -> Vec<T> {
        if let Some((place, values)) = self.given(key) {
            return values.iter().filter_map(|text| self.checked(place.clone(), parse(text))).collect();
        }
        let Some(node) = self.entry(key) else { return Vec::new() };
        let (items, indexed) = match &node.kind {
            Kind::List(items) => (items.as_slice(), true),
            _ => (std::slice::from_ref(node), false),
        };
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let name = if indexed { format!("{key}[{index}]") } else { key.to_owned() };
            let text = self.scalar(item, &name);
            values.extend(text.and_then(|text| self.checked(self.place(item.line, &name), parse(text))));
        }
        values
    }

    /// A nested mapping. Its fields have flags with this key before them (`shutdown.deadline` is
    /// `--shutdown-deadline`), so the section is there even if the file does not have it.
    pub fn section(&self, key: &str) -> Section<'a> {
        let path = join(&self.path, key);
        match self.entry(key) {
            None => Section::new(self.context, path, self.line, &[], self.has_flags),
            Some(node) => match &node.kind {
                Kind::Map(entries) => Section::new(self.context, path, node.line, entries, self.has_flags),
                _ => {
                    self.wrong_shape(node, key, "a mapping");
                    Section::new(self.context, path, node.line, &[], self.has_flags)
                }
            },
        }
    }

    /// A list of mappings.
    pub fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let mut sections = Vec::new();
        for (name, item) in self.nodes(key) {
            match &item.kind {
                Kind::Map(entries) => {
                    sections.push(Section::new(
                        self.context,
                        join(&self.path, &name),
                        item.line,
                        entries,
                        false,
                    ));
                }
                _ => self.wrong_shape(item, &name, "a mapping"),
            }
        }
        sections
    }

    /// A field that is either a single value or a mapping.
    pub fn item(&self, key: &str) -> Option<Item<'a>> {
        let node = self.entry(key)?;
        match &node.kind {
            Kind::Map(entries) => {
                let path = join(&self.path, key);
                Some(Item::Section(Section::new(self.context, path, node.line, entries, false)))
            }
            _ => self.scalar(node, key).map(|text| Item::Text(text.to_owned())),
        }
    }

    /// A list whose items are single values or mappings; a single one may stand without the list. A mapping that
    /// `mapping` takes no value from must be a fault there. Values given by flag or environment replace those of the
    /// file.
    pub fn items<T>(
        &self,
        key: &str,
        text: impl Fn(&str) -> Result<T, Invalid>,
        mapping: impl Fn(&Section<'a>) -> Option<T>,
    ) -> Vec<T> {
        if let Some((place, values)) = self.given(key) {
            return values.iter().filter_map(|value| self.checked(place.clone(), text(value))).collect();
        }
        let Some(node) = self.entry(key) else { return Vec::new() };
        let read = |name: &str, item: &'a Node| match &item.kind {
            Kind::Scalar { text: found, .. } => self.checked(self.place(item.line, name), text(found)),
            Kind::Map(entries) => {
                let path = join(&self.path, name);
                mapping(&Section::new(self.context, path, item.line, entries, false))
            }
            Kind::List(_) => {
                self.wrong_shape(item, name, "a single value or a mapping");
                None
            }
        };
        match &node.kind {
            Kind::List(_) => {
                self.nodes(key).into_iter().filter_map(|(name, item)| read(&name, item)).collect()
            }
            _ => read(key, node).into_iter().collect(),
        }
    }

    /// A list of command lines, each a list of words, or a text that is split at white space: no shell, no quotes.
    /// A single text may stand without the list. Values given by flag or environment replace those of the file.
    pub fn command_lines<T>(&self, key: &str, parse: impl Fn(Vec<String>) -> Result<T, Invalid>) -> Vec<T> {
        let split = |line: &str| parse(line.split_whitespace().map(str::to_owned).collect());
        if let Some((place, values)) = self.given(key) {
            return values.iter().filter_map(|line| self.checked(place.clone(), split(line))).collect();
        }
        let Some(node) = self.entry(key) else { return Vec::new() };
        let lines = match &node.kind {
            Kind::List(_) => self.nodes(key),
            _ => vec![(key.to_owned(), node)],
        };
        let read = |(name, line): (String, &'a Node)| {
            let parsed = match &line.kind {
                Kind::Scalar { text, .. } => split(text),
                Kind::List(words) => {
                    let word =
                        |(index, word)| Some(self.scalar(word, &format!("{name}[{index}]"))?.to_owned());
                    parse(words.iter().enumerate().map(word).collect::<Option<_>>()?)
                }
                Kind::Map(_) => {
                    self.wrong_shape(line, &name, "a text or a list of words");
                    return None;
                }
            };
            self.checked(self.place(line.line, &name), parsed)
        };
        lines.into_iter().filter_map(read).collect()
    }

    /// A mapping of names to texts, in the order of the file.
    pub fn map(&self, key: &str) -> Vec<(String, String)> {
        let Some(node) = self.entry(key) else { return Vec::new() };
        let Kind::Map(entries) = &node.kind else {
            self.wrong_shape(node, key, "a mapping");
            return Vec::new();
        };
        entries
            .iter()
            .filter_map(|entry| {
                let text = self.valued(&entry.value, &join(key, &entry.key))?;
                Some((entry.key.clone(), self.scalar(text, &join(key, &entry.key))?.to_owned()))
            })
            .collect()
    }

    /// A free-form field, plain values typed as YAML 1.2 types them.
    pub fn json(&self, key: &str) -> Option<serde_json::Value> {
        self.entry(key).map(Node::to_json)
    }

    /// Where the admin port listens; `None` for `off`. Takes the binary's default where nothing is given.
    pub fn admin(&self) -> Option<SocketAddr> {
        let parse = |text: &str| match text {
            "off" => Ok(None),
            _ => units::listen_address(text)
                .map(Some)
                .map_err(|what| what.hint("write `0.0.0.0:9801`, or `off`")),
        };
        let default = self.context.tool.admin.and_then(|text| text.parse().ok());
        self.value_or("admin", parse, default)
    }

    /// Whether a field is given in any layer, rightly or wrongly.
    pub fn has(&self, key: &str) -> bool {
        self.given(key).is_some() || self.entries.iter().any(|entry| entry.key == key)
    }

    /// Whether the config is read for this [verb of the binary's own](crate::Verb::Own), which may need less of it.
    pub fn is_for(&self, verb: &str) -> bool {
        matches!(self.context.task, Task::Own(name, _) if *name == verb)
    }

    /// The number of faults found so far, here or elsewhere: what is missing may be missing because of one.
    pub fn fault_count(&self) -> usize {
        self.context.faults.borrow().len()
    }

    /// The keys of this mapping in the file, in order; for mappings that name a variant by their key.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// Records a fault of the field `key` that only shows with other fields in view.
    pub fn fault(&self, key: &str, what: Invalid) {
        let place = match self.given(key) {
            Some((place, _)) => place,
            None => {
                let line = self.entries.iter().find(|e| e.key == key).map_or(self.line, |e| e.value.line);
                if self.context.file.is_none() && self.has_flags && self.context.given.knows(&self.flag(key))
                {
                    Place::Flag(format!("--{}", self.flag(key)))
                } else {
                    self.place(line, key)
                }
            }
        };
        self.context.fault(place, what);
    }

    /// Records a fault of this mapping as a whole.
    pub fn fault_here(&self, what: Invalid) {
        self.context.fault(self.context.in_file(self.line, &self.path), what);
    }

    /// Takes all keys as known: for readers that want only a part.
    pub(crate) fn ignore_rest(&self) {
        self.asked.borrow_mut().extend(self.entries.iter().map(|entry| entry.key.clone()));
    }

    fn missing(&self, key: &str) {
        let flag = self.flag(key);
        let what = if self.has_flags && self.context.given.knows(&flag) {
            let env = self.context.given.env_name(&flag);
            Invalid::new("is required")
                .hint(format!("give `--{flag}`, {env}, or `{key}:` in the config file"))
        } else if self.context.file.is_none() {
            Invalid::new("is required").hint("give it in a config file: `--config FILE`")
        } else {
            Invalid::new("is required")
        };
        self.fault(key, what);
    }

    /// The items of a list field with their names: `files[0]`.
    fn nodes(&self, key: &str) -> Vec<(String, &'a Node)> {
        let Some(node) = self.entry(key) else { return Vec::new() };
        let Kind::List(items) = &node.kind else {
            self.wrong_shape(node, key, "a list");
            return Vec::new();
        };
        items.iter().enumerate().map(|(index, item)| (format!("{key}[{index}]"), item)).collect()
    }

    /// The file's value of a key; marks the key as known. A key without a value is a fault.
    fn entry(&self, key: &str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(key.to_owned());
        self.valued(&self.entries.iter().find(|entry| entry.key == key)?.value, key)
    }

    fn valued(&self, node: &'a Node, name: &str) -> Option<&'a Node> {
        if node.is_null() {
            let what = Invalid::new("has no value").hint("give it one, or remove the key");
            self.context.fault(self.place(node.line, name), what);
            return None;
        }
        Some(node)
    }

    /// What flag or environment say of a key; marks the key as known.
    fn given(&self, key: &str) -> Option<(Place, &'a [String])> {
        self.asked.borrow_mut().push(key.to_owned());
        if !self.has_flags {
            return None;
        }
        let flag = self.flag(key);
        let (source, values) = self.context.given.get(&flag)?;
        let place = match source {
            Source::Flag => Place::Flag(format!("--{flag}")),
            Source::Env => Place::Env(self.context.given.env_name(&flag)),
        };
        Some((place, values))
    }

    fn flag(&self, key: &str) -> String {
        join(&self.path, key).replace(['.', '_'], "-")
    }

    fn place(&self, line: usize, key: &str) -> Place {
        self.context.in_file(line, &join(&self.path, key))
    }

    fn scalar(&self, node: &'a Node, name: &str) -> Option<&'a str> {
        match &node.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => {
                self.wrong_shape(node, name, "a single value");
                None
            }
        }
    }

    fn wrong_shape(&self, node: &Node, name: &str, wanted: &str) {
        let what = Invalid::new(format!("must be {wanted}, and is {}", node.describe()));
        self.context.fault(self.place(node.line, name), what);
    }

    fn checked<T>(&self, place: Place, value: Result<T, Invalid>) -> Option<T> {
        value.map_err(|what| self.context.fault(place, what)).ok()
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let asked = self.asked.borrow();
        for entry in self.entries.iter().filter(|entry| !asked.contains(&entry.key)) {
            let mut what = Invalid::new("unknown key");
            if let Some(name) = nearest(&entry.key, asked.iter().map(String::as_str)) {
                what = what.hint(format!("did you mean `{name}`?"));
            } else if !asked.is_empty() {
                let mut known: Vec<&str> = asked.iter().map(String::as_str).collect();
                known.sort_unstable();
                known.dedup();
                what = what.hint(format!("known here: {}", known.join(", ")));
            }
            self.context.fault(self.place(entry.line, &entry.key), what);
        }
    }
}
