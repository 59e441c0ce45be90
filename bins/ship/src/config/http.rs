//! How to reach a backend over HTTP: addresses, proof of who we are, certificates, compression.

use podkit_cli::{Invalid, Section, mask_url, units};
use podkit_https::{Access, Auth, TlsFiles, userinfo};
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::config::{COMPRESSIONS, Compression, name_of};

const TO_HINT: &str = "write `http://sink:8080/logs`, `https://…`, `elasticsearch+https://es:9200/index`, `loki+…`, \
                       `otlp+…`, `splunk+…`, `stdout:` or `file:/path`";

/// What all backends that speak HTTP have in common.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    /// The first is preferred, the others stand in for it. Without user and password.
    pub(crate) urls: Vec<Url>,
    pub(crate) access: Access,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) compression: Compression,
}

pub(super) fn header_value(text: &str) -> Result<HeaderValue, Invalid> {
    HeaderValue::from_str(text).map_err(|_| Invalid::new("has characters that no HTTP header may have"))
}

pub(super) fn read(section: &Section<'_>, kind: &str, compression: Compression, own: Auth) -> Option<Http> {
    let mut urls = section.list("url", http_url);
    if urls.is_empty() && !section.has("url") {
        section.fault("url", Invalid::new("is required").hint("such as `url: \"http://backend:8080\"`"));
    }
    let in_url = urls.iter_mut().filter_map(userinfo).last();
    let configured = section.has("auth").then(|| Auth::read(&section.section("auth"))).flatten();
    let configured = configured.or(match own {
        Auth::None => in_url,
        own => Some(own),
    });
    let tls = TlsFiles::read(&section.section("tls"));
    let headers = section.map("headers").into_iter().filter_map(|(name, value)| {
        let known = HeaderName::from_bytes(name.as_bytes()).ok();
        if known.is_none() {
            section.fault("headers", Invalid::new(format!("{name:?} is no name of an HTTP header")));
        }
        let value = header_value(&value).map_err(|what| section.fault("headers", what)).ok();
        Some((known?, value?))
    });
    let headers = headers.collect();
    let own_compression = section.value("compression", units::choice(COMPRESSIONS));
    let key = if own_compression.is_some() { "compression" } else { "url" };
    let compression = own_compression.unwrap_or(compression).of(kind);
    let compression = compression.map_err(|what| section.fault(key, what)).ok()?;
    (!urls.is_empty()).then(|| Http {
        urls,
        access: Access { auth: configured.unwrap_or_default(), tls },
        headers,
        compression,
    })
}

pub(super) fn http_url(text: &str) -> Result<Url, Invalid> {
    let bad = |why: String| Invalid::new(why).hint(TO_HINT);
    let shown = mask_url(text);
    let url = Url::parse(text).map_err(|error| bad(format!("{shown:?} is not a destination ({error})")))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(bad(format!("{shown:?} is not a destination")))
    }
}

impl Compression {
    /// What a kind of destination takes: as chosen, or the best of it for `auto`.
    pub(super) fn of(self, kind: &str) -> Result<Self, Invalid> {
        let (best, others): (_, &[Self]) = match kind {
            "elasticsearch" | "splunk" => (Self::Gzip, &[Self::None]),
            "loki" => (Self::Snappy, &[]),
            "otlp" => (Self::Gzip, &[Self::Zstd, Self::None]),
            _ => (Self::Gzip, &[Self::Zstd, Self::Snappy, Self::None]),
        };
        match self {
            Self::Auto => Ok(best),
            chosen if chosen == best || others.contains(&chosen) => Ok(chosen),
            chosen => {
                let known: Vec<&str> = std::iter::once(&best)
                    .chain(others)
                    .map(|compression| name_of(COMPRESSIONS, compression))
                    .collect();
                let what = format!("`{kind}` takes no {}", name_of(COMPRESSIONS, &chosen));
                Err(Invalid::new(what).hint(format!("it takes {}, or leave it at auto", known.join(", "))))
            }
        }
    }
}

impl Http {
    pub(super) fn effective(&self) -> Map<String, Value> {
        let urls: Vec<String> = self.urls.iter().map(|url| mask_url(url.as_str())).collect();
        let mut value = Map::new();
        value.insert("url".to_owned(), if urls.len() == 1 { json!(urls[0]) } else { json!(urls) });
        value.extend(self.access.auth.effective().map(|auth| ("auth".to_owned(), auth)));
        value.extend(self.access.tls.effective().map(|tls| ("tls".to_owned(), tls)));
        if !self.headers.is_empty() {
            // A header may well be a key to something.
            let headers: Map<_, _> =
                self.headers.iter().map(|(name, _)| (name.to_string(), json!("***"))).collect();
            value.insert("headers".to_owned(), Value::Object(headers));
        }
        value.insert("compression".to_owned(), json!(name_of(COMPRESSIONS, &self.compression)));
        value
    }
}
