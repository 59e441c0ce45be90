//! The proxy's own figures, `GET /drain`: it knows requests from idle connections, and the time of each.

use std::sync::Arc;
use std::time::Duration;

use podkit_lifecycle::Deadline;
use serde_json::Value;

use super::{Source, SourceError};
use crate::lease::Leases;
use crate::quiet::Sample;
use crate::sidecar::{Sidecar, each};

/// The source; each poll is one request to each proxy that has answered so far.
pub(crate) struct ProxyDrain {
    leases: Arc<Leases>,
}

impl ProxyDrain {
    pub(crate) fn new(leases: Arc<Leases>) -> Self {
        Self { leases }
    }
}

impl Source for ProxyDrain {
    fn name(&self) -> String {
        let known = self.leases.known();
        known.iter().map(|proxy| proxy.target.to_string()).collect::<Vec<_>>().join(", ")
    }

    fn poll(&mut self, deadline: Deadline) -> Result<Sample, SourceError> {
        let samples = each(&self.leases.known(), |proxy| figures(proxy, deadline));
        samples.into_iter().reduce(|a, b| Ok(together(a?, b?))).unwrap_or(Ok(Sample::NOTHING))
    }
}

/// What one proxy knows.
pub(crate) fn figures(proxy: &Sidecar, deadline: Deadline) -> Result<Sample, SourceError> {
    let asked = || format!("GET {}/drain", proxy.target);
    let answer = proxy.ask("GET", "/drain", deadline)?;
    if answer.status != 200 {
        return Err(SourceError::Status { asked: asked(), status: answer.status });
    }
    parse(&answer.body).ok_or_else(|| SourceError::Shape { asked: asked() })
}

/// The traffic of two: all of them must be quiet.
fn together(a: Sample, b: Sample) -> Sample {
    Sample {
        active: a.active.saturating_add(b.active),
        open: a.open.saturating_add(b.open),
        since_new: a.since_new.into_iter().chain(b.since_new).min(),
    }
}

/// `{"in_flight": 1, "open_connections": 2, "ms_since_last_connection": 350, ...}`; null where none ever came.
fn parse(body: &[u8]) -> Option<Sample> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let active = body.get("in_flight")?.as_u64()?;
    // Only for the message, so a proxy that leaves it out is good enough.
    let open = body.get("open_connections").and_then(Value::as_u64).unwrap_or(active);
    let since_new = match body.get("ms_since_last_connection")? {
        Value::Null => None,
        millis => Some(Duration::from_millis(millis.as_u64()?)),
    };
    Some(Sample { active, open, since_new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_contract_2() {
        let body = br#"{"phase":"draining","in_flight":1,"open_connections":3,"ms_since_last_connection":350,
            "ms_since_last_request":20,"lease_left_ms":1000}"#;
        let since_new = Some(Duration::from_millis(350));
        assert_eq!(parse(body), Some(Sample { active: 1, open: 3, since_new }));
        let never = br#"{"in_flight":0,"open_connections":0,"ms_since_last_connection":null}"#;
        assert_eq!(parse(never), Some(Sample { active: 0, open: 0, since_new: None }));
    }

    #[test]
    fn several_proxies_are_quiet_together() {
        let of = |active, open, millis: Option<u64>| Sample {
            active,
            open,
            since_new: millis.map(Duration::from_millis),
        };
        assert_eq!(together(of(1, 2, Some(500)), of(0, 3, Some(70))), of(1, 5, Some(70)));
        assert_eq!(together(of(0, 0, None), of(0, 1, Some(70))), of(0, 1, Some(70)));
        assert_eq!(together(of(0, 0, None), of(0, 0, None)), Sample::NOTHING);
    }

    #[test]
    fn an_answer_that_leaves_doubt_is_none() {
        for body in [
            "",
            "{}",
            "[]",
            "OK",
            r#"{"in_flight":0}"#,
            r#"{"in_flight":null,"ms_since_last_connection":null}"#,
            r#"{"in_flight":-1,"ms_since_last_connection":null}"#,
            r#"{"in_flight":0,"ms_since_last_connection":"x"}"#,
        ] {
            assert_eq!(parse(body.as_bytes()), None, "{body}");
        }
    }
}
