//! The settings of podkit-ship: what was typed, checked, in units.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use podkit_cli::{Effective, Flag, Invalid, Section, units};
use serde_json::{Value, json};

use crate::files::Include;

mod destination;
mod filter;
mod format;
mod http;
mod reclaim;
mod source;

pub(crate) use destination::{Destination, Kind};
pub(crate) use format::Format;
pub(crate) use http::Http;
pub(crate) use reclaim::Reclaim;
pub(crate) use source::{Source, Start};

/// The flag of `check` that names a sample.
pub(crate) const SAMPLE: &str = "file";

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
        "Deliver there; repeatable: http(s)://host/path (NDJSON), stdout:, file:/path, or a backend's URL with \
         elasticsearch+, loki+, otlp+ or splunk+ before it",
    ),
    Flag::value(
        "state-dir",
        "DIR",
        "Keep positions here, on the shared volume [default: .podkit beside the files]",
    ),
    Flag::value(
        "compression",
        "NAME",
        "auto, zstd, gzip, snappy or none [default: auto, what each backend takes best]",
    ),
    Flag::value(
        "reclaim",
        "HOW",
        "Give acknowledged bytes back to the volume: off, delete-rotated or punch [default: off]",
    ),
    Flag::value(
        "deleted",
        "SIZE",
        "Deleted files that are not delivered yet may hold this much on disk [default: 1GiB]",
    ),
    Flag::value("memory", "SIZE", "The budget for all buffers together [default: 16MiB]"),
    Flag::value("batch-size", "SIZE", "Send a batch at this size [default: 1MiB]"),
    Flag::value("batch-lines", "COUNT", "Send a batch at this many lines [default: 10000]"),
    Flag::value("batch-age", "DURATION", "Send a batch when its first line is this old [default: 1s]"),
    Flag::value(
        "dead-letters",
        "SIZE",
        "Keep at most this much of what backends refuse for good; then wait [default: 64MiB]",
    ),
    Flag::value(
        "shutdown-deadline",
        "DURATION",
        "After SIGTERM, deliver for at most this long [default: 20s]",
    ),
    Flag::value(
        "shutdown-quiet",
        "DURATION",
        "After SIGTERM, follow the files until nobody has them open for writing and nothing was written for so long: \
         for a plain sidecar, whose SIGTERM comes with the app's [default: 0s, do not wait]",
    ),
    Flag::value(SAMPLE, "FILE", "Print the requests that the lines of this file would make").of("check"),
    Flag::switch("once", "Read to the end, deliver, exit"),
    Flag::value(
        "done-file",
        "PATH",
        "End as on SIGTERM once this file is there, for Jobs without native sidecars; one that an earlier run left \
         counts too",
    ),
];

const DEFAULT_MEMORY: u64 = 16 << 20;
const DEFAULT_BATCH_SIZE: u64 = 1 << 20;
/// Places in a batch are 32-bit numbers, and events may become some times as long as their lines.
const MAX_BATCH_SIZE: u64 = 256 << 20;
const DEFAULT_BATCH_LINES: usize = 10_000;
const DEFAULT_BATCH_AGE: Duration = Duration::from_secs(1);
/// A hundred thousand lines: enough to see what is wrong with them.
const DEFAULT_DEAD_LETTERS: u64 = 64 << 20;
/// Two thirds of the kubelet's default grace period: leaves the rest of the pod its own time to stop.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(20);
/// Smaller batches would be many requests for few lines.
const LEAST_BATCH: u64 = 64 << 10;
/// Each batch on its way is there as chunks, as a body, compressed, and with a part of the read buffer and the answer.
const BUFFERS: u64 = 4;
/// A checked config.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) state_dir: PathBuf,
    pub(crate) sources: Vec<Source>,
    pub(crate) destinations: Vec<Destination>,
    pub(crate) compression: Compression,
    pub(crate) memory: u64,
    /// How many batches of each destination the memory has room for.
    pub(crate) places: usize,
    /// What deleted files that are not delivered yet may hold on disk.
    pub(crate) deleted: u64,
    /// The size of batches that was asked for; those in force may be smaller, for the memory.
    pub(crate) batch_size_wanted: u64,
    pub(crate) batch: BatchLimits,
    /// The most bytes of refused events that are kept.
    pub(crate) dead_letters: u64,
    pub(crate) shutdown: Shutdown,
    pub(crate) once: bool,
    /// Its appearance ends the shipper as SIGTERM does.
    pub(crate) done_file: Option<PathBuf>,
    pub(crate) admin: Option<SocketAddr>,
}

/// How long a stop may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shutdown {
    pub(crate) deadline: Duration,
    /// How long nothing must have been written before the files are read to their end; zero: no matter.
    pub(crate) quiet: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// What the backend takes best.
    Auto,
    Zstd,
    Gzip,
    Snappy,
    None,
}

/// A batch is sent when the first of these is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) size: usize,
    pub(crate) lines: usize,
    pub(crate) age: Duration,
}

const COMPRESSIONS: &[(&str, Compression)] = &[
    ("auto", Compression::Auto),
    ("zstd", Compression::Zstd),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("none", Compression::None),
];

