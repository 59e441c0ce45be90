//! The layers of a config, read field by field: flag, environment, file; and the faults found on the way.
//!
//! A [`Section`] is one mapping. Reading a field marks it as known; when the section is dropped, every key that
//! nobody asked for is a fault. So a config type only reads its fields, and nothing is ever ignored.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;

use crate::command::{Call, Given, Source, Tool};
use crate::expand::expand;
use crate::failure::{Exit, Failure, chain};
use crate::fault::{Fault, Invalid, Place, nearest};
use crate::units;
use crate::yaml::{self, Entry, Kind, Node};

/// What all sections of one config share.
struct Context<'a> {
    tool: &'static Tool,
    given: &'a Given,
    /// The file's name for messages; `None` without a config file.
    file: Option<String>,
    faults: RefCell<Vec<Fault>>,
}

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

/// Reads the config of a call: the file, with variables expanded, below flags and environment.
pub(crate) fn load<C>(
    tool: &'static Tool,
    call: &Call,
    read: impl FnOnce(&Section<'_>) -> Option<C>,
) -> Result<C, Failure> {
    let mut document = match &call.config {
        Some(path) => read_file(path)?,
        None => Node { line: 1, kind: Kind::Map(Vec::new()) },
    };
    let context = Context {
        tool,
        given: &call.given,
        file: call.config.as_ref().map(|path| path.display().to_string()),
        faults: RefCell::default(),
    };
    expand_all(&context, "", &mut document);
    let config = match &document.kind {
        Kind::Map(entries) => {
            let root = Section::new(&context, String::new(), document.line, entries, true);
            read(&root)
        }
        _ => {
            let found = document.describe();
            let what = Invalid::new(format!("the config must be a mapping of keys, and is {found}"));
            context.fault(context.in_file(document.line, ""), what);
            None
        }
    };
    let mut faults = context.faults.into_inner();
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => {
            if faults.is_empty() {
                return Err(Failure::new(Exit::Usage, "these settings make no config"));
            }
            faults.sort_by(|a, b| a.place.cmp(&b.place));
            Err(Failure::faults(faults))
        }
    }
}

/// The address of the running instance's admin port, for verbs that only talk to it.
pub(crate) fn admin_only(tool: &'static Tool, call: &Call) -> Result<SocketAddr, Failure> {
    let admin = load(tool, call, |root| {
        let admin = root.admin();
        root.ignore_rest();
        Some(admin)
    })?;
    admin.ok_or_else(|| {
        Failure::new(Exit::Usage, "--admin is off, so there is no instance to ask")
            .hint("give the address of the running instance: `--admin 127.0.0.1:PORT`")
    })
}

fn read_file(path: &Path) -> Result<Node, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read the config file {path:?}: {}", chain(&error)))
            .hint("check `--config` and the volume that the file is mounted from")
    })?;
    yaml::parse(&text)
        .map_err(|bad| Failure::new(Exit::Usage, format!("{}:{}: {}", path.display(), bad.line, bad.message)))
}

fn expand_all(context: &Context<'_>, path: &str, node: &mut Node) {
    match &mut node.kind {
        Kind::Scalar { text, plain } => {
            if text.contains('$') {
                match expand(text, |name| std::env::var(name).ok()) {
                    // What a variable holds is text, also where it spells `null` or a number.
                    Ok(expanded) => (*text, *plain) = (expanded, false),
                    Err(what) => context.fault(context.in_file(node.line, path), what),
                }
            }
        }
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand_all(context, &format!("{path}[{index}]"), item);
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                expand_all(context, &join(path, &entry.key), &mut entry.value);
            }
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Context<'_> {
    fn in_file(&self, line: usize, field: &str) -> Place {
        match self.file.clone() {
            Some(path) => Place::File { path, line, field: field.to_owned() },
            None => Place::Field(field.to_owned()),
        }
    }

    fn fault(&self, place: Place, what: Invalid) {
        self.faults.borrow_mut().push(Fault { place, what });
    }
}

