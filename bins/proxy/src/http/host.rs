//! The grammar of a Host field (RFC 9110 7.2, RFC 3986 3.2): who reads it otherwise sends the request elsewhere.

/// Whether this is a name or an address, and a port if there is one; empty is allowed (RFC 9112 3.2).
pub(super) fn is_valid(host: &[u8]) -> bool {
    let (is_name, port) = match host.first() {
        Some(b'[') => match memchr::memchr(b']', host) {
            Some(end) => (is_address(&host[1..end]), &host[end + 1..]),
            None => return false,
        },
        _ => {
            let end = memchr::memchr(b':', host).unwrap_or(host.len());
            (is_name(&host[..end]), &host[end..])
        }
    };
    is_name && is_port(port)
}

/// `reg-name` without the comma, which separates the values of a list.
fn is_name(mut name: &[u8]) -> bool {
    while let [first, rest @ ..] = name {
        name = match (first, rest) {
            (b'%', [a, b, rest @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            (
                b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';'
                | b'=',
                _,
            ) => rest,
            (first, rest) if first.is_ascii_alphanumeric() => rest,
            _ => return false,
        };
    }
    true
}

/// What stands in brackets: an IPv6 address, with a zone if it has one (RFC 6874).
fn is_address(address: &[u8]) -> bool {
    let (address, zone) = match memchr::memchr(b'%', address) {
        Some(at) => (&address[..at], &address[at..]),
        None => (address, &b""[..]),
    };
    let is_ip = || std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
    is_name(zone) && is_ip()
}

/// Nothing, or a colon and digits that are a port if there are any.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] | [b':'] => true,
        [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).is_ok_and(|text| text.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_with_and_without_a_port() {
        for host in [
            "",
            "a",
            "shop.example.com.",
            "a_b-c~d",
            "a%2Db",
            "a:",
            "a:80",
            "a:65535",
            "10.0.0.1:8080",
            "[::1]",
            "[::1]:443",
            "[::ffff:1.2.3.4]",
            "[fe80::1%25eth0]:80",
        ] {
            assert!(is_valid(host.as_bytes()), "{host:?}");
        }
    }

    #[test]
    fn all_else_is_refused() {
        for host in [
            "a b",
            "a,b",
            "u@a",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "\"a\"",
            "a%",
            "a%2",
            "a%zz",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:000080",
            ":a",
            "::1",
            "[::1",
            "::1]",
            "[::1]a",
            "[::1]:a",
            "[]",
            "[a]",
            "[[::1]]",
            "a[b]",
            "[::1%]x",
            "[::1%/]",
            "b\u{fc}cher",
            "a\u{0}",
            "a\t",
        ] {
            assert!(!is_valid(host.as_bytes()), "{host:?}");
        }
    }
}
