//! Networks and addresses as one thing: an address is the network that holds only itself.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::fault::Invalid;

/// How many peers of a kind a lease of the drain may name: far more than a pod is probed from. They are gone through
/// for each connection that comes.
pub const MOST_PEERS: usize = 64;

/// The bits before the IPv4 address in an IPv6 address that stands for one, `::ffff:10.1.2.3`.
const MAPPED: u8 = 96;

/// `10.0.0.0/8`, `fd00::/8`, or one address. What stands for IPv4 by an IPv6 address is that IPv4 network, since peers
/// are compared by what their addresses stand for.
///
/// # Errors
/// Neither, or a network of IPv6 addresses that stand for IPv4 ones and others: it would hold no IPv4 peer.
pub fn network(text: &str) -> Result<IpNet, Invalid> {
    let bad = || {
        Invalid::new(format!("{text:?} is neither a network nor an address"))
            .hint("write `10.0.0.0/8`, `fd00::/8` or `10.0.0.1`")
    };
    if !text.contains('/') {
        return text.parse::<IpAddr>().map(|address| address.to_canonical().into()).map_err(|_| bad());
    }
    let network: IpNet = text.parse().map_err(|_| bad())?;
    let IpAddr::V4(address) = network.addr().to_canonical() else { return Ok(network) };
    let IpNet::V6(mapped) = network else { return Ok(network) };
    let of_v4 = mapped.prefix_len().checked_sub(MAPPED).and_then(|bits| Ipv4Net::new(address, bits).ok());
    of_v4.map(IpNet::V4).ok_or_else(|| {
        Invalid::new(format!("{text:?} holds more than the addresses that stand for IPv4"))
            .hint("write `0.0.0.0/0` for all of IPv4")
    })
}

/// As [`network`] reads it back: an address alone without its length.
#[must_use]
pub fn show_network(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_shown_as_they_are_read() {
        for text in ["10.1.2.3", "10.0.0.0/8", "10.1.2.3/8", "fd00::/8", "::1", "0.0.0.0/0", "::/0"] {
            assert_eq!(network(text).map(|read| show_network(&read)).as_deref(), Ok(text));
        }
        for bad in ["", "10.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "/8", "host", "10.0.0.0/-1"] {
            let said = network(bad).unwrap_err().message;
            assert_eq!(said, format!("{bad:?} is neither a network nor an address"));
        }
    }

    #[test]
    fn what_stands_for_ipv4_is_ipv4() {
        for (text, meant) in [
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3/128", "10.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:a00:0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).map(|read| show_network(&read)).as_deref(), Ok(meant), "{text}");
        }
        let said = network("::ffff:0:0/95").unwrap_err();
        assert_eq!(said.message, "\"::ffff:0:0/95\" holds more than the addresses that stand for IPv4");
    }
}
