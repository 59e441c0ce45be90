//! The header fields that a proxy has to know, and what a Connection field says. Pure functions over bytes.

/// A field whose meaning matters to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Connection,
    /// `Keep-Alive`, `Proxy-Connection`, `TE`, `HTTP2-Settings`: for one hop only (RFC 9110 7.6.1).
    HopByHop,
    ContentLength,
    Expect,
    Host,
    RequestId,
    TransferEncoding,
    Upgrade,
    ForwardedFor,
    ForwardedHost,
    ForwardedProto,
    /// Handed on as it is.
    Other,
}

impl Field {
    /// Recognises a field by its name, in any case.
    pub(crate) fn of(name: &str) -> Self {
        let is =
            |known: &str, field: Self| if name.eq_ignore_ascii_case(known) { field } else { Self::Other };
        // The length tells nearly all fields apart before a byte is compared.
        match name.len() {
            2 => is("te", Self::HopByHop),
            4 => is("host", Self::Host),
            6 => is("expect", Self::Expect),
            7 => is("upgrade", Self::Upgrade),
            10 => match is("connection", Self::Connection) {
                Self::Other => is("keep-alive", Self::HopByHop),
                field => field,
            },
            12 => is("x-request-id", Self::RequestId),
            14 => match is("content-length", Self::ContentLength) {
                Self::Other => is("http2-settings", Self::HopByHop),
                field => field,
            },
            15 => is("x-forwarded-for", Self::ForwardedFor),
            16 => match is("x-forwarded-host", Self::ForwardedHost) {
                Self::Other => is("proxy-connection", Self::HopByHop),
                field => field,
            },
            17 => match is("transfer-encoding", Self::TransferEncoding) {
                Self::Other => is("x-forwarded-proto", Self::ForwardedProto),
                field => field,
            },
            _ => Self::Other,
        }
    }
}

/// The most fields that one message's Connection fields may name; real ones name one or two.
const OPTIONS_LIMIT: usize = 16;

/// What the Connection fields of a message say.
#[derive(Debug, Default)]
pub(crate) struct Connection<'a> {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    named: [&'a [u8]; OPTIONS_LIMIT],
    count: usize,
}

impl<'a> Connection<'a> {
    /// Adds one Connection field; false where there are too many options.
    pub(crate) fn add(&mut self, value: &'a [u8]) -> bool {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !option.is_empty() {
                let Some(slot) = self.named.get_mut(self.count) else { return false };
                *slot = option;
                self.count += 1;
            }
        }
        true
    }

    /// Whether the field is named, and so ends at this hop.
    pub(crate) fn names(&self, field: &str) -> bool {
        self.named[..self.count].iter().any(|named| named.eq_ignore_ascii_case(field.as_bytes()))
    }
}

/// Reads a Content-Length: decimal digits and nothing else (RFC 9110 8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether a field may stand in a trailer section: framing, routing and hop-by-hop fields may not (RFC 9110 6.5.1).
pub(crate) fn may_trail(name: &str) -> bool {
    Field::of(name) == Field::Other && !name.eq_ignore_ascii_case("trailer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_known_in_any_case() {
        for (name, field) in [
            ("Connection", Field::Connection),
            ("KEEP-ALIVE", Field::HopByHop),
            ("Proxy-Connection", Field::HopByHop),
            ("tE", Field::HopByHop),
            ("HTTP2-Settings", Field::HopByHop),
            ("content-LENGTH", Field::ContentLength),
            ("Transfer-encoding", Field::TransferEncoding),
            ("X-Forwarded-For", Field::ForwardedFor),
            ("X-Forwarded-Host", Field::ForwardedHost),
            ("X-Forwarded-Proto", Field::ForwardedProto),
            ("X-Request-Id", Field::RequestId),
            ("Expect", Field::Expect),
            ("Upgrade", Field::Upgrade),
            ("Host", Field::Host),
            ("Hos", Field::Other),
            ("Content_Length", Field::Other),
            ("traceparent", Field::Other),
        ] {
            assert_eq!(Field::of(name), field, "{name}");
        }
    }

    #[test]
    fn connection_options_are_split_and_named_fields_kept() {
        let mut connection = Connection::default();
        assert!(connection.add(b"keep-alive, ,X-Secret\t, Upgrade"));
        assert!(connection.add(b"CLOSE"));
        assert!(connection.close && connection.keep_alive && connection.upgrade);
        assert!(connection.names("x-secret") && !connection.names("x-other"));
        assert!(!connection.add("a,".repeat(20).as_bytes()));
    }

    #[test]
    fn a_content_length_is_digits_only() {
        for (text, length) in [("0", Some(0)), ("007", Some(7)), ("18446744073709551615", Some(u64::MAX))] {
            assert_eq!(content_length(text.as_bytes()), length);
        }
        for bad in ["", "+1", "-1", "1 ", "0x1", "1,1", "1.0", "18446744073709551616", "\u{0661}"] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
