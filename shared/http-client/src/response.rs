//! Bytes to a response. Pure: it never touches a socket.

/// An answer: its status and its whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code, 200 to 599.
    pub status: u16,
    /// The body, decoded from chunks where it came in chunks.
    pub body: Vec<u8>,
}

/// More fields than a local server sends.
const MAX_FIELDS: usize = 64;

impl Response {
    /// The response in `bytes`, or `None` while it is not whole yet. `ended` tells that no more will come, which
    /// ends a body without a length (RFC 9112 section 6.3).
    pub(crate) fn parse(method: &str, bytes: &[u8], ended: bool) -> Result<Option<Self>, &'static str> {
        let mut bytes = bytes;
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut head = httparse::Response::new(&mut fields);
            let parsed = head.parse(bytes).map_err(|_| "the head is malformed")?;
            let httparse::Status::Complete(length) = parsed else { return Ok(None) };
            let status = head.code.unwrap_or_default();
            bytes = &bytes[length..];
            if (100..200).contains(&status) {
                continue;
            }
            let body = if method == "HEAD" || status == 204 || status == 304 {
                Some(Vec::new())
            } else if field(&head, "transfer-encoding").is_some() {
                chunks(bytes)?
            } else if let Some(value) = field(&head, "content-length") {
                let text = std::str::from_utf8(value).map_err(|_| "the content-length is malformed")?;
                let length: usize = text.trim().parse().map_err(|_| "the content-length is malformed")?;
                bytes.get(..length).map(<[u8]>::to_vec)
            } else {
                ended.then(|| bytes.to_vec())
            };
            return Ok(body.map(|body| Self { status, body }));
        }
    }
}

fn field<'a>(head: &httparse::Response<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// The content of a chunked body, or `None` while its last chunk has not come.
fn chunks(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut body = Vec::new();
    loop {
        match httparse::parse_chunk_size(bytes) {
            Err(_) => return Err("a chunk is malformed"),
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete((_, 0))) => return Ok(Some(body)),
            Ok(httparse::Status::Complete((start, size))) => {
                let size = usize::try_from(size).map_err(|_| "a chunk is too large")?;
                let end = start.checked_add(size).ok_or("a chunk is too large")?;
                let Some(chunk) = bytes.get(start..end) else { return Ok(None) };
                body.extend_from_slice(chunk);
                match bytes.get(end..end + 2) {
                    Some(b"\r\n") => bytes = &bytes[end + 2..],
                    Some(_) => return Err("a chunk is malformed"),
                    None => return Ok(None),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, ended: bool) -> Result<Option<(u16, String)>, &'static str> {
        let parsed = Response::parse("GET", text.as_bytes(), ended)?;
        Ok(parsed.map(|r| (r.status, String::from_utf8(r.body).unwrap())))
    }

    #[test]
    fn bodies_end_as_rfc_9112_says() {
        for (text, ended, want) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false, Some((200, "ok"))),
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", false, None),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
                false,
                Some((503, "")),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                false,
                Some((200, "ok")),
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", true, None),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, Some((204, ""))),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", false, None),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", true, Some((200, "until the end"))),
            ("HTTP/1.1 200 OK\r\n", true, None),
        ] {
            assert_eq!(parse(text, ended), Ok(want.map(|(s, b)| (s, b.to_owned()))), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_http_is_told() {
        assert_eq!(parse("SSH-2.0-x\r\n", true), Err("the head is malformed"));
        assert_eq!(
            parse("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", true),
            Err("the content-length is malformed")
        );
        assert_eq!(
            parse("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", true),
            Err("a chunk is malformed")
        );
    }
}
