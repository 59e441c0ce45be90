//! What can keep the demo from telling whether the pod works.
//!
//! A lost line or a failed request is no error here: that is a finding, and belongs to `report`.

use std::{io, time::Duration};

/// One operation that failed, and its object.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {doing}")]
    Io { doing: String, source: io::Error },
    #[error("{0}")]
    Keep(String),
    #[error("cannot build the podkit binaries: {0}")]
    Build(String),
    #[error("{process} ended with {end} {when}")]
    Ended { process: &'static str, end: String, when: &'static str },
    #[error("{process} does not pass {probe} within {}s", limit.as_secs())]
    NotUp { process: &'static str, probe: String, limit: Duration },
    #[error("{path:?} is no config for the app: {reason}")]
    AppConfig { path: std::path::PathBuf, reason: String },
    #[error("{0}")]
    Outside(String),
    #[error("{left_out} pods could tell nothing, since this machine stopped their clients for too long")]
    TooBusy { left_out: usize },
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// For `map_err`: `Error::io("open the log")`.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// Whose output may tell more.
    pub(crate) fn process(&self) -> Option<&'static str> {
        match self {
            Self::Ended { process, .. } | Self::NotUp { process, .. } => Some(process),
            _ => None,
        }
    }
}
