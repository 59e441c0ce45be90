//! How a request proves who sends it. A secret is a literal, or a file that is read again when it is rotated.

use std::fmt;
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine as _};
use podkit_cli::{Invalid, Section, units};
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::Error;
use crate::files::Files;

/// How a request proves who sends it.
#[derive(Clone, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// User and password.
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token after the name of its scheme.
    Token {
        /// `Bearer`
        scheme: &'static str,
        /// The token.
        token: Secret,
    },
}

/// A secret, or the file that holds it, which is read again when it changes.
#[derive(Clone)]
pub enum Secret {
    /// The secret itself.
    Text(String),
    /// Where it is.
    File(PathBuf),
}

/// Without the secret: an error's or a test's output is read by many.
impl fmt::Debug for Auth {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.effective() {
            Some(shown) => write!(to, "Auth({shown})"),
            None => to.write_str("Auth(none)"),
        }
    }
}

/// Without the secret.
impl fmt::Debug for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => to.write_str("Secret(***)"),
            Self::File(path) => write!(to, "Secret({path:?})"),
        }
    }
}

impl Auth {
    /// Reads the mapping `auth`: one of `user` with `password_file`, `bearer_file`, `api_key_file`; a literal takes
    /// the key without `_file`.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let user = section.value("user", units::text);
        let password = Secret::read(section, "password");
        let bearer = Secret::read(section, "bearer").map(|token| Self::Token { scheme: "Bearer", token });
        let api_key = Secret::read(section, "api_key").map(|token| Self::Token { scheme: "ApiKey", token });
        let basic = match (user, password) {
            (Some(user), Some(password)) => Some(Self::Basic { user, password }),
            (None, None) => None,
            (Some(_), None) => {
                section.fault_here(Invalid::new("has a `user` without `password_file`"));
                return None;
            }
            (None, Some(_)) => {
                section.fault_here(Invalid::new("has a password without `user`"));
                return None;
            }
        };
        let mut given: Vec<Self> = basic.into_iter().chain(bearer).chain(api_key).collect();
        if given.len() != 1 {
            let what = "must be one of `user` with `password_file`, `bearer_file`, `api_key_file`";
            section.fault_here(Invalid::new(what).hint("a literal takes the key without `_file`"));
        }
        given.pop()
    }

    /// As the key `auth` shows it; `None` for none.
    #[must_use]
    pub fn effective(&self) -> Option<Value> {
        match self {
            Self::None => None,
            Self::Basic { user, password } => {
                let (key, shown) = password.effective("password");
                // A user without a password is a token.
                let user = if password.is_empty() { "***" } else { user };
                Some(json!({"user": user, key: shown}))
            }
            Self::Token { scheme, token } => {
                let key = match *scheme {
                    "Bearer" => "bearer",
                    "ApiKey" => "api_key",
                    _ => "token",
                };
                let (key, shown) = token.effective(key);
                Some(json!({ key: shown }))
            }
        }
    }

    pub(crate) fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Basic { password: Secret::File(path), .. }
            | Self::Token { token: Secret::File(path), .. } => Some(path),
            _ => None,
        }
    }

    /// The value of `Authorization`.
    pub(crate) fn header(&self, files: &Files) -> Result<Option<HeaderValue>, Error> {
        let text = |secret: &Secret| match secret {
            Secret::Text(text) => text.clone(),
            // A file's last line end is the editor's, not the secret's.
            Secret::File(path) => String::from_utf8_lossy(files.content(path)).trim_end().to_owned(),
        };
        let value = match self {
            Self::None => return Ok(None),
            Self::Basic { user, password } => {
                format!("Basic {}", BASE64.encode(format!("{user}:{}", text(password))))
            }
            Self::Token { scheme, token } => format!("{scheme} {}", text(token)),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| Error::Secret { path: self.file().cloned().unwrap_or_default() })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl Secret {
    /// Reads `key`, or `key_file`, which names the file that holds it.
    pub fn read(section: &Section<'_>, key: &str) -> Option<Self> {
        let text = section.value(key, units::text).map(Self::Text);
        let file_key = format!("{key}_file");
        let file = section.value(&file_key, units::path).map(Self::File);
        if text.is_some() && file.is_some() {
            section
                .fault(key, Invalid::new(format!("is given beside `{file_key}`")).hint("give one of them"));
        }
        file.or(text)
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    fn effective(&self, key: &str) -> (String, Value) {
        match self {
            Self::Text(_) => (key.to_owned(), json!("***")),
            Self::File(path) => (format!("{key}_file"), json!(path)),
        }
    }
}

/// Takes user and password out of a URL.
pub fn userinfo(url: &mut Url) -> Option<Auth> {
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
#[must_use]
pub fn decode(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(auth: &Auth) -> Result<Option<HeaderValue>, Error> {
        auth.header(&Files::read(auth.file().cloned()).map_err(|(path, _)| path).unwrap())
    }

    fn basic(user: &str, password: &str) -> Auth {
        Auth::Basic { user: user.to_owned(), password: Secret::Text(password.to_owned()) }
    }

    #[test]
    fn each_kind_has_its_header_and_none_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret\r\n").unwrap();
        let token = |scheme| Auth::Token { scheme, token: Secret::File(file.clone()) };
        for (auth, want) in [
            (basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            (basic("s3cret", ""), "Basic czNjcmV0Og=="),
            (token("Bearer"), "Bearer s3cret"),
            (token("ApiKey"), "ApiKey s3cret"),
        ] {
            let value = header(&auth).unwrap().unwrap();
            assert_eq!(value.to_str().unwrap(), want);
            for shown in [format!("{value:?}"), format!("{auth:?}")] {
                assert!(!shown.contains("s3cret") && !shown.contains("sesame"), "{shown}");
            }
        }
        assert_eq!(header(&Auth::None).unwrap(), None);
        assert_eq!(format!("{:?}", Secret::Text("s3cret".to_owned())), "Secret(***)");
        assert_eq!(format!("{:?}", Auth::None), "Auth(none)");
    }

    #[test]
    fn a_secret_that_no_header_may_have_is_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3c\nret").unwrap();
        let error = header(&Auth::Token { scheme: "Bearer", token: Secret::File(file.clone()) }).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(file.to_str().unwrap()) && !text.contains("s3c"), "{text}");
    }

    #[test]
    fn user_and_password_leave_the_url() {
        let mut url = Url::parse("https://a%40b:p%2Fw@host/x?y=1").unwrap();
        let Some(Auth::Basic { user, password: Secret::Text(password) }) = userinfo(&mut url) else {
            panic!("there is a user in {url}");
        };
        assert_eq!((user.as_str(), password.as_str(), url.as_str()), ("a@b", "p/w", "https://host/x?y=1"));
        assert!(userinfo(&mut url).is_none());
    }

    #[test]
    fn what_is_no_percent_encoding_stays() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%4"), "%zz%4");
        assert_eq!(decode("%41%"), "A%");
    }

    proptest! {
        #[test]
        fn any_text_is_decoded(text in "\\PC{0,20}") {
            let _ = decode(&text);
        }
    }
}
