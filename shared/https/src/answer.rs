//! What an answer, or the lack of one, says about trying again.

use std::error::Error as _;
use std::io;
use std::time::{Duration, SystemTime};

use podkit_cli::chain;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use rustls::{AlertDescription, CertificateError};

/// `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3). The caller sets the upper bound.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// Why there is no answer, in short: the first of all causes, without the URL.
#[must_use]
pub fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() && error.is_connect() {
        return "cannot connect: no answer in time".to_owned();
    }
    let mut first = error.source();
    while let Some(below) = first.and_then(|cause| cause.source()) {
        first = Some(below);
    }
    let cause = first.map_or_else(|| "the request failed".to_owned(), chain);
    if error.is_connect() {
        format!("cannot connect: {cause}")
    } else {
        format!("the connection broke: {cause}")
    }
}

/// What is to be mended where one side does not trust the other: trying again would not help.
#[must_use]
pub fn distrust(error: &reqwest::Error) -> Option<&'static str> {
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some("if a private authority signed the server's certificate, name its own one in `tls.ca`")
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("the server's certificate is for other names: check the URL's host"),
        rustls::Error::InvalidCertificate(_) => {
            Some("the server needs another certificate, or this host's clock is wrong")
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired,
        ) => Some("the server wants a certificate that it trusts: name it in `tls.cert` and `tls.key`"),
        _ => None,
    }
}

fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        // What an I/O error wraps is not its source: the source is what is below that.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = wrapped.and_then(|error| error.downcast_ref()).or_else(|| error.downcast_ref());
        if found.is_some() {
            return found;
        }
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    fn asked(value: &str, now: SystemTime) -> Option<Duration> {
        let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now)
    }

    #[test]
    fn retry_after_comes_as_seconds_or_date() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 05:00:00 GMT").unwrap();
        for (value, want) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("Sun, 22 Nov 2026 05:00:30 GMT", Some(30)),
            ("Sun, 22 Nov 2026 04:00:00 GMT", Some(0)),
            ("99999999", Some(99_999_999)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(asked(value, now), want.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    proptest! {
        #[test]
        fn no_retry_after_makes_it_panic(value in "\\PC{0,40}") {
            let _ = asked(&value, SystemTime::now());
        }
    }
}
