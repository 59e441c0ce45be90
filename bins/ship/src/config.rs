//! The settings of podkit-ship: what was typed, checked, in units.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use podkit_cli::{Effective, Flag, Invalid, Section, mask_url, units};
use reqwest::Url;
use serde_json::{Value, json};

use crate::checkpoint::Store;
use crate::files::{Exclude, Include};

/// The flags of podkit-ship.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::list(
        "include",
        "GLOB",
        "Follow the files that match; repeatable. `*`, `?`, `[..]`, and `**` for directories",
    ),
    Flag::list("exclude", "GLOB", "Leave these out [default: compressed files]"),
    Flag::list(
        "to",
        "URL",
        "Deliver there: http://host/path, https://host/path (NDJSON) or stdout: ; repeatable",
    ),
    Flag::value(
        "state-dir",
        "DIR",
        "Keep positions here, on the shared volume [default: .podkit beside the files]",
    ),
    Flag::value("compression", "NAME", "auto, zstd, gzip or none [default: auto]"),
    Flag::value("memory", "SIZE", "The budget for all buffers together [default: 16MiB]"),
    Flag::value("batch-size", "SIZE", "Send a batch at this size [default: 1MiB]"),
    Flag::value("batch-lines", "COUNT", "Send a batch at this many lines [default: 10000]"),
    Flag::value("batch-age", "DURATION", "Send a batch when its first line is this old [default: 1s]"),
    Flag::value(
        "shutdown-deadline",
        "DURATION",
        "After SIGTERM, deliver for at most this long [default: 20s]",
    ),
    Flag::switch("once", "Read to the end, deliver, exit"),
];

/// Left out unless `exclude` says otherwise: what a rotation compresses is not text.
const COMPRESSED: &[&str] = &["*.gz", "*.bz2", "*.xz", "*.zst", "*.zip"];
const DEFAULT_MEMORY: u64 = 16 << 20;
const DEFAULT_BATCH_SIZE: u64 = 1 << 20;
const DEFAULT_BATCH_LINES: usize = 10_000;
const DEFAULT_BATCH_AGE: Duration = Duration::from_secs(1);
const DEFAULT_MAX_LINE: u64 = 1 << 20;
/// Two thirds of the kubelet's default grace period: leaves the rest of the pod its own time to stop.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(20);
/// One destination's part of the memory is shared by a read buffer, a batch, its compressed form and slack.
const BUFFERS: u64 = 4;
/// Members of each record that a field must not replace.
const RESERVED: &[&str] = &["timestamp", "message", "level", "file", "split"];

/// A checked config.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) state_dir: PathBuf,
    pub(crate) sources: Vec<Source>,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) compression: Compression,
    pub(crate) memory: u64,
    pub(crate) batch: BatchLimits,
    pub(crate) deadline: Duration,
    pub(crate) once: bool,
    pub(crate) admin: Option<SocketAddr>,
}

/// Files that are read alike.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) include: Vec<Include>,
    pub(crate) exclude: Vec<Exclude>,
    /// Where our own files are, which are never followed: each save would be news.
    pub(crate) state_dir: PathBuf,
    pub(crate) start: Start,
    pub(crate) format: Format,
    pub(crate) max_line: usize,
    /// Constant members of each record.
    pub(crate) fields: Vec<(String, String)>,
}

impl Source {
    /// Whether a path is left out.
    pub(crate) fn excludes(&self, path: &Path) -> bool {
        Store::owns(&self.state_dir, path) || self.exclude.iter().any(|exclude| exclude.covers(path))
    }

    /// Whether a path is one that the source would find, were a file there.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        self.include.iter().any(|include| include.covers(path)) && !self.excludes(path)
    }
}

/// Where the very first start begins in files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Beginning,
    End,
}

/// How a line becomes a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A JSON object is kept as it is; any other line is text.
    Auto,
    /// Every line is text.
    Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Http(Url),
    Stdout,
}

impl Destination {
    /// The name in metrics, the ledger and the checkpoint: stable over restarts, and without secrets.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Http(url) => mask_url(url.as_str()),
            Self::Stdout => "stdout:".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Auto,
    Zstd,
    Gzip,
    None,
}

/// A batch is sent when the first of these is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) size: usize,
    pub(crate) lines: usize,
    pub(crate) age: Duration,
}

