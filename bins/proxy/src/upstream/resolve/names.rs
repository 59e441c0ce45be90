//! What is known of a name before a name server is asked: what it may stand for, and what this host has for it.

use std::fs::File;
use std::net::IpAddr;

use hickory_resolver::Hosts;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};

const HOSTS: &str = "/etc/hosts";

/// The names that a name may stand for, in the order they are tried (resolv.conf(5), `search` and `ndots`).
pub(super) fn candidates(name: Name, search: &[Name], ndots: usize) -> Vec<Name> {
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
pub(in crate::upstream) fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or(host);
    last.eq_ignore_ascii_case("localhost")
}

/// The addresses that `/etc/hosts` has for a name, as the file is now.
pub(super) fn in_hosts(host: &str) -> Option<Vec<IpAddr>> {
    let mut hosts = Hosts::default();
    hosts.read_hosts_conf(File::open(HOSTS).ok()?).ok()?;
    hosts_lookup(&hosts, host)
}

fn hosts_lookup(hosts: &Hosts, host: &str) -> Option<Vec<IpAddr>> {
    let name = Name::from_str_relaxed(host.to_ascii_lowercase()).ok()?;
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found: Vec<IpAddr> = [of(RecordType::A), of(RecordType::AAAA)]
        .iter()
        .flatten()
        .flat_map(|lookup| lookup.answers())
        .filter_map(|record| record.data.ip_addr())
        .collect();
    if found.is_empty() { None } else { Some(found) }
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
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"10.0.0.7 db DB.example # x\nfd00::7 db\n"[..]).unwrap();
        let of = |host| hosts_lookup(&hosts, host);
        assert_eq!(of("DB"), Some(vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()]));
        assert_eq!(of("db.example."), Some(vec!["10.0.0.7".parse().unwrap()]));
        assert_eq!(of("other"), None);
    }
}