impl Config {
    /// Reads the config; `None` with faults recorded in `root` where it cannot be built.
    pub(crate) fn read(root: &Section<'_>) -> Option<Self> {
        let mut sources = source::read_all(root);
        let compression = root.value_or("compression", units::choice(COMPRESSIONS), Compression::Auto);
        let faults = root.fault_count();
        let destinations = destination::read_all(root, compression);
        if destinations.is_empty() && root.fault_count() == faults {
            let hint = "say where to deliver: `--to http://sink/` or `--to stdout:`";
            root.fault("to", Invalid::new("is required").hint(hint));
        }
        let state_dir = root.value("state_dir", units::path).or_else(|| {
            let base = sources.first().and_then(|source| source.include.first()).map(Include::base);
            base.map(|base| base.join(".podkit"))
        });
        for source in &mut sources {
            source.state_dir = state_dir.clone().unwrap_or_default();
        }
        for Destination { kind, name, .. } in &destinations {
            let Kind::File { path } = kind else { continue };
            if sources.iter().any(|source| source.finds(path)) {
                let what =
                    format!("{name} is a file that `include` finds, so each line would come back for ever");
                root.fault(
                    "to",
                    Invalid::new(what).hint("write to another directory, or name it in `exclude`"),
                );
            }
        }
        let memory = root.value_or("memory", units::size, DEFAULT_MEMORY);
        let batch = root.section("batch");
        let size = batch.value_or("size", units::size, DEFAULT_BATCH_SIZE);
        let limits = BatchLimits {
            size: usize::try_from(size).unwrap_or(usize::MAX),
            lines: batch.value("lines", units::count).map_or(DEFAULT_BATCH_LINES, NonZeroUsize::get),
            age: batch.value_or("age", units::duration, DEFAULT_BATCH_AGE),
        };
        if !(1..=MAX_BATCH_SIZE).contains(&size) {
            let what = format!(
                "{} is not between 1B and {}",
                units::show_size(size),
                units::show_size(MAX_BATCH_SIZE)
            );
            batch.fault("size", Invalid::new(what).hint("backends take about 1MiB best"));
        }
        let longest = sources.iter().map(|source| source.max_line as u64).max().unwrap_or(0);
        let count = destinations.len().max(1) as u64;
        // Batches shrink to what there is room for; the longest line must fit all the same, at one destination at once.
        let needed = longest.max(LEAST_BATCH.saturating_mul(count)).saturating_mul(BUFFERS);
        if memory < needed {
            let what = format!(
                "{} is too small for {} and lines of {}",
                units::show_size(memory),
                counted(destinations.len(), "destination"),
                units::show_size(longest),
            );
            root.fault(
                "memory",
                Invalid::new(what).hint(format!("give at least {}", units::show_size(needed))),
            );
        }
        let share = memory / count / BUFFERS;
        let limits =
            BatchLimits { size: limits.size.min(usize::try_from(share).unwrap_or(usize::MAX)), ..limits };
        let shutdown = Shutdown::read(&root.section("shutdown"));
        let once = root.switch("once");
        let done_file = root.value("done_file", absolute_path);
        if once && done_file.is_some() {
            let what = Invalid::new("does not go with `once`, which ends without it");
            root.fault("done_file", what.hint("leave out one of them"));
        }
        Some(Self {
            state_dir: state_dir?,
            sources,
            destinations,
            compression,
            memory,
            places: usize::try_from(share / size.max(longest).max(1)).unwrap_or(usize::MAX).max(1),
            deleted: root.value_or("deleted", units::size, reclaim::DEFAULT_DELETED),
            batch_size_wanted: size,
            batch: limits,
            dead_letters: root.value_or("dead_letters", units::size, DEFAULT_DEAD_LETTERS),
            shutdown,
            once,
            done_file,
            admin: root.admin(),
        })
    }
}

impl Shutdown {
    fn read(section: &Section<'_>) -> Self {
        let deadline = section.value_or("deadline", units::positive_duration, DEFAULT_DEADLINE);
        let quiet = section.value_or("quiet", units::duration, Duration::ZERO);
        let shutdown = Self { deadline, quiet };
        if quiet >= shutdown.for_following() {
            let (quiet, deadline) = (units::show_duration(quiet), units::show_duration(deadline));
            let what = Invalid::new(format!(
                "{quiet} is not shorter than three quarters of the deadline, {deadline}"
            ));
            section.fault(
                "quiet",
                what.hint("the last quarter is for delivering: lower the one or raise the other"),
            );
        }
        shutdown
    }

    /// How long files that may still be written to are followed: what is written last wants to be delivered, too.
    pub(crate) fn for_following(&self) -> Duration {
        self.deadline / 4 * 3
    }
}

fn absolute_path(text: &str) -> Result<PathBuf, Invalid> {
    let path = units::path(text)?;
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Invalid::new(format!("{text:?} is not an absolute path")).hint("write the whole path"))
    }
}

/// "1 file", "2 files".
pub(crate) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

impl Effective for Config {
    fn effective(&self) -> Value {
        let mut settings = json!({
            "state_dir": self.state_dir,
            "sources": self.sources.iter().map(Source::effective).collect::<Vec<_>>(),
            "destinations": self.destinations.iter().map(Destination::effective).collect::<Vec<_>>(),
            "batch": {
                "size": units::show_size(self.batch.size as u64),
                "lines": self.batch.lines,
                "age": units::show_duration(self.batch.age),
            },
            "dead_letters": units::show_size(self.dead_letters),
            "compression": name_of(COMPRESSIONS, &self.compression),
            "memory": units::show_size(self.memory),
            "deleted": units::show_size(self.deleted),
            "shutdown": {
                "deadline": units::show_duration(self.shutdown.deadline),
                "quiet": units::show_duration(self.shutdown.quiet),
            },
            "once": self.once,
            "admin": self.admin.map_or_else(|| "off".to_owned(), |address| address.to_string()),
        });
        if let Some(path) = &self.done_file {
            settings["done_file"] = json!(path);
        }
        settings
    }
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}