const STARTS: &[(&str, Start)] = &[("beginning", Start::Beginning), ("end", Start::End)];
const FORMATS: &[(&str, Format)] = &[("auto", Format::Auto), ("text", Format::Text)];
const COMPRESSIONS: &[(&str, Compression)] = &[
    ("auto", Compression::Auto),
    ("zstd", Compression::Zstd),
    ("gzip", Compression::Gzip),
    ("none", Compression::None),
];

impl Config {
    /// Reads the config; `None` with faults recorded in `root` where it cannot be built.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        let mut sources = sources(root);
        let faults = root.fault_count();
        let destinations = destinations(root);
        if destinations.is_empty() && root.fault_count() == faults {
            let hint = "say where to deliver: `--to http://sink/` or `--to stdout:`";
            root.fault("to", Invalid::new("is required").hint(hint));
        }
        for (index, destination) in destinations.iter().enumerate() {
            // The position is kept under the name, which has no secrets in it.
            if destinations[..index].iter().any(|other| other.name() == destination.name()) {
                root.fault("to", Invalid::new(format!("{} is given twice", destination.name())));
            }
        }
        let state_dir = root.value("state_dir", units::path).or_else(|| {
            let base = sources.first().and_then(|source| source.include.first()).map(Include::base);
            base.map(|base| base.join(".podkit"))
        });
        for source in &mut sources {
            source.state_dir = state_dir.clone().unwrap_or_default();
        }
        let memory = root.value_or("memory", units::size, DEFAULT_MEMORY);
        let batch = root.section("batch");
        let size = batch.value_or("size", units::size, DEFAULT_BATCH_SIZE);
        let limits = BatchLimits {
            size: usize::try_from(size).unwrap_or(usize::MAX),
            lines: batch.value("lines", units::count).map_or(DEFAULT_BATCH_LINES, NonZeroUsize::get),
            age: batch.value_or("age", units::duration, DEFAULT_BATCH_AGE),
        };
        let longest = sources.iter().map(|source| source.max_line as u64).max().unwrap_or(0);
        let needed = size.max(longest) * BUFFERS * destinations.len() as u64;
        if memory < needed {
            let what = format!(
                "{} is too small for {} with batches of {} and lines of {}",
                units::show_size(memory),
                counted(destinations.len(), "destination"),
                units::show_size(size),
                units::show_size(longest),
            );
            root.fault(
                "memory",
                Invalid::new(what).hint(format!("give at least {}", units::show_size(needed))),
            );
        }
        Some(Self {
            state_dir: state_dir?,
            sources,
            destinations,
            compression: root.value_or("compression", units::choice(COMPRESSIONS), Compression::Auto),
            memory,
            batch: limits,
            deadline: root.section("shutdown").value_or(
                "deadline",
                units::positive_duration,
                DEFAULT_DEADLINE,
            ),
            once: root.switch("once"),
            admin: root.admin(),
        })
    }
}

/// "1 file", "2 files".
pub(crate) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// The source of the flags, or else those of the file.
fn sources(root: &Section<'_>) -> Vec<Source> {
    let faults = root.fault_count();
    let mut sources: Vec<Source> = root.sections("sources").iter().map(source).collect();
    let flags = source(root);
    if !flags.include.is_empty() {
        sources = vec![flags];
    } else if sources.iter().all(|source| source.include.is_empty()) && root.fault_count() == faults {
        let hint =
            "say which files to follow: `--include '/var/log/app/*.log'`, or `sources:` in the config file";
        root.fault("include", Invalid::new("is required").hint(hint));
    }
    sources
}

fn source(section: &Section<'_>) -> Source {
    let include = section.list("include", Include::parse);
    let exclude = section.list("exclude", Exclude::parse);
    let excluded = if section.has("exclude") {
        exclude
    } else {
        COMPRESSED.iter().filter_map(|pattern| Exclude::parse(pattern).ok()).collect()
    };
    let max_line = section.value_or("max_line", units::size, DEFAULT_MAX_LINE);
    if !(MIN_LINE..=MAX_LINE).contains(&max_line) {
        let what = format!(
            "{} is not between {} and {}",
            units::show_size(max_line),
            units::show_size(MIN_LINE),
            units::show_size(MAX_LINE)
        );
        section.fault("max_line", Invalid::new(what));
    }
    let fields = section.map("fields");
    for (name, _) in fields.iter().filter(|(name, _)| RESERVED.contains(&name.as_str())) {
        let what = format!("`{name}` is a member that every record has already");
        section.fault("fields", Invalid::new(what).hint("choose another name"));
    }
    Source {
        include,
        exclude: excluded,
        state_dir: PathBuf::new(),
        start: section.value_or("start", units::choice(STARTS), Start::Beginning),
        format: section.value_or("format", units::choice(FORMATS), Format::Auto),
        max_line: usize::try_from(max_line).unwrap_or(usize::MAX),
        fields,
    }
}

