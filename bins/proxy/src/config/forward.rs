//! `--forward 'LISTENER=UPSTREAM'`: a listener and its upstream in one word.

use std::sync::Arc;

use podkit_cli::{Invalid, Section, units};

use super::{
    Address, ClientCerts, Direction, ListenAddress, Listener, ListenerTls, Protocol, Upstream, UpstreamTls,
    values,
};

/// One `--forward`, checked.
#[derive(Debug, PartialEq, Eq)]
struct Forward {
    text: String,
    /// What stands before the listener: `https`.
    scheme: &'static str,
    protocol: Protocol,
    /// The listener's, not the upstream's.
    has_tls: bool,
    listen: ListenAddress,
    address: Address,
    upstream_tls: bool,
}

const EXAMPLE: &str =
    "write `http://0.0.0.0:8080=http://127.0.0.1:8081` or `tcp://127.0.0.1:5432=tcp://db:5432`";

/// What a scheme before the listener says: the protocol, and whether with TLS.
const SCHEMES: &[(&str, Protocol, bool)] =
    &[("http", Protocol::Http, false), ("https", Protocol::Http, true), ("tcp", Protocol::Tcp, false)];

/// The listeners of all `--forward`, under names that nothing in the file has.
pub(super) fn read(root: &Section<'_>, listeners: &[Listener], upstreams: &[Arc<Upstream>]) -> Vec<Listener> {
    let forwards = root.list("forward", Forward::parse);
    let tls = read_tls(root, forwards.iter().any(|forward| forward.has_tls));
    let mut names: Vec<String> = listeners.iter().map(|listener| listener.name.clone()).collect();
    names.extend(upstreams.iter().map(|upstream| upstream.name.clone()));
    let build = |forward: Forward| {
        let listener = forward.into_listener(&names, tls.as_ref());
        names.push(listener.name.clone());
        listener
    };
    forwards.into_iter().map(build).collect()
}

/// The certificate of all `https://` listeners of `--forward`.
fn read_tls(root: &Section<'_>, is_used: bool) -> Option<ListenerTls> {
    let client = root.value("tls_client_ca", units::path).map(|ca| ClientCerts { ca, required: true });
    if is_used {
        let cert = root.required("tls_cert", units::path);
        let key = root.required("tls_key", units::path);
        return Some(ListenerTls { cert: cert?, key: key?, client });
    }
    for name in ["tls_cert", "tls_key", "tls_client_ca"].into_iter().filter(|name| root.has(name)) {
        let what = Invalid::new("is for `--forward 'https://…=…'`, and there is none");
        root.fault(name, what.hint("what `listeners` has takes `tls: {cert: …, key: …}`"));
    }
    None
}

