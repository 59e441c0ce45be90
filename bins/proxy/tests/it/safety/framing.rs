//! What delimits a body (RFC 9112 6): everything that has ever let one server see one message and another see two.

use super::tape::Expect::{Carried, Refused};
use super::tape::{BEHIND, Bench};

const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

pub(super) fn post(rest: &str) -> String {
    format!("{HEAD}{rest}")
}

#[test]
fn lengths() {
    let bench = Bench::start();
    for (fields, body, carried) in [
        ("Content-Length: 2", "ab", "Content-Length: 2"),
        ("content-LENGTH:2", "ab", "content-LENGTH: 2"),
        ("Content-Length: \t 2 \t", "ab", "Content-Length: 2"),
        ("Content-Length: 0", "", "Content-Length: 0"),
        // The same length for those who read octal.
        ("Content-Length: 010", "0123456789", "Content-Length: 10"),
        ("Content-Length: 002", "ab", "Content-Length: 2"),
        ("Content-Length: 000", "", "Content-Length: 0"),
    ] {
        let carried = post(&format!("{carried}\r\n\r\n{body}"));
        bench.check(post(&format!("{fields}\r\n\r\n{body}")), Carried(&carried));
    }
    // None: no body, and what follows is a request.
    bench.check(post("\r\n"), Carried(&post("\r\n")));

    for value in [
        "",
        " ",
        "+2",
        "-2",
        "-0",
        "+0",
        "2 2",
        "2,2",
        "2, 2",
        "2,",
        ",2",
        "2, 3",
        "2;2",
        "2.0",
        "2e0",
        "0x2",
        "0X2",
        "2_0",
        "2h",
        "2 bytes",
        "\"2\"",
        "'2'",
        "two",
        "\u{b2}",
        "\u{0662}",
        "2\u{a0}",
        "18446744073709551616",
        "99999999999999999999999999999999",
        "-1",
        "4294967298 ,2",
        "2\t2",
        "NaN",
        "(2)",
        "2%00",
    ] {
        bench.check(post(&format!("Content-Length: {value}\r\n\r\nab")), Refused(400, "length_invalid"));
    }
    for value in ["2\r", "2\x0b", "\x0c2", "2\x7f", "\x012"] {
        bench.check(post(&format!("Content-Length: {value}\r\n\r\nab")), Refused(400, "field"));
    }
    bench.check(post("Content-Length: 2\0\r\n\r\nab"), Refused(400, "nul"));
    for fields in [
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 0\r\nContent-Length: 2",
        "Content-Length: 2\r\nX: 1\r\ncontent-length: 2",
    ] {
        bench.check(post(&format!("{fields}\r\n\r\nab")), Refused(400, "length_duplicate"));
    }
    bench.check(post("Content-Length:\r\nContent-Length: 2\r\n\r\nab"), Refused(400, "length_invalid"));
}

/// Whatever the method is, the body belongs to its message (RFC 9110 9.3.1, RFC 9112 6).
#[test]
fn bodies_go_with_every_method() {
    let bench = Bench::start();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "FOO"] {
        let raw =
            format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{BEHIND}", BEHIND.len());
        bench.check(&raw, Carried(&raw));
        let raw = format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        );
        bench.check(&raw, Carried(&raw));
    }
}

