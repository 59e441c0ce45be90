//! What is downloaded: `url`, and the keys beside it.

use std::path::PathBuf;
use std::time::Duration;

use podkit_cli::{Invalid, Section, mask_url, units};
use podkit_https::{Access, Auth, Secret, TlsFiles, userinfo};
use reqwest::Url;
use serde_json::{Value, json};

/// Larger than any config; what is larger is said on purpose.
const DEFAULT_MAX_SIZE: u64 = 100 << 20;
/// For one try, from the connection to the last byte.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Something to download.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) url: Url,
    /// What the bytes must hash to; `None` where `unverified` is set.
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) access: Access,
    pub(crate) max_size: u64,
    pub(crate) timeout: Duration,
}

impl Remote {
    /// Reads the URL at `key`, and the keys beside it.
    pub(super) fn read(section: &Section<'_>, key: &str) -> Option<Self> {
        if !section.has(key) {
            return None;
        }
        let mut url = section.value(key, http_url);
        let in_url = url.as_mut().and_then(userinfo);
        let auth = section.has("auth").then(|| Auth::read(&section.section("auth"))).flatten();
        let tls =
            if section.has("tls") { TlsFiles::read(&section.section("tls")) } else { TlsFiles::default() };
        let max_size = section.value_or("max_size", units::size, DEFAULT_MAX_SIZE);
        let timeout = section.value_or("timeout", units::positive_duration, DEFAULT_TIMEOUT);
        let sha256 = checksum(section, true);
        let access = Access { auth: auth.or(in_url).unwrap_or_default(), tls };
        Some(Self { url: url?, sha256, access, max_size, timeout })
    }

    /// The files that the access to it is made of; their content is read again for each download.
    pub(crate) fn access_files(&self) -> Vec<PathBuf> {
        let Access { auth, tls } = &self.access;
        let secret = match auth {
            Auth::Basic { password: Secret::File(path), .. }
            | Auth::Token { token: Secret::File(path), .. } => Some(path),
            _ => None,
        };
        let client = tls.client.iter().flat_map(|(cert, key)| [cert, key]);
        secret.into_iter().chain(&tls.ca).chain(client).cloned().collect()
    }

    pub(super) fn show(&self, key: &str, shown: &mut Value) {
        shown[key] = json!(mask_url(self.url.as_str()));
        match &self.sha256 {
            Some(sum) => shown["sha256"] = json!(hex(sum)),
            None => shown["unverified"] = json!(true),
        }
        if let Some(auth) = self.access.auth.effective() {
            shown["auth"] = auth;
        }
        if let Some(tls) = self.access.tls.effective() {
            shown["tls"] = tls;
        }
        shown["max_size"] = units::show_size(self.max_size).into();
        shown["timeout"] = units::show_duration(self.timeout).into();
    }
}

/// `sha256`, or `unverified: true` in its place where one of them is required.
pub(super) fn checksum(section: &Section<'_>, is_required: bool) -> Option<[u8; 32]> {
    let sha256 = section.value("sha256", sha256);
    let unverified = section.switch("unverified");
    match (section.has("sha256"), unverified) {
        (true, true) => {
            section.fault("unverified", Invalid::new("stands beside `sha256`").hint("give one of them"));
        }
        (false, false) if is_required => section.fault(
            "sha256",
            Invalid::new("is required: what is downloaded must be what was meant")
                .hint("give the checksum (`sha256sum FILE` prints it), or `unverified: true`"),
        ),
        _ => {}
    }
    sha256
}

fn sha256(text: &str) -> Result<[u8; 32], Invalid> {
    let bad = || Invalid::new(format!("{text:?} is no SHA-256")).hint("it has 64 hexadecimal digits");
    let mut sum = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(bad());
    }
    for (byte, digits) in sum.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
    }
    Ok(sum)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A URL that can be asked.
pub(super) fn http_url(text: &str) -> Result<Url, Invalid> {
    let bad = |why: &str| {
        Invalid::new(format!("{:?} {why}", mask_url(text)))
            .hint("write `http://host/path` or `https://host/path`")
    };
    let url = Url::parse(text).map_err(|error| bad(&format!("is no URL ({error})")))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(bad("is no HTTP URL"))
    }
}