impl Forward {
    /// Reads `SCHEME://ADDRESS:PORT=[SCHEME://]HOST:PORT`; a socket is `SCHEME+unix:PATH` before and `unix:PATH` behind.
    fn parse(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new(format!("{text:?} {why}")).hint(EXAMPLE);
        let (listener, upstream) = text.split_once('=').ok_or_else(|| bad("is not LISTENER=UPSTREAM"))?;
        let (scheme, listen) = match listener.split_once('+') {
            Some((scheme, socket)) if socket.starts_with("unix:") => (scheme, socket),
            _ => listener.split_once("://").ok_or_else(|| bad("has no scheme before the listener"))?,
        };
        let (scheme, protocol, has_tls) = *SCHEMES
            .iter()
            .find(|(name, ..)| *name == scheme)
            .ok_or_else(|| bad("has a listener that is neither http://, https:// nor tcp://"))?;
        let listen = values::listen(listen.strip_suffix('/').unwrap_or(listen))?;
        let (upstream_tls, address) = match (protocol, upstream.split_once("://")) {
            (_, None) => (false, upstream),
            (Protocol::Http, Some(("http", address))) | (Protocol::Tcp, Some(("tcp", address))) => {
                (false, address)
            }
            (Protocol::Http, Some(("https", address))) => (true, address),
            (_, Some(_)) => return Err(bad("has an upstream of another protocol than the listener")),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        if address.contains('/') && !address.starts_with("unix:") {
            return Err(bad("has a path behind the upstream, and requests keep their own path"));
        }
        let address = values::address(address)?;
        if upstream_tls && UpstreamTls::default().name(&address).is_none() {
            let hint = "write it into a config file: `upstreams: [{…, tls: {server_name: db.prod}}]`";
            return Err(bad("has an upstream that no certificate can be made out to").hint(hint));
        }
        Ok(Self { text: text.to_owned(), scheme, protocol, has_tls, listen, address, upstream_tls })
    }

    /// The listener that this asks for, with a name that is not in `taken`.
    fn into_listener(self, taken: &[String], tls: Option<&ListenerTls>) -> Listener {
        let place = match &self.listen {
            ListenAddress::Tcp(address) => address.port().to_string(),
            ListenAddress::Unix(path) => {
                path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
            }
        };
        let mut name = format!("{}-{place}", self.scheme);
        let mut number = 2;
        while taken.contains(&name) {
            name = format!("{}-{place}-{number}", self.scheme);
            number += 1;
        }
        let mut upstream = Upstream::new(name.clone(), self.address);
        upstream.tls = self.upstream_tls.then(UpstreamTls::default);
        let upstream = Arc::new(upstream);
        let kind = (Direction::between(&self.listen, &upstream), self.protocol);
        let listener = Listener::new(name, format!("--forward '{}'", self.text), kind, self.listen, upstream);
        Listener { tls: tls.filter(|_| self.has_tls).cloned(), ..listener }
    }
}

#[cfg(test)]
impl Listener {
    /// The listener of a `--forward`, for tests.
    pub(crate) fn of_forward(text: &str) -> Self {
        Forward::parse(text).expect("a test's forward is sound").into_listener(&[], None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_a_listener_and_its_upstream() {
        for (text, name, listen, address) in [
            ("http://0.0.0.0:8080=http://127.0.0.1:8081", "http-8080", "0.0.0.0:8080", "127.0.0.1:8081"),
            ("http://:8080/=http://127.0.0.1:8081/", "http-8080", "0.0.0.0:8080", "127.0.0.1:8081"),
            ("https://0.0.0.0:8443=127.0.0.1:8081", "https-8443", "0.0.0.0:8443", "127.0.0.1:8081"),
            ("tcp://[::1]:5432=db:5432", "tcp-5432", "[::1]:5432", "db:5432"),
            ("tcp://[::1]:5432=tcp://[::2]:5432", "tcp-5432", "[::1]:5432", "[::2]:5432"),
            (
                "http+unix:/run/in.sock=unix:/run/out.sock",
                "http-in.sock",
                "unix:/run/in.sock",
                "unix:/run/out.sock",
            ),
            ("tcp+unix:/run/in.sock=srv:_pg._tcp.db", "tcp-in.sock", "unix:/run/in.sock", "srv:_pg._tcp.db"),
        ] {
            let listener = Listener::of_forward(text);
            let (at, to) = (listener.listen.to_string(), listener.upstream.address.to_string());
            assert_eq!((listener.name.as_str(), at.as_str(), to.as_str()), (name, listen, address), "{text}");
            let protocol = if text.starts_with("tcp") { Protocol::Tcp } else { Protocol::Http };
            assert_eq!(listener.protocol, protocol, "{text}");
        }
    }

    #[test]
    fn only_from_the_pod_to_elsewhere_is_outbound() {
        for (text, direction) in [
            ("http://0.0.0.0:80=http://127.0.0.1:81", Direction::Inbound),
            ("http://127.0.0.1:80=http://localhost:81", Direction::Inbound),
            ("http://127.0.0.1:80=http://[::1]:81", Direction::Inbound),
            ("http://127.0.0.1:80=unix:/run/app.sock", Direction::Inbound),
            ("http://0.0.0.0:80=http://10.0.0.1:81", Direction::Inbound),
            ("http://127.0.0.1:80=http://10.0.0.1:81", Direction::Outbound),
            ("tcp://127.0.0.2:80=auth:81", Direction::Outbound),
            ("tcp+unix:/run/auth.sock=auth:81", Direction::Outbound),
        ] {
            assert_eq!(Listener::of_forward(text).direction, direction, "{text}");
        }
    }

    #[test]
    fn https_is_tls_on_the_side_where_it_stands() {
        let parse = |text: &str| {
            let forward = Forward::parse(text).unwrap();
            (forward.has_tls, forward.upstream_tls)
        };
        assert_eq!(parse("http://:80=https://api.example.com:443"), (false, true));
        assert_eq!(parse("https://:443=http://127.0.0.1:80"), (true, false));
        assert_eq!(parse("https://:443=https://10.0.0.1:443"), (true, true));
        let tls = ListenerTls { cert: "/crt".into(), key: "/key".into(), client: None };
        let build = |text: &str| Forward::parse(text).unwrap().into_listener(&[], Some(&tls));
        assert_eq!(build("https://:443=http://127.0.0.1:80").tls, Some(tls.clone()));
        assert_eq!(build("http://:80=https://api:443").tls, None);
        assert_eq!(build("http://:80=https://api:443").upstream.tls, Some(UpstreamTls::default()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_in_words() {
        for (text, why) in [
            ("", "is not LISTENER=UPSTREAM"),
            ("http://0.0.0.0:80", "is not LISTENER=UPSTREAM"),
            ("0.0.0.0:80=http://x:1", "has no scheme"),
            ("udp://0.0.0.0:80=x:1", "neither http://, https:// nor tcp://"),
            ("unix:/run/a.sock=x:1", "has no scheme"),
            ("udp+unix:/run/a.sock=x:1", "neither http://, https:// nor tcp://"),
            ("http+unix:a.sock=x:1", "is not absolute"),
            ("http://0.0.0.0:80=tcp://x:1", "another protocol"),
            ("tcp://0.0.0.0:80=https://x:1", "another protocol"),
            ("http://0.0.0.0:80=https://a_b!:1", "no certificate can be made out to"),
            ("http://0.0.0.0:80=https://unix:/run/a.sock", "no certificate can be made out to"),
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
        let names = ["http-80".to_owned(), "http-80-2".to_owned()];
        let forward = Forward::parse("http://127.0.0.2:80=http://x:1").unwrap();
        assert_eq!(forward.into_listener(&names, None).name, "http-80-3");
    }
}
