//! What `POST /drain` asks for, from its query. Values only; what a lease does is the binary's business.

use std::time::Duration;

use ipnet::IpNet;
use podkit_cli::units::{self, MOST_PEERS};

use crate::query;

/// The lease of a `POST /drain` that names none: twice the kubelet's default grace period.
const DEFAULT_LENGTH: Duration = Duration::from_secs(60);
/// A name has room for any identifier.
const LONGEST_NAME: usize = 64;

/// A lease on a drain: `lease=60s&holder=x&ignore_peer=10.0.0.0/8&probe_peer=10.1.2.3`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    /// From now on.
    pub length: Duration,
    /// Who holds it, so that it ends or changes nobody else's; empty for all those that do not say.
    pub holder: String,
    /// Peers that are no clients: when they came says nothing about how quiet it is.
    pub ignored: Vec<IpNet>,
    /// Peers of which only the probes are no clients: traffic may come from there too, as from a node that hides the
    /// clients' addresses.
    pub probing: Vec<IpNet>,
}

impl Lease {
    /// By the query of `POST /drain`.
    pub(crate) fn read(query: Option<&str>) -> Result<Self, String> {
        let mut lease = Self { length: DEFAULT_LENGTH, ..Self::default() };
        for (name, text) in
            query::pairs(query, &["lease", "holder", "ignore_peer", "probe_peer"], "lease=5s")?
        {
            match name {
                "lease" => {
                    lease.length = units::positive_duration(&text).map_err(|why| format!("{name}: {why}"))?;
                }
                "holder" => lease.holder = holder(&text)?,
                _ => {
                    let peers = if name == "probe_peer" { &mut lease.probing } else { &mut lease.ignored };
                    if peers.len() == MOST_PEERS {
                        return Err(format!("{name}: there are more than {MOST_PEERS}; give larger blocks"));
                    }
                    let bad = |why| format!("{name}: {why}; write `10.0.0.5` or `10.0.0.0/8`");
                    peers.push(units::network(&text).map_err(bad)?);
                }
            }
        }
        Ok(lease)
    }
}

/// Whose lease `DELETE /drain` ends; `None` for all.
pub(crate) fn giver(query: Option<&str>) -> Result<Option<String>, String> {
    let pairs = query::pairs(query, &["holder"], "holder=NAME")?;
    pairs.last().map(|(_, text)| holder(text)).transpose()
}

fn holder(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(is_plain) {
        return Err(format!(
            "holder: {text:?} is not a name of up to {LONGEST_NAME} letters, digits and `-._`"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_says_how_long_who_and_whom_not_to_count() {
        let read = Lease::read(Some(
            "ignore_peer=10.0.0.0/8&lease=5s&holder=a-1&probe_peer=::ffff:10.1.2.3&ignore_peer=fd00::1",
        ));
        let lease = read.unwrap();
        assert_eq!((lease.length, lease.holder.as_str()), (Duration::from_secs(5), "a-1"));
        let shown = |peers: &[IpNet]| peers.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&lease.ignored), ["10.0.0.0/8", "fd00::1/128"]);
        assert_eq!(shown(&lease.probing), ["10.1.2.3/32"]);
        assert_eq!(Lease::read(None).unwrap(), Lease { length: DEFAULT_LENGTH, ..Lease::default() });
    }

    #[test]
    fn a_block_that_stands_for_ipv4_is_that() {
        let lease = Lease::read(Some("ignore_peer=::ffff:10.0.0.0/104")).unwrap();
        assert_eq!(lease.ignored, ["10.0.0.0/8".parse().unwrap()]);
    }

    #[test]
    fn what_is_wrong_with_a_lease_is_said() {
        let many = "&ignore_peer=10.0.0.1".repeat(MOST_PEERS + 1);
        for (query, why) in [
            ("lease=5", "lease: \"5\" has no unit"),
            ("lease=0s", "lease: \"0s\" must be longer than zero"),
            ("leese=5s", "\"leese=5s\" is not known here; write `lease=5s`"),
            ("holder=", "holder: \"\" is not a name of up to 64 letters, digits and `-._`"),
            ("holder=a%20b", "holder: \"a b\" is not a name"),
            ("ignore_peer=10.0.0.0/33", "ignore_peer: \"10.0.0.0/33\" is neither a network nor an address"),
            (
                "ignore_peer=node",
                "ignore_peer: \"node\" is neither a network nor an address; write `10.0.0.5`",
            ),
            ("probe_peer=", "probe_peer: \"\" is neither a network nor an address"),
            (many.as_str(), "ignore_peer: there are more than 64"),
        ] {
            let said = Lease::read(Some(query)).unwrap_err();
            assert!(said.starts_with(why), "{query}: {said}");
        }
    }

    #[test]
    fn one_lease_is_given_back_or_all() {
        assert_eq!(giver(None), Ok(None));
        assert_eq!(giver(Some("holder=a")), Ok(Some("a".to_owned())));
        assert!(giver(Some("lease=5s")).unwrap_err().contains("write `holder=NAME`"));
    }
}
