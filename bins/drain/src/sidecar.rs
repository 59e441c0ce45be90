//! A neighbour in the pod that is asked over its admin port: the proxy or ship.

use podkit_http_client::{Error, Response, Target, request};
use podkit_lifecycle::Deadline;

/// Where a neighbour is asked, and how sure we are that it is there.
#[derive(Debug, Clone)]
pub(crate) struct Sidecar {
    /// Its admin port.
    pub(crate) target: Target,
    /// Whether the user said so. If not, it is the default address, where nobody need be.
    pub(crate) given: bool,
}

impl Sidecar {
    pub(crate) fn ask(&self, method: &str, path: &str, deadline: Deadline) -> Result<Response, Error> {
        request(method, &self.target, path, deadline)
    }

    /// Whether `error` only says that there is no such neighbour in this pod.
    pub(crate) fn is_absent(&self, error: &Error) -> bool {
        !self.given && error.is_refused()
    }

    /// Whether anything listens there. Contract 2 gives each admin port `/livez`, and asking it changes nothing.
    pub(crate) fn is_listening(&self, deadline: Deadline) -> bool {
        !matches!(self.ask("GET", "/livez", deadline), Err(error) if error.is_refused())
    }
}
