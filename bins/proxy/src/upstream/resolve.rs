//! Asks the DNS for an upstream: names to addresses, and SRV names to hosts and ports.
//!
//! Asks once for each call and keeps nothing: when to ask again, and what to believe, is `refresh`'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use podkit_dns::{Failure, RData, RecordType, ips};

use crate::config::Address;

/// All questions about one name together, each of them with its own tries.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where an upstream is, by one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Lower ones first (SRV); 0 without.
    pub(crate) priority: u16,
    pub(crate) address: SocketAddr,
    /// The share of the load (SRV); 0 without.
    pub(crate) weight: u16,
}

/// All that the DNS says of an upstream's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// In order, each address once; not empty.
    pub(crate) places: Vec<Place>,
    /// The shortest of its records.
    pub(crate) ttl: Duration,
}

/// The label of `podkit_proxy_dns_resolutions_total`.
pub(super) fn result(outcome: &Result<Answer, Failure>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(Failure::NotFound) => "not_found",
        Err(Failure::Timeout) => "timeout",
        Err(Failure::Failed(_)) => "failed",
    }
}

/// Asks for upstreams.
#[derive(Debug)]
pub(crate) struct Resolver(podkit_dns::Resolver);

impl Resolver {
    /// One that asks these name servers; the system's where there are none.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self(podkit_dns::Resolver::new(servers))
    }

    /// Asks for all addresses of an upstream.
    pub(crate) async fn resolve(&self, address: &Address) -> Result<Answer, Failure> {
        let asked = async {
            match address {
                Address::Host { host, port } => {
                    let (ips, ttl) = self.0.addresses(host).await?;
                    let place = |ip| Place { priority: 0, address: SocketAddr::new(ip, *port), weight: 0 };
                    answer(ips.into_iter().map(place).collect(), ttl)
                }
                Address::Srv(name) => self.services(name).await,
                Address::Unix(_) => Err(Failure::NotFound),
            }
        };
        tokio::time::timeout(DEADLINE, asked).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn services(&self, name: &str) -> Result<Answer, Failure> {
        let records = self.0.records(name, RecordType::SRV).await?;
        let (mut places, mut ttl, mut failure) = (Vec::new(), Duration::MAX, Failure::NotFound);
        for record in &records.answers {
            let RData::SRV(srv) = &record.data else { continue };
            ttl = ttl.min(Duration::from_secs(record.ttl.into()));
            // Name servers send the addresses along; the others are asked for.
            let told = records.additionals.iter().filter(|record| record.name == srv.target);
            let found = match ips(told) {
                Some(found) => Ok(found),
                None => self.0.addresses(&srv.target.to_utf8()).await,
            };
            match found {
                Ok((ips, address_ttl)) => {
                    ttl = ttl.min(address_ttl);
                    places.extend(ips.into_iter().map(|ip| Place {
                        priority: srv.priority,
                        address: SocketAddr::new(ip, srv.port),
                        weight: srv.weight,
                    }));
                }
                Err(why) => failure = why,
            }
        }
        if places.is_empty() { Err(failure) } else { answer(places, ttl) }
    }
}

/// Puts places in order, each address once, without those of an address family that this host has no way to.
fn answer(mut places: Vec<Place>, ttl: Duration) -> Result<Answer, Failure> {
    places.sort_unstable();
    places.dedup_by_key(|place| (place.priority, place.address));
    for is_v4 in [true, false] {
        let of_family = |place: &Place| place.address.is_ipv4() == is_v4;
        let only = places.iter().all(of_family);
        if let Some(first) = places.iter().find(|place| of_family(place))
            && !only
            && !has_route(first.address)
        {
            places.retain(|place| !of_family(place));
        }
    }
    if places.is_empty() { Err(Failure::NotFound) } else { Ok(Answer { places, ttl }) }
}

/// Whether the kernel knows a way to an address. Sends nothing.
fn has_route(address: SocketAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_order_and_each_is_there_once() {
        let place = |priority, port: u16| Place {
            priority,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            weight: 1,
        };
        let all =
            answer(vec![place(1, 2), place(0, 9), place(1, 1), place(1, 2)], Duration::from_secs(5)).unwrap();
        assert_eq!(all.places, [place(0, 9), place(1, 1), place(1, 2)]);
        assert_eq!(answer(Vec::new(), Duration::from_secs(5)), Err(Failure::NotFound));
    }
}
