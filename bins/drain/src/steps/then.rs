//! The third step: tell whoever asked to be told, in order.

use std::time::Duration;

use podkit_http_client::request;
use tracing::{info, warn};

use super::Drain;
use crate::budget::show;

/// No single call may take longer; the others and the flush come after it.
const PATIENCE: Duration = Duration::from_secs(5);

impl Drain {
    /// Sends the calls. A failed one stops neither the next call nor the next step. The failures, as a part of a
    /// sentence.
    pub(super) fn then(&self) -> Option<String> {
        let mut failed = Vec::new();
        for call in &self.config.then {
            self.lease.renew();
            self.progress.set(format!("waiting for {call}"));
            let started = self.budget.spent();
            let answer = request(
                &call.method,
                &call.target,
                &call.path,
                self.budget.deadline(PATIENCE, self.flush_share()),
            );
            let spent = show(self.budget.spent().saturating_sub(started));
            let left = show(self.budget.left());
            let why = match answer {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    info!(step = "then", spent, left, "{call} was answered with {}", answer.status);
                    continue;
                }
                Ok(answer) => format!("{call} was answered with {}", answer.status),
                Err(error) => format!("{call} failed: {}", podkit_cli::chain(&error)),
            };
            warn!(step = "then", spent, left, "{why}");
            failed.push(why);
        }
        (!failed.is_empty()).then(|| failed.join("; "))
    }
}
