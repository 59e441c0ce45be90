//! Where batches go: one request, one answer, and what the answer means. Retrying is the pipeline's work.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use podkit_cli::{chain, mask_url};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use tokio::io::AsyncWriteExt as _;

use crate::config::{Compression, Destination};
use crate::delivery::compress::Encoding;
use crate::error::Error;

/// A backend in the same cluster answers a connect in milliseconds, or it is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte sent to the last byte of the answer; a busy backend may take its time to index 1 MiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Of an answer no more is read; a connection with more on it is closed.
const MAX_ANSWER: usize = 64 << 10;
/// A backend that asks for a longer pause is tried again after this one.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A destination, ready to take batches.
pub(crate) enum Sink {
    Http { client: Client, url: Url, encoding: Encoding },
    Stdout,
}

/// Why a batch was not acknowledged.
#[derive(Debug)]
pub(crate) struct Refused {
    /// One word for the metric.
    pub(crate) reason: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
    /// What the backend asked us to wait.
    pub(crate) after: Option<Duration>,
}

impl Refused {
    /// The batch is larger than the backend takes.
    pub(crate) fn is_too_large(&self) -> bool {
        self.reason == TOO_LARGE
    }
}

const TOO_LARGE: &str = "too_large";

impl Sink {
    /// Sets up the client of a destination. No connection is made: a backend that is down must not keep the
    /// shipper from starting.
    pub(crate) fn open(destination: &Destination, compression: Compression) -> Result<Self, Error> {
        match destination {
            Destination::Stdout => Ok(Self::Stdout),
            Destination::Http(url) => {
                let client = Client::builder()
                    .tls_backend_preconfigured(tls())
                    .user_agent(concat!("podkit-ship/", env!("CARGO_PKG_VERSION")))
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(REQUEST_TIMEOUT)
                    .redirect(Policy::none())
                    .build()
                    .map_err(Error::Client)?;
                Ok(Self::Http { client, url: url.clone(), encoding: Encoding::for_http(compression) })
            }
        }
    }

    /// Encodes a batch's body for this destination.
    pub(crate) fn encode(&self, body: &[u8]) -> std::io::Result<Bytes> {
        match self {
            Self::Http { encoding, .. } => encoding.encode(body).map(Bytes::from),
            Self::Stdout => Ok(Bytes::copy_from_slice(body)),
        }
    }

    /// Sends an encoded body; `Ok` is the acknowledgement.
    pub(crate) async fn send(&self, body: Bytes) -> Result<(), Refused> {
        match self {
            Self::Http { client, url, encoding } => {
                let mut request =
                    client.post(url.clone()).header(CONTENT_TYPE, "application/x-ndjson").body(body);
                if let Some(token) = encoding.token() {
                    request = request.header(CONTENT_ENCODING, token);
                }
                let mut answer = request.send().await.map_err(|error| broken(url, error))?;
                let (status, headers) = (answer.status(), answer.headers().clone());
                // Read, so that the connection can be used again, and dropped, so that no backend fills our memory.
                let mut read = 0;
                while read < MAX_ANSWER
                    && let Some(part) = answer.chunk().await.map_err(|error| broken(url, error))?
                {
                    read += part.len();
                }
                judge(url, status, &headers)
            }
            Self::Stdout => {
                let mut stdout = tokio::io::stdout();
                let written = async {
                    stdout.write_all(&body).await?;
                    stdout.flush().await
                };
                written.await.map_err(|error| Refused {
                    reason: "write",
                    message: format!("cannot write to stdout: {}", chain(&error)),
                    after: None,
                })
            }
        }
    }
}

/// Certificates are checked against Mozilla's roots, compiled in: a distroless image has no others.
fn tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn broken(url: &Url, error: reqwest::Error) -> Refused {
    let reason = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connect"
    } else {
        "broken"
    };
    let message = format!("{}: {}", mask_url(url.as_str()), chain(&error.without_url()));
    Refused { reason, message, after: None }
}

fn judge(url: &Url, status: StatusCode, headers: &HeaderMap) -> Result<(), Refused> {
    let reason = match status.as_u16() {
        200..=299 => return Ok(()),
        413 => TOO_LARGE,
        429 => "throttled",
        400..=499 => "refused",
        500..=599 => "unavailable",
        _ => "unexpected",
    };
    let after =
        headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
    Err(Refused { reason, message: format!("{} answered {status}", mask_url(url.as_str())), after })
}

/// `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3), no longer than [`MAX_RETRY_AFTER`].
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retry_after_comes_as_seconds_or_date() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 05:00:00 GMT").unwrap();
        for (value, want) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("Sun, 22 Nov 2026 05:00:30 GMT", Some(30)),
            ("Sun, 22 Nov 2026 04:00:00 GMT", Some(0)),
            ("99999999", Some(300)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), want.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn only_2xx_acknowledges() {
        let url = Url::parse("http://u:secret@sink/x").unwrap();
        for (status, reason) in [
            (200, None),
            (204, None),
            (302, Some("unexpected")),
            (400, Some("refused")),
            (413, Some("too_large")),
            (429, Some("throttled")),
            (503, Some("unavailable")),
        ] {
            let judged = judge(&url, StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
            assert_eq!(judged.as_ref().err().map(|refused| refused.reason), reason, "{status}");
            assert!(judged.is_ok_and(|()| true) || reason.is_some());
        }
        let refused = judge(&url, StatusCode::BAD_GATEWAY, &HeaderMap::new()).unwrap_err();
        assert_eq!(refused.message, "http://u:***@sink/x answered 502 Bad Gateway");
    }

    proptest! {
        #[test]
        fn no_retry_after_makes_it_panic(value in "\\PC{0,40}") {
            let _ = retry_after(&value, SystemTime::now());
        }
    }
}
