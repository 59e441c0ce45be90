//! What ends a drain other than well, and with which exit code.

use std::io;

use podkit_cli::{Exit, Report};

/// Why the drain did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The signals could not be caught, or a thread not started.
    #[error("cannot set up the drain")]
    Setup(#[source] io::Error),
    /// The budget is spent and work is left.
    #[error("the deadline passed after {after}: {left}")]
    Deadline {
        /// Time since the start.
        after: String,
        /// What was still open or pending.
        left: String,
    },
    /// SIGTERM came while work was left.
    #[error("ended by SIGTERM after {after}: {left}")]
    Terminated {
        /// Time since the start.
        after: String,
        /// What the drain was waiting for.
        left: String,
    },
    /// SIGINT came: the drain is undone.
    #[error("cancelled by SIGINT after {after}: {lease}")]
    Cancelled {
        /// Time since the start.
        after: String,
        /// What became of the lease.
        lease: String,
    },
    /// All else was done, but these calls, signals or programs failed.
    #[error("the traffic has left, but {0}")]
    Then(String),
}

impl Error {
    /// One word for the report.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Setup(_) => "failed",
            Self::Deadline { .. } => "deadline",
            Self::Terminated { .. } => "terminated",
            Self::Cancelled { .. } => "cancelled",
            Self::Then(_) => "step-failed",
        }
    }

    /// What was not done.
    pub(crate) fn left(&self) -> Option<&str> {
        match self {
            Self::Deadline { left, .. } | Self::Terminated { left, .. } | Self::Then(left) => Some(left),
            Self::Setup(_) | Self::Cancelled { .. } => None,
        }
    }
}

impl Report for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Deadline { .. } | Self::Terminated { .. } => Exit::Deadline,
            Self::Setup(_) | Self::Cancelled { .. } | Self::Then(_) => Exit::Failed,
        }
    }
}
