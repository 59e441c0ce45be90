//! An NDJSON backend that can be told to misbehave, and that refuses what a strict one refuses.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use podkit_testkit::{PATIENCE, eventually};
use serde_json::Value;

/// What the next request meets.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This status, with these header lines; 2xx takes the lines.
    Status(u16, &'static str),
    /// The request is read, and the connection closed without an answer.
    Hang,
    /// An answer without an end, as long as somebody reads it.
    Flood,
    /// Only requests of up to this many lines are taken; larger ones get 413.
    AtMost(usize),
}

#[derive(Default)]
struct State {
    records: Vec<Value>,
    /// Lines of each request that was taken.
    batches: Vec<usize>,
    encodings: Vec<String>,
    requests: usize,
    script: VecDeque<Answer>,
    otherwise: Option<Answer>,
    gate_closed: bool,
}

/// A running receiver.
#[derive(Clone)]
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Receiver {
    /// Starts one on a port of its own.
    pub(crate) fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Starts one on a known port, for a backend that comes up late.
    pub(crate) fn start_at(port: u16) -> Self {
        Self::listen(TcpListener::bind(("127.0.0.1", port)).unwrap())
    }

    fn listen(listener: TcpListener) -> Self {
        let receiver = Self { address: listener.local_addr().unwrap(), shared: Arc::default() };
        let serving = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || while serving.one(&stream).is_some() {});
            }
        });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/logs", self.address)
    }

    /// Queues answers; each meets one request.
    pub(crate) fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.0.lock().unwrap().script.extend(answers);
    }

    /// What meets requests when the script has ended; 200 unless told.
    pub(crate) fn otherwise(&self, answer: Answer) {
        self.shared.0.lock().unwrap().otherwise = Some(answer);
    }

    /// Holds every request without an answer until the gate is opened again.
    pub(crate) fn close_gate(&self) {
        self.shared.0.lock().unwrap().gate_closed = true;
    }

    pub(crate) fn open_gate(&self) {
        self.shared.0.lock().unwrap().gate_closed = false;
        self.shared.1.notify_all();
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.0.lock().unwrap().requests
    }

    pub(crate) fn batches(&self) -> Vec<usize> {
        self.shared.0.lock().unwrap().batches.clone()
    }

    pub(crate) fn encodings(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().encodings.clone()
    }

    pub(crate) fn records(&self) -> Vec<Value> {
        self.shared.0.lock().unwrap().records.clone()
    }

    /// The messages received so far, in order.
    pub(crate) fn messages(&self) -> Vec<String> {
        let text = |record: &Value| record["message"].as_str().unwrap_or_default().to_owned();
        self.records().iter().map(text).collect()
    }

    /// Waits until there are this many records, and returns their messages.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} records are received; there are {:?}", self.messages().len()), || {
            let messages = self.messages();
            (messages.len() >= count).then_some(messages)
        })
    }

    /// Waits until this many requests have come.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        eventually(&format!("{count} requests have come"), || (self.requests() >= count).then_some(()));
    }

    /// Serves one request; `None` ends the connection.
    fn one(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        assert_eq!(line, "POST /logs HTTP/1.1\r\n", "the request line");
        let (mut length, mut encoding, mut content_type) = (None, "identity".to_owned(), None);
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok().filter(|length| *length > 0)?;
            let Some((name, value)) = field.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().ok(),
                "content-encoding" => value.clone_into(&mut encoding),
                "content-type" => content_type = Some(value.to_owned()),
                _ => {}
            }
        }
        assert_eq!(content_type.as_deref(), Some("application/x-ndjson"));
        let mut body = vec![0; length.expect("a content-length")];
        reader.read_exact(&mut body).ok()?;
        let body = match encoding.as_str() {
            "gzip" => {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain).unwrap();
                plain
            }
            "zstd" => zstd::decode_all(body.as_slice()).unwrap(),
            "identity" => body,
            other => panic!("content-encoding {other}"),
        };
        let text = String::from_utf8(body).expect("NDJSON is UTF-8");
        assert!(text.ends_with('\n'), "the last record is whole");
        let records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
        let mut state = self.shared.0.lock().unwrap();
        state.requests += 1;
        state = self.shared.1.wait_timeout_while(state, PATIENCE, |state| state.gate_closed).unwrap().0;
        let scripted = state.script.pop_front();
        let answer = scripted.or_else(|| state.otherwise.clone()).unwrap_or(Answer::Status(200, ""));
        let (status, fields) = match answer {
            Answer::Hang => return None,
            Answer::Flood => {
                drop(state);
                let mut to = stream;
                to.write_all(b"HTTP/1.1 503 Flood\r\nContent-Length: 99999999999\r\n\r\n").ok()?;
                while to.write_all(&[b'x'; 64 << 10]).is_ok() {}
                return None;
            }
            Answer::AtMost(limit) if records.len() > limit => (413, ""),
            Answer::AtMost(_) => (200, ""),
            Answer::Status(status, fields) => (status, fields),
        };
        if (200..300).contains(&status) {
            state.batches.push(records.len());
            state.encodings.push(encoding);
            state.records.extend(records);
        }
        drop(state);
        let answer = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: 0\r\n{fields}\r\n");
        (&mut &*stream).write_all(answer.as_bytes()).ok()
    }
}
