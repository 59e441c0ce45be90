//! What is known of a name before a name server is asked: what it may stand for, and what this host has for it.

use std::fs;
use std::net::IpAddr;

use hickory_proto::rr::Name;

const HOSTS: &str = "/etc/hosts";

/// The names that a name may stand for, in the order they are tried (resolv.conf(5), `search` and `ndots`).
pub(crate) fn candidates(name: Name, search: &[Name], ndots: usize) -> Vec<Name> {
    let mut whole = name.clone();
    whole.set_fqdn(true);
    if name.is_fqdn() {
        return vec![whole];
    }
    let searched = search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let mut names: Vec<Name> = Vec::with_capacity(search.len() + 1);
    if dots >= ndots {
        names.push(whole);
        names.extend(searched);
    } else {
        names.extend(searched);
        names.push(whole);
    }
    names
}

/// `localhost`, and all below it, is never asked for (RFC 6761 6.3).
#[must_use]
pub fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or(host);
    last.eq_ignore_ascii_case("localhost")
}

/// The addresses that `/etc/hosts` has for a name, as the file is now.
pub(crate) fn in_hosts(host: &str) -> Option<Vec<IpAddr>> {
    let found = hosts(&fs::read_to_string(HOSTS).ok()?, host);
    if found.is_empty() { None } else { Some(found) }
}

/// An address and its names a line, `#` before a comment (hosts(5)); names are compared without their case.
fn hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let of_line = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    };
    text.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_str_relaxed(text).unwrap()
    }

    fn tried(host: &str, search: &[&str], ndots: usize) -> Vec<String> {
        let search: Vec<Name> = search.iter().map(|domain| name(domain)).collect();
        candidates(name(host), &search, ndots).iter().map(Name::to_utf8).collect()
    }

    #[test]
    fn a_short_name_is_searched_first_and_a_long_one_last() {
        let search = ["shop.svc.cluster.local", "svc.cluster.local"];
        assert_eq!(tried("db", &search, 5), ["db.shop.svc.cluster.local.", "db.svc.cluster.local.", "db."],);
        assert_eq!(
            tried("a.b.c.d.e.f", &search, 5),
            ["a.b.c.d.e.f.", "a.b.c.d.e.f.shop.svc.cluster.local.", "a.b.c.d.e.f.svc.cluster.local."],
        );
        assert_eq!(tried("db.shop.", &search, 5), ["db.shop."]);
        assert_eq!(tried("db", &[], 0), ["db."]);
        assert_eq!(tried("_http._tcp.web", &["svc"], 1), ["_http._tcp.web.", "_http._tcp.web.svc."]);
    }

    #[test]
    fn localhost_needs_no_name_server() {
        for host in ["localhost", "LOCALHOST", "localhost.", "app.localhost"] {
            assert!(is_localhost(host), "{host}");
        }
        assert!(!is_localhost("localhost.example") && !is_localhost("mylocalhost"));
    }

    #[test]
    fn the_hosts_file_comes_before_the_dns() {
        let text = "# ours\n10.0.0.7 db DB.example # x\nfd00::7\tdb\nnonsense db\n10.0.0.8 x # db\n";
        let of = |host| hosts(text, host);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(of("DB"), [ip("10.0.0.7"), ip("fd00::7")]);
        assert_eq!(of("db.example."), [ip("10.0.0.7")]);
        assert!(of("other").is_empty());
    }
}
