//! Whether a proxy does the job at all: what reaches the origin, and that connections stay.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::line::Line;
use crate::{Result, origin};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks twice on one connection for what the origin got.
pub(crate) fn check(mut line: Line) -> Result<()> {
    let started = Instant::now();
    for _ in 0..2 {
        write!(line, "GET {} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n", origin::MIRROR)?;
        let mut text = String::new();
        // The body is a request's head, so the second blank line is the end.
        while text.matches("\r\n\r\n").count() < 2 {
            let mut some = [0; 4096];
            let length = match line.read(&mut some) {
                Ok(0) => return Err(format!("closes the connection: {text:?}").into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock && started.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            text.push_str(&String::from_utf8_lossy(&some[..length]));
        }
        let seen = text.to_ascii_lowercase();
        let (answer, request) = seen.split_once("\r\n\r\n").unwrap_or_default();
        // Envoy tells its own address in place of a loopback client's.
        if !request.contains("\r\nx-forwarded-for: ") || request.contains("\r\nconnection: close") {
            return Err(format!("does not do the job: it made {request:?}").into());
        }
        if answer.contains("connection: close") {
            return Err(format!("does not keep connections: {answer:?}").into());
        }
    }
    Ok(())
}
