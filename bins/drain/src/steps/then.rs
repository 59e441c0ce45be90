//! The calls after quiet: tell whoever asked to be told.

use podkit_http_client::{Content, Error, send as request};
use podkit_lifecycle::Deadline;

use crate::config::Call;

/// Sends one call. What came of it, or why it failed.
pub(super) fn send(call: &Call, deadline: Deadline) -> Result<String, String> {
    let content = Content { headers: &call.headers, body: call.body.as_bytes() };
    match request(&call.method, &call.target, &call.path, content, deadline) {
        Ok(answer) => {
            let said = format!("{call} was answered with {}", answer.status);
            if call.expects(answer.status) { Ok(said) } else { Err(said) }
        }
        // These name the call by themselves.
        Err(error @ (Error::Broken { .. } | Error::Deadline { .. })) => Err(podkit_cli::chain(&error)),
        Err(error) => Err(format!("{call} failed: {}", podkit_cli::chain(&error))),
    }
}
