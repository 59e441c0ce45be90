//! What ends `podkit-proxy` with a failure, and how to mend it.

use std::io;
use std::time::Duration;

use podkit_cli::units::show_duration;
use podkit_cli::{Exit, Report};

use crate::config::ListenAddress;
use crate::tls::Fault;

/// A failure of the whole proxy; what goes wrong with one connection never gets here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot listen on {address} ({told_by})")]
    Bind { told_by: String, address: ListenAddress, source: io::Error },
    #[error("cannot start the event loop")]
    Runtime(#[source] io::Error),
    #[error("cannot start a worker's thread")]
    Thread(#[source] io::Error),
    #[error("cannot give an order to the workers")]
    Crew(#[source] io::Error),
    #[error("cannot set up TLS of {told_by}")]
    Tls { told_by: String, source: Box<Fault> },
    #[error("cannot watch for signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Admin(#[from] podkit_admin::Error),
    #[error("the stop's deadline of {} passed with work left: {left}", show_duration(*.deadline))]
    Deadline { deadline: Duration, left: String },
}

impl Report for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Deadline { .. } => Exit::Deadline,
            _ => Exit::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { source, address, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some(match address {
                    ListenAddress::Tcp(address) => format!(
                        "another process listens on port {}: give the app or the proxy another one",
                        address.port()
                    ),
                    ListenAddress::Unix(_) => {
                        "another process listens there, or it is no socket: give the proxy another path"
                            .to_owned()
                    }
                })
            }
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "ports below 1024 need a capability that a restricted pod has not: take a higher one"
                    .to_owned(),
            ),
            Self::Tls { source, .. } => source.hint().map(str::to_owned),
            Self::Admin(error) => error.hint(),
            Self::Deadline { .. } => Some(
                "raise `--shutdown-deadline` and the pod's `terminationGracePeriodSeconds` together"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
