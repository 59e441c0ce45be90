//! The names that a request has across services: `X-Request-ID` and the W3C trace context. Pure functions.
//!
//! What a client sends is passed on if it is sound, and replaced if not. The proxy records no spans of its own, so it
//! never becomes a parent.

/// A longer request id is replaced: a UUID has 36 letters, and every log line holds it.
const ID_LIMIT: usize = 128;

/// A `traceparent` of version 00: `00-<trace id>-<parent id>-<flags>`.
const TRACEPARENT: usize = 55;

/// Whether a client's request id may be passed on: it ends in logs and headers of every service behind.
pub(super) fn is_request_id(value: &[u8]) -> bool {
    (1..=ID_LIMIT).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

/// A random UUID (version 4), as Envoy starts them: for telling requests apart in logs, not for secrets.
pub(super) fn request_id(random: u128) -> [u8; 36] {
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let digits = hex::<32>(bits);
    let mut text = [b'-'; 36];
    for (to, from) in [(0..8, 0..8), (9..13, 8..12), (14..18, 12..16), (19..23, 16..20), (24..36, 20..32)] {
        text[to].copy_from_slice(&digits[from]);
    }
    text
}

/// The trace id of a sound `traceparent` (W3C Trace Context 3.2); an unsound one counts as none.
pub(super) fn trace_id(traceparent: &[u8]) -> Option<&[u8]> {
    let parts = (
        traceparent.get(..2)?,
        traceparent.get(3..35)?,
        traceparent.get(36..52)?,
        traceparent.get(53..TRACEPARENT)?,
    );
    let (version, trace, parent, flags) = parts;
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    // A later version may be longer, behind another dash.
    let ends = match &traceparent[TRACEPARENT..] {
        [] => true,
        [b'-', ..] => version != b"00",
        _ => false,
    };
    let is_sound = [version, trace, parent, flags].into_iter().all(is_hex)
        && [2, 35, 52].into_iter().all(|at| traceparent[at] == b'-')
        && version != b"ff"
        && !is_zero(trace)
        && !is_zero(parent)
        && ends;
    is_sound.then_some(trace)
}

/// A new `traceparent`, sampled: an app that follows its parent's choice would else record nothing at all.
pub(super) fn traceparent(trace: u128, parent: u64) -> [u8; TRACEPARENT] {
    let mut text = *b"00-________________________________-________________-01";
    // Zeros stand for no id.
    text[3..35].copy_from_slice(&hex::<32>(trace.max(1)));
    text[36..52].copy_from_slice(&hex::<16>(parent.max(1).into()));
    text
}

/// The last digits of a number; an even count of them.
fn hex<const DIGITS: usize>(bits: u128) -> [u8; DIGITS] {
    const LETTERS: &[u8; 16] = b"0123456789abcdef";
    let (mut text, bytes) = ([0; DIGITS], bits.to_be_bytes());
    for (pair, byte) in text.chunks_exact_mut(2).zip(&bytes[bytes.len() - DIGITS / 2..]) {
        pair.copy_from_slice(&[LETTERS[usize::from(byte >> 4)], LETTERS[usize::from(byte & 0xf)]]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_request_id_is_short_and_visible() {
        for good in ["a", "0123-abc", "!~\"\\", &"x".repeat(128)] {
            assert!(is_request_id(good.as_bytes()), "{good:?}");
        }
        for bad in ["", "a b", "a\tb", "\u{7f}", "\u{e4}", &"x".repeat(129)] {
            assert!(!is_request_id(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn a_started_request_id_is_a_uuid() {
        let text = |random| String::from_utf8(request_id(random).to_vec()).unwrap();
        assert_eq!(text(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(text(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(text(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), "01234567-89ab-4def-8123-456789abcdef");
    }

    #[test]
    fn a_sound_traceparent_has_a_trace_id() {
        assert_eq!(trace_id(SOUND), Some(&b"4bf92f3577b34da6a3ce929d0e0e4736"[..]));
        for later in ["cc", "cc-what the future will be like"] {
            let (version, rest) = later.split_at(2);
            let text = [version.as_bytes(), &SOUND[2..], rest.as_bytes()].concat();
            assert!(trace_id(&text).is_some(), "{later}");
        }
    }

    #[test]
    fn an_unsound_traceparent_counts_as_none() {
        let changed = |at: usize, byte: u8| {
            let mut text = SOUND.to_vec();
            text[at] = byte;
            text
        };
        let mut bad: Vec<Vec<u8>> =
            [0, 10, 40, 54].into_iter().flat_map(|at| [changed(at, b'g'), changed(at, b'A')]).collect();
        bad.extend([2, 35, 52].map(|at| changed(at, b'_')));
        bad.push([b"ff", &SOUND[2..]].concat());
        bad.push([SOUND, b"-00"].concat());
        bad.push([b"cc", &SOUND[2..], b"00"].concat());
        bad.push(b"00-00000000000000000000000000000000-00f067aa0ba902b7-01".to_vec());
        bad.push(b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".to_vec());
        bad.extend((0..SOUND.len()).map(|length| SOUND[..length].to_vec()));
        for text in bad {
            assert_eq!(trace_id(&text), None, "{:?}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn a_started_traceparent_is_sound() {
        for (trace, parent) in [(0, 0), (u128::MAX, u64::MAX), (1 << 100, 7)] {
            let text = traceparent(trace, parent);
            assert!(trace_id(&text).is_some(), "{:?}", String::from_utf8_lossy(&text));
            assert!(text.ends_with(b"-01"));
        }
    }
}
