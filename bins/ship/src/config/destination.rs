//! Where events are delivered, and how one gets in there.
//!
//! Each kind has its keys in the file, and the commonest of them in a URL for `--to`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use podkit_cli::{Invalid, Section, mask_url, units};
use podkit_https::{Access, Auth, Secret, TlsFiles, decode, userinfo};
use reqwest::header::HeaderName;
use serde_json::{Map, Value, json};

use crate::config::http::{self, Http, header_value, http_url};
use crate::config::{Compression, name_of};
use crate::delivery::{Framing, Index, Label};

/// A place that takes events; each has its own position in the files.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// In metrics, the ledger and the checkpoint: stable over restarts, and without secrets.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The most requests at once; the least of this and what the memory allows.
    pub(crate) concurrency: NonZeroUsize,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Elasticsearch { http: Http, index: Index },
    Loki { http: Http, labels: Vec<Label> },
    Otlp { http: Http },
    Splunk { http: Http, index: Option<String>, sourcetype: Option<String> },
    Http { http: Http, framing: Framing },
    Stdout,
    File { path: PathBuf },
}

/// Enough to fill a fast network; the limit adapts itself below this.
const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");
/// The name that ends in a date which index templates and retention rules expect.
const DEFAULT_INDEX: &str = "logs-%Y.%m.%d";
const DEFAULT_LABELS: &[&str] = &["service", "level"];
const FRAMINGS: &[(&str, Framing)] = &[("ndjson", Framing::Lines), ("json", Framing::Array)];
/// The kinds as config keys; but for `http` also the first part of a URL's scheme.
const KINDS: &[&str] = &["elasticsearch", "loki", "otlp", "splunk", "http", "stdout", "file"];
/// The destinations of the flags, or else those of the file.
pub(super) fn read_all(root: &Section<'_>, compression: Compression) -> Vec<Destination> {
    let of_file: Vec<Destination> =
        root.sections("destinations").iter().filter_map(|item| read(item, compression)).collect();
    let of_flags = root.list("to", |text| to(text, compression));
    let destinations = if of_flags.is_empty() { of_file } else { of_flags };
    for (index, destination) in destinations.iter().enumerate() {
        // The position is kept under the name, which has no secrets in it.
        if destinations[..index].iter().any(|other| other.name == destination.name) {
            let what = Invalid::new(format!("{} is given twice", destination.name));
            root.fault("to", what.hint("give one of them a `name:` of its own"));
        }
    }
    destinations
}

fn read(item: &Section<'_>, compression: Compression) -> Option<Destination> {
    let kinds: Vec<&str> = item.keys().collect();
    let [kind] = kinds.as_slice() else {
        // Each is looked at, so that none is called unknown beside this.
        KINDS.iter().for_each(|kind| drop(item.json(kind)));
        let what = format!("must be one destination, one of {}", KINDS.join(", "));
        item.fault_here(Invalid::new(what).hint("such as `- http: {url: \"http://sink/logs\"}`"));
        return None;
    };
    let Some(kind) = KINDS.iter().find(|known| *known == kind) else {
        KINDS.iter().for_each(|kind| drop(item.json(kind)));
        return None;
    };
    let section = item.section(kind);
    let name = section.value("name", units::text);
    let concurrency = section.value("concurrency", units::count);
    let kind = match *kind {
        "elasticsearch" => {
            let index = section.value("index", Index::parse).unwrap_or_else(default_index);
            let http = http::read(&section, kind, compression, Auth::None)?;
            Kind::Elasticsearch { http, index }
        }
        "loki" => {
            let labels = section.list("labels", Label::parse);
            let tenant = section.value("tenant", header_value);
            let mut http = http::read(&section, kind, compression, Auth::None)?;
            let tenant = tenant.map(|tenant| (HeaderName::from_static("x-scope-orgid"), tenant));
            http.headers.extend(tenant);
            let labels = if section.has("labels") { labels } else { default_labels() };
            Kind::Loki { http, labels }
        }
        "otlp" => Kind::Otlp { http: http::read(&section, kind, compression, Auth::None)? },
        "splunk" => {
            let auth = Secret::read(&section, "token")
                .map_or(Auth::None, |token| Auth::Token { scheme: "Splunk", token });
            if matches!(auth, Auth::None) {
                let hint = "give `token_file:`, or `token: \"${HEC_TOKEN}\"`";
                section.fault("token", Invalid::new("is required").hint(hint));
            }
            let (index, sourcetype) =
                (section.value("index", units::text), section.value("sourcetype", units::text));
            Kind::Splunk { http: http::read(&section, kind, compression, auth)?, index, sourcetype }
        }
        "http" => {
            let framing = section.value_or("format", units::choice(FRAMINGS), Framing::Lines);
            Kind::Http { http: http::read(&section, kind, compression, Auth::None)?, framing }
        }
        "stdout" => Kind::Stdout,
        _ => Kind::File { path: section.required("path", units::path)? },
    };
    let mut destination = Destination::new(kind);
    destination.name = name.unwrap_or(destination.name);
    destination.concurrency = concurrency.unwrap_or(destination.concurrency);
    Some(destination)
}

