//! The notations of this config that other binaries do not have: rates, shares, networks, sockets, SRV names.
//!
//! Each comes as a parser and, where a value does not print itself, as what shows it so that it reads back.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use podkit_cli::{Invalid, Item, Section, units};

use super::{Address, ListenAddress, Rate};

const RATE_UNITS: &[(&str, Duration)] =
    &[("s", Duration::from_secs(1)), ("m", Duration::from_secs(60)), ("h", Duration::from_secs(3600))];

/// `sun_path` has 108 bytes, and the last of them is a NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The longest name of the DNS, as text (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

const LISTEN_HINT: &str = "write `0.0.0.0:8080`, `[::]:8080` or `unix:/path`";
const ADDRESS_HINT: &str = "write `db:5432`, `[::1]:5432`, `unix:/path` or `srv:_http._tcp.name`";

const NO_SCHEME_HINT: &str = "write it without a scheme; for https add `tls: {}`";

/// `500/s`, `30/m`, `10/h`.
pub(super) fn rate(text: &str) -> Result<Rate, Invalid> {
    let bad = || Invalid::new(format!("{text:?} is not a rate")).hint("write `500/s`, `30/m` or `10/h`");
    let (events, unit) = text.split_once('/').ok_or_else(bad)?;
    let (_, per) = RATE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
    let events = whole(events).and_then(NonZeroU32::new).ok_or_else(bad)?;
    Ok(Rate { events, per: *per })
}

pub(super) fn show_rate(rate: Rate) -> String {
    let unit = RATE_UNITS.iter().find(|(_, per)| *per == rate.per).map_or("s", |(name, _)| name);
    format!("{}/{unit}", rate.events)
}

/// A share, as so many of 10,000: `100%`, `1%`, `0.05%`.
pub(super) fn share(text: &str) -> Result<u16, Invalid> {
    let bad = || {
        let what = format!("{text:?} is not a share of 0% to 100%, in steps of 0.01%");
        Invalid::new(what).hint("write `20%` or `0.5%`")
    };
    let number = text.strip_suffix('%').ok_or_else(bad)?;
    let (percent, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let hundredths = match fraction.len() {
        1 => whole(fraction).map(|tenths| tenths * 10),
        2 => whole(fraction),
        _ => None,
    };
    let percent = whole(percent).filter(|percent| *percent <= 100);
    let share = percent.zip(hundredths).map(|(percent, hundredths)| percent * 100 + hundredths);
    share.filter(|share| *share <= 10_000).and_then(|share| u16::try_from(share).ok()).ok_or_else(bad)
}

pub(super) fn show_share(per_10_000: u16) -> String {
    let (percent, hundredths) = (per_10_000 / 100, per_10_000 % 100);
    match hundredths {
        0 => format!("{percent}%"),
        _ if hundredths % 10 == 0 => format!("{percent}.{}%", hundredths / 10),
        _ => format!("{percent}.{hundredths:02}%"),
    }
}

/// A share in whole percent.
pub(super) fn percent(text: &str) -> Result<u32, Invalid> {
    match share(text)? {
        share if share % 100 == 0 => Ok(u32::from(share / 100)),
        _ => Err(Invalid::new(format!("{text:?} is not a whole number of percent"))),
    }
}

/// `+5` is a number to Rust, and a slip here.
fn whole(digits: &str) -> Option<u32> {
    if digits.starts_with('+') { None } else { digits.parse().ok() }
}

/// A number of things of at least 1 that fits 32 bits.
pub(super) fn small_count(text: &str) -> Result<NonZeroU32, Invalid> {
    let count = units::count(text)?;
    NonZeroU32::try_from(count).map_err(|_| Invalid::new(format!("{text:?} is more than {}", u32::MAX)))
}

/// A number of things, also none.
pub(super) fn count_or_none(text: &str) -> Result<u32, Invalid> {
    whole(text).ok_or_else(|| Invalid::new(format!("{text:?} is not a whole number")))
}

/// `10.0.0.0/8`, `fd00::/8`, or one address; no address within a network.
pub(super) fn network(text: &str) -> Result<IpNet, Invalid> {
    let network = units::network(text)?;
    if network.trunc() == network {
        Ok(network)
    } else {
        let what = format!("{text:?} is an address within a network");
        Err(Invalid::new(what).hint(format!("write `{}` for the network", network.trunc())))
    }
}

/// `0.0.0.0:8080` or `unix:/path`.
pub(super) fn listen(text: &str) -> Result<ListenAddress, Invalid> {
    match text.strip_prefix("unix:") {
        Some(path) => socket_path(path).map(ListenAddress::Unix),
        None => units::listen_address(text).map(ListenAddress::Tcp).map_err(|what| what.hint(LISTEN_HINT)),
    }
}

/// `host:port`, `unix:/path` or `srv:_http._tcp.name`.
pub(super) fn address(text: &str) -> Result<Address, Invalid> {
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(Address::Unix);
    }
    if let Some(name) = text.strip_prefix("srv:") {
        return srv_name(name).map(Address::Srv);
    }
    let hint = if text.contains("://") { NO_SCHEME_HINT } else { ADDRESS_HINT };
    let (host, port) = units::host_port(text).map_err(|what| what.hint(hint))?;
    Ok(Address::Host { host, port })
}

