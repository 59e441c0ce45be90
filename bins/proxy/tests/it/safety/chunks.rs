//! Chunked bodies (RFC 9112 7): sizes, extensions, data and trailers, and what becomes of a message that breaks off.

use super::framing::post;
use super::tape::Bench;
use super::tape::Expect::{Carried, Refused, Unfinished};

#[test]
fn chunks() {
    let bench = Bench::start();
    let head = post("Transfer-Encoding: chunked\r\n\r\n");
    for (chunks, carried) in [
        ("0\r\n\r\n", "0\r\n\r\n"),
        ("2\r\nab\r\n0\r\n\r\n", "2\r\nab\r\n0\r\n\r\n"),
        (
            "a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n",
            "a\r\n0123456789\r\nA\r\n0123456789\r\n00\r\n\r\n",
        ),
        ("00000002\r\nab\r\n00000000\r\n\r\n", "00000002\r\nab\r\n00000000\r\n\r\n"),
        // What looks like framing within data is data.
        ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "5\r\n0\r\n\r\n\r\n0\r\n\r\n"),
        // Extensions carry nothing (RFC 9112 7.1.1).
        ("2;a\r\nab\r\n0;b=c\r\n\r\n", "2\r\nab\r\n0\r\n\r\n"),
        ("2;a=\"b;c\"\r\nab\r\n0\r\n\r\n", "2\r\nab\r\n0\r\n\r\n"),
        ("2 ; a = b\r\nab\r\n0\t;\r\n\r\n", "2\r\nab\r\n0\r\n\r\n"),
        ("2;a=\"\u{e9}\"\r\nab\r\n0\r\n\r\n", "2\r\nab\r\n0\r\n\r\n"),
        ("2;0\r\nab\r\n0;2\r\n\r\n", "2\r\nab\r\n0\r\n\r\n"),
    ] {
        bench.check(format!("{head}{chunks}"), Carried(&format!("{head}{carried}")));
    }

    // Found wrong before the origin has got anything.
    for chunks in [
        "\r\n",
        "\r\n\r\n",
        "\n",
        "x\r\n",
        "g\r\nab\r\n",
        " 2\r\nab\r\n",
        "\t2\r\nab\r\n",
        "+2\r\nab\r\n",
        "-2\r\nab\r\n",
        "-0\r\n\r\n",
        "0x2\r\nab\r\n",
        "0X2\r\nab\r\n",
        "2h\r\nab\r\n",
        "2_0\r\nab\r\n",
        "0_2\r\nab\r\n",
        "2,2\r\nab\r\n",
        "2.0\r\nab\r\n",
        "2\nab\r\n",
        "2\rab\r\n",
        "2\r\rab\r\n",
        "2\x0b\r\nab\r\n",
        "2\0\r\nab\r\n",
        "2\u{a0}\r\nab\r\n",
        "\u{ff12}\r\nab\r\n",
        "\"2\"\r\nab\r\n",
        "two\r\nab\r\n",
        // Sizes that wrap in 32 bits, in 31 and in 64; more digits than any need.
        "100000002\r\nab\r\n",
        "80000002\r\nab\r\n",
        "ffffffff\r\nab\r\n",
        "fffffffffffffffe\r\nab\r\n",
        "10000000000000002\r\nab\r\n",
        "000000002\r\nab\r\n",
        "0000000000000000000000000000000000000002\r\nab\r\n",
        "2\r;a\r\nab\r\n",
        "2\r\r;a\r\nab\r\n",
        ";a\r\nab\r\n",
        ";\r\n\r\n",
    ] {
        bench.check(format!("{head}{chunks}0\r\n\r\n"), Refused(400, "chunk"));
    }
    // Found wrong behind a size: no more than the size has gone.
    let long = format!("2;{}\r\nab\r\n", "x".repeat(5000));
    for chunks in [
        // An end of line for some.
        "2 2\r\nab\r\n",
        "2 \r\nab\r\n",
        "2\t\r\nab\r\n",
        "2;a\nab\r\n",
        "2;a\rab\r\n",
        "2;\n\r\nab\r\n",
        "2;a\0\r\nab\r\n",
        "2;a=\"\r\n\"\n",
        "2;a=\"\n\"\r\nab\r\n",
        "2;a\x7f\r\nab\r\n",
        "2;\x0b\r\nab\r\n",
        "2 a\r\nab\r\n",
        "2 a;b\r\nab\r\n",
        // An attack by its length alone.
        &long,
    ] {
        bench.check(format!("{head}{chunks}0\r\n\r\n"), Unfinished(400, "chunk"));
    }

    // Found wrong behind a chunk: the origin has the good part, and never an end.
    let good = format!("{head}3\r\nabc\r\n");
    for chunks in [
        "\r\n0\r\n\r\n",
        "\r\n\r\n",
        "x\r\n",
        "-1\r\n",
        "0x0\r\n\r\n",
        "2\nab\r\n",
        "ffffffffffffffff\r\n",
        "2;a\nb\r\nab\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\r\n",
    ] {
        bench.check_pieces(&[good.as_bytes(), chunks.as_bytes()], Unfinished(400, "chunk"));
    }
    for chunks in [
        // A chunk longer or shorter than its size; another end than CRLF.
        "2\r\nabc\r\n0\r\n\r\n",
        "2\r\nab\n0\r\n\r\n",
        "2\r\nab\r0\r\n\r\n",
        "2\r\nab\r\r\n0\r\n\r\n",
        "2\r\nab0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "2\r\nab\r\n\r\n0\r\n\r\n",
        "2\r\nab\r\nx0\r\n\r\n",
        "0\r\n\n",
        "0\r\n\r0\r\n\r\n",
        "0\n\r\n",
    ] {
        bench.check_pieces(&[head.as_bytes(), chunks.as_bytes()], Unfinished(400, "chunk"));
    }
}

