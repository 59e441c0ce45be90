//! Where a request goes: `http://127.0.0.1:9802`, checked and with its addresses known.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A local HTTP server. Only an IP address or `localhost` is taken as its host, so that no lookup can hang.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    base: String,
    addresses: Vec<SocketAddr>,
}

/// Why a text is not a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BadTarget {
    why: &'static str,
}

impl Target {
    /// What goes into the `Host` field.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The path before each request's path; empty or `/like/this`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.to_string(), base: String::new(), addresses: vec![address] }
    }
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let bad = |why| Err(BadTarget { why });
        let Some(rest) = text.strip_prefix("http://") else {
            return bad("it must start with http://");
        };
        if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return bad("it has a space or control character in it");
        }
        let (authority, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            _ => (authority, "80"),
        };
        // Rust's own parser takes a plus sign, too.
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(port) = port.and_then(|port| port.parse().ok()).filter(|port: &u16| *port > 0) else {
            return bad("its port is not a number from 1 to 65535");
        };
        // Without brackets the last part of an IPv6 address could be the port (RFC 3986 section 3.2.2).
        let ip = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inside) => inside.parse().ok().map(IpAddr::V6),
            None => name.parse().ok().map(IpAddr::V4),
        };
        let ips = match ip {
            Some(ip) => vec![ip],
            None if name == "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            None => return bad("its host must be an IP address or localhost, IPv6 in brackets"),
        };
        Ok(Self {
            host: authority.to_owned(),
            base: base.trim_end_matches('/').to_owned(),
            addresses: ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_targets_are_taken_and_others_refused_with_the_reason() {
        for (text, shown, addresses) in [
            ("http://127.0.0.1:9802", "http://127.0.0.1:9802", "[127.0.0.1:9802]"),
            ("http://127.0.0.1:9802/", "http://127.0.0.1:9802", "[127.0.0.1:9802]"),
            ("http://[::1]:80/a/b", "http://[::1]:80/a/b", "[[::1]:80]"),
            ("http://localhost", "http://localhost", "[127.0.0.1:80, [::1]:80]"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(
                (target.to_string().as_str(), format!("{:?}", target.addresses()).as_str()),
                (shown, addresses)
            );
        }
        for (text, why) in [
            ("127.0.0.1:80", "it must start with http://"),
            ("https://127.0.0.1", "it must start with http://"),
            ("http://db:80", "its host must be an IP address or localhost, IPv6 in brackets"),
            ("http://127.0.0.1:0", "its port is not a number from 1 to 65535"),
            ("http://127.0.0.1:+80/", "its port is not a number from 1 to 65535"),
            ("http://[::1]:", "its port is not a number from 1 to 65535"),
            ("http://::1:80", "its host must be an IP address or localhost, IPv6 in brackets"),
            ("http://[127.0.0.1]:80", "its host must be an IP address or localhost, IPv6 in brackets"),
            ("http://127.0.0.1:80/a b", "it has a space or control character in it"),
            ("http://", "its host must be an IP address or localhost, IPv6 in brackets"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap_err().to_string(), why, "{text}");
        }
    }
}
