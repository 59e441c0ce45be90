//! Names to addresses, as the system's own resolver would: static binaries have no such resolver.
//!
//! Follows `/etc/hosts`, the search list and `ndots` of `/etc/resolv.conf` as it is now (a pod's has `ndots:5`). Asks
//! once for each call and keeps nothing: when to ask again, and what to believe, is the caller's.

mod client;
mod names;
#[cfg(target_feature = "crt-static")]
mod no_libc;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::Client;
use names::in_hosts;

pub use client::Records;
pub use hickory_proto::rr::{RData, Record, RecordType};
pub use names::is_localhost;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long what stands in `/etc/hosts` is good for: the file is read again then.
const HOSTS_TTL: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The DNS says so: no such name, or none with an address.
    #[error("the name does not exist, or has no address")]
    NotFound,
    /// No name server answered.
    #[error("the name server does not answer in time")]
    Timeout,
    /// The name server is not there, or cannot tell.
    #[error("{0}")]
    Failed(String),
}

/// Asks the system's name servers, or others. Clones share their connections.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    /// In place of the system's. Names asked of them are complete: the search list belongs to the system's servers.
    servers: Vec<SocketAddr>,
    client: Arc<Mutex<Option<Arc<Client>>>>,
}

impl Resolver {
    /// One that asks these name servers; the system's where there are none.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, client: Arc::default() }
    }

    /// All addresses of a host, and how long they are good for.
    ///
    /// # Errors
    /// There is none, or nobody tells.
    pub async fn addresses(&self, host: &str) -> Result<(Vec<IpAddr>, Duration), Failure> {
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

    /// All records of one kind, and what the name server sent along.
    ///
    /// # Errors
    /// There is none, or nobody tells.
    pub async fn records(&self, name: &str, kind: RecordType) -> Result<Records, Failure> {
        let client = self.client()?;
        client.search(name, |name| client.ask(name, kind)).await
    }

    /// The client for `resolv.conf` as it is now.
    fn client(&self) -> Result<Arc<Client>, Failure> {
        // Without the file the name server is on this host (resolv.conf(5)).
        let text = std::fs::read(RESOLV_CONF).unwrap_or_else(|_| b"nameserver 127.0.0.1".to_vec());
        let mut known = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.as_ref().filter(|client| client.text == text) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Client::new(text, &self.servers)?);
        *known = Some(Arc::clone(&client));
        Ok(client)
    }
}

/// The addresses among records, and the shortest TTL; `None` where there are none.
pub fn ips<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<(Vec<IpAddr>, Duration)> {
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
