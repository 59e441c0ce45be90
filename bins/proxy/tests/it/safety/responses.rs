//! What an origin answers, and what of it reaches the client: an answer is the answer to one question, or to none.

use std::sync::{Mutex, mpsc};

use super::script::Bench;
use super::script::Expect::{Cut, Last, Passed, Refused, RefusedBehind};
use crate::support::{Origin, PATIENCE, Proxy, ok};

#[test]
fn status_lines() {
    let mut bench = Bench::start();
    let rest = "Content-Length: 2\r\n\r\nok";
    for (line, passed) in [
        ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK"),
        ("HTTP/1.1 200 ", "HTTP/1.1 200 "),
        ("HTTP/1.1 200", "HTTP/1.1 200 "),
        ("HTTP/1.1 299 All is well (mostly)", "HTTP/1.1 299 All is well (mostly)"),
        ("HTTP/1.1 500 no", "HTTP/1.1 500 no"),
        // A reason in no charset is no reason.
        ("HTTP/1.1 200 caf\u{e9}", "HTTP/1.1 200 "),
    ] {
        bench.check(format!("{line}\r\n{rest}"), Passed(&format!("{passed}\r\n{rest}")));
    }
    for line in [
        "HTTP/0.9 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2 200",
        "HTTP/2.0 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 2e2 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 000 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 999 OK",
        "HTTP/1.1 OK",
        "HTTP/1.1",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 a\rb",
        "HTTP/1.1 200 a\0b",
        "HTTP/1.1 200 a\x0bb",
        "ICY 200 OK",
        "SSH-2.0-OpenSSH_9.9",
        "+OK evil",
        "GET / HTTP/1.1",
        // Garbage before it, as of an answer that was longer than it said.
        "\r\nHTTP/1.1 200 OK",
        "\nHTTP/1.1 200 OK",
        "\0HTTP/1.1 200 OK",
        " HTTP/1.1 200 OK",
        "evil\r\nHTTP/1.1 200 OK",
        "0\r\n\r\nHTTP/1.1 200 OK",
        "\u{feff}HTTP/1.1 200 OK",
    ] {
        bench.check(format!("{line}\r\n{rest}"), Refused);
    }
    // HTTP/0.9, which has no head.
    bench.check("<html>evil</html>~", Refused);
    bench.check("<html>evil</html>\r\n\r\n", Refused);
    bench.end();
}

#[test]
fn fields() {
    let mut bench = Bench::start();
    let answer = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    for (fields, passed) in [
        ("X:1\r\nY: \t 2 \r\nZ:\r\n", "X: 1\r\nY: 2\r\nZ: \r\n"),
        ("Set-Cookie: a\r\nSet-Cookie: b\r\n", "Set-Cookie: a\r\nSet-Cookie: b\r\n"),
        (
            "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nX: 1\r\n",
            "X: 1\r\n",
        ),
        ("Connection: close\r\n", ""),
        // What delimits the body is not the hop's to take away.
        ("Connection: Content-Length\r\n", ""),
        ("Upgrade: h2c\r\nConnection: upgrade\r\n", ""),
        ("TE: x\r\nHTTP2-Settings: x\r\n", ""),
    ] {
        bench.check(answer(fields), Passed(&answer(passed)));
    }
    for fields in [
        "X: 1\r\n folded\r\n",
        " X: 1\r\n",
        "X : 1\r\n",
        "X\t: 1\r\n",
        ": evil\r\n",
        "evil\r\n",
        "X: evil\nSet-Cookie: evil\r\n",
        "X: 1\n",
        "\nX: 1\r\n",
        "X: evil\rSet-Cookie: evil\r\n",
        "X: 1\n\nHTTP/1.1 200 evil\r\n",
        "X: \0\r\n",
        "X\0: 1\r\n",
        "X: a\x0bb\r\n",
        "X: \x7f\r\n",
        "X\u{e9}: 1\r\n",
        "X(: 1\r\n",
        "Content-Length: 2\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        bench.check(answer(fields), Refused);
    }
    bench.check("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Refused);
    bench.check("HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", Refused);
    bench.check("HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok", Refused);
    bench.check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", Refused);
    bench.check(answer(&"X: 1\r\n".repeat(300)), Refused);
    bench.check(answer(&format!("X: {}\r\n", "x".repeat(70_000))), Refused);
    bench.check(format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)), Refused);
    bench.end();
}

