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
    #[error(transparent)]
    Https(#[from] podkit_https::Error),
    #[error("cannot read {path:?}")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot write {path:?}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot send the dead letters in {path:?} again")]
    Letters { path: PathBuf, source: io::Error },
    #[error("no destination is called {name:?}, so {count} dead letters are left in {path:?}")]
    UnknownDestination { count: usize, name: String, path: PathBuf },
    #[error("{count} dead letters could not be sent and are left in {path:?}")]
    NotResent { count: usize, path: PathBuf },
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
            Self::Undelivered { .. } | Self::Unread { .. } | Self::NotResent { .. } => Exit::Deadline,
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
            Self::UnknownDestination { .. } => {
                Some("call it with the config of the shipper that wrote them: `--config FILE`".to_owned())
            }
            Self::NotResent { path, .. } => {
                Some(format!("when the backend is well, `podkit-ship resend {}`", path.display()))
            }
            Self::Unreadable { .. } | Self::Https(podkit_https::Error::Unreadable { .. }) => {
                Some("is the volume mounted there, and may this user read it?".to_owned())
            }
            _ => None,
        }
    }
}
