use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A client's connection.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    /// Read, and not yet taken.
    bytes: Vec<u8>,
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// Without chunked framing.
    pub(crate) body: Vec<u8>,
    /// The trailer section of a chunked body.
    pub(crate) trailers: String,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self::on(stream)
    }

    /// A client on a connection that is there.
    pub(crate) fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    /// One that speaks over a stream that is there already.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the proxy takes bytes");
        self
    }

    /// A GET and its answer.
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n"));
        self.response()
    }

    /// The next response to a request other than HEAD.
    pub(crate) fn response(&mut self) -> Response {
        self.try_response(false).expect("a whole response")
    }

    /// The next response; an error where the connection ends before it is whole.
    pub(crate) fn try_response(&mut self, to_head: bool) -> Result<Response, String> {
        let head = self.head()?;
        let status: u16 = head[9..12].parse().map_err(|_| format!("no status in {head:?}"))?;
        let mut response = Response { status, head, body: Vec::new(), trailers: String::new() };
        if to_head || status < 200 || status == 204 || status == 304 {
            return Ok(response);
        }
        if response.field("transfer-encoding").is_some() {
            loop {
                let line = self.until(b"\r\n")?;
                let size =
                    usize::from_str_radix(line.trim(), 16).map_err(|_| format!("no chunk size: {line:?}"))?;
                if size == 0 {
                    break;
                }
                response.body.extend(self.exactly(size)?);
                assert_eq!(self.exactly(2)?, b"\r\n");
            }
            loop {
                match self.until(b"\r\n")?.as_str() {
                    "\r\n" => return Ok(response),
                    line => response.trailers.push_str(line),
                }
            }
        }
        let length = response.field("content-length").map(|text| text.parse::<usize>().unwrap());
        response.body = match length {
            Some(length) => self.exactly(length)?,
            None => {
                self.stream.read_to_end(&mut self.bytes).map_err(|error| error.to_string())?;
                std::mem::take(&mut self.bytes)
            }
        };
        Ok(response)
    }

    /// A head, its blank line included.
    pub(crate) fn head(&mut self) -> Result<String, String> {
        self.until(b"\r\n\r\n")
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.bytes.len() < length {
            self.more()?;
        }
        Ok(self.bytes.drain(..length).collect())
    }

    pub(crate) fn until(&mut self, end: &[u8]) -> Result<String, String> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|window| window == end) {
                let taken = self.bytes.drain(..at + end.len()).collect();
                return Ok(String::from_utf8(taken).expect("text"));
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Result<(), String> {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(format!("the connection ended behind {:?}", String::from_utf8_lossy(&self.bytes))),
            Ok(count) => {
                self.bytes.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// What is left until the connection ends; an error where it ends by a reset.
    pub(crate) fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.bytes)?;
        Ok(std::mem::take(&mut self.bytes))
    }
}