fn socket_path(text: &str) -> Result<PathBuf, Invalid> {
    let path = units::path(text)?;
    if !path.is_absolute() {
        let what = Invalid::new(format!("the socket path {text:?} is not absolute"));
        return Err(
            what.hint("write `unix:/run/app/app.sock`: what a relative path means depends on who reads it")
        );
    }
    if text.len() > MAX_SOCKET_PATH {
        let what = format!(
            "the socket path {text:?} has {} bytes, and the kernel takes at most {MAX_SOCKET_PATH}",
            text.len()
        );
        return Err(Invalid::new(what).hint("mount the volume at a shorter path"));
    }
    Ok(path)
}

/// A service, a protocol and a domain (RFC 2782).
fn srv_name(text: &str) -> Result<String, Invalid> {
    let bad = || {
        let what = format!("{text:?} is not the name of an SRV record");
        Invalid::new(what).hint("write `srv:_http._tcp.shop.default.svc.cluster.local`")
    };
    let mut labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let service = labels.next().filter(|service| service.len() > 1 && service.starts_with('_'));
    let is_tcp = labels.next().is_some_and(|protocol| protocol.eq_ignore_ascii_case("_tcp"));
    let mut domain = labels.peekable();
    let is_name = domain.peek().is_some() && domain.all(is_label) && text.len() <= MAX_NAME;
    let is_srv = service.is_some_and(is_label) && is_tcp && is_name;
    is_srv.then(|| text.to_owned()).ok_or_else(bad)
}

fn is_label(label: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=63).contains(&label.len()) && label.bytes().all(is_fine)
}

/// A name server: `10.0.0.10`, or `10.0.0.10:5353` where it is not at the usual port.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, Invalid> {
    const DNS: u16 = 53;
    let bare = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS));
    bare.or_else(|_| text.parse()).map_err(|_| {
        let what = format!("{text:?} is not the address of a name server");
        Invalid::new(what).hint("write `10.96.0.10`, or `10.96.0.10:5353` with a port")
    })
}

/// The path of a request, with its query.
pub(super) fn request_path(text: &str) -> Result<String, Invalid> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        Ok(text.to_owned())
    } else {
        let what = Invalid::new(format!("{text:?} is not the path of a request"));
        Err(what.hint("write a path that begins with `/`, such as `/healthz`; odd bytes as `%20`"))
    }
}

/// What a field holds that is a mapping, or `off`.
pub(super) enum Switchable<'a> {
    Absent,
    Off,
    On(Section<'a>),
}

/// Reads a mapping, or `off`; `example` shows how to write it.
pub(super) fn switchable<'a>(section: &Section<'a>, key: &str, example: &str) -> Switchable<'a> {
    match section.item(key) {
        None => Switchable::Absent,
        Some(Item::Section(mapping)) => Switchable::On(mapping),
        Some(Item::Text(text)) if text == "off" => Switchable::Off,
        Some(Item::Text(text)) => {
            let what = Invalid::new(format!("{text:?} is neither a mapping nor `off`"));
            section.fault(key, what.hint(format!("write `{key}: {example}`")));
            Switchable::Absent
        }
    }
}

