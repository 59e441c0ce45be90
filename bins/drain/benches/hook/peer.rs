//! A proxy or a ship that says when it was first asked.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

pub(crate) struct Peer {
    address: SocketAddr,
    requests: Receiver<Instant>,
    go_on: Sender<()>,
}

impl Peer {
    /// One that is quiet.
    pub(crate) fn proxy() -> Result<Self> {
        Self::start(true)
    }

    /// One that answers when it is told to.
    pub(crate) fn ship() -> Result<Self> {
        Self::start(false)
    }

    fn start(at_once: bool) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let ((tell, requests), (go_on, told)) = (channel(), channel());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let came = Instant::now();
                // Nobody listens any more once the bench has what it wanted.
                if tell.send(came).is_err() || (!at_once && told.recv().is_err()) {
                    return;
                }
                let _ = answer(stream);
            }
        });
        Ok(Self { address, requests, go_on })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// When it was asked for the first time.
    pub(crate) fn first_request(&mut self) -> Result<Instant> {
        Ok(self.requests.recv_timeout(Duration::from_secs(10))?)
    }

    pub(crate) fn go_on(&self) {
        let _ = self.go_on.send(());
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            length => head.extend_from_slice(&chunk[..length]),
        }
    }
    let body = r#"{"phase":"draining","in_flight":0,"open_connections":0,"ms_since_last_connection":null}"#;
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}
