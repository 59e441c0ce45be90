//! What a request asks for, in the one form that the upstream gets. Pure functions.

use super::refusal::Refusal;

/// The target as the upstream gets it: always in origin form, or `*`.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) start: &'a str,
    pub(super) rest: &'a str,
}

impl<'a> Target<'a> {
    pub(super) fn read(method: &str, target: &'a str, host: Option<&[u8]>) -> Result<Self, Refusal> {
        match method {
            "CONNECT" => return Err(Refusal::Connect),
            "TRACE" => return Err(Refusal::Trace),
            _ => {}
        }
        // No URI has other bytes than ASCII, and no target has a fragment (RFC 9112 3.2).
        if !target.is_ascii() || target.contains('#') {
            return Err(Refusal::RequestLine);
        }
        if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
            return Ok(Self { start: target, rest: "" });
        }
        // Absolute form (RFC 9112 3.2.2): its host must be the Host field's, or two servers route it differently.
        let scheme_end = target.find("://").ok_or(Refusal::RequestLine)?;
        let (scheme, rest) = (&target[..scheme_end], &target[scheme_end + 3..]);
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Refusal::RequestLine);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || !host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_bytes())) {
            return Err(Refusal::HostMismatch);
        }
        let start = match path.starts_with('/') {
            true => "",
            false if path.is_empty() && method == "OPTIONS" => "*",
            false => "/",
        };
        Ok(Self { start, rest: path })
    }
}
