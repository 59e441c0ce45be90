//! A backend that reads and discards, on threads of the bench itself: its CPU is on nobody's books. Where it is told
//! to, it counts the events, which costs it more than discarding. Who asks a bulk for all of its answer, without a
//! `filter_path`, gets an item for each event; others do with `--items`.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Result;

/// A running sink; its threads end with the connections.
pub(crate) struct Sink {
    address: SocketAddr,
    does: Does,
    lines: Arc<AtomicUsize>,
}

/// What a sink does beyond reading.
#[derive(Clone, Copy, Default)]
pub(crate) struct Does {
    pub(crate) count: bool,
    /// Answers bulks with an item for each event, as Elasticsearch itself.
    pub(crate) items: bool,
}

impl Sink {
    pub(crate) fn start(does: Does) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let sink = Self { address: listener.local_addr()?, does, lines: Arc::default() };
        let lines = Arc::clone(&sink.lines);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let lines = Arc::clone(&lines);
                std::thread::spawn(move || serve(&stream, does, &lines));
            }
        });
        Ok(sink)
    }

    /// `127.0.0.1:8080`
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn counts(&self) -> bool {
        self.does.count
    }

    /// The events so far.
    pub(crate) fn lines(&self) -> usize {
        self.lines.load(Ordering::Acquire)
    }

    /// Waits until there are this many events; false when none came for a while.
    pub(crate) fn wait_for(&self, count: usize) -> bool {
        const QUIET: Duration = Duration::from_secs(20);
        let (mut last, mut since) = (0, Instant::now());
        while self.lines() < count {
            if self.lines() != last {
                (last, since) = (self.lines(), Instant::now());
            }
            if since.elapsed() > QUIET {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }
}

fn serve(stream: &TcpStream, does: Does, lines: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    loop {
        let (mut line, mut length, mut encoding) = (String::new(), 0, String::new());
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok().filter(|length| *length > 0)?;
            let Some((name, value)) = field.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "content-encoding" => value.trim().clone_into(&mut encoding),
                "expect" => (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?,
                _ => {}
            }
        }
        let mut body = (&mut reader).take(length);
        let is_bulk = line.contains("/_bulk");
        let wants_items = is_bulk && (does.items || !line.contains("filter_path"));
        let mut events = 0;
        if does.count || wants_items {
            let mut all = Vec::new();
            body.read_to_end(&mut all).ok()?;
            let plain = unpack(&encoding, all)?;
            events = if is_bulk {
                let begins = |at: &usize| *at == 0 || plain[at - 1] == b'\n';
                memchr::memmem::find_iter(&plain, b"{\"create\":{").filter(begins).count()
            } else {
                memchr::memchr_iter(b'\n', &plain).count()
            };
            lines.fetch_add(events, Ordering::AcqRel);
        } else {
            std::io::copy(&mut body, &mut std::io::sink()).ok()?;
        }
        let answer = if wants_items {
            let items = vec![r#"{"create":{"status":201}}"#; events].join(",");
            format!(r#"{{"errors":false,"items":[{items}]}}"#)
        } else {
            r#"{"took":1,"errors":false}"#.to_owned()
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
        (&mut &*stream).write_all(format!("{head} {}\r\n\r\n{answer}", answer.len()).as_bytes()).ok()?;
    }
}

fn unpack(encoding: &str, body: Vec<u8>) -> Option<Vec<u8>> {
    match encoding {
        "zstd" => zstd::decode_all(body.as_slice()).ok(),
        "gzip" => {
            let mut plain = Vec::new();
            flate2::read::MultiGzDecoder::new(body.as_slice()).read_to_end(&mut plain).ok()?;
            Some(plain)
        }
        _ => Some(body),
    }
}
