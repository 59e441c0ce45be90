//! Where a redirect leads, and whether secrets may go there. Pure.

use podkit_cli::mask_url;
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{StatusCode, Url};

/// Whether the answer only says where to ask.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where to ask next.
///
/// # Errors
/// What is wrong with that place, in words.
pub(super) fn next(url: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| url.join(to).ok());
    let Some(mut to) = to else { return Err("it is redirected to nowhere".to_owned()) };
    let shown = mask_url(to.as_str());
    if !matches!(to.scheme(), "http" | "https") || !to.has_host() {
        return Err(format!("it is redirected to {shown}, which is no HTTP URL"));
    }
    if url.scheme() == "https" && to.scheme() == "http" {
        return Err(format!("it is redirected to {shown}, which is not encrypted"));
    }
    // Who redirects does not say who we are.
    podkit_https::userinfo(&mut to);
    Ok(to)
}

/// Whether what proves who we are at `home` may be shown at `url`: the same server, or the same one by HTTPS.
pub(super) fn is_same_place(home: &Url, url: &Url) -> bool {
    let ports = (home.port_or_known_default(), url.port_or_known_default());
    let is_upgrade = home.scheme() == "http" && url.scheme() == "https" && ports == (Some(80), Some(443));
    home.host() == url.host() && (home.scheme() == url.scheme() && ports.0 == ports.1 || is_upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn led(from: &str, to: &[u8]) -> Result<String, String> {
        let Ok(to) = HeaderValue::from_bytes(to) else { return Err("no header".to_owned()) };
        next(&url(from), &HeaderMap::from_iter([(LOCATION, to)])).map(String::from)
    }

    #[test]
    fn a_redirect_leads_on_but_not_out_of_https() {
        for (from, to, want) in [
            ("http://a/x/y?q=1", "z", Ok("http://a/x/z")),
            ("https://a/x", "/y?token=1", Ok("https://a/y?token=1")),
            ("http://a/x", "https://u:p@b:8443/", Ok("https://b:8443/")),
            ("https://a/x", "//b/y", Ok("https://b/y")),
            (
                "https://a/x",
                "http://u:p@a/x?token=s3cret",
                Err("it is redirected to http://u:***@a/x?token=***, which is not encrypted"),
            ),
            (
                "http://a/x",
                "file:///etc/passwd",
                Err("it is redirected to file:///etc/passwd, which is no HTTP URL"),
            ),
            ("http://a/x", "http://[", Err("it is redirected to nowhere")),
        ] {
            assert_eq!(led(from, to.as_bytes()), want.map(str::to_owned).map_err(str::to_owned), "{to}");
        }
        assert_eq!(next(&url("http://a/"), &HeaderMap::new()), Err("it is redirected to nowhere".to_owned()));
    }

    #[test]
    fn only_the_server_itself_is_shown_who_we_are() {
        for (home, other, is_same) in [
            ("https://a/x", "https://A:443/y", true),
            ("http://a/x", "https://a/x", true),
            ("http://a:8080/x", "https://a/x", false),
            ("https://a/x", "http://a/x", false),
            ("https://a/x", "https://a:8443/x", false),
            ("https://a/x", "https://b.a/x", false),
        ] {
            assert_eq!(is_same_place(&url(home), &url(other)), is_same, "{home} {other}");
        }
    }

    proptest! {
        #[test]
        fn any_location_is_followed_or_refused(to in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(to) = led("https://a/x", &to) {
                prop_assert!(to.starts_with("https://"), "{}", to);
            }
        }
    }
}
