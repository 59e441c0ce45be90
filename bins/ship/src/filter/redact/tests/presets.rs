//! What each preset takes, and what looks like it and is left.

use super::*;

/// What a preset makes of texts, and that it leaves others alone; in a text and in an object's string.
#[track_caller]
fn check(name: &str, taken: &[(&str, &str)], left: &[&str]) {
    let redactor = redactor(&[preset(name)]);
    for (given, want) in taken.iter().copied().chain(left.iter().map(|same| (*same, *same))) {
        assert_eq!(text(&redactor, given), want, "{name}");
        assert_eq!(text(&redactor, want), want, "{name} again");
        let json = serde_json::json!({"a": [given, 1], given: null});
        let redacted: Value = serde_json::from_str(&object(&redactor, &json.to_string())).unwrap();
        assert_eq!(redacted, serde_json::json!({"a": [want, 1], given: null}), "{name}");
    }
}

#[test]
fn bearer() {
    check(
        "bearer",
        &[
            ("Authorization: Bearer abc", "Authorization: Bearer ***"),
            (r#"{"authorization":"bearer a.b-c/d=="}"#, r#"{"authorization":"bearer ***"}"#),
            ("é Bearer 0123456789abcdef, x", "é Bearer ***, x"),
            ("with Bearer abc123", "with Bearer ***"),
            ("bearer my-secret-token", "bearer ***"),
            ("bearer abcdefghijklmnop", "bearer ***"),
            ("h=Bearer%20mF_9.B5f-4.1JqM&x", "h=Bearer%20***&x"),
        ],
        &[
            "the bearer of bad news",
            "bearer authentication/authorization failed",
            "WWW-Authenticate: Bearer realm=\"x\"",
            "forbearer 0123456789abcdef",
        ],
    );
}

#[test]
fn basic_auth() {
    check(
        "basic_auth",
        &[
            ("authorization: Basic YTpi", "authorization: Basic ***"),
            ("Basic dXNlcjpwYXNzd29yZA==", "Basic ***"),
            ("BASIC dTrDqQ", "BASIC ***"),
        ],
        &["basic authentication", "Basic auth failed", "Basic realm", "visual basic YTpi_", "Basic dXNlcg=="],
    );
}

#[test]
fn credit_card() {
    check(
        "credit_card",
        &[
            ("4111111111111111", "[card ***]"),
            ("card=4111 1111 1111 1111.", "card=[card ***]."),
            ("(4111-1111-1111-1111)", "([card ***])"),
            ("4222222222222", "[card ***]"),
            ("3782 822463 10005", "[card ***]"),
            ("371449635398431", "[card ***]"),
            ("30569309025904,5555555555554444", "[card ***],[card ***]"),
            ("2223003122003222 6011111111111117", "[card ***] [card ***]"),
            ("3530111333300000", "[card ***]"),
            ("6212345678901232", "[card ***]"),
            ("6759649826438453", "[card ***]"),
            ("n 12 4111 1111 1111 1111 07/29", "n 12 [card ***] 07/29"),
        ],
        &[
            "4111111111111112",                     // the check digit
            "1111111111111117",                     // no issuer
            "411111111111111",                      // one digit less
            "41111111111111111111",                 // a longer number
            "0.4111111111111111",                   // a fraction
            "4111111111111111.5",                   // the same
            "a4111111111111111",                    // a part of a word
            "4111111111111111b",                    // the same
            "4111 1111-1111 1111",                  // two separators
            "4111  1111  1111  1111",               // wide ones
            "41 11 11 11 11 11 11 11",              // a row of figures
            "1767225600000",                        // milliseconds
            "2026-01-02 03:04:05.678901234",        // a time
            "00000000-4111-1111-1111-111111111111", // a UUID
            "+49 4111 111 111",                     // a telephone number
        ],
    );
}

#[test]
fn email() {
    check(
        "email",
        &[
            ("to=jane.doe+x@mail.example.com;", "to=***@***;"),
            ("<jürgen@müller.de>.", "<***@***>."),
            ("a@b.co, c_d@e-f.org", "***@***, ***@***"),
        ],
        &["root@localhost", "@Override", "a @ b.com", "git@", "user@10.0.0.1"],
    );
}

#[test]
fn jwt() {
    check(
        "jwt",
        &[
            ("t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-_ x", "t=eyJ*** x"),
            ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "eyJ***"),
            ("eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn", "eyJ***"),
        ],
        &["eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9 x.y.z", "eyJ.a.b", "keyJhbGciOiJIUzI1NiJ9.a.b"],
    );
}

#[test]
fn aws_access_key() {
    check(
        "aws_access_key",
        &[
            ("id AKIAIOSFODNN7EXAMPLE.", "id AKIA***."),
            ("ASIAIOSFODNN7EXAMPLE", "ASIA***"),
            (
                "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                "aws_secret_access_key = ***",
            ),
            (
                r#""SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY""#,
                r#""SecretAccessKey": "***""#,
            ),
        ],
        &["AKIAIOSFODNN7EXAMPL", "AKIAIOSFODNN7EXAMPLES", "XAKIAIOSFODNN7EXAMPLE", "secret_key=none", "AKIA"],
    );
}

#[test]
fn private_key() {
    check(
        "private_key",
        &[
            (
                "k: -----BEGIN PRIVATE KEY-----\nMIIE+/=\nab\n-----END PRIVATE KEY----- z",
                "k: -----BEGIN PRIVATE KEY-----*** z",
            ),
            (
                r"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n",
                r"-----BEGIN RSA PRIVATE KEY-----***\n",
            ),
            ("-----BEGIN EC PRIVATE KEY-----\r\nMHcCAQ", "-----BEGIN EC PRIVATE KEY-----***"),
            (
                "-----BEGIN PGP PRIVATE KEY BLOCK-----x-----END PGP PRIVATE KEY BLOCK-----",
                "-----BEGIN PGP PRIVATE KEY BLOCK-----***",
            ),
        ],
        &[
            "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "no PRIVATE KEY found",
        ],
    );
}

#[test]
fn url_password() {
    check(
        "url_password",
        &[
            ("to postgres://app:s3cr3t@db:5432/x?y", "to postgres://app:***@db:5432/x?y"),
            ("redis://:pw@r", "redis://:***@r"),
            ("amqp+ssl://u:p@ss@mq/", "amqp+ssl://u:***@mq/"),
            ("HTTP://u:pä:ö@h", "HTTP://u:***@h"),
        ],
        &[
            "http://host:8080/path?mail=a@b.c",
            "https://user@host/",
            "http://host:80 u:p@h",
            "http://[::1]:80/@",
            "//u:p@h",
        ],
    );
}
