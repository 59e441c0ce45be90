//! Raw bytes in, in packets of every size; what is handed on, or the refusal, out.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Default, PartialEq)]
struct Seen {
    forwarded: Vec<u8>,
    trailers: Vec<u8>,
    over: bool,
    /// Bytes behind the body, where it is over.
    behind: usize,
}

/// Lets `wire` arrive in pieces of `step` bytes.
fn read(wire: &[u8], step: usize, keep: bool) -> Result<Seen, BadBody> {
    let mut body = Body::Chunked(Chunks::new(None));
    let mut seen = Seen::default();
    let (mut at, mut arrived) = (0, 0);
    loop {
        let bytes = &wire[at..arrived];
        match body.next(bytes, keep)? {
            Piece::Forward(n) => {
                seen.forwarded.extend_from_slice(&bytes[..n]);
                at += n;
            }
            Piece::Skip(n) => at += n,
            Piece::Trailers(n) => {
                seen.trailers.extend_from_slice(&bytes[..n]);
                at += n;
            }
            Piece::More if arrived == wire.len() => return Ok(seen),
            Piece::More => arrived = (arrived + step).min(wire.len()),
            Piece::End => return Ok(Seen { over: true, behind: wire.len() - at, ..seen }),
        }
    }
}

#[test]
fn framing_is_kept_extensions_are_cut_and_the_rest_stays() {
    for step in [1, 2, 3, 100] {
        let seen = read(b"5\r\nhello\r\n6 ;a=\"x;y\";b\r\n world\r\n0\r\n\r\nGET /", step, true).unwrap();
        assert_eq!(seen.forwarded, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "step {step}");
        assert!(seen.over);
        let seen = read(b"5\r\nhello\r\n6;a\r\n world\r\n0\r\n\r\n", step, false).unwrap();
        assert_eq!((seen.forwarded.as_slice(), seen.over), (b"hello world".as_slice(), true), "step {step}");
    }
}

#[test]
fn trailers_come_whole() {
    for step in [1, 7, 100] {
        let seen = read(b"1\r\nx\r\n0\r\nA: 1\r\nB: 2\r\n\r\n", step, true).unwrap();
        assert_eq!(seen.forwarded, b"1\r\nx\r\n0\r\n");
        assert_eq!(seen.trailers, b"A: 1\r\nB: 2\r\n\r\n");
        assert!(seen.over);
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let long = format!("5;{}\r\nhello", "x".repeat(5000));
    for bad in [
        "\r\n",
        "x\r\n",
        "-5\r\n",
        "+5\r\n",
        "0x5\r\nhello",
        " 5\r\nhello",
        "5\nhello",
        "5 \r\nhello",
        "5\rhello",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n0\r\n",
        "5\r\nhello\rX",
        "5;a\nhello",
        "5;a\0\r\nhello",
        "5;a\rb\r\n",
        "5_\r\n",
        "000000005\r\nhello",
        "80000000\r\nhello",
        "100000005\r\nhello",
        "ffffffffffffffff\r\n",
        "5, 5\r\n",
        "0\r\n\n",
        "0\r\nX: 1\n",
        "0\r\nX: 1\r\n\n",
        "0\r\nX: 1\nY: 2\r\n\r\n",
        "0\r\n\rX",
        ";a\r\n",
        long.as_str(),
    ] {
        for keep in [true, false] {
            assert_eq!(read(bad.as_bytes(), 1, keep), Err(BadBody::Framing), "{bad:?}");
            assert_eq!(read(bad.as_bytes(), 100_000, keep), Err(BadBody::Framing), "{bad:?}");
        }
    }
}

#[test]
fn more_data_than_the_limit_is_refused() {
    let mut body = Body::Chunked(Chunks::new(Some(5)));
    assert_eq!(body.next(b"5\r\nhello\r\n", true), Ok(Piece::Forward(10)));
    assert_eq!(body.next(b"1\r\n!", true), Err(BadBody::TooLarge));
}

#[test]
fn a_length_ends_where_it_says() {
    let mut body = Body::Length(5);
    assert_eq!(body.next(b"", true), Ok(Piece::More));
    assert_eq!(body.next(b"abc", true), Ok(Piece::Forward(3)));
    assert_eq!(body.next(b"defg", true), Ok(Piece::Forward(2)));
    assert_eq!(body.next(b"fg", true), Ok(Piece::End));
    assert!(body.is_over());
}

proptest! {
    #[test]
    fn chunks_give_back_their_data(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..8), step in 1_usize..300,
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let kept = wire.clone();
        wire.extend_from_slice(b"next");
        let seen = read(&wire, step, true).unwrap();
        prop_assert_eq!((&seen.forwarded, seen.over), (&kept, true));
        let seen = read(&wire, step, false).unwrap();
        prop_assert_eq!((seen.forwarded, seen.over), (chunks.concat(), true));
    }

    /// How the bytes arrive must not change what they mean: an attacker chooses the packets.
    #[test]
    fn the_verdict_does_not_hang_on_the_packets(
        wire in "([0-9a-f]{0,2}(;[a-z]{0,3})?(\r\n|\n)[a-z]{0,4}(\r\n|\n)?){0,4}0?(\r\n){0,2}", step in 1_usize..20, keep: bool,
    ) {
        let whole = read(wire.as_bytes(), wire.len().max(1), keep);
        let split = read(wire.as_bytes(), step, keep);
        match (whole, split) {
            (Ok(whole), Ok(split)) => {
                prop_assert_eq!((whole.forwarded, whole.trailers, whole.over), (split.forwarded, split.trailers, split.over));
            }
            (whole, split) => prop_assert_eq!(whole, split),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(wire in prop::collection::vec(any::<u8>(), 0..200), step in 1_usize..50, keep: bool) {
        let _ = read(&wire, step, keep);
    }
}