impl<'a> Section<'a> {
    fn new(
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
        for (name, item) in self.items(key) {
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
    fn items(&self, key: &str) -> Vec<(String, &'a Node)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::{TOOL, call};
    use std::time::Duration;

    /// The faults of a config as "place: message", and the value that `read` made.
    fn read<C>(yaml: &str, line: &str, read: impl FnOnce(&Section<'_>) -> C) -> (Option<C>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.yaml");
        std::fs::write(&file, yaml).unwrap();
        let call = call(&format!("--config {} {line}", file.display()));
        let mut made = None;
        let result = load(&TOOL, &call, |root| {
            made = Some(read(root));
            Some(())
        });
        let faults =
            result.err().map(|failure| failure.messages().map(str::to_owned).collect()).unwrap_or_default();
        (made, without_directory(faults, dir.path()))
    }

    fn without_directory(faults: Vec<String>, dir: &Path) -> Vec<String> {
        faults.into_iter().map(|fault| fault.replace(&format!("{}/", dir.display()), "")).collect()
    }

    #[test]
    fn flag_over_file_over_default() {
        let yaml = "state_dir: /file\nbatch: {age: 2s}\ninclude: [a, b]\n";
        let get = |s: &Section<'_>| {
            let dir = s.value_or("state_dir", units::path, "/default".into());
            let age = s.section("batch").value_or("age", units::duration, Duration::ZERO);
            (dir.display().to_string(), age, s.list("include", units::text), s.switch("once"))
        };
        let (made, faults) = read(yaml, "", get);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(
            made.unwrap(),
            ("/file".into(), Duration::from_secs(2), vec!["a".into(), "b".into()], false)
        );
        let (made, _) = read(yaml, "--state-dir /flag --batch-age 3s --include c --once", get);
        assert_eq!(made.unwrap(), ("/flag".into(), Duration::from_secs(3), vec!["c".into()], true));
        let (made, _) = read("", "", get);
        assert_eq!(made.unwrap(), ("/default".into(), Duration::ZERO, vec![], false));
    }

    #[test]
    fn every_fault_is_found_with_its_line() {
        let yaml = "state_dri: /x\nbatch:\n  age: 5\n  size: 1MB\nsources:\n  - include: [a]\n    incldue: b\n  - 7\nonce: \n";
        let (_, faults) = read(yaml, "", |s| {
            s.required("state_dir", units::path);
            s.section("batch").value("age", units::duration);
            for source in s.sections("sources") {
                source.list("include", units::text);
            }
            s.switch("once");
        });
        assert_eq!(
            faults,
            [
                "t.yaml:1: state_dir: is required",
                "t.yaml:1: state_dri: unknown key",
                "t.yaml:3: batch.age: \"5\" has no unit",
                "t.yaml:4: batch.size: unknown key",
                "t.yaml:7: sources[0].incldue: unknown key",
                "t.yaml:8: sources[1]: must be a mapping, and is a single value",
                "t.yaml:9: once: has no value",
            ]
        );
    }

    #[test]
    fn an_unset_variable_is_a_fault_where_it_stands() {
        let yaml = "fields:\n  pod: ${PODKIT_TEST_SURELY_UNSET}\n";
        let (_, faults) = read(yaml, "", |s| s.map("fields"));
        assert_eq!(faults, ["t.yaml:2: fields.pod: the variable `PODKIT_TEST_SURELY_UNSET` is not set"]);
    }

    #[test]
    fn a_fault_in_a_flag_names_the_flag() {
        let (_, faults) = read("", "--batch-age 5", |s| s.section("batch").value("age", units::duration));
        assert_eq!(faults, ["--batch-age: \"5\" has no unit"]);
    }

    #[test]
    fn the_admin_port_can_be_off() {
        assert_eq!(read("", "", |s| s.admin()).0.unwrap(), Some("0.0.0.0:9899".parse().unwrap()));
        assert_eq!(read("admin: off\n", "", |s| s.admin()).0.unwrap(), None);
        assert_eq!(
            read("", "--admin 127.0.0.1:0", |s| s.admin()).0.unwrap(),
            Some("127.0.0.1:0".parse().unwrap())
        );
    }
}
