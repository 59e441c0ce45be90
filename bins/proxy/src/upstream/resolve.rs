//! Asks the DNS: names to addresses, as the system's own resolver would, and SRV names to hosts and ports.
//!
//! Follows `/etc/hosts`, the search list and `ndots` of `/etc/resolv.conf` as it is now (a pod's has `ndots:5`). Asks
//! once for each call and keeps nothing: when to ask again, and what to believe, is `refresh`'s.

mod names;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _, RetryDnsHandle};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

use crate::config::Address;
use names::{candidates, in_hosts};

pub(super) use names::is_localhost;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// All questions about one name together, each of them with its own tries.
const DEADLINE: Duration = Duration::from_secs(20);

/// One question, before it is asked again. The system's 5 s suit a person who waits; here the last answer is kept.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long what stands in `/etc/hosts` is good for: the file is read again then.
const HOSTS_TTL: Duration = Duration::from_secs(60);

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

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The DNS says so: no such name, or none with an address.
    #[error("the name does not exist, or has no address")]
    NotFound,
    #[error("the name server does not answer in time")]
    Timeout,
    /// The name server is not there, or cannot tell.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    /// The label of `podkit_proxy_dns_resolutions_total`.
    pub(crate) fn result(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Timeout => "timeout",
            Self::Failed(_) => "failed",
        }
    }
}

type Pool = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// Asks the system's name servers, or others.
#[derive(Debug)]
pub(crate) struct Resolver {
    /// In place of the system's. Names asked of them are complete: the search list belongs to the system's servers.
    servers: Vec<SocketAddr>,
    client: RefCell<Option<Rc<Client>>>,
}

/// What was made of `resolv.conf`.
struct Client {
    /// The file it was made of.
    text: Vec<u8>,
    pool: Pool,
    search: Vec<Name>,
    ndots: usize,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Client")
            .field("search", &self.search)
            .field("ndots", &self.ndots)
            .finish_non_exhaustive()
    }
}

