//! A scripted HTTP server: reads one request a connection, and answers with what the script says, byte by byte.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What a script does with the request of this number, the first being 0.
pub(crate) enum Answer {
    Text(String),
    /// The text, then its last line for as long as anybody reads.
    Endless(String),
    /// Nothing, until the client goes away.
    Silence,
}

/// An answer with a status and a body.
pub(crate) fn status(status: u16, body: &str) -> Answer {
    let length = body.len();
    Answer::Text(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nX-A: b\r\n\r\n{body}"))
}

/// A running server; it is gone when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// The heads of all requests, lines joined by `\n`.
    seen: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, script)
    }

    pub(crate) fn start_with(
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, is_over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (known, ended, script) = (Arc::clone(&seen), Arc::clone(&is_over), Arc::new(script));
        let accept = move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let (stream, tls) = (stream.unwrap(), tls.clone());
                let (known, script) = (Arc::clone(&known), Arc::clone(&script));
                // A client that goes away in the middle is no failure of the test.
                std::thread::spawn(move || match tls {
                    None => talk(stream, &known, &*script),
                    Some(config) => talk(
                        StreamOwned::new(ServerConnection::new(config).unwrap(), stream),
                        &known,
                        &*script,
                    ),
                });
            }
        };
        Self { address, seen, is_over, thread: Some(std::thread::spawn(accept)) }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn talk(
    stream: impl Read + Write,
    seen: &Mutex<Vec<String>>,
    script: &dyn Fn(usize) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(head.trim_end().replace("\r\n", "\n"));
        seen.len() - 1
    };
    let answer = script(number);
    let stream = reader.get_mut();
    match answer {
        Answer::Text(text) => stream.write_all(text.as_bytes())?,
        Answer::Endless(text) => {
            stream.write_all(text.as_bytes())?;
            let last = text.lines().last().unwrap().to_owned();
            while stream.write_all(last.as_bytes()).is_ok() {}
        }
        Answer::Silence => {
            // Ends with the client's end.
            let _ = reader.read(&mut [0; 1]);
            return Ok(());
        }
    }
    reader.get_mut().flush()
}
