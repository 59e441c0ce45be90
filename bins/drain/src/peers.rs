//! Whose connections count as traffic. Values only; never looks at a socket.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use podkit_cli::Invalid;

/// An address or a block of addresses, such as `10.1.2.3` or `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    address: IpAddr,
    bits: u8,
}

impl Block {
    /// Whether `address` lies in the block. An IPv4-mapped IPv6 address counts as the IPv4 address that it stands for.
    #[must_use]
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                u32::from(block).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                u128::from(block).checked_shr(shift) == u128::from(address).checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl From<IpAddr> for Block {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Block {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || {
            Invalid::new(format!("{text:?} is not an address or a block of addresses"))
                .hint("write `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`")
        };
        let Some((address, bits)) = text.split_once('/') else {
            return text.parse::<IpAddr>().map(Self::from).map_err(|_| bad());
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        if bits > if address.is_ipv4() { 32 } else { 128 } { Err(bad()) } else { Ok(Self { address, bits }) }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.bits) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => self.address.fmt(f),
            (address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

/// Which peers are clients.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers {
    /// Not clients: the user says so.
    pub(crate) ignored: Vec<Block>,
    /// Its kubelet probes the app.
    pub(crate) node: Option<Block>,
    /// Loopback peers are the pod's own sidecars, so they are not clients unless this says so.
    pub(crate) count_loopback: bool,
}

impl Peers {
    /// All blocks that are no clients, but for loopback.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = &Block> {
        self.ignored.iter().chain(&self.node)
    }

    /// Whether a connection from `peer` is traffic, as far as its address tells.
    #[must_use]
    pub(crate) fn count(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        (self.count_loopback || !peer.is_loopback()) && !self.left_out().any(|block| block.contains(peer))
    }

    /// For the query of a lease: `&ignore_peer=10.0.0.0/8&probe_peer=10.1.2.3`. The proxy sees more than addresses, so
    /// it leaves out of the node's and of loopback's only what is a probe: traffic comes from the node too where
    /// addresses are translated, and from loopback where a mesh's sidecar hands it on.
    pub(crate) fn query(&self) -> String {
        let ignored = self.ignored.iter().map(|block| format!("&ignore_peer={block}"));
        let node = self.node.iter().map(|block| format!("&probe_peer={block}"));
        let loopback = if self.count_loopback { "" } else { "&probe_peer=127.0.0.0/8&probe_peer=::1" };
        ignored.chain(node).chain([loopback.to_owned()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_hold_what_they_say() {
        for (block, inside, outside) in [
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.9.9.9", "11.1.2.3"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::ffff:10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("::/0", "2001:db8::1", "8.8.8.8"),
        ] {
            let parsed: Block = block.parse().unwrap();
            assert!(parsed.contains(ip(inside)), "{block} holds {inside}");
            assert!(!parsed.contains(ip(outside)), "{block} does not hold {outside}");
        }
    }

    #[test]
    fn blocks_are_shown_as_they_are_read() {
        for text in ["10.1.2.3", "10.0.0.0/8", "fd00::/8", "::1"] {
            assert_eq!(text.parse::<Block>().unwrap().to_string(), text);
        }
        for bad in ["", "10.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "/8", "host", "10.0.0.0/-1"] {
            assert!(bad.parse::<Block>().is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_and_ignored_peers_are_no_clients() {
        let mut peers = Peers { ignored: vec!["10.0.0.0/8".parse().unwrap()], ..Peers::default() };
        for (peer, counts) in [
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("10.1.1.1", false),
            ("11.1.1.1", true),
        ] {
            assert_eq!(peers.count(ip(peer)), counts, "{peer}");
        }
        peers.count_loopback = true;
        assert!(peers.count(ip("::ffff:127.0.0.1")) && !peers.count(ip("::ffff:10.1.1.1")));
    }

    #[test]
    fn the_proxy_is_told_whom_not_to_count() {
        let mut peers = Peers { node: Some("10.1.2.3".parse().unwrap()), ..Peers::default() };
        assert!(!peers.count(ip("10.1.2.3")) && peers.count(ip("10.1.2.4")));
        assert_eq!(peers.query(), "&probe_peer=10.1.2.3&probe_peer=127.0.0.0/8&probe_peer=::1");
        peers.ignored = vec!["10.0.0.0/8".parse().unwrap(), "fd00::1".parse().unwrap()];
        (peers.node, peers.count_loopback) = (None, true);
        assert_eq!(peers.query(), "&ignore_peer=10.0.0.0/8&ignore_peer=fd00::1");
        assert_eq!(Peers { count_loopback: true, ..Peers::default() }.query(), "");
    }
}