/// What `--to` says in one URL.
fn to(text: &str, compression: Compression) -> Result<Destination, Invalid> {
    let kind = match text.split_once(':') {
        Some(("stdout", "")) => Kind::Stdout,
        Some(("file", path)) => Kind::File { path: units::path(path.strip_prefix("//").unwrap_or(path))? },
        _ => {
            let (kind, url) = match text.split_once('+') {
                Some((kind, url)) if KINDS[..4].contains(&kind) => (kind, url),
                _ => ("http", text),
            };
            let mut url = http_url(url)?;
            let auth = userinfo(&mut url).unwrap_or(Auth::None);
            let compression = compression.of(kind)?;
            let access = Access { auth, tls: TlsFiles::default() };
            let mut http = Http { urls: vec![url], access, headers: Vec::new(), compression };
            match kind {
                "elasticsearch" => {
                    let named = http.urls[0].path().trim_matches('/').to_owned();
                    http.urls[0].set_path("/");
                    let index =
                        if named.is_empty() { default_index() } else { Index::parse(&decode(&named))? };
                    Kind::Elasticsearch { http, index }
                }
                "loki" => Kind::Loki { http, labels: default_labels() },
                "otlp" => Kind::Otlp { http },
                "splunk" => {
                    // HEC takes its token as a password too, with any user.
                    if matches!(http.access.auth, Auth::None) {
                        let hint = "write `splunk+https://x:TOKEN@splunk:8088`, or use the config file's `token_file`";
                        return Err(Invalid::new(format!("{:?} has no token", mask_url(text))).hint(hint));
                    }
                    Kind::Splunk { http, index: None, sourcetype: None }
                }
                _ => Kind::Http { http, framing: Framing::Lines },
            }
        }
    };
    Ok(Destination::new(kind))
}

fn default_labels() -> Vec<Label> {
    DEFAULT_LABELS.iter().filter_map(|label| Label::parse(label).ok()).collect()
}

fn default_index() -> Index {
    Index::parse(DEFAULT_INDEX).expect("a test parses it")
}

impl Destination {
    /// Whether the lines of a file must arrive in their order. Where events have a time and are sorted by it, or
    /// names of their own, they need not.
    pub(crate) fn needs_order(&self) -> bool {
        match self.kind {
            Kind::Elasticsearch { .. } | Kind::Otlp { .. } | Kind::Splunk { .. } => false,
            Kind::Loki { .. } | Kind::Http { .. } | Kind::Stdout | Kind::File { .. } => true,
        }
    }

    fn new(kind: Kind) -> Self {
        let named = |prefix: &str, http: &Http| {
            let mut url = http.urls[0].clone();
            if let Auth::Basic { user, password } = &http.access.auth {
                // A user without a password is a token, which the mask covers.
                let masked = if password.is_empty() { None } else { Some("***") };
                let _ = (url.set_username(user), url.set_password(masked));
            }
            format!("{prefix}{}", mask_url(url.as_str()))
        };
        let name = match &kind {
            Kind::Elasticsearch { http, .. } => named("elasticsearch+", http),
            Kind::Loki { http, .. } => named("loki+", http),
            Kind::Otlp { http } => named("otlp+", http),
            Kind::Splunk { http, .. } => named("splunk+", http),
            Kind::Http { http, .. } => named("", http),
            Kind::Stdout => "stdout:".to_owned(),
            Kind::File { path } => format!("file:{}", path.display()),
        };
        Self { name, kind, concurrency: DEFAULT_CONCURRENCY }
    }

    pub(super) fn effective(&self) -> Value {
        let (key, mut value) = match &self.kind {
            Kind::Elasticsearch { http, index } => ("elasticsearch", {
                let mut value = http.effective();
                value.insert("index".to_owned(), json!(index.text()));
                value
            }),
            Kind::Loki { http, labels } => ("loki", {
                let mut value = http.effective();
                value.insert("labels".to_owned(), json!(labels.iter().map(Label::name).collect::<Vec<_>>()));
                value
            }),
            Kind::Otlp { http } => ("otlp", http.effective()),
            Kind::Splunk { http, index, sourcetype } => ("splunk", {
                let mut value = http.effective();
                if let Some(Value::Object(auth)) = value.remove("auth") {
                    value.extend(auth);
                }
                value.extend(index.as_ref().map(|index| ("index".to_owned(), json!(index))));
                value.extend(sourcetype.as_ref().map(|kind| ("sourcetype".to_owned(), json!(kind))));
                value
            }),
            Kind::Http { http, framing } => ("http", {
                let mut value = http.effective();
                value.insert("format".to_owned(), json!(name_of(FRAMINGS, framing)));
                value
            }),
            Kind::Stdout => ("stdout", Map::new()),
            Kind::File { path } => ("file", Map::from_iter([("path".to_owned(), json!(path))])),
        };
        if !matches!(self.kind, Kind::Stdout | Kind::File { .. }) {
            value.insert("concurrency".to_owned(), json!(self.concurrency));
        }
        value.insert("name".to_owned(), json!(self.name));
        json!({ key: value })
    }
}
