//! Names are looked up without the system's library: static binaries have none that could.

use std::net::SocketAddr;

use podkit_dns::Resolver;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The system's name servers, for the HTTP client.
#[derive(Default)]
pub(crate) struct Names(Resolver);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let (addresses, _) = resolver.addresses(name.as_str()).await?;
            // The client puts the URL's port in the place of 0.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
