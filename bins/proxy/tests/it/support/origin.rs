use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

use podkit_testkit::eventually;
use socket2::SockRef;

use super::PATIENCE;

/// An app whose every received byte is kept, connection by connection.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Seen,
    listener: Arc<TcpListener>,
    open: Open,
}

type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// The connections that are open, by the port of their peer.
type Open = Arc<Mutex<HashMap<u16, TcpStream>>>;

impl Origin {
    /// An origin that does with each connection what `serve` says, from its first byte on: one that ends without a
    /// byte is a check whether the app is there, and does not count.
    pub(crate) fn start(serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), serve)
    }

    /// As [`start`](Self::start), on an address of the test's choice.
    pub(crate) fn on(address: SocketAddr, serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        Self::listen(address, true, serve)
    }

    /// Answers each request when the test says so.
    pub(crate) fn held() -> (Self, Sender<()>) {
        let (go, wait) = mpsc::channel();
        let wait = Mutex::new(wait);
        let origin = Self::start(move |mut connection| {
            while connection.request().is_some() && wait.lock().unwrap().recv().is_ok() {
                connection.ok("done");
            }
        });
        (origin, go)
    }

    /// An origin that does not wait for the first byte. Checks count, too.
    pub(crate) fn speaking_first(serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap(), false, serve)
    }

    fn listen(address: SocketAddr, wait: bool, serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().unwrap();
        let (listener, seen, open) = (Arc::new(listener), Seen::default(), Arc::default());
        let origin = Self { address, seen: Arc::clone(&seen), listener, open };
        let (serve, all) = (Arc::new(serve), seen);
        let (listener, open) = (Arc::clone(&origin.listener), Arc::clone(&origin.open));
        std::thread::spawn(move || {
            // Ends when it is killed.
            while let Ok((stream, _)) = listener.accept() {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let (serve, all) = (Arc::clone(&serve), Arc::clone(&all));
                let entry = Entry::new(&stream, &open);
                std::thread::spawn(move || {
                    if !wait || stream.peek(&mut [0]).is_ok_and(|count| count > 0) {
                        serve(Connection::new(entry, stream, all));
                    }
                });
            }
        });
        origin
    }

    /// Takes no more connections; those that are there stay.
    pub(crate) fn close_port(&self) {
        // A listening socket that is shut down listens no more, and wakes who waits for it.
        SockRef::from(&*self.listener).shutdown(Shutdown::Both).unwrap();
    }

    /// Ends as a killed process does: its port refuses, and its connections end where they are.
    pub(crate) fn kill(&self) {
        self.close_port();
        for stream in self.open.lock().unwrap().values() {
            // One that has ended already is fine.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// An origin that answers each request with `answer(head, body)`, keep-alive.
    pub(crate) fn http(answer: impl Fn(&str, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::http_on("127.0.0.1:0".parse().unwrap(), answer)
    }

    /// As [`http`](Self::http), on an address of the test's choice.
    pub(crate) fn http_on(
        address: SocketAddr,
        answer: impl Fn(&str, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::on(address, move |mut connection| {
            while let Some((head, body)) = connection.request() {
                if connection.stream.write_all(&answer(&head, &body)).is_err() {
                    return;
                }
            }
        })
    }

    /// An origin that answers `hello` to everything.
    pub(crate) fn hello() -> Self {
        Self::http(|_, _| ok("hello"))
    }

    /// An origin that answers each request with its body.
    pub(crate) fn echo() -> Self {
        Self::http(|_, body| ok(body))
    }

    /// An origin that sends back each byte as it comes.
    pub(crate) fn mirror() -> Self {
        Self::start(|mut connection| connection.mirror())
    }

    /// All bytes of all connections, in the order of the connections.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Waits until a connection has received this text.
    pub(crate) fn wait_for(&self, text: &str) {
        eventually(&format!("the origin has got {text:?}"), || {
            self.seen().iter().any(|seen| seen.contains(text)).then_some(())
        });
    }
}

/// A 200 with a length.
pub(crate) fn ok(body: &(impl AsRef<[u8]> + ?Sized)) -> Vec<u8> {
    let body = body.as_ref();
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// A connection's place in [`Open`].
struct Entry {
    port: u16,
    open: Open,
}

impl Entry {
    fn new(stream: &TcpStream, open: &Open) -> Self {
        let port = stream.peer_addr().map_or(0, |peer| peer.port());
        open.lock().unwrap().insert(port, stream.try_clone().unwrap());
        Self { port, open: Arc::clone(open) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.lock().unwrap().remove(&self.port);
    }
}

/// One connection at the origin.
pub(crate) struct Connection {
    // Dropped first, so that the drop of the stream closes it.
    _entry: Entry,
    pub(crate) stream: TcpStream,
    /// Which connection this is, from 0.
    pub(crate) index: usize,
    bytes: Vec<u8>,
    seen: Seen,
}

impl Connection {
    fn new(entry: Entry, stream: TcpStream, seen: Seen) -> Self {
        let mut all = seen.lock().unwrap();
        all.push(Vec::new());
        let index = all.len() - 1;
        drop(all);
        Self { _entry: entry, stream, index, bytes: Vec::new(), seen }
    }

    pub(crate) fn ok(&mut self, body: &str) {
        self.send(ok(body));
    }

    /// Sends, if the proxy still listens.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends back each byte as it comes, up to the end.
    pub(crate) fn mirror(&mut self) {
        loop {
            let bytes = std::mem::take(&mut self.bytes);
            self.send(bytes);
            if self.more().is_none() {
                return;
            }
        }
    }

    /// The next request: its head, and its body as it came on the wire. `None` at the end.
    pub(crate) fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        let lower = head.to_ascii_lowercase();
        let field = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let body = if field("transfer-encoding:").is_some() {
            self.until(b"0\r\n\r\n")?
        } else if let Some(length) = field("content-length:") {
            self.exactly(length.parse().unwrap())?
        } else {
            Vec::new()
        };
        Some((head, body))
    }

    pub(crate) fn head(&mut self) -> Option<String> {
        self.until(b"\r\n\r\n").map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < length {
            self.more()?;
        }
        Some(self.bytes.drain(..length).collect())
    }

    pub(crate) fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|window| window == end) {
                return Some(self.bytes.drain(..at + end.len()).collect());
            }
            self.more()?;
        }
    }

    /// Reads on; `None` at the end or a reset.
    pub(crate) fn more(&mut self) -> Option<usize> {
        let mut chunk = [0; 64 << 10];
        let count = self.stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        self.bytes.extend_from_slice(&chunk[..count]);
        self.seen.lock().unwrap()[self.index].extend_from_slice(&chunk[..count]);
        Some(count)
    }

    /// Waits for the proxy to end its direction.
    pub(crate) fn drain(mut self) -> Vec<u8> {
        while self.more().is_some() {}
        self.bytes
    }

    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}
