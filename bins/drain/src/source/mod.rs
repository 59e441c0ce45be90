//! Where knowledge of the traffic comes from, and which source is asked.
//!
//! Owns the order: the best source that answers is asked, and one that goes on failing makes way for the next. What
//! the samples mean is the business of `quiet`. A further source is one more [`Source`] in the list.

mod inet_diag;
mod proc_net;
mod proxy;
mod table;

use std::fmt;
use std::io;
use std::path::PathBuf;

use podkit_lifecycle::Deadline;
use tracing::{debug, warn};

use crate::quiet::Sample;

pub(crate) use inet_diag::InetDiag;
pub(crate) use proc_net::ProcNet;
pub(crate) use proxy::{ProxyDrain, figures};
pub(crate) use table::{Row, State};

/// Something that can tell how much traffic there is now.
pub(crate) trait Source {
    /// How the log calls it.
    fn name(&self) -> String;

    /// One look, taken before the deadline.
    fn poll(&mut self, deadline: Deadline) -> Result<Sample, SourceError>;
}

/// A source that also knows the connections one by one.
pub(crate) trait Rows: Source {
    /// All connections on the ports, those of peers that are no clients too.
    fn rows(&mut self, deadline: Deadline) -> Result<Vec<Row>, SourceError>;
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot ask the kernel for its sockets")]
    Diag(#[source] io::Error),
    #[error(transparent)]
    Ask(#[from] podkit_http_client::Error),
    #[error("{asked} was answered with {status}")]
    Status { asked: String, status: u16 },
    #[error("{asked} was answered with something else than its JSON")]
    Shape { asked: String },
}

/// What asking the sources gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The present source answered.
    Saw(Sample),
    /// It did not, this time.
    Missed,
    /// Another source is asked from now on.
    Changed,
    /// No source is left.
    Blind,
}

/// The sources from best to worst.
pub(crate) struct Sources {
    all: Vec<Box<dyn Source>>,
    current: usize,
    misses: u32,
}

impl Sources {
    /// So many misses in a row end the trust in a source; fewer are a hiccup of a starved CPU.
    const MISSES: u32 = 3;

    /// Begins with the one at `first`; those before it get their chance by [`Sources::retry_best`].
    pub(crate) fn new(all: Vec<Box<dyn Source>>, first: usize) -> Self {
        Self { all, current: first, misses: 0 }
    }

    /// Whether there is nothing to ask and nothing that could come back.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether the best one tells.
    pub(crate) fn is_best(&self) -> bool {
        self.current == 0
    }

    pub(crate) fn look(&mut self, deadline: Deadline) -> Look {
        let Some(source) = self.all.get_mut(self.current) else { return Look::Blind };
        let error = match source.poll(deadline) {
            Ok(sample) => {
                self.misses = 0;
                return Look::Saw(sample);
            }
            Err(error) => podkit_cli::chain(&error),
        };
        self.misses += 1;
        if self.misses < Self::MISSES {
            debug!(source = source.name(), error, "a look failed");
            return Look::Missed;
        }
        let lost = source.name();
        self.misses = 0;
        self.current += 1;
        warn!(error, "cannot tell the traffic from {lost} any more: going on with {self}");
        Look::Changed
    }

    /// Goes back to the best source if it answers again. True if that is a change.
    pub(crate) fn retry_best(&mut self, deadline: Deadline) -> bool {
        let answers =
            self.current > 0 && self.all.first_mut().is_some_and(|best| best.poll(deadline).is_ok());
        if answers {
            (self.current, self.misses) = (0, 0);
            warn!("the traffic can be told from {self} again");
        }
        answers
    }
}

impl fmt::Display for Sources {
    /// The present source's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all.get(self.current) {
            Some(source) => f.write_str(&source.name()),
            None => f.write_str("no source, only the clock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::time::Duration;

    /// A source that follows a script of answers and failures, and fails when the script is over.
    struct Script(&'static str, VecDeque<Option<u64>>);

    impl Source for Script {
        fn name(&self) -> String {
            self.0.to_owned()
        }

        fn poll(&mut self, _: Deadline) -> Result<Sample, SourceError> {
            let shape = SourceError::Shape { asked: self.0.to_owned() };
            self.1.pop_front().flatten().map(sample).ok_or(shape)
        }
    }

    fn sample(active: u64) -> Sample {
        Sample { active, open: active, since_new: None }
    }

    fn script(name: &'static str, answers: &[Option<u64>]) -> Box<dyn Source> {
        Box::new(Script(name, answers.iter().copied().collect()))
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    #[test]
    fn a_single_miss_changes_nothing() {
        let best = script("best", &[Some(1), None, None, Some(2), None, None, Some(3)]);
        let mut sources = Sources::new(vec![best, script("next", &[])], 0);
        let looks: Vec<Look> = (0..7).map(|_| sources.look(soon())).collect();
        let saw = |active| Look::Saw(sample(active));
        assert_eq!(looks, [saw(1), Look::Missed, Look::Missed, saw(2), Look::Missed, Look::Missed, saw(3)]);
    }

    #[test]
    fn a_source_that_goes_on_failing_makes_way_until_none_is_left() {
        let mut sources = Sources::new(vec![script("best", &[]), script("next", &[Some(7)])], 0);
        let looks: Vec<Look> = (0..8).map(|_| sources.look(soon())).collect();
        let (miss, change) = (Look::Missed, Look::Changed);
        assert_eq!(looks, [miss, miss, change, Look::Saw(sample(7)), miss, miss, change, Look::Blind]);
        assert!(!sources.is_empty(), "the best one may come back");
    }

    #[test]
    fn the_best_source_is_taken_back_only_if_it_answers() {
        let best = script("best", &[None, Some(1), Some(2)]);
        let mut sources = Sources::new(vec![best, script("next", &[Some(7)])], 1);
        assert!(!sources.retry_best(soon()));
        assert_eq!(sources.look(soon()), Look::Saw(sample(7)));
        assert!(sources.retry_best(soon()));
        assert_eq!((sources.look(soon()), sources.to_string()), (Look::Saw(sample(2)), "best".to_owned()));
        assert!(!sources.retry_best(soon()), "it is the present one already");
    }
}