/// Reads a mapping that has no flags; `example` shows how to write it.
pub(super) fn mapping<'a>(section: &Section<'a>, key: &str, example: &str) -> Option<Section<'a>> {
    match section.item(key)? {
        Item::Section(mapping) => Some(mapping),
        Item::Text(_) => {
            let what = Invalid::new("must be a mapping, and is a single value");
            section.fault(key, what.hint(format!("write `{key}: {example}`")));
            None
        }
    }
}

/// The name under which a choice is written.
pub(super) fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates() {
        for (text, events, seconds) in [("500/s", 500, 1), ("30/m", 30, 60), ("1/h", 1, 3600)] {
            let read = rate(text).unwrap();
            assert_eq!((read.events.get(), read.per.as_secs()), (events, seconds), "{text}");
        }
        for bad in ["500", "500/", "0/s", "-1/s", "+1/s", "1.5/s", "5/ms", "/s", "5 /s", "9999999999/s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares() {
        for (text, of_10_000) in
            [("0%", 0), ("1%", 100), ("0.5%", 50), ("0.05%", 5), ("12.34%", 1234), ("100.00%", 10_000)]
        {
            assert_eq!(share(text), Ok(of_10_000), "{text}");
        }
        for bad in ["1", "%", "101%", "100.01%", "0.001%", "-1%", "+1%", ".5%", "1.%", "0.1", "1 %", "1.+5%"]
        {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert_eq!((percent("20%"), percent("100%")), (Ok(20), Ok(100)));
        assert!(percent("20.5%").is_err());
    }

    #[test]
    fn networks() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), shown);
        }
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0", "pod", "", "fd00::1/8", "10.0.0.0/"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn name_servers() {
        for (text, shown) in
            [("10.0.0.1", "10.0.0.1:53"), ("10.0.0.1:5353", "10.0.0.1:5353"), ("fd00::1", "[fd00::1]:53")]
        {
            assert_eq!(name_server(text).unwrap().to_string(), shown);
        }
        for bad in ["", "dns", "10.0.0.1:", "10.0.0.1:70000", "fd00::1:x"] {
            assert!(name_server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn srv_names() {
        for good in ["_http._tcp.shop", "_http._TCP.shop.default.svc.cluster.local.", "_my-port._tcp.a_b.c"] {
            assert_eq!(address(&format!("srv:{good}")), Ok(Address::Srv(good.to_owned())));
        }
        let long = format!("_http._tcp.{}", "a.".repeat(130));
        for bad in [
            "",
            "shop",
            "_http.shop",
            "_http._udp.shop",
            "_http._tcp",
            "_http._tcp.",
            "_._tcp.a",
            "http._tcp.a",
            "_http._tcp.a..b",
            "_http._tcp.a b",
            "_http._tcp.shop:80",
            long.as_str(),
        ] {
            assert!(address(&format!("srv:{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn socket_paths() {
        let fits = format!("unix:/{}", "x".repeat(MAX_SOCKET_PATH - 1));
        assert!(listen(&fits).is_ok() && address(&fits).is_ok());
        for bad in
            [format!("{fits}x"), "unix:".to_owned(), "unix:run/a.sock".to_owned(), "unix:/a\0".to_owned()]
        {
            assert!(listen(&bad).is_err() && address(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(of_10_000 in 0_u16..=10_000, events in 1_u32.., unit in 0..RATE_UNITS.len()) {
            prop_assert_eq!(share(&show_share(of_10_000)), Ok(of_10_000));
            let shown = Rate { events: NonZeroU32::new(events).unwrap(), per: RATE_UNITS[unit].1 };
            prop_assert_eq!(rate(&show_rate(shown)), Ok(shown));
        }

        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,40}") {
            let _ = (rate(&text), share(&text), network(&text), listen(&text), address(&text), request_path(&text));
            let _ = (listen(&format!("unix:{text}")), address(&format!("srv:{text}")));
        }
    }
}
