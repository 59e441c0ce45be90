//! The answers that the proxy gives itself: short, in JSON, and never with anything of the upstream's in them.

use crate::buffer::Buffer;

/// Appends a whole response.
pub(super) fn write(out: &mut Buffer, status: u16, message: &str, close: bool, is_head: bool) {
    let title = title(status);
    let body = format!("{{\"error\":\"{title}\",\"message\":\"{message}\"}}\n");
    let connection = if close { "Connection: close\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} {title}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{connection}\r\n",
        body.len(),
    );
    out.push(head.as_bytes());
    if !is_head {
        out.push(body.as_bytes());
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
