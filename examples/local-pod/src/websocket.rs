//! As much of WebSocket (RFC 6455) as an echo needs: the handshake's fields, and short frames, whole or not at all.
//!
//! No fragments, no extensions, no payload over 125 bytes. The key of the handshake is always the RFC's own example, so
//! that its answer is known without a hash.

use std::io;

use hyper::{
    Request,
    header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// RFC 6455, section 1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// A payload's length as one byte tells it.
const MOST: usize = 125;

/// Any mask will do where no cache listens.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

/// Which side of a connection this is: clients mask what they send, servers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(Vec<u8>),
    Close,
}

/// The fields that ask for the change of protocol, or agree to it.
pub(crate) fn fields(headers: &mut HeaderMap, own: (&'static str, &'static str)) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(own.0, HeaderValue::from_static(own.1));
}

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked<B>(request: &Request<B>) -> bool {
    request.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Sends one frame.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), side: Side, frame: &Frame) -> io::Result<()> {
    let (kind, payload) = match frame {
        Frame::Text(text) => (TEXT, text.as_slice()),
        Frame::Close => (CLOSE, [].as_slice()),
    };
    let length = u8::try_from(payload.len()).ok().filter(|length| usize::from(*length) <= MOST);
    let length = length.ok_or_else(|| io::Error::other("too long for a short frame"))?;
    let mut bytes = vec![FINAL | kind];
    match side {
        Side::Server => {
            bytes.push(length);
            bytes.extend_from_slice(payload);
        }
        Side::Client => {
            bytes.push(MASKED | length);
            bytes.extend_from_slice(&MASK);
            bytes.extend(masked(payload));
        }
    }
    to.write_all(&bytes).await?;
    to.flush().await
}

/// The next frame; an end without one is an error.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 2];
    from.read_exact(&mut head).await?;
    let mut mask = [0; 4];
    let is_masked = head[1] & MASKED != 0;
    if is_masked {
        from.read_exact(&mut mask).await?;
    }
    let length = usize::from(head[1] & !MASKED);
    if length > MOST || (is_masked && mask != MASK) {
        return Err(io::Error::other("a frame that is not of this kind"));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    if is_masked {
        payload = masked(&payload).collect();
    }
    match head[0] & !FINAL {
        TEXT => Ok(Frame::Text(payload)),
        CLOSE => Ok(Frame::Close),
        other => Err(io::Error::other(format!("a frame of kind {other}"))),
    }
}

fn masked(payload: &[u8]) -> impl Iterator<Item = u8> {
    payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_is_received() {
        for side in [Side::Client, Side::Server] {
            let (mut near, mut far) = tokio::io::duplex(512);
            for frame in [Frame::Text(b"hello".to_vec()), Frame::Text(Vec::new()), Frame::Close] {
                send(&mut near, side, &frame).await.unwrap();
                assert_eq!(receive(&mut far).await.unwrap(), frame);
            }
            send(&mut near, side, &Frame::Text(vec![0; 126])).await.unwrap_err();
            drop(near);
            receive(&mut far).await.unwrap_err();
        }
    }
}
