//! A proxy before an origin that keeps every byte, and what becomes of a client's bytes between the two.

use std::cell::RefCell;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use crate::support::{PATIENCE, Proxy, strict};

/// The request that stands behind each case: who has it answered knows where the case ended.
pub(super) const BEHIND: &str = "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";

/// A connection that ends what came before: the kernel hands connections out in their order.
const FENCE: &[u8] = b"fence";

/// What one connection brought to the origin.
#[derive(Debug, Default)]
struct Taken {
    bytes: Vec<u8>,
    /// The rule that the bytes break in the eyes of a strict reader.
    fault: Option<&'static str>,
    ended: bool,
    /// Already given out.
    told: bool,
}

/// An origin that answers each whole request once, and closes.
struct Tape {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    taken: Mutex<Vec<Taken>>,
    /// Told of every change.
    changed: Condvar,
}

impl Shared {
    /// Waits until `found` finds something.
    fn wait<T>(&self, what: &str, mut found: impl FnMut(&mut Vec<Taken>) -> Option<T>) -> T {
        let mut result = None;
        let waiting = |taken: &mut Vec<Taken>| {
            result = found(taken);
            result.is_none()
        };
        drop(self.changed.wait_timeout_while(self.taken.lock().unwrap(), PATIENCE, waiting));
        result.unwrap_or_else(|| panic!("waited in vain until {what}"))
    }
}

impl Tape {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let index = {
                    let mut taken = all.taken.lock().unwrap();
                    taken.push(Taken::default());
                    taken.len() - 1
                };
                let all = Arc::clone(&all);
                std::thread::spawn(move || record(&stream.expect("accept works"), index, &all));
            }
        });
        Self { address, shared }
    }

    /// Waits until something has come since the last `take`.
    fn wait_for_bytes(&self) {
        self.shared.wait("bytes have reached the origin", |all| {
            all.iter().any(|one| !one.told && !one.bytes.is_empty()).then_some(())
        });
    }

    /// What has come since the last call, connection by connection; waits for what is under way.
    fn take(&self) -> Vec<Taken> {
        TcpStream::connect(self.address).unwrap().write_all(FENCE).unwrap();
        self.shared.wait("all connections to the origin have ended", |all| {
            let fence = all.iter().position(|one| one.bytes == FENCE && !one.told)?;
            all[..=fence].iter().all(|one| one.ended).then(|| {
                let new = all[..=fence].iter_mut().filter(|one| !one.told);
                // What stays behind keeps the numbers of the connections right.
                let done = || Taken { ended: true, told: true, ..Taken::default() };
                new.map(|one| std::mem::replace(one, done())).filter(|one| one.bytes != FENCE).collect()
            })
        })
    }
}

fn record(mut stream: &TcpStream, index: usize, shared: &Shared) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut chunk = [0; 64 << 10];
    let mut answered = false;
    loop {
        // A reset is an end as well.
        let count = stream.read(&mut chunk).unwrap_or(0);
        let mut all = shared.taken.lock().unwrap();
        shared.changed.notify_all();
        let taken = &mut all[index];
        taken.bytes.extend_from_slice(&chunk[..count]);
        if count == 0 {
            taken.ended = true;
            return;
        }
        match strict::request(&taken.bytes) {
            Ok(Some(message)) if !answered => {
                let body = if message.start.starts_with("HEAD ") { "" } else { "ok" };
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
                answered = true;
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
                let _ = stream.shutdown(Shutdown::Write);
            }
            Ok(_) => {}
            Err(fault) => {
                taken.fault = taken.fault.or(Some(fault));
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
    }
}

/// What became of a case.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What reached the origin, without the fields that the proxy adds, connection by connection.
    pub(super) reached: Vec<String>,
    /// The same with those fields.
    pub(super) whole: Vec<String>,
    /// The rule that these bytes break in the eyes of a strict reader.
    pub(super) fault: Option<&'static str>,
    /// The answers that the client got.
    pub(super) answers: Vec<strict::Message>,
    /// What the client got behind the last whole answer.
    pub(super) rest: Vec<u8>,
    /// The client's connection ended by a reset.
    pub(super) reset: bool,
    /// The reasons that were counted.
    pub(super) refused: Vec<String>,
}

impl Outcome {
    fn is(&self, expect: Expect<'_>) -> Result<(), String> {
        let fail = |text: &str| Err(text.to_owned());
        if let Some(fault) = self.fault {
            return fail(&format!("a strict reader refuses what reached the origin: {fault}"));
        }
        let reached: Vec<&str> = self.reached.iter().map(String::as_str).collect();
        let (status, reason, reaches) = match expect {
            Expect::Refused(status, reason) => (status, Some(reason), reached.is_empty()),
            Expect::Unfinished(status, reason) => {
                let [part] = reached[..] else { return fail("not one request was begun") };
                let unfinished = strict::request(part.as_bytes()) == Ok(None) && !part.contains("behind");
                (status, Some(reason), unfinished)
            }
            Expect::Carried(request) => (200, None, reached == [request, BEHIND]),
            Expect::Last(request) => (200, None, reached == [request]),
        };
        let answers = if matches!(expect, Expect::Carried(_)) { 2 } else { 1 };
        if !reaches {
            return fail("something else reached the origin");
        }
        if self.answers.len() != answers || !self.rest.is_empty() || self.reset {
            return fail("the client got other answers");
        }
        if !self.answers[0].start.starts_with(&format!("HTTP/1.1 {status} ")) {
            return fail("the client got another status");
        }
        if self.answers[0].values("connection").contains(&&b"close"[..]) != (answers == 1) {
            return fail("the client was told otherwise of the connection's end");
        }
        match (reason, &self.refused[..]) {
            (None, []) => Ok(()),
            (Some(reason), [counted]) if counted.contains(&format!("reason=\"{reason}\"")) => Ok(()),
            _ => fail("it was counted otherwise"),
        }
    }
}