#[test]
fn trailers() {
    let bench = Bench::start();
    let head = post("Transfer-Encoding: chunked\r\n\r\n");
    for (trailers, carried) in [
        ("X: 1\r\n", "X: 1\r\n"),
        ("X:1\r\nY: \t2 \r\n", "X: 1\r\nY: 2\r\n"),
        // What looks like a request is a field.
        ("X:POST /evil HTTP/1.1\r\n", "X: POST /evil HTTP/1.1\r\n"),
        // Framing, routing, credentials, and what says how to read the content (RFC 9110 6.5.1).
        ("Content-Length: 5\r\nX: 1\r\nTransfer-Encoding: chunked\r\nHost: evil\r\n", "X: 1\r\n"),
        (
            "X-Forwarded-For: evil\r\nX-Request-ID: 1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n",
            "",
        ),
        (
            "Connection: close\r\nKeep-Alive: 1\r\nTE: x\r\nUpgrade: h2c\r\nProxy-Connection: x\r\nTrailer: x\r\n",
            "",
        ),
        ("Authorization: x\r\nproxy-authorization: x\r\nCookie: x\r\nSet-Cookie: x\r\n", ""),
        ("Content-Type: x\r\nContent-Encoding: x\r\nContent-Range: x\r\nExpect: 100-continue\r\n", ""),
        ("Transfer_Encoding: chunked\r\nContent_Length: 1\r\nX_Forwarded_For: evil\r\n", ""),
    ] {
        let raw = format!("{head}2\r\nab\r\n0\r\n{trailers}\r\n");
        bench.check(raw, Carried(&format!("{head}2\r\nab\r\n0\r\n{carried}\r\n")));
    }
    let long = format!("X: {}\r\n\r\n", "x".repeat(9000));
    let many = format!("{}\r\n", "X: 1\r\n".repeat(40));
    for trailers in [
        "X : 1\r\n\r\n",
        " X: 1\r\n\r\n",
        "X: 1\r\n Y\r\n\r\n",
        "X\r\n\r\n",
        ": 1\r\n\r\n",
        "X: \0\r\n\r\n",
        "X: 1\n\r\n",
        "X: 1\nY: 2\r\n\r\n",
        "X: 1\rY: 2\r\n\r\n",
        "GET / HTTP/1.1: x\r\n\r\n",
        "X: 1\r\n\n",
        "X: 1\r\n\r\r\n",
        "\n",
        "\rX",
        "X(: 1\r\n\r\n",
        "X: \x7f\r\n\r\n",
        long.as_str(),
        many.as_str(),
        "X: 1\n\n",
    ] {
        let body = format!("2\r\nab\r\n0\r\n{trailers}");
        bench.check_pieces(&[head.as_bytes(), body.as_bytes()], Unfinished(400, "chunk"));
    }
}
