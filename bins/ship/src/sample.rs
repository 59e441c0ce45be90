//! `podkit-ship check --file SAMPLE`: the real way of a file's lines, up to the requests that would be sent. Offline.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use podkit_cli::{Exit, Failure};

use crate::config::{BatchLimits, Config, Destination, Source, counted};
use crate::delivery::{AnyFormat, Format as _, Origin, format};
use crate::error::Error;
use crate::event::Time;
use crate::filter::{Filter, Judgement, Reason};
use crate::reading::{Batch, Next, Rest, Teller};

/// A sample is for looking at.
const MAX_SAMPLE: u64 = 64 << 20;

/// Prints the requests for a sample's lines, for each destination.
pub(crate) fn run(config: &Config, file: &str) -> Result<Exit, Failure> {
    let path = std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file));
    let sample = read(&path).map_err(|source| Error::Unreadable { path: path.clone(), source })?;
    let source = config.sources.iter().find(|source| source.covers(&path)).unwrap_or(&config.sources[0]);
    for destination in &config.destinations {
        let show = Show { destination, source, path: &path, sample: &sample, limits: config.batch };
        podkit_cli::print(show.requests())?;
    }
    Ok(Exit::Done)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_SAMPLE {
        let what = format!("a sample has at most 64 MiB, and this has {length} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    std::fs::read(path)
}

/// Shows what one destination would get.
struct Show<'a> {
    destination: &'a Destination,
    source: &'a Source,
    path: &'a Path,
    sample: &'a [u8],
    limits: BatchLimits,
}

impl Show<'_> {
    /// The requests as text, one after the other.
    fn requests(&self) -> String {
        let mut format = format(self.destination);
        let origin =
            Origin { file: self.path.display().to_string(), fields: self.source.fields.clone(), key: 0 };
        let prepared = format.prepare(&origin);
        let grouper = self.source.grouper();
        let mut teller = Teller::new(self.source);
        let mut filter = Filter::new(&self.source.filters.rules);
        let (now, time) = (Instant::now(), Time::from(SystemTime::now()));
        let (mut batch, mut filtered, mut offset) = (Batch::default(), 0_usize, 0);
        let mut out = String::new();
        format.read_at(time);
        while let Next::Piece(piece) = grouper.next(&self.sample[offset..], Rest::End) {
            let told = teller.tell(piece.text, piece.split, time);
            if let Some((mut event, text)) = told {
                let judgement = filter.as_mut().map_or(Judgement::Pass, |filter| {
                    filter.judge(&text, event.level, 0, offset as u64, now)
                });
                // How fast the lines of a sample come is not known.
                if matches!(judgement, Judgement::Drop(reason) if reason != Reason::RateLimited) {
                    filtered += 1;
                } else {
                    self.source.redact(&mut event, &mut 0);
                    let group = format.write(&event, &prepared, offset as u64, &mut batch.chunks);
                    batch.push(0, offset as u64, piece.taken, group, event.split);
                }
            }
            offset += piece.taken;
            if batch.chunks.len() >= self.limits.size || batch.items.len() >= self.limits.lines {
                self.request(&format, &mut batch, &mut out);
            }
        }
        self.request(&format, &mut batch, &mut out);
        let held_back = counted(filtered, "event");
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# {held_back} held back by filters");
        out
    }

    fn request(&self, format: &AnyFormat, batch: &mut Batch, out: &mut String) {
        if batch.items.is_empty() {
            return;
        }
        let mut body = Vec::new();
        format.body((0..batch.items.len()).map(|item| batch.chunk(item)), &mut body);
        let _ = writeln!(
            out,
            "# to {}{}: {}, {} bytes of {} before compression",
            self.destination.name.trim_end_matches('/'),
            format.path(),
            counted(batch.items.len(), "event"),
            body.len(),
            format.content_type()
        );
        out.push_str(&format.show(&body));
        if !out.ends_with('\n') {
            out.push('\n');
        }
        batch.clear();
    }
}
