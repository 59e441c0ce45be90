//! `--forward 'LISTENER=UPSTREAM'`: a listener and its upstream in one word.

use std::net::SocketAddr;
use std::sync::Arc;

use podkit_cli::{Invalid, units};

use super::{Limits, Listener, Protocol, Timeouts, Upstream, direction_of};

/// One `--forward`, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forward {
    text: String,
    protocol: Protocol,
    listen: SocketAddr,
    host: String,
    port: u16,
}

const EXAMPLE: &str =
    "write `http://0.0.0.0:8080=http://127.0.0.1:8081` or `tcp://127.0.0.1:5432=tcp://db:5432`";

impl Forward {
    /// Reads `SCHEME://ADDRESS:PORT=[SCHEME://]HOST:PORT`.
    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new(format!("{text:?} {why}")).hint(EXAMPLE);
        let (listener, upstream) = text.split_once('=').ok_or_else(|| bad("is not LISTENER=UPSTREAM"))?;
        let (scheme, listen) =
            listener.split_once("://").ok_or_else(|| bad("has no scheme before the listener"))?;
        let protocol = match scheme {
            "http" => Protocol::Http,
            "tcp" => Protocol::Tcp,
            "https" => {
                return Err(Invalid::new(format!(
                    "{text:?}: https listeners are not built yet in this version"
                )));
            }
            _ => return Err(bad("has a listener that is neither http:// nor tcp://")),
        };
        let listen = units::listen_address(listen.strip_suffix('/').unwrap_or(listen))?;
        let address = match upstream.split_once("://") {
            None => upstream,
            Some(("https", _)) => {
                return Err(Invalid::new(format!(
                    "{text:?}: https upstreams are not built yet in this version"
                )));
            }
            Some((scheme, address)) if scheme == protocol.as_str() => address,
            Some(_) => return Err(bad("has an upstream of another scheme than the listener")),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        if address.contains('/') {
            return Err(bad("has a path behind the upstream, and requests keep their own path"));
        }
        let (host, port) = units::host_port(address)?;
        Ok(Self { text: text.to_owned(), protocol, listen, host, port })
    }

    /// The listener that this asks for, with a name that none of `others` has.
    pub(super) fn into_listener(self, others: &[Listener]) -> Listener {
        let (protocol, listen) = (self.protocol, self.listen);
        let taken = |name: &str| others.iter().any(|other| other.name == name);
        let mut name = format!("{}-{}", protocol.as_str(), listen.port());
        let mut number = 2;
        while taken(&name) {
            name = format!("{}-{}-{number}", protocol.as_str(), listen.port());
            number += 1;
        }
        let upstream = Arc::new(Upstream::new(name.clone(), self.host, self.port));
        Listener {
            name,
            told_by: format!("--forward '{}'", self.text),
            direction: direction_of(listen, &upstream),
            protocol,
            listen,
            upstream,
            limits: Limits::default(),
            timeouts: Timeouts::default_for(protocol),
        }
    }
}

#[cfg(test)]
impl Listener {
    /// The listener of a `--forward`, for tests.
    pub(crate) fn of_forward(text: &str) -> Self {
        Forward::parse(text).expect("a test's forward is sound").into_listener(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Direction;

    #[test]
    fn a_forward_is_a_listener_and_its_upstream() {
        let web = Listener::of_forward("http://0.0.0.0:8080=http://127.0.0.1:8081");
        assert_eq!((web.name.as_str(), web.protocol), ("http-8080", Protocol::Http));
        assert_eq!(
            (web.listen.to_string(), web.upstream.address()),
            ("0.0.0.0:8080".into(), "127.0.0.1:8081".into())
        );
        let db = Listener::of_forward("tcp://[::1]:5432=db:5432");
        assert_eq!(
            (db.protocol, db.direction, db.upstream.address()),
            (Protocol::Tcp, Direction::Outbound, "db:5432".into())
        );
    }

    #[test]
    fn only_from_loopback_to_elsewhere_is_outbound() {
        for (text, direction) in [
            ("http://0.0.0.0:80=http://127.0.0.1:81", Direction::Inbound),
            ("http://127.0.0.1:80=http://localhost:81", Direction::Inbound),
            ("http://127.0.0.1:80=http://[::1]:81", Direction::Inbound),
            ("http://0.0.0.0:80=http://10.0.0.1:81", Direction::Inbound),
            ("http://127.0.0.1:80=http://10.0.0.1:81", Direction::Outbound),
            ("tcp://127.0.0.2:80=auth:81", Direction::Outbound),
        ] {
            assert_eq!(Listener::of_forward(text).direction, direction, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for (text, why) in [
            ("", "is not LISTENER=UPSTREAM"),
            ("http://0.0.0.0:80", "is not LISTENER=UPSTREAM"),
            ("0.0.0.0:80=http://x:1", "has no scheme"),
            ("https://0.0.0.0:443=http://x:1", "https listeners are not built yet in this version"),
            ("http://0.0.0.0:80=https://x:1", "https upstreams are not built yet in this version"),
            ("udp://0.0.0.0:80=x:1", "neither http:// nor tcp://"),
            ("http://0.0.0.0:80=tcp://x:1", "another scheme"),
            ("http://host:80=http://x:1", "is not an address to listen on"),
            ("http://0.0.0.0:80=http://x", "is not `host:port`"),
            ("http://0.0.0.0:80=http://x:1/path", "has a path"),
            ("tcp://0.0.0.0:80=", "is not `host:port`"),
        ] {
            let what = Forward::parse(text).unwrap_err().to_string();
            assert!(what.contains(why), "{text:?}: {what}");
        }
    }

    #[test]
    fn names_are_told_apart() {
        let first = Listener::of_forward("http://127.0.0.1:80=http://x:1");
        let second = Forward::parse("http://127.0.0.2:80=http://x:1").unwrap().into_listener(&[first]);
        assert_eq!(second.name, "http-80-2");
    }
}
