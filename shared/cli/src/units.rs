//! Texts to values with units, and back. The one place that knows how durations and sizes are written.
//!
//! Each parser takes the text as given and says what is wrong with it in words that fit after the field's name.

mod network;

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::fault::{Invalid, nearest};

pub use network::{MOST_PEERS, network, show_network};

const DURATION_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// `250ms`, `5s`, `2m`, `1h`, and joined: `1m30s`. No longer than a year, so that sums never overflow.
///
/// # Errors
/// A bare number, an unknown unit, a fraction, a sign.
pub fn duration(text: &str) -> Result<Duration, Invalid> {
    const YEAR: u64 = 365 * 24 * 3_600_000;
    let bad = |why: String| Invalid::new(why).hint("write a duration like `250ms`, `5s`, `2m` or `1m30s`");
    let mut millis: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let (number, unit, after) = split_unit(rest);
        let number: u64 = number.parse().map_err(|_| bad(format!("{text:?} is not a duration")))?;
        if unit.is_empty() {
            return Err(bad(format!("{text:?} has no unit")));
        }
        let factor =
            factor(DURATION_UNITS, unit).ok_or_else(|| bad(format!("{text:?} has an unknown unit")))?;
        millis = number
            .checked_mul(factor)
            .and_then(|more| millis.checked_add(more))
            .filter(|millis| *millis <= YEAR)
            .ok_or_else(|| bad(format!("{text:?} is longer than a year")))?;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// A duration that is not zero.
///
/// # Errors
/// As [`duration`], and zero.
pub fn positive_duration(text: &str) -> Result<Duration, Invalid> {
    match duration(text)? {
        Duration::ZERO => Err(Invalid::new(format!("{text:?} must be longer than zero"))),
        duration => Ok(duration),
    }
}

/// A size in bytes: `64KiB`, `1MiB`, `10MB`, `512B`.
///
/// # Errors
/// A bare number, an unknown unit, a fraction, a sign, more than 2^63 bytes.
pub fn size(text: &str) -> Result<u64, Invalid> {
    let bad = |why: String| Invalid::new(why).hint("write a size like `64KiB`, `1MiB` or `10MB`");
    let (number, unit, after) = split_unit(text);
    let number: u64 = number.parse().map_err(|_| bad(format!("{text:?} is not a size")))?;
    if unit.is_empty() {
        return Err(bad(format!("{text:?} has no unit")));
    }
    if !after.is_empty() {
        return Err(bad(format!("{text:?} is not a size")));
    }
    let factor = factor(SIZE_UNITS, unit).ok_or_else(|| bad(format!("{text:?} has an unknown unit")))?;
    number
        .checked_mul(factor)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| bad(format!("{text:?} is too large")))
}

/// `12ms…` to `("12", "ms", "…")`.
fn split_unit(text: &str) -> (&str, &str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(letters);
    (number, unit, after)
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

/// A duration as [`duration`] reads it, in the largest units that say it exactly: `1m30s`, `250ms`, `0s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS.iter().rev() {
        if millis / factor > 0 {
            text.push_str(&format!("{}{unit}", millis / factor));
            millis %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A size as [`size`] reads it, in the largest binary unit that says it exactly.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

/// A number of things, at least 1.
///
/// # Errors
/// Anything that is not a whole number of at least 1.
pub fn count(text: &str) -> Result<NonZeroUsize, Invalid> {
    let number = if text.starts_with('+') { None } else { text.parse().ok() };
    number.ok_or_else(|| Invalid::new(format!("{text:?} is not a whole number of at least 1")))
}

/// A TCP port, 1 to 65535.
///
/// # Errors
/// Anything else; 0 too.
pub fn port(text: &str) -> Result<u16, Invalid> {
    match text.parse() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(Invalid::new(format!("{text:?} is not a port (1 to 65535)"))),
    }
}

/// An address to listen on: `0.0.0.0:9801`, `[::]:9801`, or `:9801` for all IPv4 addresses. Port 0 lets the
/// kernel choose.
///
/// # Errors
/// Anything else; a host name too.
pub fn listen_address(text: &str) -> Result<SocketAddr, Invalid> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| {
        Invalid::new(format!("{text:?} is not an address to listen on"))
            .hint("write `0.0.0.0:8080` or `[::]:8080`")
    })
}

/// `host:port` with a name, an IPv4 address or an IPv6 address in brackets.
///
/// # Errors
/// No port, a bad port, an empty host, an IPv6 address without brackets.
pub fn host_port(text: &str) -> Result<(String, u16), Invalid> {
    let bad = || Invalid::new(format!("{text:?} is not `host:port`")).hint("write `db:5432` or `[::1]:5432`");
    let (host, digits) = text.rsplit_once(':').ok_or_else(bad)?;
    let port = port(digits).map_err(|_| bad())?;
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<IpAddr>().map_err(|_| bad())?.to_string(),
        None => host.to_owned(),
    };
    let has_odd = host.chars().any(|c| c.is_whitespace() || c.is_control() || "/@?#".contains(c));
    let bare_v6 = host.contains(':') && !text.starts_with('[');
    if host.is_empty() || has_odd || bare_v6 { Err(bad()) } else { Ok((host, port)) }
}

