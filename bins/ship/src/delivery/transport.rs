//! HTTP to one backend: its addresses, its certificates, its secrets. One call is one request that is answered, or
//! the reason why it is not.
//!
//! Never retries what the backend has seen; an address that cannot be connected to is no try.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::prelude::{BASE64_STANDARD as BASE64, Engine as _};
use bytes::Bytes;
use podkit_cli::{chain, mask_url};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{Auth, Http, Secret, TlsFiles};
use crate::delivery::format::{Answer, Why};
use crate::delivery::secrets::Files;
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
    state: RefCell<State>,
}

/// What is made anew when files change.
struct State {
    client: Client,
    tls: Files,
    secret: Files,
    authorization: Option<HeaderValue>,
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
        let tls = Files::read(pem_paths(&http.tls)).map_err(unreadable)?;
        let secret = Files::read(secret_path(&http.auth).cloned()).map_err(unreadable)?;
        let client = client(&http.tls, &tls)?;
        let authorization = authorization(&http.auth, &secret)?;
        Ok(Self {
            urls: http.urls.iter().map(|url| with_path(url, path)).collect(),
            current: Cell::new((0, Instant::now())),
            told: Cell::default(),
            http: http.clone(),
            content_type: HeaderValue::from_static(content_type),
            encoding: encoding.map(HeaderValue::from_static),
            state: RefCell::new(State { client, tls, secret, authorization }),
        })
    }

    /// Sends a body and reads the answer.
    ///
    /// # Errors
    /// There is no answer: no address takes a connection, or the connection broke, or took too long.
    pub(crate) async fn post(&self, body: Bytes) -> Result<Received, Why> {
        self.refresh();
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
        let mut request = {
            let state = self.state.borrow();
            let request = state.client.post(url.clone()).header(CONTENT_TYPE, &self.content_type).body(body);
            match &state.authorization {
                Some(value) => request.header(AUTHORIZATION, value),
                None => request,
            }
        };
        if let Some(encoding) = &self.encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        for (name, value) in &self.http.headers {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(|error| broken(url, error))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| self::retry_after(value, SystemTime::now()));
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

    /// Takes new certificates and secrets into use.
    fn refresh(&self) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.secret.have_changed() {
            match authorization(&self.http.auth, &state.secret) {
                Ok(authorization) => {
                    state.authorization = authorization;
                    tracing::info!("{}: using the new secret", self.address());
                }
                Err(error) => tracing::warn!("{}; going on with the old secret", chain(&error)),
            }
        }
        if state.tls.have_changed() {
            match client(&self.http.tls, &state.tls) {
                Ok(client) => {
                    state.client = client;
                    tracing::info!("{}: using the new certificates", self.address());
                }
                Err(error) => tracing::warn!("{}; going on with the old certificates", chain(&error)),
            }
        }
    }
}

fn unreadable((path, source): (std::path::PathBuf, std::io::Error)) -> Error {
    Error::Unreadable { path, source }
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

fn pem_paths(tls: &TlsFiles) -> Vec<std::path::PathBuf> {
    let client = tls.client.iter().flat_map(|(cert, key)| [cert, key]);
    tls.ca.iter().chain(client).cloned().collect()
}

fn secret_path(auth: &Auth) -> Option<&std::path::PathBuf> {
    match auth {
        Auth::Basic { password: Secret::File(path), .. } | Auth::Token { token: Secret::File(path), .. } => {
            Some(path)
        }
        _ => None,
    }
}

/// The value of `Authorization`.
fn authorization(auth: &Auth, files: &Files) -> Result<Option<HeaderValue>, Error> {
    let text = |secret: &Secret| match secret {
        Secret::Text(text) => text.clone(),
        // A file's last line end is the editor's, not the secret's.
        Secret::File(path) => String::from_utf8_lossy(files.content(path)).trim_end().to_owned(),
    };
    let value = match auth {
        Auth::None => return Ok(None),
        Auth::Basic { user, password } => {
            format!("Basic {}", BASE64.encode(format!("{user}:{}", text(password))))
        }
        Auth::Token { scheme, token } => format!("{scheme} {}", text(token)),
    };
    let mut value = HeaderValue::from_str(&value)
        .map_err(|_| Error::Secret { path: secret_path(auth).cloned().unwrap_or_default() })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn client(files: &TlsFiles, contents: &Files) -> Result<Client, Error> {
    Client::builder()
        .tls_backend_preconfigured(tls(files, contents)?)
        .user_agent(concat!("podkit-ship/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .redirect(Policy::none())
        .build()
        .map_err(Error::Client)
}

/// Certificates are checked against Mozilla's roots, compiled in, since a distroless image has no others, and
/// against the private ones.
fn tls(files: &TlsFiles, contents: &Files) -> Result<rustls::ClientConfig, Error> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = &files.ca {
        for certificate in certificates(path, contents)? {
            roots.add(certificate).map_err(|source| Error::Certificate { path: path.clone(), source })?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    match &files.client {
        None => Ok(config.with_no_client_auth()),
        Some((cert, key)) => {
            let chain = certificates(cert, contents)?;
            let pem = PrivateKeyDer::from_pem_slice(contents.content(key));
            let pem = pem.map_err(|source| Error::Pem { path: key.clone(), what: "private key", source })?;
            config
                .with_client_auth_cert(chain, pem)
                .map_err(|source| Error::Certificate { path: cert.clone(), source })
        }
    }
}

fn certificates(path: &std::path::Path, contents: &Files) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |source| Error::Pem { path: path.to_owned(), what: "certificate", source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents.content(path)).collect();
    let found = found.map_err(wrong)?;
    if found.is_empty() {
        return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
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
    fn a_path_is_added_once() {
        let with = |url: &str, path: &str| with_path(&Url::parse(url).unwrap(), path).to_string();
        assert_eq!(with("http://es:9200", "/_bulk?a=b"), "http://es:9200/_bulk?a=b");
        assert_eq!(with("http://es:9200/sub/", "/_bulk?a=b"), "http://es:9200/sub/_bulk?a=b");
        assert_eq!(with("http://l/loki/api/v1/push", "/loki/api/v1/push"), "http://l/loki/api/v1/push");
        assert_eq!(with("http://sink/x?k=v", ""), "http://sink/x?k=v");
    }

    proptest! {
        #[test]
        fn no_retry_after_makes_it_panic(value in "\\PC{0,40}") {
            let _ = retry_after(&value, SystemTime::now());
        }
    }
}
