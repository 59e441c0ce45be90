//! The header fields that a proxy has to know, and what a Connection field says. Pure functions over bytes.

/// A field whose meaning matters to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Field {
    /// Handed on as it is.
    Other,
    /// Not handed on, whatever it says.
    Dropped,
    Connection,
    /// `Keep-Alive`, `Proxy-Connection`, `HTTP2-Settings`: for one hop only (RFC 9110 7.6.1).
    HopByHop,
    ContentLength,
    ContentType,
    Expect,
    Host,
    MaxForwards,
    Te,
    TransferEncoding,
    Upgrade,
    UserAgent,
    RequestId,
    Traceparent,
    Tracestate,
    Forwarded,
    ForwardedFor,
    ForwardedHost,
    ForwardedProto,
    /// Any other `X-Forwarded-*`, and `X-Real-IP`.
    ForwardedOther,
    /// `X-Forwarded-Client-Cert`: only ever our own word.
    ClientCert,
}

impl Field {
    /// Recognises a field by its name, in any case.
    pub(crate) fn of(name: &str) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // The length tells nearly all fields apart before a byte is compared.
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            9 if is("forwarded") => Self::Forwarded,
            10 if is("user-agent") => Self::UserAgent,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::HopByHop,
            10 if is("tracestate") => Self::Tracestate,
            11 if is("traceparent") => Self::Traceparent,
            12 if is("content-type") => Self::ContentType,
            12 if is("x-request-id") => Self::RequestId,
            12 if is("max-forwards") => Self::MaxForwards,
            14 if is("content-length") => Self::ContentLength,
            14 if is("http2-settings") => Self::HopByHop,
            16 if is("proxy-connection") => Self::HopByHop,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            _ => Self::of_provenance(name),
        }
    }

    /// Recognises `X-Forwarded-*` and `X-Real-IP`.
    fn of_provenance(name: &str) -> Self {
        let starts =
            |known: &str| name.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known));
        let is = |known: &str| name.len() == known.len() && starts(known);
        match () {
            // Nearly all fields.
            () if !starts("x-") => Self::Other,
            () if is("x-forwarded-for") => Self::ForwardedFor,
            () if is("x-forwarded-host") => Self::ForwardedHost,
            () if is("x-forwarded-proto") => Self::ForwardedProto,
            () if is("x-forwarded-client-cert") => Self::ClientCert,
            () if starts("x-forwarded-") || is("x-real-ip") => Self::ForwardedOther,
            () => Self::Other,
        }
    }

    /// Recognises a field that is one of ours only for who takes `_` for `-`, as gateways to CGI, WSGI and their like
    /// do (RFC 3875 4.1.18): there it would stand in the place of the real one.
    pub(crate) fn in_disguise(name: &str) -> Self {
        let mut plain = [0; 32];
        match plain.get_mut(..name.len()) {
            Some(plain) if memchr::memchr(b'_', name.as_bytes()).is_some() => {
                for (to, byte) in plain.iter_mut().zip(name.bytes()) {
                    *to = if byte == b'_' { b'-' } else { byte };
                }
                std::str::from_utf8(plain).map_or(Self::Other, Self::of)
            }
            _ => Self::Other,
        }
    }
}

/// A set of kinds of fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fields(u32);

impl Fields {
    pub(crate) const fn of<const N: usize>(fields: [Field; N]) -> Self {
        let mut set = Self(0);
        let mut at = 0;
        while at < N {
            set = set.with(fields[at]);
            at += 1;
        }
        set
    }

    pub(crate) const fn with(self, field: Field) -> Self {
        Self(self.0 | 1 << field as u8)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn has(self, field: Field) -> bool {
        self.0 & 1 << field as u8 != 0
    }

    pub(crate) const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
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

    /// Whether any field is named.
    pub(crate) fn names_some(&self) -> bool {
        self.count > 0
    }

    /// Whether the field is named, and so ends at this hop.
    pub(crate) fn names(&self, field: &str) -> bool {
        self.named[..self.count].iter().any(|named| named.eq_ignore_ascii_case(field.as_bytes()))
    }
}

/// What the Transfer-Encoding field says to the next hop, however the last one spelled it.
pub(crate) const CHUNKED: &[u8] = b"chunked";

/// A Content-Length without the leading zeros that make some readers take it for octal.
pub(crate) fn plain_length(value: &[u8]) -> &[u8] {
    let zeros = value.iter().take_while(|byte| **byte == b'0').count();
    &value[zeros.min(value.len().saturating_sub(1))..]
}

/// Reads a Content-Length: decimal digits and nothing else (RFC 9110 8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Fields that tell who asks, or how content is to be read: a server that adds trailers to the head must not be
/// talked into either.
const NEVER_TRAILING: [&str; 9] = [
    "authorization",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "trailer",
    "www-authenticate",
];

/// Whether a field may stand in a trailer section: framing, routing and hop-by-hop fields may not (RFC 9110 6.5.1).
pub(crate) fn may_trail(name: &str) -> bool {
    Field::of(name) == Field::Other
        && Field::in_disguise(name) == Field::Other
        && !NEVER_TRAILING.iter().any(|known| name.eq_ignore_ascii_case(known))
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
            ("tE", Field::Te),
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
            ("Traceparent", Field::Traceparent),
            ("tracestate", Field::Tracestate),
            ("Max-Forwards", Field::MaxForwards),
            ("Content-type", Field::ContentType),
            ("user-Agent", Field::UserAgent),
            ("forwarded", Field::Forwarded),
            ("X-FORWARDED-Port", Field::ForwardedOther),
            ("X-Forwarded-", Field::ForwardedOther),
            ("X-Real-Ip", Field::ForwardedOther),
            ("X-Forwarded-Client-Cert", Field::ClientCert),
            ("X-Forwarded", Field::Other),
            ("X", Field::Other),
            ("X_Y", Field::Other),
        ] {
            assert_eq!(Field::of(name), field, "{name}");
        }
    }

    #[test]
    fn a_disguise_is_seen_through() {
        assert_eq!(Field::in_disguise("Transfer_Encoding"), Field::TransferEncoding);
        assert_eq!(Field::in_disguise("content_LENGTH"), Field::ContentLength);
        assert_eq!(Field::in_disguise("X_Forwarded-For"), Field::ForwardedFor);
        for plain in ["Transfer-Encoding", "x_custom", "_", "", &"x_".repeat(40)] {
            assert_eq!(Field::in_disguise(plain), Field::Other, "{plain}");
        }
    }

    #[test]
    fn a_length_loses_leading_zeros_and_nothing_else() {
        for (text, plain) in [("0", "0"), ("000", "0"), ("010", "10"), ("100", "100"), ("", "")] {
            assert_eq!(plain_length(text.as_bytes()), plain.as_bytes());
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