#[test]
fn codings() {
    let bench = Bench::start();
    let body = "\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    let carried = post(&format!("Transfer-Encoding: chunked{body}"));
    for field in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding:chunked",
        "Transfer-Encoding: \t chunked \t ",
        "transfer-encoding: CHUNKED",
        "TRANSFER-ENCODING: Chunked",
        "tRANSFER-eNCODING: cHuNkEd",
    ] {
        // One spelling for the origin, whatever it takes for `chunked`.
        let name = field.split(':').next().unwrap();
        bench.check(post(&format!("{field}{body}")), Carried(&carried.replace("Transfer-Encoding", name)));
    }
    for value in [
        "",
        " ",
        "identity",
        "xchunked",
        "chunkedx",
        "chunk",
        "x",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "chunked,",
        ",chunked",
        ", chunked",
        "chunked, ",
        ",",
        "chunked;q=1",
        "chunked; a=b",
        "chunked;",
        "\"chunked\"",
        "'chunked'",
        "[chunked]",
        "chunked chunked",
        "chunked\t\tx",
        "ch unked",
        "chun\u{fffd}ked",
        "\u{a0}chunked",
        "chunked\u{a0}",
        "\u{ff}chunked",
        "cow",
        "deflate",
        "trailers",
        "chunked=1",
        "identity, chunked, identity",
        "%63hunked",
        "chunked#",
        "\\chunked",
        "chunked/1",
    ] {
        bench.check(post(&format!("Transfer-Encoding: {value}{body}")), Refused(400, "transfer_encoding"));
    }
    for value in [
        "\x0bchunked",
        "chunked\x0b",
        "\x0cchunked",
        "chunked\x0c",
        "\x1fchunked",
        "chunked\x7f",
        "chunked\r",
        "\rchunked",
        "chu\rnked",
    ] {
        bench.check(post(&format!("Transfer-Encoding: {value}{body}")), Refused(400, "field"));
    }
    bench.check(post(&format!("Transfer-Encoding: \0chunked{body}")), Refused(400, "nul"));
    bench.check(post(&format!("Transfer-Encoding: chunked\0{body}")), Refused(400, "nul"));
    bench.check(post(&format!("Transfer-Encoding: chunked\n{body}")), Refused(400, "bare_lf"));
    bench.check(post(&format!("Transfer-Encoding:\n chunked{body}")), Refused(400, "bare_lf"));
    for fields in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\ntransfer-encoding: cow",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:",
    ] {
        bench.check(post(&format!("{fields}{body}")), Refused(400, "transfer_encoding"));
    }
    for (field, reason) in [
        ("Transfer-Encoding : chunked", "space_before_colon"),
        ("Transfer-Encoding\t: chunked", "space_before_colon"),
        ("Transfer-Encoding\x0b: chunked", "field"),
        ("Transfer-Encoding\r: chunked", "field"),
        ("Transfer-Encoding\u{a0}: chunked", "field"),
        ("Transfer-Encoding\u{85}: chunked", "field"),
        ("Transfer Encoding: chunked", "field"),
        ("Transfer\\Encoding: chunked", "field"),
        ("Transf\u{e9}r-Encoding: chunked", "field"),
        ("Transfer-Encoding x: chunked", "field"),
        ("Transfer-Encoding chunked", "field"),
        ("Transfer-\r\nEncoding: chunked", "field"),
        ("Tra\rnsfer-Encoding: chunked", "field"),
        ("Transfer-Encoding:\r\n chunked", "folded_field"),
        ("Transfer-Encoding:\r\n\tchunked", "folded_field"),
        ("X: 1\r\n Transfer-Encoding: chunked", "folded_field"),
        ("X: 1\r\n\tTransfer-Encoding: chunked", "folded_field"),
        (" Transfer-Encoding: chunked", "folded_field"),
        ("X: 1\rTransfer-Encoding: chunked", "field"),
        ("X: 1\r\n\rTransfer-Encoding: chunked", "field"),
        ("X: 1\nTransfer-Encoding: chunked", "bare_lf"),
        ("X: 1\n\nTransfer-Encoding: chunked", "bare_lf"),
        // Gateways behind us may take `_` for `-` (RFC 3875 4.1.18).
        ("Transfer_Encoding: chunked", "field"),
        ("transfer_encoding: chunked", "field"),
        ("Content_Length: 2", "field"),
    ] {
        bench.check(post(&format!("{field}{body}")), Refused(400, reason));
    }
    bench.check(
        format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked{body}"),
        Refused(400, "transfer_encoding"),
    );
    bench.check(
        format!("POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: identity{body}"),
        Refused(400, "transfer_encoding"),
    );
}

#[test]
fn a_length_and_a_coding_exclude_each_other() {
    let bench = Bench::start();
    let smuggled = format!("0\r\n\r\n{BEHIND}");
    for fields in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked", smuggled.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}", smuggled.len()),
        "Content-Length: 5\r\nTransfer-Encoding: chunked".to_owned(),
        "Content-Length: 0\r\nTransfer-Encoding: chunked".to_owned(),
        "content-length: 5\r\nX: 1\r\ntransfer-encoding: chunked".to_owned(),
        "Content-Length: 5\r\nConnection: close\r\nTransfer-Encoding: chunked".to_owned(),
    ] {
        bench.check(post(&format!("{fields}\r\n\r\n{smuggled}")), Refused(400, "length_with_encoding"));
    }
    for (fields, reason) in [
        ("Content-Length: x\r\nTransfer-Encoding: chunked", "length_invalid"),
        ("Transfer-Encoding: identity\r\nContent-Length: 5", "transfer_encoding"),
        ("Transfer-Encoding: ,chunked\r\nContent-Length: 5", "transfer_encoding"),
        ("Transfer-Encoding : chunked\r\nContent-Length: 5", "space_before_colon"),
        ("Transfer_Encoding: chunked\r\nContent-Length: 5", "field"),
        ("Content-Length: 5\r\nTransfer-Encoding:\x0bchunked", "field"),
    ] {
        bench.check(post(&format!("{fields}\r\n\r\n{smuggled}")), Refused(400, reason));
    }
}
