//! What was typed, checked and given its meaning. Nothing past this module sees a raw string of the config.
//!
//! Collects every fault; reads no input and never looks at the target. Each kind of entry has a file of its own below.

mod archive;
mod check;
mod env_file;
mod envsubst;
mod file;
mod notify;
mod remote;
mod wait;

use std::path::PathBuf;
use std::time::Duration;

use podkit_cli::{Effective, Invalid, Section, units};
use serde_json::{Map, Value, json};

use crate::secrets::Secrets;

pub(crate) use archive::{Archive, ArchiveLimits, Location};
pub(crate) use check::{Check, Format};
pub(crate) use env_file::{EnvFile, EnvFormat, EnvValue};
pub(crate) use envsubst::Envsubst;
pub(crate) use file::{FileSpec, Owner, Source, Text};
pub(crate) use notify::{Notify, Process};
pub(crate) use remote::{Remote, hex};
pub(crate) use wait::{Condition, FileCheck, HttpCheck, NewerThan, Port, Program, StatusSet, Until, Wait};

/// One budget for waiting, fetching, rendering and writing. As long as a database may take to come up in a new pod.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);
/// Between looks at URLs with `--watch`.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

const LAYOUTS: &[(&str, Layout)] = &[("links", Layout::Links), ("plain", Layout::Plain)];

/// A checked config.
#[derive(Debug)]
pub struct Config {
    /// Where the files go; `None` if the config only waits.
    pub(crate) target: Option<PathBuf>,
    pub(crate) deadline: Duration,
    pub(crate) layout: Layout,
    /// Whether a run ends only when all is on the disk.
    pub(crate) durable: bool,
    pub(crate) wait: Vec<Wait>,
    pub(crate) files: Vec<FileSpec>,
    pub(crate) values: Vec<PathBuf>,
    /// Where templates include others from.
    pub(crate) templates: Option<PathBuf>,
    /// Names such as `values.db.password` and `env.TOKEN`, whose values are never shown.
    pub(crate) secrets: Vec<String>,
    /// Stay, and seed again when an input changes.
    pub(crate) watch: bool,
    /// How often URLs are asked again with `watch`.
    pub(crate) interval: Duration,
    pub(crate) on_change: Vec<Notify>,
    /// Where the admin port listens with `watch`; `None` for `off`.
    pub(crate) admin: Option<std::net::SocketAddr>,
}

/// What stands at the visible names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Links into a generation: all names change at once.
    #[default]
    Links,
    /// Files, each replaced by a rename.
    Plain,
}

impl Config {
    /// Reads the config; every fault is left in the section.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        let deadline = root.value_or("deadline", units::positive_duration, DEFAULT_DEADLINE);
        let layout = root.value_or("layout", units::choice(LAYOUTS), Layout::default());
        let durable = root.value_or("durable", units::boolean, true);
        let values = root.list("values", units::path);
        let templates = root.value("templates", units::path);
        let secrets = root.list("secrets", secret_name);
        let wait = Wait::read_all(root);
        let files = file::read_all(&root.sections("files"));
        let watch = root.switch("watch");
        let interval = root.value_or("interval", units::positive_duration, DEFAULT_INTERVAL);
        let on_change = notify::read_all(root);
        let admin = root.admin();
        if !root.has("files") && !root.has("wait") && !root.is_for("render") {
            root.fault(
                "files",
                Invalid::new("there is nothing to do: neither files nor anything to wait for")
                    .hint("give `files` or `wait` in a config file: `--config seed.yaml`"),
            );
        }
        if watch && !root.has("files") {
            root.fault("watch", Invalid::new("there are no files to keep as their inputs are"));
        }
        let target = if root.has("files") {
            Some(root.required("target", units::path)?)
        } else {
            // Still read, for its faults.
            root.value("target", units::path).and(None)
        };
        Some(Self {
            target,
            deadline,
            layout,
            durable,
            wait,
            files,
            values,
            templates,
            secrets,
            watch,
            interval,
            on_change,
            admin,
        })
    }
}

/// `values`, or a name below it or `env`.
fn secret_name(text: &str) -> Result<String, Invalid> {
    let is_name = match text.split_once('.') {
        Some(("values" | "env", rest)) => !rest.is_empty() && !rest.split('.').any(str::is_empty),
        _ => text == "values",
    };
    if is_name {
        return Ok(text.to_owned());
    }
    Err(Invalid::new(format!("{text:?} names no value"))
        .hint("write it as a template does: `values.db.password` or `env.TOKEN`"))
}

/// The name of a value in a table of choices.
fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}

impl Effective for Config {
    fn effective(&self) -> Value {
        let mut all = Map::new();
        let mut put = |key: &str, value: Value| {
            all.insert(key.to_owned(), value);
        };
        if let Some(target) = &self.target {
            put("target", json!(target));
            put("layout", name_of(LAYOUTS, &self.layout).into());
            put("durable", self.durable.into());
        }
        put("deadline", units::show_duration(self.deadline).into());
        put("wait", self.wait.iter().map(Wait::effective).collect());
        if self.target.is_some() {
            put("files", self.files.iter().map(FileSpec::effective).collect());
        }
        put("values", json!(self.values));
        if let Some(templates) = &self.templates {
            put("templates", json!(templates));
        }
        if !self.secrets.is_empty() {
            put("secrets", json!(self.secrets));
        }
        put("watch", self.watch.into());
        if self.watch {
            put("interval", units::show_duration(self.interval).into());
            put("on_change", self.on_change.iter().map(Notify::effective).collect());
            put("admin", self.admin.map_or_else(|| json!("off"), |address| json!(address.to_string())));
        }
        let mut all = Value::Object(all);
        // `${VAR}` is expanded by now, wherever it stands.
        Secrets::in_environment(&self.secrets).mask_all(&mut all);
        all
    }
}
