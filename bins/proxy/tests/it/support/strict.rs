//! A strict reader of HTTP/1.1 messages, written from RFC 9112 alone and with no code of the proxy's: what the proxy
//! hands on must be one message for it too, with the same framing.

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The start line, without its end.
    pub(crate) start: String,
    /// Names in lower case, values without the white space around them.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// Without chunked framing.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    /// Bytes of the head.
    pub(crate) head: usize,
    /// Bytes of all of it.
    pub(crate) length: usize,
}

/// The message that the bytes begin with, `None` where bytes are missing, or the rule that is broken.
pub(crate) type Reading = Result<Option<Message>, &'static str>;

impl Message {
    /// The values of the field lines of this name, which is in lower case.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_slice()).collect()
    }

    fn one(&self, name: &str) -> Result<Option<&[u8]>, &'static str> {
        match self.values(name)[..] {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err("a field that may stand once stands twice"),
        }
    }
}

/// What delimits a body (RFC 9112 6.3).
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Reads a request as an origin does: in origin form, of HTTP/1.1, with one Host.
pub(crate) fn request(bytes: &[u8]) -> Reading {
    let Some(message) = head(bytes)? else { return Ok(None) };
    let parts: Vec<&str> = message.start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return Err("no request line of HTTP/1.1") };
    if method.is_empty() || !method.bytes().all(is_tchar) {
        return Err("the method is no token");
    }
    if !(target.starts_with('/') || (target == "*" && method == "OPTIONS")) {
        return Err("the target is not in origin form");
    }
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err("the target has a byte that no URI has");
    }
    match message.one("host")? {
        None => return Err("no Host"),
        Some(host) if host.iter().any(|byte| !byte.is_ascii_graphic() || b"/?#@\\,".contains(byte)) => {
            return Err("the Host is malformed");
        }
        Some(_) => {}
    }
    let framing = match framing(&message)? {
        Framing::UntilClose => Framing::Length(0),
        framing => framing,
    };
    body(message, bytes, framing, false)
}

/// Reads a response as a client does; `ended` is whether the connection ended behind the bytes.
pub(crate) fn response(bytes: &[u8], to_head: bool, ended: bool) -> Reading {
    let Some(message) = head(bytes)? else { return Ok(None) };
    let line = message.start.as_bytes();
    let status = line.strip_prefix(b"HTTP/1.1 ").ok_or("no status line of HTTP/1.1")?;
    let [a @ b'1'..=b'5', b, c, b' ', ..] = status else { return Err("no status") };
    if !b.is_ascii_digit() || !c.is_ascii_digit() {
        return Err("no status");
    }
    let bodiless = *a == b'1' || matches!(&status[..3], b"204" | b"304");
    let framing = framing(&message)?;
    if matches!(&status[..3], [b'1', ..] | b"204")
        && (message.one("content-length")?.is_some() || message.one("transfer-encoding")?.is_some())
    {
        return Err("framing where no body can be");
    }
    let framing = if bodiless || to_head { Framing::Length(0) } else { framing };
    body(message, bytes, framing, ended)
}

/// The start line and the fields; the body is still empty.
fn head(bytes: &[u8]) -> Reading {
    let Some((start, mut at)) = line(bytes, 0)? else { return Ok(None) };
    let start = std::str::from_utf8(start).map_err(|_| "the start line is no text")?.to_owned();
    if start.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err("the start line has a control byte");
    }
    let Some(fields) = fields(bytes, &mut at)? else { return Ok(None) };
    Ok(Some(Message { start, fields, body: Vec::new(), trailers: Vec::new(), head: at, length: at }))
}

type Fields = Vec<(String, Vec<u8>)>;

/// Field lines up to the blank one.
fn fields(bytes: &[u8], at: &mut usize) -> Result<Option<Fields>, &'static str> {
    let mut fields = Vec::new();
    while let Some((line, next)) = line(bytes, *at)? {
        *at = next;
        if line.is_empty() {
            return Ok(Some(fields));
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a field without a colon")?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().copied().all(is_tchar) {
            return Err("a field name is no token");
        }
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err("a field value has a control byte");
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
        fields.push((name, value[start..end].to_vec()));
    }
    Ok(None)
}

fn framing(message: &Message) -> Result<Framing, &'static str> {
    match (message.one("content-length")?, message.one("transfer-encoding")?) {
        (Some(_), Some(_)) => Err("a length and a coding"),
        (None, None) => Ok(Framing::UntilClose),
        (None, Some(b"chunked")) => Ok(Framing::Chunked),
        (None, Some(_)) => Err("a coding other than chunked"),
        (Some([b'0', _, ..]), None) => Err("a length that some read as octal"),
        (Some(length), None) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(length).expect("digits").parse();
            length.map(Framing::Length).map_err(|_| "a length that overflows")
        }
        _ => Err("a length that is no number"),
    }
}

fn body(mut message: Message, bytes: &[u8], framing: Framing, ended: bool) -> Reading {
    let mut at = message.head;
    match framing {
        Framing::Length(length) => {
            let end = at.checked_add(usize::try_from(length).map_err(|_| "a length beyond all memory")?);
            let Some(body) = end.and_then(|end| bytes.get(at..end)) else { return Ok(None) };
            message.body = body.to_vec();
            at += body.len();
        }
        Framing::UntilClose if !ended => return Ok(None),
        Framing::UntilClose => {
            message.body = bytes[at..].to_vec();
            at = bytes.len();
        }
        Framing::Chunked => loop {
            let Some((size, next)) = line(bytes, at)? else { return Ok(None) };
            // No extensions: they have to be gone. No more digits than 32 bits have.
            if size.is_empty() || size.len() > 8 || !size.iter().all(u8::is_ascii_hexdigit) {
                return Err("a malformed chunk size");
            }
            let size = std::str::from_utf8(size).expect("digits");
            let size = usize::from_str_radix(size, 16).expect("eight digits");
            at = next;
            if size == 0 {
                let Some(trailers) = fields(bytes, &mut at)? else { return Ok(None) };
                message.trailers = trailers;
                break;
            }
            let Some(data) = bytes.get(at..at + size) else { return Ok(None) };
            message.body.extend_from_slice(data);
            at += size;
            match &bytes[at..] {
                [b'\r', b'\n', ..] => at += 2,
                [] | [b'\r'] => return Ok(None),
                _ => return Err("a chunk longer than its size"),
            }
        },
    }
    message.length = at;
    Ok(Some(message))
}

/// The line at `at`, without its CRLF, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, &'static str> {
    let rest = &bytes[at..];
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    match end.map(|end| (end, &rest[end..])) {
        Some((end, [b'\r', b'\n', ..])) => Ok(Some((&rest[..end], at + end + 2))),
        None | Some((_, [b'\r'])) => Ok(None),
        _ => Err("a bare CR or LF"),
    }
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
