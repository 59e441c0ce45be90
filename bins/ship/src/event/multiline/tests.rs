use super::*;
use proptest::prelude::*;

fn group(multiline: &Multiline, text: &str) -> Vec<String> {
    let mut events: Vec<String> = Vec::new();
    let mut open: Option<Group> = None;
    for line in text.split('\n') {
        let taken = open.as_mut().is_some_and(|group| group.takes(multiline, line.as_bytes()));
        match events.last_mut().filter(|_| taken) {
            Some(event) => {
                event.push('\n');
                event.push_str(line);
            }
            None => {
                events.push(line.to_owned());
                open = Some(multiline.begin(line.as_bytes()));
            }
        }
    }
    events
}

/// Checks that these stay apart and whole in `auto` and in the language's own preset.
#[track_caller]
fn stay(language: Languages, events: &[&str]) {
    for languages in [language, Languages::ALL] {
        assert_eq!(group(&Multiline::Traces(languages), &events.join("\n")), events, "{languages:?}");
    }
}

const LOGGED: &str = "2026-11-22 05:00:00,123 ERROR [main] shop.Cart: cannot pay";
const NEXT: &str = "2026-11-22 05:00:01,000 INFO [main] shop.Cart: next";

#[test]
fn java() {
    let trace = "java.lang.IllegalStateException: cannot pay
	at shop.Cart.pay(Cart.java:50)
	at java.base/java.lang.Thread.run(Thread.java:840)
	Suppressed: java.io.IOException: close
		at shop.Pool.close(Pool.java:1)
		... 2 more
Caused by: org.postgresql.util.PSQLException: ERROR: duplicate key
  Detail: Key (id)=(1) already exists.
	at shop.Db.insert(Db.java:7) ~[shop.jar:1.0]
	... 12 more
Caused by: java.net.ConnectException
	... 3 common frames omitted";
    stay(Languages::JAVA, &[&format!("{LOGGED}\n{trace}"), NEXT]);
    stay(Languages::JAVA, &[trace, trace, "plain line", "another"]);
    stay(Languages::JAVA, &[LOGGED, NEXT]);
    stay(Languages::JAVA, &["Exception in thread \"main\" java.lang.Error: x\n\tat a.B.c(B.java:1)", "done"]);
    stay(
        Languages::JAVA,
        &["it failed with x\n\tat a.B.c(B.java:1)\nCaused by: a.B: x\n\t... 1 more", "done"],
    );
    stay(
        Languages::JAVA,
        &[
            "[ERROR] failed\njava.lang.RuntimeException: x\n    at a.B.c(B.java:1)",
            "java.lang.RuntimeException: y\n    at a.B.c(B.java:1)",
        ],
    );
}

#[test]
fn python() {
    let trace = "Traceback (most recent call last):
  File \"/app/x.py\", line 3, in <module>
    pay(cart)
    ~~~^^^^^^
  File \"/app/x.py\", line 1, in pay
    raise KeyError(\"x\")
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"/app/x.py\", line 5, in <module>
    raise shop.errors.PayError(1) from None
shop.errors.PayError: 1

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File \"/app/x.py\", line 9, in <module>
    main()
KeyboardInterrupt";
    stay(Languages::PYTHON, &[trace, trace, "ordinary: line", "x"]);
    stay(Languages::PYTHON, &[&format!("ERROR:root:failed\n{trace}"), "INFO:root:x"]);
    stay(Languages::PYTHON, &[&format!("{LOGGED}\n{trace}"), NEXT]);
    stay(
        Languages::PYTHON,
        &[
            "  + Exception Group Traceback (most recent call last):
  |   File \"x.py\", line 1, in <module>
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------",
            "next",
        ],
    );
    stay(
        Languages::PYTHON,
        &["Traceback (most recent call last):\n  File \"x\", line 1, in f", "not an exception line"],
    );
}

#[test]
fn go() {
    let trace = "panic: runtime error: index out of range [5] with length 3 [recovered]
	panic: again
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x4a1b2c]

goroutine 1 [running]:
main.(*Cart).pay(...)
	/app/main.go:10
net/http.HandlerFunc.ServeHTTP(0xc000123, {0x7f, 0xc0}, 0x1?)
	/usr/local/go/src/net/http/server.go:2136 +0x29
panic({0x1234?, 0xc0?})
	/usr/local/go/src/runtime/panic.go:770 +0x132
created by main.main in goroutine 1
	/app/main.go:6 +0x20

goroutine 18 [chan receive, 2 minutes]:
main.f(0x1)
	/app/main.go:3 +0x1d
exit status 2";
    stay(Languages::GO, &[trace, trace, "plain"]);
    let logged = "2026/11/22 05:00:00 http: panic serving 10.0.0.1:5: boom\ngoroutine 5 [running]:\nnet/http.(*conn).serve.func1()\n\t/usr/local/go/src/net/http/server.go:1 +0xbf";
    stay(Languages::GO, &[logged, "2026/11/22 05:00:01 next"]);
    stay(
        Languages::GO,
        &[
            "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan send]:\nmain.main()\n\t/app/x.go:4 +0x5\n\nrax    0x0\nrip    0x46",
            "next (call)",
        ],
    );
    stay(
        Languages::GO,
        &[LOGGED, "panic: x\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/x.go:4 +0x5\n", "plain"],
    );
}