#[test]
fn framing() {
    let mut bench = Bench::start();
    let ok = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
    bench.check(ok("Content-Length: 002\r\n", "ok"), Passed(&ok("Content-Length: 2\r\n", "ok")));
    for value in
        ["", "+2", "-2", "2, 2", "2,2", "2 2", "0x2", "2.0", "two", "18446744073709551616", "2\u{a0}"]
    {
        bench.check(ok(&format!("Content-Length: {value}\r\n"), "ok"), Refused);
    }
    let chunks = "2\r\nok\r\n0\r\n\r\n";
    let chunked = ok("Transfer-Encoding: chunked\r\n", chunks);
    bench.check(&chunked, Passed(&chunked));
    bench.check(ok("Transfer-Encoding: CHUNKED\r\n", chunks), Passed(&chunked));
    for value in [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "xchunked",
        "chunked;q=1",
        ",chunked",
        "\"chunked\"",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        bench.check(ok(&format!("Transfer-Encoding: {value}\r\n"), chunks), Refused);
    }
    bench.check(ok("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", chunks), Refused);
    bench.check(ok("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", chunks), Refused);
    bench.check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused);

    // Chunks, good and bad.
    let head = ok("Transfer-Encoding: chunked\r\n", "");
    bench.check(format!("{head}2;a=b\r\nok\r\n0;c\r\n\r\n"), Passed(&format!("{head}{chunks}")));
    bench.check(
        format!("{head}2\r\nok\r\n0\r\nX:1\r\nContent-Length: 9\r\nSet-Cookie: evil\r\n\r\n"),
        Passed(&format!("{head}2\r\nok\r\n0\r\nX: 1\r\n\r\n")),
    );
    for bad in [
        "x\r\n",
        "\r\n",
        "-2\r\nok\r\n",
        "0x2\r\nok\r\n",
        "2\nok\r\n",
        " 2\r\nok\r\n",
        "100000002\r\nok\r\n",
        "2\r\r\nok\r\n",
    ] {
        bench.check(format!("{head}{bad}0\r\n\r\n"), Refused);
    }
    for bad in ["2\r\nokevil\r\n0\r\n\r\n", "2\r\nok\nevil\r\n\r\n", "2\r\nok\r\nx\r\n"] {
        bench.check(format!("{head}{bad}"), Refused);
        // Behind more than one buffer holds: a part of it is on its way.
        let much = format!("4e20\r\n{}\r\n", "x".repeat(20_000));
        bench.check(format!("{head}{much}{bad}"), Cut(&head));
    }
    let last = format!("{head}2\r\nok\r\n0\r\n");
    for bad in ["X: 1\nevil\r\n\r\n", "X: 1\r\n\n", "\n"] {
        bench.check(format!("{last}{bad}"), Refused);
    }
    for bad in ["X : evil\r\n\r\n", " X: evil\r\n\r\n", "evil\r\n\r\n", "X: \0\r\n\r\n"] {
        bench.check(format!("{last}{bad}"), Cut(&last));
    }
    // An end before the end.
    for (script, part) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf~",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n~", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha~",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nha\r\n0\r\n~",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nha\r\n0\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nha\r\n0\r\nX: ~",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nha\r\n0\r\n",
        ),
    ] {
        bench.check(script, Cut(part));
    }
    // The end of the connection is the end of the body, for the client too.
    bench.check("HTTP/1.1 200 OK\r\n\r\nall~", Last("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall"));
    bench.check("HTTP/1.0 200 OK\r\n\r\nall~", Last("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall"));
    bench
        .check("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok~", Passed(&ok("Content-Length: 2\r\n", "ok")));
    bench.end();
}

/// RFC 9112 6.3: some answers have no body, whatever their head says; what follows all the same is nobody's.
#[test]
fn answers_without_a_body() {
    let mut bench = Bench::start();
    let head = "HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (request, script, passed) in [
        (
            head,
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        ),
        (head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
        (head, "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        ),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
        ),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
    ] {
        bench.check_for(request, script, Passed(passed));
        bench.check_for(request, format!("{script}{evil}"), Passed(passed));
        bench.check_for(request, format!("{script}evil"), Passed(passed));
    }
    // Behind an answer with a body, too.
    for tail in [evil, "evil", "\r\n", "\n", "0\r\n\r\n"] {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        bench.check(format!("{whole}{tail}"), Passed(whole));
        let whole = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        bench.check(format!("{whole}{tail}"), Passed(whole));
    }
    bench.end();
}

#[test]
fn interim_and_switching_answers() {
    let mut bench = Bench::start();
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    bench.check(format!("{hints}{last}"), Passed(&format!("{hints}{last}")));
    bench.check(
        format!("HTTP/1.1 100 Continue\r\nContent-Length: 2\r\nTransfer-Encoding: x\r\n\r\n{last}"),
        Refused,
    );
    bench.check(
        format!("HTTP/1.1 102 Processing\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{last}"),
        Passed(&format!("HTTP/1.1 102 Processing\r\n\r\n{last}")),
    );
    // A body where none can be is taken for the next head.
    bench.check(
        format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nevil{last}"),
        RefusedBehind("HTTP/1.1 103 Early Hints\r\n\r\n"),
    );
    bench.check(format!("{hints}~"), RefusedBehind(hints));
    bench.check_for(
        "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        format!("{hints}{last}"),
        Passed(&last.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n")),
    );
    // Without end: the client is not kept for ever.
    bench.check(hints.repeat(2000), RefusedBehind(&hints.repeat(1000)));
    // Nobody has asked to switch, or not to this.
    let switching =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nevil";
    bench.check(switching, Refused);
    bench.check_for(
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        switching,
        Refused,
    );
    bench.check_for("GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", switching, Refused);
    bench.check_for(
        "GET /x HTTP/1.0\r\nConnection: upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
        switching,
        Refused,
    );
    // Asked for and not granted: what stands behind is the next request.
    bench.check_for(
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        last,
        Passed(last),
    );
    bench.end();
}

/// What comes on an idle connection is the answer to no question: a 408 of an app that closes it, or worse.
#[test]
fn an_answer_that_nobody_has_asked_for_is_nobodys() {
    let (go, wait) = mpsc::channel::<()>();
    let (sent, evil) = mpsc::channel();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |mut connection| {
        while let Some((head, _)) = connection.request() {
            connection.send(ok(head.split(' ').nth(1).unwrap()));
            wait.lock().unwrap().recv().unwrap();
            connection.send("HTTP/1.1 408 evil\r\nContent-Length: 4\r\nConnection: close\r\n\r\nevil");
            sent.send(()).unwrap();
        }
    });
    let proxy = Proxy::http(origin.address);
    let mut client = proxy.connect();
    for n in 0..10 {
        // On loopback it has arrived when the origin has sent it.
        let method = if n % 2 == 0 { "GET" } else { "POST" };
        client.send(format!("{method} /{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().text(), format!("/{n}"));
        go.send(()).unwrap();
        evil.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(origin.connections(), 10, "such a connection is not used again");
}
