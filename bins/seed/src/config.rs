//! What was typed, checked and given its meaning. Nothing past this module sees a raw string of the config.
//!
//! Collects every fault; reads no input and never looks at the target.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use podkit_cli::{Effective, Invalid, Section, units};
use serde_json::{Value, json};

use crate::path::{self, RelPath};

/// One budget for waiting, rendering and writing. As long as a database may take to come up in a new pod.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);

/// Keys of the full design that this version does not have; naming one is told apart from a typing error.
const LATER: &[&str] = &["layout", "on_change"];
const LATER_WAIT: &[&str] = &["http", "dns", "port_free", "command"];
const LATER_FILES: &[&str] = &["url", "archive", "envsubst", "env", "check", "sha256", "unverified", "owner"];

/// A checked config.
#[derive(Debug)]
pub struct Config {
    /// Where the files go; `None` if the config only waits.
    pub(crate) target: Option<PathBuf>,
    pub(crate) deadline: Duration,
    pub(crate) wait: Vec<Condition>,
    pub(crate) files: Vec<FileSpec>,
    pub(crate) values: Vec<PathBuf>,
}

/// Something that must be there first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A TCP connection can be opened.
    Tcp { host: String, port: u16 },
    /// There is something at the path.
    File(PathBuf),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp [{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp {host}:{port}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// One entry of `files`.
#[derive(Debug)]
pub(crate) struct FileSpec {
    pub(crate) path: RelPath,
    /// Whether the path was written with a slash at its end.
    pub(crate) names_directory: bool,
    pub(crate) source: Source,
    pub(crate) mode: Option<u32>,
}

/// Where the content of an entry comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A template file.
    Template(PathBuf),
    /// A template in the config itself.
    Inline(String),
    /// A file or a directory, taken as it is.
    Copy(PathBuf),
}

impl Config {
    /// Reads the config; every fault is left in the section.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        refuse_later(root, LATER);
        let deadline = root.value_or("deadline", units::positive_duration, DEFAULT_DEADLINE);
        let values = root.list("values", units::path);
        let wait = root.sections("wait").iter().filter_map(read_condition).collect();
        let files = read_files(&root.sections("files"));
        if !root.has("files") && !root.has("wait") {
            root.fault(
                "files",
                Invalid::new("there is nothing to do: neither files nor anything to wait for")
                    .hint("give `files` or `wait` in a config file: `--config seed.yaml`"),
            );
        }
        let target = if root.has("files") {
            Some(root.required("target", units::path)?)
        } else {
            // Still read, for its faults.
            root.value("target", units::path).and(None)
        };
        Some(Self { target, deadline, wait, files, values })
    }
}

/// Asks for the keys only where they stand, so that they are never offered for a mistyped one.
fn refuse_later(section: &Section<'_>, later: &[&str]) {
    for key in section.keys().filter(|key| later.contains(key)) {
        section.fault(key, Invalid::new("is not built yet in this version"));
    }
}

fn read_condition(section: &Section<'_>) -> Option<Condition> {
    refuse_later(section, LATER_WAIT);
    let tcp = section.value("tcp", units::host_port).map(|(host, port)| Condition::Tcp { host, port });
    let file = section.value("file", units::path).map(Condition::File);
    match section.keys().count() {
        0 => section
            .fault_here(Invalid::new("names no condition").hint("write `tcp: host:port` or `file: /path`")),
        1 => {}
        _ => section.fault_here(
            Invalid::new("names more than one condition").hint("give each its own item, with its own `-`"),
        ),
    }
    tcp.or(file)
}

fn read_files(sections: &[Section<'_>]) -> Vec<FileSpec> {
    let read: Vec<_> = sections.iter().map(read_file).collect();
    let paths: Vec<_> = read.iter().map(|(path, _)| path.clone()).collect();
    for clash in path::clashes(&paths) {
        sections[clash.later].fault("path", Invalid::new(clash.message));
    }
    read.into_iter().filter_map(|(_, spec)| spec).collect()
}

/// One entry; its path also where the rest of it has faults, to find clashes.
fn read_file(section: &Section<'_>) -> (Option<RelPath>, Option<FileSpec>) {
    refuse_later(section, LATER_FILES);
    let path = section.required("path", |text| Ok((RelPath::parse(text)?, text.ends_with('/'))));
    let mode = section.value("mode", units::mode);
    let template = section.value("template", units::path).map(Source::Template);
    let inline = section.value("inline", |text| Ok(text.to_owned())).map(Source::Inline);
    let copy = section.value("copy", units::path).map(Source::Copy);

    let given: Vec<_> = ["template", "inline", "copy"].into_iter().filter(|key| section.has(key)).collect();
    match given[..] {
        [_] => {}
        [] if section.keys().any(|key| LATER_FILES.contains(&key)) => {}
        [] => {
            section.fault_here(Invalid::new("has no source").hint("give it `template`, `inline` or `copy`"))
        }
        [first, second, ..] => {
            section.fault(second, Invalid::new(format!("stands beside `{first}`, and a file has one source")))
        }
    }
    let Some((path, names_directory)) = path else { return (None, None) };
    if names_directory && (section.has("template") || section.has("inline")) {
        section
            .fault("path", Invalid::new(format!("\"{path}/\" names a directory, and only `copy` makes one")));
    }
    let source = template.or(inline).or(copy);
    let spec = source.map(|source| FileSpec { path: path.clone(), names_directory, source, mode });
    (Some(path), spec)
}

impl Effective for Config {
    fn effective(&self) -> Value {
        let wait = self.wait.iter().map(|condition| match condition {
            Condition::Tcp { .. } => json!({ "tcp": condition.to_string().trim_start_matches("tcp ") }),
            Condition::File(path) => json!({ "file": path }),
        });
        let mut all = serde_json::Map::new();
        if let Some(target) = &self.target {
            all.insert("target".to_owned(), json!(target));
        }
        all.insert("deadline".to_owned(), units::show_duration(self.deadline).into());
        all.insert("wait".to_owned(), wait.collect());
        all.insert("files".to_owned(), self.files.iter().map(show_file).collect());
        all.insert("values".to_owned(), json!(self.values));
        Value::Object(all)
    }
}

fn show_file(spec: &FileSpec) -> Value {
    let slash = if spec.names_directory { "/" } else { "" };
    let mut shown = json!({ "path": format!("{}{slash}", spec.path) });
    match &spec.source {
        Source::Template(path) => shown["template"] = json!(path),
        Source::Copy(path) => shown["copy"] = json!(path),
        // Variables are expanded in it by now, and they may be secrets.
        Source::Inline(text) => shown["inline"] = json!(format!("({} bytes)", text.len())),
    }
    if let Some(mode) = spec.mode {
        shown["mode"] = json!(format!("{mode:04o}"));
    }
    shown
}
