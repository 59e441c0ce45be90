//! Which files are read, and how.

use std::path::{Path, PathBuf};

use podkit_cli::{Invalid, Section, units};
use serde_json::{Value, json};

use crate::checkpoint::Store;
use crate::config::filter::Filters;
use crate::config::reclaim::{self, Reclaim};
use crate::config::{Format, name_of};
use crate::event::{Body, Event, MAX_FIELDS, Multiline, OWN_NAMES, Parser, Zone};
use crate::files::{Exclude, Include};
use crate::reading::Grouper;

/// Left out unless `exclude` says otherwise: what a rotation compresses is not text.
const COMPRESSED: &[&str] = &["*.gz", "*.bz2", "*.xz", "*.zst", "*.zip"];
const DEFAULT_MAX_LINE: u64 = 1 << 20;
/// A member of a record that a field must not replace, beside [`OWN_NAMES`].
const SPLIT: &str = "split";

const STARTS: &[(&str, Start)] = &[("beginning", Start::Beginning), ("end", Start::End)];

/// Files that are read alike.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) include: Vec<Include>,
    pub(crate) exclude: Vec<Exclude>,
    /// Where our own files are, which are never followed: each save would be news.
    pub(crate) state_dir: PathBuf,
    pub(crate) start: Start,
    pub(crate) format: Format,
    pub(crate) multiline: Multiline,
    /// Of times that tell none.
    pub(crate) zone: Zone,
    pub(crate) filters: Filters,
    pub(crate) max_line: usize,
    pub(crate) reclaim: Reclaim,
    /// Constant members of each record.
    pub(crate) fields: Vec<(String, String)>,
}

impl Source {
    /// Whether a path is left out.
    pub(crate) fn excludes(&self, path: &Path) -> bool {
        Store::owns(&self.state_dir, path) || self.exclude.iter().any(|exclude| exclude.covers(path))
    }

    /// What joins its lines.
    pub(crate) fn grouper(&self) -> Grouper {
        let is_cri = matches!(self.format, Format::Cri);
        Grouper::new(self.multiline.clone(), is_cri, self.max_line)
    }

    /// What makes events of its lines.
    pub(crate) fn parser(&self) -> Parser {
        let names: Vec<String> = self.fields.iter().map(|(name, _)| name.clone()).collect();
        Parser::new(&self.format, self.zone, &names)
    }

    /// Takes the secrets out of an event, and counts them.
    pub(crate) fn redact(&self, event: &mut Event<'_>, hits: &mut u64) {
        let Some(redactor) = &self.filters.redactor else { return };
        match &mut event.body {
            Body::Text(text) => *text = redactor.redact(std::mem::take(text), hits),
            Body::Object(object) => {
                object.json = redactor.redact_object(std::mem::take(&mut object.json), hits);
            }
        }
        for (_, value) in &mut event.pairs {
            *value = redactor.redact(std::mem::take(value), hits);
        }
    }

    /// Whether the source would find a file of this path under any of its names.
    pub(super) fn finds(&self, path: &Path) -> bool {
        let Ok(path) = std::path::absolute(path) else { return false };
        let real = path.parent().and_then(|parent| parent.canonicalize().ok());
        let real = real.zip(path.file_name()).map(|(parent, name)| parent.join(name));
        // Where a link leads to the directory of a pattern, the files are found by the link's name.
        let linked = self.include.iter().filter_map(|include| {
            let base = include.base().canonicalize().ok()?;
            Some(include.base().join(real.as_ref()?.strip_prefix(base).ok()?))
        });
        self.covers(&path) || linked.into_iter().any(|path| self.covers(&path))
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

/// The source of the flags, or else those of the file.
pub(super) fn read_all(root: &Section<'_>) -> Vec<Source> {
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
    let is_ours = |name: &str| OWN_NAMES.contains(&name) || name == SPLIT;
    for (name, _) in fields.iter().filter(|(name, _)| is_ours(name)) {
        let what = format!("`{name}` is a member that every record has already");
        section.fault("fields", Invalid::new(what).hint("choose another name"));
    }
    if fields.len() > MAX_FIELDS {
        let what = Invalid::new(format!("{} are too many", fields.len()));
        section.fault("fields", what.hint(format!("at most {MAX_FIELDS} fit")));
    }
    Source {
        include,
        exclude: excluded,
        state_dir: PathBuf::new(),
        start: section.value_or("start", units::choice(STARTS), Start::Beginning),
        format: Format::read(section),
        multiline: Multiline::read(section),
        zone: Zone::read(section),
        filters: Filters::read(section),
        max_line: usize::try_from(max_line).unwrap_or(usize::MAX),
        reclaim: reclaim::read(section),
        fields,
    }
}

/// Less would split ordinary lines.
const MIN_LINE: u64 = 1 << 10;
/// More is no line.
const MAX_LINE: u64 = 64 << 20;

impl Source {
    pub(super) fn effective(&self) -> Value {
        let fields: serde_json::Map<_, _> =
            self.fields.iter().map(|(name, text)| (name.clone(), Value::String(text.clone()))).collect();
        let mut settings = json!({
            "include": self.include.iter().map(Include::text).collect::<Vec<_>>(),
            "exclude": self.exclude.iter().map(Exclude::text).collect::<Vec<_>>(),
            "start": name_of(STARTS, &self.start),
            "format": self.format.effective(),
            "multiline": self.multiline.effective(),
            "timezone": self.zone.name(),
            "max_line": units::show_size(self.max_line as u64),
            "reclaim": self.reclaim.effective(),
            "fields": fields,
        });
        if let (Value::Object(settings), Value::Object(filters)) = (&mut settings, self.filters.effective()) {
            settings.extend(filters);
        }
        settings
    }
}
