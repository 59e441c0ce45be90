//! A proxy before an origin that answers by a script, and what of it a client gets.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::{Origin, PATIENCE, Proxy, ok, strict};

/// What a client must get.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect<'a> {
    /// A 502 of our own, with nothing of the origin's in it.
    Refused,
    /// As `Refused`, but this had been handed on before.
    RefusedBehind(&'a str),
    /// Exactly this, and the connection goes on.
    Passed(&'a str),
    /// Exactly this, and then a clean end.
    Last(&'a str),
    /// This, and then an end that nobody takes for a whole answer.
    Cut(&'a str),
}
use Expect::{Cut, Last, Passed, Refused, RefusedBehind};

/// A proxy before an origin that answers as it is told.
pub(super) struct Bench {
    proxy: Proxy,
    scripts: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    failures: Vec<String>,
}

impl Bench {
    pub(super) fn start() -> Self {
        let scripts = Arc::new(Mutex::new(HashMap::<String, Vec<u8>>::new()));
        let told = Arc::clone(&scripts);
        let origin = Origin::start(move |mut connection| {
            while let Some((head, _)) = connection.request() {
                let path = head.split(' ').nth(1).unwrap();
                match told.lock().unwrap().get(path) {
                    None => connection.send(ok(path)),
                    // `~` ends the connection there.
                    Some(script) => match script.strip_suffix(b"~") {
                        None => connection.send(script),
                        Some(script) => {
                            connection.send(script);
                            return;
                        }
                    },
                }
            }
        });
        Self { proxy: Proxy::http(origin.address), scripts, failures: Vec::new() }
    }

    pub(super) fn check(&mut self, script: impl AsRef<[u8]>, expect: Expect<'_>) {
        self.check_for("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", script, expect);
    }

    /// Has the origin answer `request`, for `/x`, with `script`, and asks twice more behind it: the same client for
    /// `/behind`, and another one for `/other`.
    pub(super) fn check_for(&mut self, request: &str, script: impl AsRef<[u8]>, expect: Expect<'_>) {
        let script = script.as_ref();
        self.scripts.lock().unwrap().insert("/x".to_owned(), script.to_vec());
        let errors = "podkit_proxy_upstream_errors_total";
        let before = self.proxy.metric(errors, "bad_response");
        let (bytes, reset) =
            exchange(&self.proxy, &format!("{request}GET /behind HTTP/1.1\r\nHost: a\r\n\r\n"));
        let got = String::from_utf8_lossy(&bytes).into_owned();
        let behind = String::from_utf8(ok("/behind")).unwrap();
        let refusals = self.proxy.metric(errors, "bad_response") - before;
        let refused = |before: &str| {
            let rest = got.strip_prefix(before).unwrap_or_default();
            let old = request.contains("HTTP/1.0");
            rest.starts_with("HTTP/1.1 502 ") && !rest.contains("evil") && rest.ends_with(&behind) != old
        };
        let good = match expect {
            Refused => refused("") && refusals == 1.0,
            RefusedBehind(before) => refused(before),
            Passed(answer) => got == format!("{answer}{behind}") && refusals == 0.0,
            Last(answer) => got == answer && !reset,
            Cut(part) => {
                let to_head = request.starts_with("HEAD");
                got.starts_with(part) && (reset || strict::response(&bytes, to_head, true) == Ok(None))
            }
        };
        let (other, _) = exchange(&self.proxy, "GET /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let poisoned = !other.ends_with(b"\r\n\r\n/other");
        if !good || poisoned {
            let script = String::from_utf8_lossy(script);
            self.failures.push(format!(
                "{request:?} answered {script:?}\n  expected {expect:?}\n  got {got:?}, reset {reset}, {refusals} refused, poisoned {poisoned}"
            ));
        }
    }

    pub(super) fn end(self) {
        assert!(
            self.failures.is_empty(),
            "{} cases failed:\n{}",
            self.failures.len(),
            self.failures.join("\n")
        );
    }
}

/// All that a client gets, and whether it ends by a reset.
fn exchange(proxy: &Proxy, request: &str) -> (Vec<u8>, bool) {
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    let end = client.read_to_end(&mut bytes);
    (bytes, end.is_err())
}