#[test]
fn ruby() {
    let new = "/app/x.rb:1:in 'Cart#pay': cannot pay (RuntimeError)\n\tfrom /app/x.rb:5:in 'block in run'\n\tfrom /app/x.rb:9:in '<main>'";
    let old = "Traceback (most recent call last):\n\t1: from x.rb:5:in `<main>'\nx.rb:1:in `pay': cannot pay (RuntimeError)";
    stay(Languages::RUBY, &[new, new, old, "plain"]);
    stay(
        Languages::RUBY,
        &[
            "F, [2026-11-22T05:00:00.1 #7] FATAL -- : RuntimeError (cannot pay):\napp/models/cart.rb:1:in `pay'\napp/x.rb:2:in `f'",
            "I, [2026-11-22T05:00:01.1 #7]  INFO -- : x",
        ],
    );
    stay(
        Languages::RUBY,
        &[
            "ActionView::Template::Error (cannot pay):\n  \napp/models/cart.rb:1:in `pay'\napp/x.rb:2:in `f'",
            "plain",
        ],
    );
}

#[test]
fn node() {
    let trace = "Error: connect ECONNREFUSED 127.0.0.1:5432
    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1555:16)
    at async f (/app/x.js:1:2) {
  code: 'ECONNREFUSED',
  [cause]: Error: inner
      at g (/app/y.js:3:4) {
    errno: -111
  }
}";
    stay(Languages::NODE, &[trace, trace, "plain", "}"]);
    stay(Languages::NODE, &[&format!("{LOGGED}\n{trace}"), NEXT]);
    stay(Languages::NODE, &["TypeError [ERR_X]: y\n    at f (x.js:1:2)", "done"]);
    let thrown = "/app/x.js:3\n    throw new Error('boom');\n    ^\n\nError: boom\n    at Object.<anonymous> (/app/x.js:3:11)\n\nNode.js v22.1.0";
    stay(Languages::NODE, &[thrown, thrown, "plain"]);
}

#[test]
fn dotnet() {
    let trace = "System.InvalidOperationException: cannot pay
 ---> System.IO.IOException: inner
   at Shop.Db.Insert() in /src/Db.cs:line 3
   --- End of inner exception stack trace ---
   at Shop.Cart.Pay() in /src/Cart.cs:line 50
--- End of stack trace from previous location ---
   at Program.<Main>$(String[] args)";
    stay(Languages::DOTNET, &[trace, trace, "plain"]);
    stay(Languages::DOTNET, &[&format!("Unhandled exception. {trace}"), "plain"]);
    stay(
        Languages::DOTNET,
        &[
            "fail: Shop.Cart[0]\n      cannot pay\n      System.Exception: x\n         at Shop.Cart.Pay()",
            "info: Shop.Cart[0]\n      paid",
        ],
    );
}

#[test]
fn ordinary_lines_stay_apart() {
    stay(
        Languages::ALL,
        &[
            "a",
            "b",
            "",
            "c",
            "  indented prose",
            "at the end",
            "Error handling is on",
            "errors: 2",
            "main.f is (odd)",
        ],
    );
    stay(Languages::ALL, &["{\"level\":\"error\"}", "\tat a.B.c(B.java:1)", "{\"a\":1}", "{\"b\":1}"]);
    stay(Languages::ALL, &["java.lang.Error: x", "{\"a\":1}"]);
    stay(
        Languages::ALL,
        &[&format!("{LOGGED}\n  key: value\n\tother: value\njava.lang.Error: x\n\tat y"), NEXT],
    );
}

#[test]
fn a_start_takes_all_lines_up_to_the_next() {
    let start = Multiline::Start(Regex::new(r"^\d{4}-").unwrap());
    let events = ["2026-x\n\n a\nb", "2026-y", "{\"a\":1}", "c\nd"];
    assert_eq!(group(&start, &events.join("\n")), events);
}

#[test]
fn only_what_can_go_on_need_wait() {
    let auto = Multiline::Traces(Languages::ALL);
    assert!(!Multiline::None.begin(b"x").may_go_on());
    assert!(!auto.begin(b"{\"a\":1}").may_go_on());
    assert!(auto.begin(b"x").may_go_on());
    let mut panic = auto.begin(b"panic: x");
    for line in ["", "goroutine 1 [running]:", "main.main()", "\t/x.go:1 +0x1", "exit status 2"] {
        assert!(panic.may_go_on() && panic.takes(&auto, line.as_bytes()), "{line}");
    }
    assert!(!panic.may_go_on());
}

proptest! {
    #[test]
    fn no_line_is_lost_and_none_makes_it_panic(lines in proptest::collection::vec("[ \\ta-zA-Z0-9:.'`(){}\\[\\]\"é-]{0,24}|\tat x|panic: x|goroutine 1 \\[x\\]:|Traceback \\(most recent call last\\):|Caused by: x|\\{\"a\":1\\}", 0..20)) {
        let text = lines.join("\n");
        for languages in [Languages::ALL, Languages::JAVA, Languages::PYTHON, Languages::GO, Languages::RUBY, Languages::NODE, Languages::DOTNET] {
            prop_assert_eq!(&group(&Multiline::Traces(languages), &text).join("\n"), &text);
        }
    }

    #[test]
    fn any_bytes_are_taken_or_not(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..8)) {
        let auto = Multiline::Traces(Languages::ALL);
        for first in &lines {
            let mut group = auto.begin(first);
            for line in &lines {
                group.takes(&auto, line);
            }
        }
    }
}