/// What must become of a case.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expect<'a> {
    /// Answered with this status and counted under this reason; nothing reaches the origin, and the connection ends.
    Refused(u16, &'a str),
    /// As `Refused`, but a part was handed on before, and no more than a part.
    Unfinished(u16, &'a str),
    /// This reaches the origin, exactly, and the connection goes on behind it.
    Carried(&'a str),
    /// As `Carried`, but the connection ends.
    Last(&'a str),
}

/// A proxy and its origin; dropping it fails the test where cases have failed, with all of them.
pub(super) struct Bench {
    tape: Tape,
    pub(super) proxy: Proxy,
    /// What was counted at the end of the last case.
    counted: RefCell<Vec<String>>,
    failures: RefCell<Vec<String>>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let failures = self.failures.take();
        if !failures.is_empty() && !std::thread::panicking() {
            panic!("{} cases failed:\n\n{}", failures.len(), failures.join("\n\n"));
        }
    }
}

impl Bench {
    pub(super) fn start() -> Self {
        let tape = Tape::start();
        let proxy = Proxy::http(tape.address);
        Self { tape, proxy, counted: RefCell::default(), failures: RefCell::default() }
    }

    /// With further YAML of the listener.
    pub(super) fn yaml(dir: &Path, listener: &str) -> Self {
        let tape = Tape::start();
        let proxy = Proxy::yaml(tape.address, dir, listener, "");
        Self { tape, proxy, counted: RefCell::default(), failures: RefCell::default() }
    }

    /// The origin's address, as a Host field.
    pub(super) fn origin(&self) -> String {
        self.tape.address.to_string()
    }

    /// Sends the pieces, ends the client's direction, and waits for all that follows.
    pub(super) fn run(&self, pieces: &[&[u8]]) -> Outcome {
        let mut client = TcpStream::connect(self.proxy.address()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut reader = client.try_clone().unwrap();
        let reading = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let reset = match reader.read_to_end(&mut bytes) {
                Ok(_) => false,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
                Err(error) => panic!("the proxy does not end the connection: {error}"),
            };
            (bytes, reset)
        });
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                self.tape.wait_for_bytes();
            }
            // A proxy that has refused need not take the rest.
            let _ = client.write_all(piece);
        }
        let _ = client.shutdown(Shutdown::Write);
        let (rest, reset) = reading.join().unwrap();
        drop(client);
        let to_head = pieces[0].starts_with(b"HEAD ");
        let mut outcome = Outcome { rest, reset, ..Outcome::default() };
        while let Ok(Some(answer)) =
            strict::response(&outcome.rest, to_head && outcome.answers.is_empty(), true)
        {
            outcome.rest.drain(..answer.length);
            outcome.answers.push(answer);
        }
        for taken in self.tape.take() {
            // A connection that was opened and not used says nothing.
            if taken.bytes.is_empty() {
                continue;
            }
            let text = String::from_utf8_lossy(&taken.bytes).into_owned();
            outcome.fault = outcome.fault.or(taken.fault);
            outcome.reached.push(without_ours(&text));
            outcome.whole.push(text);
        }
        let now = self.refusals();
        let before = self.counted.replace(now.clone());
        outcome.refused = now.into_iter().filter(|line| !before.contains(line)).collect();
        outcome
    }

    /// Runs a case with [`BEHIND`] behind it, and checks what became of both.
    pub(super) fn check(&self, raw: impl AsRef<[u8]>, expect: Expect<'_>) {
        self.check_pieces(&[raw.as_ref()], expect);
    }

    /// As [`check`](Self::check); each further piece is sent once the origin has heard of the one before.
    pub(super) fn check_pieces(&self, pieces: &[&[u8]], expect: Expect<'_>) {
        let (last, first) = pieces.split_last().expect("a case has a piece");
        let outcome = self.run(&[first, &[&[last, BEHIND.as_bytes()].concat()]].concat());
        if let Err(fault) = outcome.is(expect) {
            let sent = pieces.concat();
            let sent = String::from_utf8_lossy(&sent);
            self.failures
                .borrow_mut()
                .push(format!("{fault}\n  sent {sent:?}\n  expected {expect:?}\n  {outcome:?}"));
        }
    }

    fn refusals(&self) -> Vec<String> {
        let metrics = self.proxy.ask("GET", "/metrics").body;
        let lines = metrics.lines().filter(|line| line.starts_with("podkit_proxy_refused_requests_total{"));
        lines.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
    }
}

/// The fields that the proxy adds to a request without them.
pub(super) fn without_ours(request: &str) -> String {
    const OURS: [&str; 5] = [
        "X-Request-ID: ",
        "X-Forwarded-For: 127.0.0.1\r\n",
        "X-Forwarded-Proto: http\r\n",
        "X-Forwarded-Host: ",
        "traceparent: ",
    ];
    let (head, body) = request.split_at(request.find("\r\n\r\n").map_or(request.len(), |at| at + 2));
    let ours = |line: &&str| !OURS.iter().any(|name| line.starts_with(name));
    head.split_inclusive("\r\n").filter(ours).chain([body]).collect()
}
