//! What a certificate says, as text for the upstream and as times for us. Pure functions over DER: whether it may be
//! trusted is decided in the handshake, never here.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{DateTime, Decode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The longest value of `X-Forwarded-Client-Cert`: with it a head stays below what servers take (8 KiB at most).
/// Names beyond it are left out, whole.
const VALUE_LIMIT: usize = 4096;

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Validity {
    /// What the certificate says; `None` where it cannot be read.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = parse(certificate)?;
        let validity = parsed.tbs_certificate().validity();
        Some(Self {
            not_before: validity.not_before.to_system_time(),
            not_after: validity.not_after.to_system_time(),
        })
    }

    /// The time that all of a chain are valid in.
    pub(crate) fn of_chain(chain: &[CertificateDer<'_>]) -> Option<Self> {
        chain.iter().filter_map(Self::of).reduce(|one, other| Self {
            not_before: one.not_before.max(other.not_before),
            not_after: one.not_after.min(other.not_after),
        })
    }

    /// The end, as `2026-12-31T23:59:59Z`.
    pub(crate) fn end(self) -> Option<String> {
        DateTime::from_system_time(self.not_after).ok().map(|end| end.to_string())
    }

    /// What is wrong with using it at `now`, if anything is.
    pub(crate) fn fault(self, now: SystemTime) -> Option<String> {
        if now > self.not_after {
            let ago = now.duration_since(self.not_after).unwrap_or_default();
            Some(format!("expired {} ago", days(ago)))
        } else {
            let ahead = self.not_before.duration_since(now).ok()?;
            Some(format!("is not valid before {} from now", days(ahead)))
        }
    }
}

