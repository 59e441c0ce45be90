//! Everything that ends podkit-ship other than by its own wish.

use std::io;
use std::path::PathBuf;

use podkit_cli::{Exit, Report};

/// Why the shipper ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot write the state directory {path:?}")]
    StateDir { path: PathBuf, source: io::Error },
    #[error("the state directory {path:?} is in use by another podkit-ship")]
    StateDirTaken { path: PathBuf },
    #[error("cannot start the event loop")]
    Runtime(#[source] io::Error),
    #[error("cannot set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// All else is delivered.
    #[error("{files} could not be read and are not delivered, such as {example:?}")]
    Unread { files: String, example: PathBuf },
    /// The deadline of the stop passed first.
    #[error("{pending} bytes in {files} were not acknowledged within {deadline} of the stop: {last}")]
    Undelivered { pending: u64, files: String, deadline: String, last: String },
}

impl Report for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Undelivered { .. } | Self::Unread { .. } => Exit::Deadline,
            _ => Exit::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::StateDir { .. } => Some(
                "`--state-dir` must be a directory on the shared volume that this user may write, or one that can be \
                 made there"
                    .to_owned(),
            ),
            Self::StateDirTaken { .. } => Some("give each shipper its own `--state-dir`".to_owned()),
            Self::Undelivered { .. } => {
                Some("the positions are kept: started again on this volume, the shipper goes on where it was".to_owned())
            }
            Self::Unread { .. } => {
                Some("see the warnings above; `--exclude` leaves out what is not to be shipped".to_owned())
            }
            Self::Runtime(_) | Self::Client(_) => None,
        }
    }
}
