//! How to reach a backend over HTTP: addresses, proof of who we are, certificates, compression.

use std::path::PathBuf;

use podkit_cli::{Invalid, Section, mask_url, units};
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
    pub(crate) auth: Auth,
    pub(crate) tls: TlsFiles,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) compression: Compression,
}

/// How a request proves who sends it.
#[derive(Debug, Clone)]
pub(crate) enum Auth {
    None,
    Basic { user: String, password: Secret },
    Token { scheme: &'static str, token: Secret },
}

/// A secret, or the file that holds it, which is read again when it changes.
#[derive(Debug, Clone)]
pub(crate) enum Secret {
    Text(String),
    File(PathBuf),
}

/// PEM files, read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Trusted beside the roots that are compiled in.
    pub(crate) ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
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
    let configured = section.has("auth").then(|| auth(&section.section("auth"))).flatten();
    let configured = configured.or(match own {
        Auth::None => in_url,
        own => Some(own),
    });
    let tls = tls_files(&section.section("tls"));
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
        auth: configured.unwrap_or(Auth::None),
        tls,
        headers,
        compression,
    })
}

fn auth(section: &Section<'_>) -> Option<Auth> {
    let user = section.value("user", units::text);
    let password = secret(section, "password");
    let bearer = secret(section, "bearer").map(|token| Auth::Token { scheme: "Bearer", token });
    let api_key = secret(section, "api_key").map(|token| Auth::Token { scheme: "ApiKey", token });
    let basic = match (user, password) {
        (Some(user), Some(password)) => Some(Auth::Basic { user, password }),
        (None, None) => None,
        (Some(_), None) => {
            section.fault_here(Invalid::new("has a `user` without `password_file`"));
            None
        }
        (None, Some(_)) => {
            section.fault_here(Invalid::new("has a password without `user`"));
            None
        }
    };
    let mut given: Vec<Auth> = basic.into_iter().chain(bearer).chain(api_key).collect();
    if given.len() != 1 {
        let what = "must be one of `user` with `password_file`, `bearer_file`, `api_key_file`";
        section.fault_here(Invalid::new(what).hint("a literal takes the key without `_file`"));
    }
    given.pop()
}

/// `key`, or the file that `key_file` names.
pub(super) fn secret(section: &Section<'_>, key: &str) -> Option<Secret> {
    let text = section.value(key, units::text).map(Secret::Text);
    let file_key = format!("{key}_file");
    let file = section.value(&file_key, units::path).map(Secret::File);
    if text.is_some() && file.is_some() {
        section.fault(key, Invalid::new(format!("is given beside `{file_key}`")).hint("give one of them"));
    }
    file.or(text)
}

fn tls_files(section: &Section<'_>) -> TlsFiles {
    let ca = section.value("ca", units::path);
    let client = match (section.value("cert", units::path), section.value("key", units::path)) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => {
            section.fault_here(Invalid::new("needs `cert` and `key` together"));
            None
        }
    };
    TlsFiles { ca, client }
}

/// Takes user and password out of a URL.
pub(super) fn userinfo(url: &mut Url) -> Option<Auth> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let auth = Auth::Basic {
        user: decode(url.username()),
        password: Secret::Text(decode(url.password().unwrap_or_default())),
    };
    // Both only fail for URLs without a host, and these have one.
    let _ = (url.set_username(""), url.set_password(None));
    Some(auth)
}

/// Percent-encoding undone (RFC 3986 section 2.1).
pub(super) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
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
        match &self.auth {
            Auth::None => {}
            Auth::Basic { user, password } => {
                let (key, shown) = password.effective("password");
                // A user without a password is a token.
                let user = if password.is_empty() { "***" } else { user };
                value.insert("auth".to_owned(), json!({"user": user, key: shown}));
            }
            Auth::Token { scheme, token } => {
                let key = match *scheme {
                    "Bearer" => "bearer",
                    "ApiKey" => "api_key",
                    _ => "token",
                };
                let (key, shown) = token.effective(key);
                value.insert("auth".to_owned(), json!({ key: shown }));
            }
        }
        let mut tls = Map::new();
        tls.extend(self.tls.ca.as_ref().map(|ca| ("ca".to_owned(), json!(ca))));
        if let Some((cert, key)) = &self.tls.client {
            tls.extend([("cert".to_owned(), json!(cert)), ("key".to_owned(), json!(key))]);
        }
        if !tls.is_empty() {
            value.insert("tls".to_owned(), Value::Object(tls));
        }
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

impl Secret {
    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    fn effective(&self, key: &str) -> (String, Value) {
        match self {
            Self::Text(_) => (key.to_owned(), json!("***")),
            Self::File(path) => (format!("{key}_file"), json!(path)),
        }
    }
}
