//! The log backend outside the pod: takes NDJSON batches and tallies the sequence numbers.
//!
//! It answers only after it has stored a batch and waited a moment, as backends do, so that a kill of ship can hit a
//! batch that is stored but not yet acknowledged. It can be told to be away (503, or no answer at all), and then stores nothing.

use std::{
    convert::Infallible,
    io::{self, Read},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, header::CONTENT_ENCODING, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Notify, time::sleep};

use crate::{database::accept, error::Error, sequence, sequence::Tally};

/// Between storing a batch and saying so.
const LATENCY: Duration = Duration::from_millis(40);

/// What the backend knows.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) tally: Tally,
    /// Batches stored.
    pub(crate) batches: u64,
    /// Batches turned away while the backend was away.
    pub(crate) refused: u64,
    /// What was wrong with bodies and records that cannot be counted, the first few.
    pub(crate) malformed: Vec<String>,
    wave: usize,
    mood: Mood,
}

/// How the backend answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// With 503.
    Refuses,
    /// Not at all: what was asked in this mood is never answered, the connection stays open.
    Silent,
}

/// A running backend; it ends with the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    stored: Arc<Mutex<Stored>>,
    batch: Arc<Notify>,
    address: SocketAddr,
}

impl Backend {
    /// Starts on a port of the system's choice.
    pub(crate) async fn open() -> Result<Self, Error> {
        Self::open_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts at `address`.
    pub(crate) async fn open_at(address: SocketAddr) -> Result<Self, Error> {
        let doing = format!("open the log backend on {address}");
        let listener = TcpListener::bind(address).await.map_err(Error::io(doing))?;
        let address = listener.local_addr().map_err(Error::io("open the log backend"))?;
        let backend = Self { stored: Arc::default(), batch: Arc::default(), address };
        let accepting = backend.clone();
        tokio::spawn(async move {
            loop {
                let stream = accept(&listener).await;
                // All on this connection comes from the ship of this wave.
                let (backend, wave) = (accepting.clone(), accepting.stored().wave);
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let backend = backend.clone();
                        async move { Ok::<_, Infallible>(backend.answer(request, wave).await) }
                    });
                    // A connection that breaks is a batch that is not stored: ship sends it again.
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Ok(backend)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A look at what has arrived. The guard must not live across an await.
    pub(crate) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers in this way from now on.
    pub(crate) fn set_mood(&self, mood: Mood) {
        self.stored().mood = mood;
    }

    /// Ship is killed now: what connects from here on is the next one.
    pub(crate) fn next_wave(&self) {
        self.stored().wave += 1;
    }

    /// Returns when the next batch is stored and its answer is still to come.
    pub(crate) async fn batch_in_flight(&self) {
        self.batch.notified().await;
    }

    async fn answer(&self, request: Request<Incoming>, wave: usize) -> Response<Full<Bytes>> {
        let encoding = request.headers().get(CONTENT_ENCODING).cloned();
        let body = match request.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return answer(StatusCode::BAD_REQUEST, &format!("half a body: {error}\n")),
        };
        let mood = self.stored().mood;
        if mood != Mood::Well {
            self.stored().refused += 1;
            if mood == Mood::Silent {
                std::future::pending::<()>().await;
            }
            return answer(StatusCode::SERVICE_UNAVAILABLE, "away\n");
        }
        let encoding = encoding.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("identity");
        let numbers = match decode(encoding, &body) {
            Ok(text) => self.stored().take(&text, wave),
            Err(error) => {
                let fault = format!("a {encoding} body of {} bytes: {error}", body.len());
                self.stored().fault(fault.clone());
                return answer(StatusCode::BAD_REQUEST, &fault);
            }
        };
        self.batch.notify_waiters();
        sleep(LATENCY).await;
        self.stored().acknowledge(&numbers, wave);
        answer(StatusCode::OK, "stored\n")
    }
}

impl Stored {
    /// Stores a batch, and returns the numbers in it.
    fn take(&mut self, ndjson: &str, wave: usize) -> Vec<u64> {
        self.batches += 1;
        let mut numbers = Vec::new();
        for line in ndjson.lines().filter(|line| !line.is_empty()) {
            let record = serde_json::from_str(line);
            match record.as_ref().ok().and_then(sequence::of_record) {
                Some(seq) => {
                    self.tally.arrived(seq, wave);
                    numbers.push(seq);
                }
                None => self.fault(format!("a record without a sequence number: {line:.200}")),
            }
        }
        numbers
    }

    /// The answer for these lines goes out now; to a ship that was killed it does not.
    fn acknowledge(&mut self, numbers: &[u64], wave: usize) {
        if wave == self.wave {
            numbers.iter().for_each(|&seq| self.tally.acknowledged(seq));
        }
    }

    fn fault(&mut self, fault: String) {
        /// Enough to see what is going on.
        const KEPT: usize = 5;
        if self.malformed.len() < KEPT {
            self.malformed.push(fault);
        }
    }
}

fn answer(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
}

fn decode(encoding: &str, body: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    match encoding {
        "identity" => (&mut &*body).read_to_string(&mut text)?,
        "gzip" => flate2::read::MultiGzDecoder::new(body).read_to_string(&mut text)?,
        "zstd" => zstd::Decoder::new(body)?.read_to_string(&mut text)?,
        other => return Err(io::Error::other(format!("unknown content-encoding {other:?}"))),
    };
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn each_encoding_is_read() {
        let text = "{\"seq\":1}\n{\"seq\":2}\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        assert_eq!(decode("gzip", &gzip.finish().unwrap()).unwrap(), text);
        assert_eq!(decode("zstd", &zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap(), text);
        assert_eq!(decode("identity", text.as_bytes()).unwrap(), text);
        assert!(decode("br", b"").unwrap_err().to_string().contains("\"br\""));
    }

    #[test]
    fn a_record_without_a_number_is_a_fault() {
        let mut stored = Stored::default();
        let numbers = stored.take("{\"seq\":1}\n{\"message\":\"hello\"}\nnot json\n", 0);
        assert_eq!(numbers, [1]);
        assert_eq!((stored.tally.delivered(), stored.malformed.len()), (1, 2));
    }

    #[test]
    fn an_answer_to_a_dead_ship_acknowledges_nothing() {
        let mut stored = Stored::default();
        let first = stored.take("{\"seq\":1}\n", 0);
        stored.acknowledge(&first, 0);
        let second = stored.take("{\"seq\":2}\n", 0);
        stored.wave = 1;
        stored.acknowledge(&second, 0);
        stored.take("{\"seq\":1}\n{\"seq\":2}\n", 1);
        let repeats = stored.tally.compare(&[1, 2].into()).repeats[&1];
        assert_eq!((repeats.in_flight, repeats.acknowledged), (1, 1));
    }
}
