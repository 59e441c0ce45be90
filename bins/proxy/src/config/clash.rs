//! What no two listeners may share, and the ways on which a request would come back to us for ever.

use std::net::{IpAddr, SocketAddr};

use podkit_cli::Invalid;

use super::{Address, ListenAddress, Listener, Upstream};

/// Each listener that cannot have its address beside those before it and the admin port, and why.
pub(super) fn clashes(listeners: &[Listener], admin: Option<SocketAddr>) -> Vec<(usize, Invalid)> {
    let admin = admin.map(|address| (ListenAddress::Tcp(address), "the admin port"));
    let all = listeners.iter().enumerate();
    let found = all.filter_map(|(index, listener)| {
        let before = listeners[..index].iter().map(|other| (&other.listen, other.told_by.as_str()));
        let mut taken = admin.iter().map(|(address, by)| (address, *by)).chain(before);
        let why = taken.find_map(|(address, by)| clash(&listener.listen, address, by))?;
        Some((index, Invalid::new(why).hint("give each an address of its own")))
    });
    found.collect()
}

/// Why nobody can listen on `listen` as long as `taken` is held.
fn clash(listen: &ListenAddress, taken: &ListenAddress, by: &str) -> Option<String> {
    match (listen, taken) {
        (ListenAddress::Tcp(address), _) if address.port() == 0 => None,
        _ if listen == taken => Some(format!("{listen} is taken by {by}")),
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) if covers(*one, *other) => {
            Some(format!("{one} takes {other} too, which is taken by {by}"))
        }
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) if covers(*other, *one) => {
            Some(format!("{one} is taken by {by}, which listens on {other}"))
        }
        _ => None,
    }
}

/// Whether listening on all addresses of a port takes another's: `[::]` listens on IPv4 too.
fn covers(wide: SocketAddr, narrow: SocketAddr) -> bool {
    let is_wide = match wide.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && narrow.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    is_wide && wide.port() == narrow.port() && wide != narrow
}

/// The last listener of each circle of listeners that are upstreams of each other, and what is wrong with it.
pub(super) fn circles(listeners: &[Listener]) -> Vec<(usize, Invalid)> {
    let next = |from: usize| listeners.iter().position(|one| reaches(&listeners[from].upstream, &one.listen));
    let found = (0..listeners.len()).filter_map(|from| {
        let mut last = from;
        // A circle is no longer than there are listeners.
        for _ in 0..listeners.len() {
            match next(last)? {
                to if to == from => return Some((from, circle(&listeners[from], &listeners[last]))),
                // Told at that one, or at one behind it.
                to if to > from => return None,
                to => last = to,
            }
        }
        None
    });
    found.collect()
}

fn circle(listener: &Listener, last: &Listener) -> Invalid {
    let (listen, through) = (&listener.listen, &last.told_by);
    let what = if listener == last {
        format!("{listen} is its own upstream: each request would come back for ever")
    } else {
        format!("each request would come back to {listen} for ever, through {through}")
    };
    Invalid::new(what).hint("give the address where the app itself listens")
}

/// Whether an upstream is, as far as can be told without the DNS, what listens there.
fn reaches(upstream: &Upstream, listen: &ListenAddress) -> bool {
    match (listen, &upstream.address) {
        (ListenAddress::Unix(listen), Address::Unix(path)) => listen == path,
        (ListenAddress::Tcp(listen), Address::Host { host, port }) => {
            listen.port() == *port
                && (host.parse() == Ok(listen.ip())
                    || (upstream.address.is_local() && listen.ip().is_unspecified())
                    || (host.eq_ignore_ascii_case("localhost") && listen.ip().is_loopback()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> ListenAddress {
        ListenAddress::Tcp(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_taken_once() {
        for (one, other, clashes) in [
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::1]:80", true),
            ("[::1]:80", "127.0.0.1:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(clash(&tcp(one), &tcp(other), "x").is_some(), clashes, "{one} {other}");
            assert_eq!(clash(&tcp(other), &tcp(one), "x").is_some(), clashes, "{other} {one}");
        }
        let socket = ListenAddress::Unix("/run/a.sock".into());
        assert_eq!(clash(&socket, &socket, "x").unwrap(), "unix:/run/a.sock is taken by x");
        assert_eq!(clash(&socket, &tcp("0.0.0.0:80"), "x"), None);
    }

    #[test]
    fn a_way_that_leads_back_is_found_whatever_lies_between() {
        for (forwards, found) in [
            (&["http://0.0.0.0:80=http://127.0.0.1:80"][..], &[0][..]),
            (&["http://127.0.0.1:80=http://localhost:80"], &[0]),
            (&["http://0.0.0.0:80=http://127.0.0.1:81"], &[]),
            (&["http://127.0.0.1:80=http://127.0.0.1:81", "http://127.0.0.1:81=http://127.0.0.1:80"], &[1]),
            // A listener in front of a circle is not part of it, wherever it stands.
            (
                &[
                    "http://127.0.0.1:79=http://127.0.0.1:80",
                    "http://127.0.0.1:80=http://127.0.0.1:81",
                    "http://127.0.0.1:81=http://127.0.0.1:80",
                    "http://127.0.0.1:82=http://127.0.0.1:80",
                ],
                &[2],
            ),
            (&["http://0.0.0.0:80=http://127.0.0.1:81", "http://127.0.0.1:81=http://127.0.0.1:82"], &[]),
            (&["http+unix:/run/a.sock=unix:/run/a.sock"], &[0]),
        ] {
            let listeners: Vec<_> = forwards.iter().map(|text| Listener::of_forward(text)).collect();
            let circles: Vec<usize> = circles(&listeners).into_iter().map(|(index, _)| index).collect();
            assert_eq!(circles, found, "{forwards:?}");
        }
    }
}
