//! Active checks: a connect, or a GET that must be answered 2xx or 3xx. On the control thread, one task an endpoint.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use podkit_lifecycle::Backoff;
use tokio::task::{AbortHandle, JoinSet};

use super::connect::{ConnectError, open};
use super::endpoint::Endpoint;
use super::health::{Hysteresis, Verdict};
use super::{Purpose, Stamp, Upstream};
use crate::config::Health;
use crate::wire::Wire;

/// The first wait for an app that has not answered yet: its pod gets no traffic before it is seen to.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// No wait is shorter, whatever the dice say.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// The longest status line that is read: `HTTP/1.1 200 ` and a reason.
const STATUS_LINE: usize = 512;

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("{path} is answered {status}")]
    Status { path: String, status: u16 },
    #[error("{path} is not answered in HTTP")]
    Answer { path: String },
}

impl Failed {
    fn why(&self) -> String {
        match self {
            Self::Connect(error) => error.why(),
            other => podkit_cli::chain(other),
        }
    }

    /// The label of `podkit_proxy_upstream_health_checks_total`.
    fn result(&self) -> &'static str {
        match self {
            Self::Connect(error) => error.reason(),
            Self::Broken(_) => "broken",
            Self::Timeout(_) => "timeout",
            Self::Status { .. } => "status",
            Self::Answer { .. } => "bad_response",
        }
    }
}

/// Checks all endpoints, those of each new answer of the DNS.
pub(super) async fn all(upstream: &Arc<Upstream>) {
    let Some(rules) = &upstream.config.health else { return };
    let mut news = upstream.endpoints.subscribe();
    let mut tasks = JoinSet::new();
    let mut checked: HashMap<*const Endpoint, AbortHandle> = HashMap::new();
    loop {
        let set = Arc::clone(&news.borrow_and_update());
        checked.retain(|checked, task| {
            let stays = set.all().iter().any(|endpoint| Arc::as_ptr(endpoint) == *checked);
            if !stays {
                task.abort();
            }
            stays
        });
        for endpoint in set.all() {
            checked.entry(Arc::as_ptr(endpoint)).or_insert_with(|| {
                tasks.spawn_local(keep_checking(Arc::clone(upstream), Arc::clone(endpoint), rules.clone()))
            });
        }
        // The sender is the upstream's own.
        let _ = news.changed().await;
        while tasks.try_join_next().is_some() {}
    }
}

async fn keep_checking(upstream: Arc<Upstream>, endpoint: Arc<Endpoint>, rules: Health) {
    let mut hysteresis = Hysteresis::default();
    let mut starting = Some(Backoff::new(FIRST_WAIT.min(rules.interval), rules.interval));
    loop {
        let outcome = once(&upstream, &endpoint, &rules).await;
        if let Err(why) = &outcome {
            endpoint.set_last_error(why.why());
        }
        let before = endpoint.verdict.get();
        if let Some(verdict) = hysteresis.take(before, outcome.is_ok(), &rules) {
            endpoint.verdict.set(verdict);
            tell(&upstream, &endpoint, (before, verdict), outcome.err());
        }
        if endpoint.verdict.get() == Verdict::Healthy {
            starting = None;
        }
        let wait = match &mut starting {
            Some(backoff) => backoff.next_delay().max(SHORTEST_WAIT),
            // Not in step with the checks of other pods.
            None => rules.interval.mul_f64(0.9 + fastrand::f64() * 0.2),
        };
        tokio::time::sleep(wait).await;
    }
}

fn tell(upstream: &Upstream, endpoint: &Endpoint, turn: (Verdict, Verdict), why: Option<Failed>) {
    let (name, address) = (&upstream.config.name, &endpoint.address);
    let why = why.map(|why| why.why()).unwrap_or_default();
    match turn {
        // An app takes its time to start.
        (Verdict::Unknown, Verdict::Unhealthy) => {
            tracing::info!(upstream = name, %address, "not healthy yet: {why}")
        }
        (_, Verdict::Unhealthy) => tracing::warn!(upstream = name, %address, "unhealthy: {why}"),
        (_, _) => tracing::info!(upstream = name, %address, "healthy"),
    }
}

async fn once(upstream: &Upstream, endpoint: &Endpoint, rules: &Health) -> Result<(), Failed> {
    if rules.path.is_none() {
        // That a request was answered says more than that a connection is taken.
        let interval = u64::try_from(rules.interval.as_millis()).unwrap_or(u64::MAX);
        if endpoint.has_succeeded_since(Stamp(upstream.now().0.saturating_sub(interval))) {
            return Ok(());
        }
    }
    let outcome = tokio::time::timeout(rules.timeout, ask(upstream, endpoint, rules.path.as_deref())).await;
    let outcome = outcome.unwrap_or(Err(Failed::Timeout(rules.timeout)));
    upstream.metrics.health_checks.count(outcome.as_ref().map_or_else(Failed::result, |()| "ok"));
    outcome
}

async fn ask(upstream: &Upstream, endpoint: &Endpoint, path: Option<&str>) -> Result<(), Failed> {
    let alpn = upstream.alpn(false, false);
    let wire = open(upstream, endpoint, Purpose { ends: None, alpn }).await?.into_wire();
    let Some(path) = path else { return Ok(()) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: podkit-proxy/{}\r\nConnection: close\r\n\r\n",
        host(upstream),
        env!("CARGO_PKG_VERSION"),
    );
    write_all(&wire, request.as_bytes()).await.map_err(Failed::Broken)?;
    let path = || path.to_owned();
    let line = read_line(&wire).await.map_err(Failed::Broken)?;
    match status(&line) {
        Some(200..400) => Ok(()),
        Some(status) => Err(Failed::Status { path: path(), status }),
        None => Err(Failed::Answer { path: path() }),
    }
}

/// What the app knows itself by.
fn host(upstream: &Upstream) -> String {
    match &upstream.config.address {
        crate::config::Address::Unix(_) => "localhost".to_owned(),
        crate::config::Address::Srv(name) => name.clone(),
        address @ crate::config::Address::Host { .. } => address.to_string(),
    }
}

/// The status of a line like `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|status| *status >= 100)
}

async fn write_all(wire: &Wire, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| wire.poll_write(cx, [bytes, &[]])).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Reads up to the end of the first line, or as much as such a line could be.
async fn read_line(wire: &Wire) -> io::Result<Vec<u8>> {
    let (mut line, mut space) = (Vec::new(), [0; STATUS_LINE]);
    while line.len() < STATUS_LINE && !line.contains(&b'\n') {
        match poll_fn(|cx| wire.poll_read(cx, &mut space)).await? {
            0 => break,
            count => line.extend_from_slice(&space[..count]),
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_nothing_else_is_taken_for_one() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for bad in ["", "HTTP/1.1", "HTTP/1.1 2x0 OK", "HTTP/1.1 099 OK", "HTTP/2 200", "220 smtp ready\r\n"]
        {
            assert_eq!(status(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