/// Less would split ordinary lines.
const MIN_LINE: u64 = 1 << 10;
/// More is no line.
const MAX_LINE: u64 = 64 << 20;

/// The destinations of the flags, or else those of the file.
fn destinations(root: &Section<'_>) -> Vec<Destination> {
    let mut of_file = Vec::new();
    for item in root.sections("destinations") {
        let kinds: Vec<&str> = item.keys().collect();
        match kinds.as_slice() {
            ["http"] => {
                let http = item.section("http");
                of_file.extend(http.required("url", http_url).map(Destination::Http));
            }
            ["stdout"] => {
                let _ = item.section("stdout");
                of_file.push(Destination::Stdout);
            }
            [kind] if LATER.contains(kind) => {
                let _ = item.json(kind);
                item.fault(
                    kind,
                    Invalid::new("is not built yet").hint("this version delivers to `http` and `stdout`"),
                );
            }
            _ => {
                item.fault_here(Invalid::new("must be one destination: `http: {url: …}` or `stdout: {}`"));
                let _ = (item.json("http"), item.json("stdout"));
            }
        }
    }
    let of_flags = root.list("to", to);
    if of_flags.is_empty() { of_file } else { of_flags }
}

/// Destinations that the design has and this version has not.
const LATER: &[&str] = &["elasticsearch", "loki", "otlp", "splunk", "file"];

fn to(text: &str) -> Result<Destination, Invalid> {
    let scheme = text.split([':', '+']).next().unwrap_or_default();
    if text == "stdout:" {
        Ok(Destination::Stdout)
    } else if LATER.contains(&scheme) {
        Err(Invalid::new(format!("{:?}: `{scheme}` is not built yet", mask_url(text)))
            .hint("this version delivers to http://…, https://… and stdout:"))
    } else {
        http_url(text).map(Destination::Http)
    }
}

fn http_url(text: &str) -> Result<Url, Invalid> {
    let bad = |why: String| Invalid::new(why).hint("write `http://sink:8080/logs`, `https://…` or `stdout:`");
    let shown = mask_url(text);
    let url = Url::parse(text).map_err(|error| bad(format!("{shown:?} is not a destination ({error})")))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(bad(format!("{shown:?} is not a destination")))
    }
}

impl Effective for Config {
    fn effective(&self) -> Value {
        json!({
            "state_dir": self.state_dir,
            "sources": self.sources.iter().map(Source::effective).collect::<Vec<_>>(),
            "destinations": self.destinations.iter().map(Destination::effective).collect::<Vec<_>>(),
            "batch": {
                "size": units::show_size(self.batch.size as u64),
                "lines": self.batch.lines,
                "age": units::show_duration(self.batch.age),
            },
            "compression": name_of(COMPRESSIONS, &self.compression),
            "memory": units::show_size(self.memory),
            "shutdown": {"deadline": units::show_duration(self.deadline)},
            "once": self.once,
            "admin": self.admin.map_or_else(|| "off".to_owned(), |address| address.to_string()),
        })
    }
}

impl Source {
    fn effective(&self) -> Value {
        let fields: serde_json::Map<_, _> =
            self.fields.iter().map(|(name, text)| (name.clone(), Value::String(text.clone()))).collect();
        json!({
            "include": self.include.iter().map(Include::text).collect::<Vec<_>>(),
            "exclude": self.exclude.iter().map(Exclude::text).collect::<Vec<_>>(),
            "start": name_of(STARTS, &self.start),
            "format": name_of(FORMATS, &self.format),
            "max_line": units::show_size(self.max_line as u64),
            "fields": fields,
        })
    }
}

impl Destination {
    fn effective(&self) -> Value {
        match self {
            Self::Http(_) => json!({"http": {"url": self.name()}}),
            Self::Stdout => json!({"stdout": {}}),
        }
    }
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}
