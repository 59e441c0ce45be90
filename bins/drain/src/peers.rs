//! Whose connections count as traffic. Values only; never looks at a socket.

use std::net::IpAddr;

use ipnet::IpNet;
use podkit_cli::units::show_network;

/// Which peers are clients.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers {
    /// Not clients: the user says so.
    pub(crate) ignored: Vec<IpNet>,
    /// The addresses of the node, whose kubelet probes the app.
    pub(crate) node: Vec<IpAddr>,
    /// Loopback peers are the pod's own sidecars, so they are not clients unless this says so.
    pub(crate) count_loopback: bool,
}

impl Peers {
    /// Whether a connection from `peer` is traffic, as far as its address tells. An IPv6 address that stands for an IPv4
    /// one is that one.
    #[must_use]
    pub(crate) fn count(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let is_left_out = self.node_left_out().contains(&peer)
            || self.ignored.iter().any(|network| network.contains(&peer));
        !is_left_out && (self.count_loopback || !peer.is_loopback())
    }

    /// The node, where an address is all that is known: unless others are named, which may be in order to count it.
    pub(crate) fn node_left_out(&self) -> &[IpAddr] {
        if self.ignored.is_empty() { &self.node } else { &[] }
    }

    /// For the query of a lease: `&ignore_peer=10.0.0.0/8&probe_peer=10.1.2.3`. The proxy sees more than addresses, so
    /// it leaves out of the node's and of loopback's only what is a probe: traffic comes from the node too where
    /// addresses are translated, and from loopback where a mesh's sidecar hands it on.
    pub(crate) fn query(&self) -> String {
        let ignored = self.ignored.iter().map(|network| format!("&ignore_peer={}", show_network(network)));
        let node = self.node.iter().map(|node| format!("&probe_peer={node}"));
        let loopback = if self.count_loopback { "" } else { "&probe_peer=127.0.0.0/8&probe_peer=::1" };
        ignored.chain(node).chain([loopback.to_owned()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podkit_cli::units::network;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_hold_what_they_say() {
        for (block, inside, outside) in [
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.9.9.9", "11.1.2.3"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::ffff:10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("::/0", "2001:db8::1", "8.8.8.8"),
        ] {
            let peers = Peers { ignored: vec![network(block).unwrap()], ..Peers::default() };
            assert!(!peers.count(ip(inside)), "{block} holds {inside}");
            assert!(peers.count(ip(outside)), "{block} does not hold {outside}");
        }
    }

    #[test]
    fn loopback_and_ignored_peers_are_no_clients() {
        let mut peers = Peers { ignored: vec![network("10.0.0.0/8").unwrap()], ..Peers::default() };
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
        let mut peers = Peers { node: vec![ip("10.1.2.3")], ..Peers::default() };
        assert!(!peers.count(ip("10.1.2.3")) && peers.count(ip("10.1.2.4")));
        assert_eq!(peers.query(), "&probe_peer=10.1.2.3&probe_peer=127.0.0.0/8&probe_peer=::1");
        peers.ignored = vec![network("10.0.0.0/8").unwrap(), network("fd00::1").unwrap()];
        peers.count_loopback = true;
        assert_eq!(peers.query(), "&ignore_peer=10.0.0.0/8&ignore_peer=fd00::1&probe_peer=10.1.2.3");
        peers.ignored = vec![network("fd00::1").unwrap()];
        assert!(
            peers.count(ip("10.1.2.3")),
            "who is named stands for the node where an address is all there is"
        );
        assert_eq!(Peers { count_loopback: true, ..Peers::default() }.query(), "");
    }
}
