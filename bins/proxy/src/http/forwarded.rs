//! What the upstream is told of the client: its address, what it asked for, and whose certificate it has.
//!
//! The proxy's own word comes last in each list, and a client can neither forge nor swallow it. Pure functions.

use super::fields::{Field, Fields};
use super::head::{Head, write_field};
use crate::buffer::Buffer;
use crate::config::Forwarded;

/// What a client may claim about where a request came from: taken only of those that are trusted.
pub(super) const CLAIMS: Fields = Fields::of([
    Field::Forwarded,
    Field::ForwardedFor,
    Field::ForwardedHost,
    Field::ForwardedProto,
    Field::ForwardedOther,
    Field::RequestId,
    Field::Traceparent,
    Field::Tracestate,
]);

/// A client, as far as its connection tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client<'a> {
    /// Its IP address; `None` on a Unix socket.
    pub(crate) ip: Option<&'a str>,
    /// It came by TLS.
    pub(crate) is_secure: bool,
    /// Of a certificate that was checked, as a value of `X-Forwarded-Client-Cert`.
    pub(crate) certificate: Option<&'a str>,
    /// What it says about where a request came from is believed.
    pub(crate) is_trusted: bool,
}

impl Client<'_> {
    /// The fields that [`tell`](Self::tell) writes anew with what is in them.
    pub(super) fn rewritten(&self, by: Forwarded) -> Fields {
        let mut fields = Fields::default();
        if by.x_forwarded && self.ip.is_some() {
            fields = fields.with(Field::ForwardedFor);
        }
        if by.rfc7239 {
            fields = fields.with(Field::Forwarded);
        }
        fields
    }

    /// Appends our word to what came with the request.
    pub(super) fn tell(&self, by: Forwarded, head: &Head<'_, '_>, host: Option<&[u8]>, out: &mut Buffer) {
        let scheme: &[u8] = if self.is_secure { b"https" } else { b"http" };
        if by.x_forwarded {
            if let Some(ip) = self.ip {
                out.push(b"X-Forwarded-For: ");
                push_all(head.values(Field::ForwardedFor), out);
                out.push(ip.as_bytes());
                out.push(b"\r\n");
            }
            if !head.has(Field::ForwardedProto) {
                write_field(out, "X-Forwarded-Proto", scheme);
            }
            if let Some(host) = host.filter(|_| !head.has(Field::ForwardedHost)) {
                write_field(out, "X-Forwarded-Host", host);
            }
        }
        if by.rfc7239 {
            out.push(b"Forwarded: ");
            if head.values(Field::Forwarded).all(closes_its_quotes) {
                push_all(head.values(Field::Forwarded), out);
            }
            self.push_element(host, scheme, out);
            out.push(b"\r\n");
        }
        if let Some(certificate) = self.certificate {
            write_field(out, "X-Forwarded-Client-Cert", certificate.as_bytes());
        }
    }

    /// Appends our hop: `for=10.1.2.3;host=shop;proto=https` (RFC 7239 4).
    fn push_element(&self, host: Option<&[u8]>, scheme: &[u8], out: &mut Buffer) {
        out.push(b"for=");
        match self.ip {
            // Brackets and colons must be quoted (RFC 7239 6).
            Some(ip) if ip.contains(':') => {
                for part in ["\"[", ip, "]\""] {
                    out.push(part.as_bytes());
                }
            }
            Some(ip) => out.push(ip.as_bytes()),
            None => out.push(b"unknown"),
        }
        if let Some(host) = host.filter(|host| !host.is_empty()) {
            out.push(b";host=");
            if host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)) {
                out.push(host);
            } else {
                // A Host was checked: there are neither quotes nor backslashes in it.
                for part in [b"\"", host, b"\""] {
                    out.push(part);
                }
            }
        }
        out.push(b";proto=");
        out.push(scheme);
    }
}

/// One line with all hops: apps that look at one line only would else see a part.
fn push_all<'a>(values: impl Iterator<Item = &'a [u8]>, out: &mut Buffer) {
    for value in values.filter(|value| !value.is_empty()) {
        out.push(value);
        out.push(b", ");
    }
}

/// Whether what follows this list is outside all quotes: else it would swallow our element.
fn closes_its_quotes(value: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
mod tests;
