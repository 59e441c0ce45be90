//! One HTTP request from a test.

use std::net::SocketAddr;

use podkit_http_client::{Error, Target, request};
use podkit_lifecycle::Deadline;
use serde_json::Value;

use crate::PATIENCE;

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// The value of a metric in a Prometheus text, with its labels as written there: `x_total{a="b"}`.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let line = self.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }
}

/// Sends one request without a body.
///
/// # Errors
/// No answer.
pub fn http(method: &str, address: SocketAddr, path: &str) -> Result<Reply, Error> {
    let response = request(method, &Target::from(address), path, Deadline::after(PATIENCE))?;
    Ok(Reply { status: response.status, body: String::from_utf8_lossy(&response.body).into_owned() })
}
