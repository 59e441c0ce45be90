//! HTTP to one backend: its addresses, its certificates, its secrets. One call is one request that is answered, or
//! the reason why it is not.
//!
//! Never retries what the backend has seen; an address that cannot be connected to is no try.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use podkit_cli::{chain, mask_url};
use podkit_https::{Client, Timeouts};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};

use crate::config::Http;
use crate::delivery::format::{Answer, Why};
use crate::error::Error;

/// A backend in the same cluster answers a connect in milliseconds, or it is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte sent to the last byte of the answer; a busy backend may take its time to index 1 MiB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Of an answer no more is read: ten thousand items of a bulk that were all refused, each with its reason.
const MAX_ANSWER: usize = 4 << 20;
/// A backend that asks for a longer pause is tried again after this one.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);
/// A stand-in is used for this long before the first address is tried again.
const PREFER_FIRST_AFTER: Duration = Duration::from_secs(30);
/// Changes of the address are logged no more often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The way to one backend.
pub(crate) struct Transport {
    urls: Vec<Url>,
    /// The address in use, and since when.
    current: Cell<(usize, Instant)>,
    /// When a change of the address was last logged.
    told: Cell<Option<Instant>>,
    http: Http,
    content_type: HeaderValue,
    encoding: Option<HeaderValue>,
    client: RefCell<Client>,
}

/// An answer, and what the backend asked us to wait.
pub(crate) struct Received {
    pub(crate) answer: Answer,
    pub(crate) retry_after: Option<Duration>,
}

impl Transport {
    /// Sets up the client. No connection is made: a backend that is down must not keep the shipper from starting.
    /// `path` is added to the addresses that do not name it already.
    pub(crate) fn open(
        http: &Http,
        path: &str,
        content_type: &'static str,
        encoding: Option<&'static str>,
    ) -> Result<Self, Error> {
        let user_agent = concat!("podkit-ship/", env!("CARGO_PKG_VERSION"));
        let timeouts = Timeouts { connect: CONNECT_TIMEOUT, request: Some(REQUEST_TIMEOUT) };
        let client = Client::open(http.access.clone(), user_agent, timeouts)?;
        Ok(Self {
            urls: http.urls.iter().map(|url| with_path(url, path)).collect(),
            current: Cell::new((0, Instant::now())),
            told: Cell::default(),
            http: http.clone(),
            content_type: HeaderValue::from_static(content_type),
            encoding: encoding.map(HeaderValue::from_static),
            client: RefCell::new(client),
        })
    }

    /// Sends a body and reads the answer.
    ///
    /// # Errors
    /// There is no answer: no address takes a connection, or the connection broke, or took too long.
    pub(crate) async fn post(&self, body: Bytes) -> Result<Received, Why> {
        self.client.borrow_mut().refresh(&self.address());
        let (first, since) = self.current.get();
        if first != 0 && since.elapsed() >= PREFER_FIRST_AFTER {
            self.use_url(0);
        }
        let mut left = self.urls.len();
        loop {
            let (current, _) = self.current.get();
            left -= 1;
            let mut result = self.post_to(&self.urls[current], Bytes::clone(&body)).await;
            let is_down = match &result {
                Ok(received) => matches!(received.answer.status, 502..=504),
                Err(_) => true,
            };
            if is_down && self.urls.len() > 1 {
                self.use_url((current + 1) % self.urls.len());
                if let Ok(received) = &mut result {
                    // It asks so for itself, not for the one that stands in.
                    received.retry_after = None;
                }
            }
            match result {
                // Nothing was sent, so the next address may have it at once.
                Err(why) if why.reason == CONNECT && left > 0 => {}
                result => return result,
            }
        }
    }

    fn use_url(&self, index: usize) {
        let (from, _) = self.current.replace((index, Instant::now()));
        // While none of them answers this goes round and round.
        if from == index || self.told.get().is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told.set(Some(Instant::now()));
        tracing::info!(
            "trying {} in place of {}",
            mask_url(self.urls[index].as_str()),
            mask_url(self.urls[from].as_str())
        );
    }

    async fn post_to(&self, url: &Url, body: Bytes) -> Result<Received, Why> {
        let request = self.client.borrow().request(Method::POST, url.clone());
        let mut request = request.header(CONTENT_TYPE, &self.content_type).body(body);
        if let Some(encoding) = &self.encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        for (name, value) in &self.http.headers {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(|error| broken(url, error))?;
        let status = response.status().as_u16();
        let retry_after = podkit_https::retry_after(response.headers(), SystemTime::now());
        let retry_after = retry_after.map(|pause| pause.min(MAX_RETRY_AFTER));
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| broken(url, error))? {
            if body.len() + part.len() > MAX_ANSWER {
                // An answer that has no end is none; to read on would fill our memory.
                let message = format!("{}: the answer is longer than 4 MiB", mask_url(url.as_str()));
                return Err(Why { reason: LONG_ANSWER, message });
            }
            body.extend_from_slice(&part);
        }
        Ok(Received { answer: Answer { status, body }, retry_after })
    }

    /// The address that is used now, for people.
    pub(crate) fn address(&self) -> String {
        mask_url(self.urls[self.current.get().0].as_str())
    }
}

fn with_path(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let base = url.path().trim_end_matches('/').to_owned();
    if !base.ends_with(path) {
        url.set_path(&format!("{base}{path}"));
    }
    if !query.is_empty() {
        let query = url.query().map_or_else(|| query.to_owned(), |own| format!("{own}&{query}"));
        url.set_query(Some(&query));
    }
    url
}

const CONNECT: &str = "connect";
/// The answer is longer than [`MAX_ANSWER`].
pub(crate) const LONG_ANSWER: &str = "long_answer";

fn broken(url: &Url, error: reqwest::Error) -> Why {
    let reason = if error.is_connect() {
        CONNECT
    } else if error.is_timeout() {
        "timeout"
    } else {
        "broken"
    };
    Why { reason, message: format!("{}: {}", mask_url(url.as_str()), chain(&error.without_url())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_added_once() {
        let with = |url: &str, path: &str| with_path(&Url::parse(url).unwrap(), path).to_string();
        assert_eq!(with("http://es:9200", "/_bulk?a=b"), "http://es:9200/_bulk?a=b");
        assert_eq!(with("http://es:9200/sub/", "/_bulk?a=b"), "http://es:9200/sub/_bulk?a=b");
        assert_eq!(with("http://l/loki/api/v1/push", "/loki/api/v1/push"), "http://l/loki/api/v1/push");
        assert_eq!(with("http://sink/x?k=v", ""), "http://sink/x?k=v");
    }
}
