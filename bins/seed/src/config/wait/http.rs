//! `http`: a URL, or a mapping that says how it is asked and what the answer must be.

use std::fmt;

use podkit_cli::{Invalid, Item, Section, mask_url, units};
use podkit_https::{Access, Auth, TlsFiles, userinfo};
use regex::Regex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};

use crate::config::remote::http_url;

/// Those that ask, and those that some health checks are written for.
const METHODS: &[(&str, Method)] =
    &[("GET", Method::GET), ("HEAD", Method::HEAD), ("POST", Method::POST), ("OPTIONS", Method::OPTIONS)];

/// A request, and the answer that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct HttpCheck {
    /// Without user and password.
    pub(crate) url: Url,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) access: Access,
    /// Any one of them.
    pub(crate) status: Vec<StatusSet>,
    /// What is found somewhere in the body.
    pub(crate) body: Option<Regex>,
}

/// One status, or a class of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusSet {
    One(u16),
    /// `2` for all of `2xx`.
    Class(u16),
}

impl StatusSet {
    pub(crate) fn has(self, status: u16) -> bool {
        match self {
            Self::One(wanted) => status == wanted,
            Self::Class(class) => status / 100 == class,
        }
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(status) => status.fmt(f),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl HttpCheck {
    pub(super) fn read(wait: &Section<'_>) -> Option<Self> {
        match wait.item("http")? {
            Item::Text(_) => wait.value("http", http_url).map(Self::plain),
            Item::Section(section) => Self::read_mapping(&section),
        }
    }

    fn plain(mut url: Url) -> Self {
        let auth = userinfo(&mut url).unwrap_or_default();
        Self {
            url,
            method: Method::GET,
            headers: HeaderMap::new(),
            access: Access { auth, tls: TlsFiles::default() },
            status: vec![StatusSet::Class(2)],
            body: None,
        }
    }

    fn read_mapping(section: &Section<'_>) -> Option<Self> {
        let url = section.required("url", http_url);
        let method = section.value_or("method", units::choice(METHODS), Method::GET);
        let status = section.list("status", status);
        let body = section.value("body", regex);
        let headers = headers(section);
        let auth = section.has("auth").then(|| Auth::read(&section.section("auth"))).flatten();
        let tls = section.has("tls").then(|| TlsFiles::read(&section.section("tls")));
        if body.is_some() && method == Method::HEAD {
            section.fault("body", Invalid::new("cannot match: the answer to `HEAD` has no body"));
        }
        let mut check = Self::plain(url?);
        if tls.is_some() && check.url.scheme() == "http" {
            section.fault("tls", Invalid::new("stands beside an `http` URL").hint("write `https://…`"));
        }
        if let Some(auth) = auth {
            check.access.auth = auth;
        }
        if headers.contains_key(AUTHORIZATION) && !matches!(check.access.auth, Auth::None) {
            let what = "has `authorization` beside `auth` or a user in the URL";
            section.fault("headers", Invalid::new(what).hint("give one of them"));
        }
        check.access.tls = tls.unwrap_or_default();
        if !status.is_empty() {
            check.status = status;
        }
        Some(Self { method, headers, body, ..check })
    }

    pub(super) fn effective(&self) -> Value {
        let status = |set: &StatusSet| match set {
            StatusSet::One(status) => json!(status),
            class @ StatusSet::Class(_) => json!(class.to_string()),
        };
        let mut shown = json!({
            "url": self.to_string(),
            "method": self.method.as_str(),
            "status": self.status.iter().map(status).collect::<Vec<_>>(),
        });
        if let Some(body) = &self.body {
            shown["body"] = json!(body.as_str());
        }
        if !self.headers.is_empty() {
            // Any of them may be a secret.
            let headers = self.headers.keys().map(|name| (name.to_string(), json!("***")));
            shown["headers"] = Value::Object(headers.collect::<Map<_, _>>());
        }
        if let Some(auth) = self.access.auth.effective() {
            shown["auth"] = auth;
        }
        if let Some(tls) = self.access.tls.effective() {
            shown["tls"] = tls;
        }
        shown
    }
}

impl fmt::Display for HttpCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(self.url.as_str()))
    }
}

fn status(text: &str) -> Result<StatusSet, Invalid> {
    let set = match text.strip_suffix("xx") {
        Some(class) => class.parse().ok().filter(|class| (1..=5).contains(class)).map(StatusSet::Class),
        None => text.parse().ok().filter(|status| (100..=599).contains(status)).map(StatusSet::One),
    };
    set.filter(|_| text.len() == 3).ok_or_else(|| {
        Invalid::new(format!("{text:?} is no status")).hint("write `200`, `[200, 204]` or `2xx`")
    })
}

fn regex(text: &str) -> Result<Regex, Invalid> {
    /// Of the compiled program: many times what a pattern for a health check needs.
    const SIZE_LIMIT: usize = 1 << 20;
    regex::RegexBuilder::new(text).size_limit(SIZE_LIMIT).build().map_err(|error| {
        // A syntax error is drawn over several lines, the last of which says what is wrong.
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Invalid::new(format!("{text:?} is no regular expression: {why}"))
    })
}

fn headers(section: &Section<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in section.map("headers") {
        // The value may be a secret, and is not told.
        match (HeaderName::try_from(&name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.append(name, value);
            }
            (Err(_), _) => {
                section.fault("headers", Invalid::new(format!("{name:?} is no name of an HTTP header")));
            }
            (_, Err(_)) => {
                let what = format!("the value of {name:?} has characters that no HTTP header may have");
                section.fault("headers", Invalid::new(what));
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses() {
        assert_eq!(status("204"), Ok(StatusSet::One(204)));
        assert_eq!(status("5xx"), Ok(StatusSet::Class(5)));
        for bad in ["", "xx", "0xx", "6xx", "2XX", "22xx", "+2xx", "99", "600", "+20", "200 "] {
            assert!(status(bad).is_err(), "{bad}");
        }
        let ok = StatusSet::Class(2);
        assert!(ok.has(200) && ok.has(299) && !ok.has(199) && !ok.has(300));
        assert!(StatusSet::One(302).has(302) && !StatusSet::One(302).has(301));
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_told_in_one_line() {
        let why = |text: &str| regex(text).unwrap_err().to_string();
        assert_eq!(why("(ok"), "\"(ok\" is no regular expression: unclosed group");
        assert!(why("(a{1000}){1000}").contains("is no regular expression: "), "{}", why("(a{1000}){1000}"));
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,40}") {
            let _ = (status(&text), regex(&text));
        }
    }
}