impl Resolver {
    /// One that asks these name servers; the system's where there are none.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, client: RefCell::new(None) }
    }

    /// Asks for all addresses of an upstream.
    pub(crate) async fn resolve(&self, address: &Address) -> Result<Answer, Failure> {
        let asked = async {
            match address {
                Address::Host { host, port } => {
                    let (ips, ttl) = self.addresses(host).await?;
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
        let client = self.client()?;
        let records = client.search(name, |name| client.ask(name, RecordType::SRV)).await?;
        let (mut places, mut ttl, mut failure) = (Vec::new(), Duration::MAX, Failure::NotFound);
        for record in &records.answers {
            let RData::SRV(srv) = &record.data else { continue };
            ttl = ttl.min(seconds(record.ttl));
            // Name servers send the addresses along; the others are asked for.
            let told = records.additionals.iter().filter(|record| record.name == srv.target);
            let found = match ips(told) {
                Some(found) => Ok(found),
                None => self.addresses(&srv.target.to_utf8()).await,
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

    async fn addresses(&self, host: &str) -> Result<(Vec<IpAddr>, Duration), Failure> {
        if let Ok(ip) = host.parse() {
            return Ok((vec![ip], Duration::MAX));
        }
        if is_localhost(host) {
            return Ok((vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()], Duration::MAX));
        }
        if let Some(found) = in_hosts(host) {
            return Ok((found, HOSTS_TTL));
        }
        let client = self.client()?;
        let records = client.search(host, |name| client.ask_both(name)).await?;
        ips(&records.answers).ok_or(Failure::NotFound)
    }

    /// The client for `resolv.conf` as it is now.
    fn client(&self) -> Result<Rc<Client>, Failure> {
        // Without the file the name server is on this host (resolv.conf(5)).
        let text = std::fs::read(RESOLV_CONF).unwrap_or_else(|_| b"nameserver 127.0.0.1".to_vec());
        let mut known = self.client.borrow_mut();
        if let Some(client) = known.as_ref().filter(|client| client.text == text) {
            return Ok(Rc::clone(client));
        }
        let client = Rc::new(Client::new(text, &self.servers)?);
        *known = Some(Rc::clone(&client));
        Ok(client)
    }
}

/// What was answered to one name.
#[derive(Default)]
struct Records {
    answers: Vec<Record>,
    additionals: Vec<Record>,
}

impl Client {
    fn new(text: Vec<u8>, servers: &[SocketAddr]) -> Result<Self, Failure> {
        let (config, mut options) = if servers.is_empty() {
            parse_resolv_conf(&text).map_err(|error| Failure::Failed(format!("{RESOLV_CONF}: {error}")))?
        } else {
            let servers = servers.iter().map(name_server).collect();
            let mut options = ResolverOpts::default();
            options.ndots = 0;
            (ResolverConfig::from_name_servers(servers), options)
        };
        options.timeout = options.timeout.min(TIMEOUT);
        // A large answer must not be cut off at 512 bytes; TCP still follows where it is.
        options.edns0 = true;
        let (search, ndots, tries) = (config.search().to_vec(), options.ndots, options.attempts);
        let tls = TlsConfig::new().map_err(|error| Failure::Failed(error.to_string()))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let servers = config.name_servers().to_vec();
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        Ok(Self { text, pool: RetryDnsHandle::new(pool, tries), search, ndots })
    }

    /// Asks for a name as it may be meant, one after the other, until there is an answer.
    async fn search<F: Future<Output = Result<Records, Failure>>>(
        &self,
        host: &str,
        ask: impl Fn(Name) -> F,
    ) -> Result<Records, Failure> {
        let name = Name::from_str_relaxed(host).map_err(|error| Failure::Failed(error.to_string()))?;
        let mut failure = Failure::NotFound;
        for name in candidates(name, &self.search, self.ndots) {
            match ask(name).await {
                Err(Failure::NotFound) => {}
                // Who does not answer this question would not answer the next one either.
                outcome @ (Ok(_) | Err(Failure::Timeout)) => return outcome,
                // As the C library does: a search domain that is broken does not hide the others.
                Err(why) => failure = why,
            }
        }
        Err(failure)
    }

    async fn ask_both(&self, name: Name) -> Result<Records, Failure> {
        let (v4, v6) = tokio::join!(self.ask(name.clone(), RecordType::A), self.ask(name, RecordType::AAAA));
        match (v4, v6) {
            (Ok(mut records), Ok(more)) => {
                records.answers.extend(more.answers);
                Ok(records)
            }
            // Many networks have trouble with one family only.
            (Ok(records), Err(_)) | (Err(_), Ok(records)) => Ok(records),
            (Err(Failure::NotFound), Err(why)) | (Err(why), Err(_)) => Err(why),
        }
    }

    async fn ask(&self, name: Name, kind: RecordType) -> Result<Records, Failure> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        let outcome = self.pool.lookup(Query::query(name, kind), options).first_answer().await;
        match outcome {
            Ok(response) => {
                let message = response.into_message();
                // A chain of CNAME records may end in nothing.
                if message.answers.iter().any(|record| record.record_type() == kind) {
                    Ok(Records { answers: message.answers, additionals: message.additionals })
                } else {
                    Err(Failure::NotFound)
                }
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Err(Failure::NotFound),
            Err(NetError::Timeout) => Err(Failure::Timeout),
            Err(error) => Err(Failure::Failed(error.to_string())),
        }
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

/// The addresses among records, and the shortest TTL; `None` where there are none.
fn ips<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<(Vec<IpAddr>, Duration)> {
    let mut ttl = Duration::MAX;
    let found: Vec<IpAddr> = records
        .into_iter()
        // A CNAME on the way limits how long the answer is good, too.
        .inspect(|record| ttl = ttl.min(seconds(record.ttl)))
        .filter_map(|record| record.data.ip_addr())
        .collect();
    if found.is_empty() { None } else { Some((found, ttl)) }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
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
    fn the_search_list_of_a_pod_is_read() {
        let text =
            b"search shop.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let client = Client::new(text.to_vec(), &[]).unwrap();
        assert_eq!((client.ndots, client.search.len()), (5, 2));
        let other = Client::new(text.to_vec(), &["127.0.0.1:53".parse().unwrap()]).unwrap();
        assert_eq!((other.ndots, other.search.len()), (0, 0), "names are complete for other servers");
        assert!(Client::new(b"search x\n".to_vec(), &[]).is_err(), "no name server");
    }

    #[test]
    fn places_are_in_order_and_each_is_there_once() {
        let place = |priority, port: u16| Place {
            priority,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            weight: 1,
        };
        let all = answer(vec![place(1, 2), place(0, 9), place(1, 1), place(1, 2)], seconds(5)).unwrap();
        assert_eq!(all.places, [place(0, 9), place(1, 1), place(1, 2)]);
        assert_eq!(answer(Vec::new(), seconds(5)), Err(Failure::NotFound));
    }
}