/// `true` or `false`.
///
/// # Errors
/// Anything else: YAML 1.1's `yes` and `on` too.
pub fn boolean(text: &str) -> Result<bool, Invalid> {
    text.parse()
        .map_err(|_| Invalid::new(format!("{text:?} is not a switch")).hint("write `true` or `false`"))
}

/// A path; not empty, and without NUL.
///
/// # Errors
/// As said.
pub fn path(text: &str) -> Result<PathBuf, Invalid> {
    if text.is_empty() {
        Err(Invalid::new("the path is empty"))
    } else if text.contains('\0') {
        Err(Invalid::new(format!("{text:?} has a NUL in it")))
    } else {
        Ok(PathBuf::from(text))
    }
}

/// Any text but an empty one.
///
/// # Errors
/// The empty text.
pub fn text(text: &str) -> Result<String, Invalid> {
    if text.is_empty() { Err(Invalid::new("the text is empty")) } else { Ok(text.to_owned()) }
}

/// File permissions in octal, as in `"0640"`; only the nine permission bits.
///
/// # Errors
/// Anything else; setuid, setgid and sticky bits too.
pub fn mode(text: &str) -> Result<u32, Invalid> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && text.len() >= 3 && !text.starts_with('+') => Ok(mode),
        _ => Err(Invalid::new(format!("{text:?} is not a file mode")).hint("write it in octal: \"0640\"")),
    }
}

/// A parser for one of a few names.
pub fn choice<T: Clone>(names: &'static [(&'static str, T)]) -> impl Fn(&str) -> Result<T, Invalid> {
    move |text| match names.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(value.clone()),
        None => {
            let all: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let known = nearest(text, all.iter().copied());
            let bad = Invalid::new(format!("{text:?} is not one of {}", all.join(", ")));
            Err(match known {
                Some(name) => bad.hint(format!("did you mean `{name}`?")),
                None => bad,
            })
        }
    }
}

/// A parser for anything that reads itself from a text, such as an [`IpAddr`]; `what` names it: "an IP address".
pub fn parsed<T: FromStr<Err: Display>>(what: &'static str) -> impl Fn(&str) -> Result<T, Invalid> {
    move |text| text.parse().map_err(|error| Invalid::new(format!("{text:?} is not {what} ({error})")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, millis) in
            [("250ms", 250), ("5s", 5_000), ("2m", 120_000), ("1m30s", 90_000), ("0s", 0), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, why) in [
            ("5", "\"5\" has no unit"),
            ("", "\"\" is not a duration"),
            ("s", "\"s\" is not a duration"),
            ("5 s", "\"5 s\" has an unknown unit"),
            ("5sec", "\"5sec\" has an unknown unit"),
            ("-5s", "\"-5s\" is not a duration"),
            ("1.5s", "\"1.5s\" has an unknown unit"),
            ("1m30", "\"1m30\" has no unit"),
            ("9999999h", "\"9999999h\" is longer than a year"),
            ("99999999999999999999s", "\"99999999999999999999s\" is not a duration"),
        ] {
            assert_eq!(duration(text).unwrap_err().message, why);
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("64KiB", 65_536), ("1MiB", 1 << 20), ("10MB", 10_000_000), ("512B", 512), ("0B", 0)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, why) in [
            ("64", "\"64\" has no unit"),
            ("64kib", "\"64kib\" has an unknown unit"),
            ("64Ki", "\"64Ki\" has an unknown unit"),
            ("1MiB1", "\"1MiB1\" is not a size"),
            ("", "\"\" is not a size"),
            ("99999999999GiB", "\"99999999999GiB\" is too large"),
        ] {
            assert_eq!(size(text).unwrap_err().message, why);
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(listen_address(":9801").unwrap().to_string(), "0.0.0.0:9801");
        assert_eq!(listen_address("[::]:1").unwrap().to_string(), "[::]:1");
        assert!(listen_address("localhost:80").is_err());
        assert_eq!(host_port("db:5432"), Ok(("db".to_owned(), 5432)));
        assert_eq!(host_port("[::1]:80"), Ok(("::1".to_owned(), 80)));
        for bad in ["db", "db:", "db:0", ":80", "::1:80", "a b:80", "db:70000", "http://db:80", "[db]:80"] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(mode("0640"), Ok(0o640));
        assert_eq!(mode("755"), Ok(0o755));
        for bad in ["4755", "0x1", "999", "", "7", "+640", "rw-r--r--"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0_u64..31_000_000_000, bytes in 0_u64..(1 << 62)) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,40}") {
            let _ = (duration(&text), size(&text), host_port(&text), mode(&text), listen_address(&text));
        }
    }
}
