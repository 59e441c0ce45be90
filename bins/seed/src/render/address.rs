//! What templates ask of IP addresses and networks: a pod's address may be of either family.

use std::net::IpAddr;

use ipnet::IpNet;
use minijinja::{Environment, Error};

use super::explain::ours;

/// The names, each of which is a function and a filter.
pub(super) const NAMES: &[&str] =
    &["cidr_contains", "cidr_host", "cidr_netmask", "cidr_network", "ip_version", "url_host"];

/// Lets templates use them: `cidr_host('10.0.0.0/8', 5)` or `values.cidr | cidr_host(5)`.
pub(super) fn add(engine: &mut Environment<'static>) {
    macro_rules! both {
        ($($name:ident),*) => {$(
            engine.add_function(stringify!($name), $name);
            engine.add_filter(stringify!($name), $name);
        )*};
    }
    both!(cidr_contains, cidr_host, cidr_netmask, cidr_network, ip_version, url_host);
}

fn network(text: &str) -> Result<IpNet, Error> {
    let net: IpNet = text.parse().map_err(|_| ours(format!("{text:?} is no network like \"10.0.0.0/8\"")))?;
    Ok(net.trunc())
}

fn address(text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| ours(format!("{text:?} is no IP address")))
}

/// The address of a number in the network, from 0 for the network itself; a negative one counts from the end.
fn cidr_host(cidr: String, number: i64) -> Result<String, Error> {
    let net = network(&cidr)?;
    let outside = || ours(format!("the network {cidr:?} has no address number {number}"));
    let (first, last) = (bits(net.network()), bits(net.broadcast()));
    let step = u128::from(number.unsigned_abs());
    let found = if number < 0 { last.checked_sub(step - 1) } else { first.checked_add(step) };
    let found = found.filter(|found| (first..=last).contains(found)).ok_or_else(outside)?;
    Ok(match net {
        IpNet::V4(_) => IpAddr::from(u32::try_from(found).map_err(|_| outside())?.to_be_bytes()),
        IpNet::V6(_) => IpAddr::from(found.to_be_bytes()),
    }
    .to_string())
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether an address, or a whole network, lies in the network.
fn cidr_contains(cidr: String, inner: String) -> Result<bool, Error> {
    let net = network(&cidr)?;
    match inner.parse::<IpNet>() {
        Ok(inner) => Ok(net.contains(&inner)),
        Err(_) => Ok(net.contains(&address(&inner)?)),
    }
}

fn cidr_network(cidr: String) -> Result<String, Error> {
    Ok(network(&cidr)?.network().to_string())
}

fn cidr_netmask(cidr: String) -> Result<String, Error> {
    Ok(network(&cidr)?.netmask().to_string())
}

fn ip_version(ip: String) -> Result<u8, Error> {
    Ok(if address(&ip)?.is_ipv4() { 4 } else { 6 })
}

/// The address as a URL and a `host:port` have it: in brackets if it is of version 6. Names stay as they are.
fn url_host(host: String) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host,
    }
}
