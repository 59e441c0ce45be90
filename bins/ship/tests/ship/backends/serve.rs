//! The threads of a server: connections, and what becomes of each request.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use podkit_testkit::PATIENCE;

use super::wire::{self, Request, Response, Unread, Wire};
use super::{Answer, Backend, Control, Server};

impl<B: Backend> Server<B> {
    /// Takes connections until the server goes away.
    pub(super) fn accept(&self, listener: TcpListener) {
        let server = self.clone();
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut control = server.control();
                if control.away {
                    return;
                }
                control.accepted += 1;
                let number = control.accepted;
                control.connections.insert(number, stream.try_clone().unwrap());
                let tls = control.tls.clone();
                drop(control);
                let server = server.clone();
                std::thread::spawn(move || server.serve(number, stream, tls));
            }
        });
        self.control().acceptor = Some(acceptor);
    }

    fn serve(&self, number: usize, stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) {
        if let Ok(wire) = Wire::open(stream, tls) {
            let mut wire = BufReader::new(wire);
            while self.one(number, &mut wire).is_some() {}
        }
        self.control().connections.remove(&number);
    }

    /// Serves one request; `None` ends the connection.
    fn one(&self, number: usize, wire: &mut BufReader<Wire>) -> Option<()> {
        let request = match wire::read(wire, B::ENCODINGS) {
            Ok(request) => request,
            Err(Unread::Gone) => return None,
            Err(Unread::Refused(response)) => {
                self.control().complaints.push(response.summary());
                return response.write(wire.get_mut()).ok();
            }
        };
        let count = B::count(&request);
        let (answer, admitted) = {
            let mut control = self.control();
            control.requests += 1;
            control.in_flight += 1;
            control.most_in_flight = control.most_in_flight.max(control.in_flight);
            control.last_headers.clone_from(&request.headers);
            let closed = |control: &mut Control| control.gate_closed;
            control = self.shared.changed.wait_timeout_while(control, PATIENCE, closed).ok()?.0;
            let admitted = control
                .access
                .as_deref()
                .is_none_or(|wanted| request.header("authorization") == Some(wanted));
            let scripted = if admitted { control.script.pop_front() } else { None };
            (scripted.or_else(|| control.otherwise.clone()).unwrap_or(Answer::Status(200, "")), admitted)
        };
        // Told before the last byte of the answer goes, after which the next request may come.
        let answered = || self.control().in_flight -= 1;
        if !admitted {
            answered();
            return Response::empty(401, "WWW-Authenticate: Basic realm=\"double\"\r\n")
                .write(wire.get_mut())
                .ok();
        }
        let too_large = || Response::empty(413, "");
        let response = match answer {
            Answer::Close => {
                answered();
                return None;
            }
            Answer::Reset => {
                answered();
                // The reset goes out when the last handle is closed.
                self.control().connections.remove(&number);
                socket2::SockRef::from(wire.get_ref().tcp()).set_linger(Some(Duration::ZERO)).unwrap();
                return None;
            }
            Answer::Silent => {
                let _ = wire.get_mut().read(&mut [0]);
                answered();
                return None;
            }
            Answer::Garbage => {
                answered();
                wire.get_mut().write_all(b"\x15\x03\x01 this is not HTTP\r\n\r\n").ok()?;
                return None;
            }
            Answer::Flood => {
                answered();
                let head = b"HTTP/1.1 503 Flood\r\nContent-Length: 99999999999\r\n\r\n";
                wire.get_mut().write_all(head).ok()?;
                while wire.get_mut().write_all(&[b'x'; 64 << 10]).is_ok() {}
                return None;
            }
            Answer::Status(status, fields) if !(200..300).contains(&status) => {
                Response::empty(status, fields)
            }
            Answer::Body(status, body) => Response::json(status, body),
            Answer::AtMost(limit) if count > limit => too_large(),
            Answer::AtMostBytes(limit) if request.body.len() > limit => too_large(),
            Answer::After(pause) => {
                std::thread::sleep(pause);
                self.take(&request, count)
            }
            Answer::Status(_, fields) => Response { fields: fields.to_owned(), ..self.take(&request, count) },
            Answer::AtMost(_) | Answer::AtMostBytes(_) | Answer::Trickle | Answer::Half => {
                self.take(&request, count)
            }
        };
        if matches!(answer, Answer::Half) {
            self.control().unanswered += count;
        }
        answered();
        match answer {
            Answer::Half => {
                let bytes = response.bytes();
                wire.get_mut().write_all(&bytes[..bytes.len() / 2]).ok()?;
                None
            }
            Answer::Trickle => response.bytes().chunks(64).try_for_each(|byte| {
                std::thread::sleep(Duration::from_millis(2));
                wire.get_mut().write_all(byte).and_then(|()| wire.get_mut().flush()).ok()
            }),
            _ => response.write(wire.get_mut()).ok(),
        }
    }

    fn take(&self, request: &Request, count: usize) -> Response {
        let response = self.with(|backend| backend.take(request));
        let mut control = self.control();
        if (200..300).contains(&response.status) {
            control.batches.push(count);
            control.encodings.push(request.encoding.clone());
        } else {
            control.complaints.push(response.summary());
        }
        response
    }
}