/// A span as people speak of certificates: `3 days`, `5 hours`.
fn days(span: Duration) -> String {
    let (number, unit) = match span.as_secs() {
        seconds @ 0..3600 => (seconds.div_ceil(60), "minute"),
        seconds @ 3600..86_400 => (seconds / 3600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

fn parse(certificate: &CertificateDer<'_>) -> Option<CertificateInner<Raw>> {
    CertificateInner::from_der(certificate).ok()
}

/// What is told of a verified client certificate.
///
/// Printable ASCII whatever the certificate holds, and no name can end its own quotes.
#[derive(Debug)]
pub(crate) struct Certified {
    /// The value of `X-Forwarded-Client-Cert`, in Envoy's format: `Hash=<SHA-256>;Subject="<RFC 4514>";URI=<name>;DNS=<name>`.
    pub(crate) forwarded: String,
    /// For the access log: the subject by RFC 4514, or else the hash.
    pub(crate) subject: String,
}

impl Certified {
    /// One that was verified and yet cannot be read here is told by its hash alone.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut hash = String::new();
        for byte in digest(&SHA256, certificate).as_ref() {
            // Writing to a string does not fail.
            let _ = write!(hash, "{byte:02x}");
        }
        let mut forwarded = format!("Hash={hash}");
        let Some(parsed) = parse(certificate) else { return Self { forwarded, subject: hash } };
        let tbs = parsed.tbs_certificate();
        // RFC 4514 has escaped the quotes and backslashes already.
        let subject = printable(&tbs.subject().to_string());
        push_element(&mut forwarded, "Subject", &format!("\"{subject}\""));
        if let Ok(Some((_, SubjectAltName(names)))) = tbs.get_extension::<SubjectAltName>() {
            for name in &names {
                match name {
                    GeneralName::UniformResourceIdentifier(uri) => {
                        push_element(&mut forwarded, "URI", &quoted(uri.as_str()));
                    }
                    GeneralName::DnsName(name) => push_element(&mut forwarded, "DNS", &quoted(name.as_str())),
                    _ => {}
                }
            }
        }
        Self { forwarded, subject: if subject.is_empty() { hash } else { subject } }
    }
}

fn push_element(value: &mut String, key: &str, element: &str) {
    if value.len() + key.len() + element.len() + 2 <= VALUE_LIMIT {
        value.extend([";", key, "=", element]);
    }
}

/// In quotes where a character of the format stands in it.
fn quoted(name: &str) -> String {
    if name.bytes().all(|byte| byte.is_ascii_graphic() && !b",;=\"\\".contains(&byte)) {
        return name.to_owned();
    }
    format!("\"{}\"", printable(&name.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Escapes what is not printable ASCII as RFC 4514 (2.4) does, byte by byte.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') {
            out.push(char::from(byte));
        } else {
            // As above.
            let _ = write!(out, "\\{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn told(change: impl FnOnce(&mut CertificateParams)) -> String {
        let value = Certified::of(&certificate(change)).forwarded;
        assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{value:?}");
        value[5 + 64..].to_owned()
    }

    #[test]
    fn hash_subject_and_names_are_told_as_envoy_tells_them() {
        let told = told(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "Shop");
            params.distinguished_name.push(DnType::CommonName, "cart");
            params.subject_alt_names = vec![
                SanType::URI("spiffe://cluster.local/ns/shop/sa/cart".try_into().unwrap()),
                SanType::DnsName("cart.shop.svc".try_into().unwrap()),
                SanType::Rfc822Name("x@example.com".try_into().unwrap()),
            ];
        });
        assert_eq!(
            told,
            ";Subject=\"CN=cart,O=Shop\";URI=spiffe://cluster.local/ns/shop/sa/cart;DNS=cart.shop.svc"
        );
        let one = certificate(|_| {});
        let hash: String = digest(&SHA256, &one).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(Certified::of(&one).forwarded.starts_with(&format!("Hash={hash};")));
    }

    #[test]
    fn a_name_cannot_break_out_of_its_quotes_or_of_the_field() {
        let told = told(|params| {
            params.distinguished_name.push(DnType::CommonName, "a\";URI=spiffe://admin\r\nX: \u{e4}\\");
            params.subject_alt_names = vec![
                SanType::URI("spiffe://x;URI=spiffe://admin".try_into().unwrap()),
                SanType::URI("a\"b\\\r\n".try_into().unwrap()),
            ];
        });
        assert_eq!(
            told,
            ";Subject=\"CN=a\\\"\\;URI=spiffe://admin\\0d\\0aX: \\C3\\A4\\\\\"\
             ;URI=\"spiffe://x;URI=spiffe://admin\";URI=\"a\\\"b\\\\\\0D\\0A\""
        );
    }

    #[test]
    fn no_certificate_makes_the_field_too_long() {
        let told = told(|params| {
            params.distinguished_name.push(DnType::CommonName, "x".repeat(8000));
            params.subject_alt_names =
                (0..500).map(|at| SanType::URI(format!("spiffe://{at}").try_into().unwrap())).collect();
        });
        assert!(told.starts_with(";URI=spiffe://0;URI=spiffe://1;"), "{told}");
        assert!(told.len() < VALUE_LIMIT);
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_hash() {
        let told = Certified::of(&CertificateDer::from(b"no certificate".as_slice()));
        assert_eq!(told.forwarded, format!("Hash={}", told.subject));
        assert_eq!(told.subject.len(), 64);
        assert!(Validity::of(&CertificateDer::from(b"no certificate".as_slice())).is_none());
    }

    #[test]
    fn a_chain_is_valid_as_long_as_each_of_it() {
        let year = |from: i32, to: i32| {
            certificate(|params| {
                params.not_before = rcgen::date_time_ymd(from, 1, 1);
                params.not_after = rcgen::date_time_ymd(to, 1, 1);
            })
        };
        let chain = [year(2020, 2030), year(2022, 2026), year(2021, 2028)];
        let validity = Validity::of_chain(&chain).unwrap();
        assert_eq!(validity.not_before, SystemTime::from(rcgen::date_time_ymd(2022, 1, 1)));
        assert_eq!(validity.not_after, SystemTime::from(rcgen::date_time_ymd(2026, 1, 1)));
        assert_eq!(validity.end().unwrap(), "2026-01-01T00:00:00Z");
        let hour = Duration::from_secs(3600);
        assert_eq!(validity.fault(validity.not_after - hour), None);
        assert_eq!(validity.fault(validity.not_after + 2 * hour).unwrap(), "expired 2 hours ago");
        assert_eq!(
            validity.fault(validity.not_before - 48 * hour).unwrap(),
            "is not valid before 2 days from now"
        );
        assert_eq!(Validity::of_chain(&[]), None);
    }
}
