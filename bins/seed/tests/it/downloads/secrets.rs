//! Who asks is told to the server of the config, and to nobody else.

use super::{download, fails};
use crate::kit::Sandbox;
use crate::server::{Answer, Server};

#[test]
fn each_kind_of_proof_reaches_the_server() {
    for (auth, header) in [
        ("auth: {user: Aladdin, password_file: '@/secret'}", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("auth: {bearer_file: '@/secret'}", "Bearer open sesame"),
        ("auth: {api_key_file: '@/secret'}", "ApiKey open sesame"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("secret", "open sesame\n");
        let server = Server::start(move |_, request| match request.header("authorization") {
            Some(sent) if sent == header => Answer::ok("in"),
            _ => Answer::status("401 Unauthorized"),
        });
        sandbox.run(&download(&server.url("/x"), &format!("unverified: true, {auth}")));
        assert_eq!(sandbox.read("got"), "in");
    }
}

#[test]
fn a_redirect_to_another_server_takes_no_proof_along() {
    let sandbox = Sandbox::new();
    sandbox.write("secret", "s3cret");
    let other = Server::start(|_, request| match request.header("authorization") {
        None => Answer::ok("there"),
        Some(_) => Answer::status("400 Bad Request"),
    });
    let to = other.url("/x?sig=s3cret").replace("http://", "http://user:s3cret@");
    let server = Server::start(move |_, request| match request.header("authorization") {
        Some("Bearer s3cret") if request.path == "/away" => Answer::redirect("/still-here"),
        Some("Bearer s3cret") => Answer::redirect(&to),
        _ => Answer::status("401 Unauthorized"),
    });
    let yaml = download(&server.url("/away"), "unverified: true, auth: {bearer_file: '@/secret'}");
    sandbox.run(&yaml);
    assert_eq!((sandbox.read("got"), server.count(), other.count()), ("there".to_owned(), 2, 1));
}

#[test]
fn no_secret_of_a_url_is_shown() {
    let sandbox = Sandbox::new();
    let server = Server::start(|number, request| {
        assert_eq!(request.header("authorization"), Some("Basic dXNlcjpzM2NyZXQ="));
        assert_eq!(request.path, "/x?sig=s3cret");
        match number {
            0 => Answer::status("500 Internal Server Error"),
            _ => Answer::redirect("ftp://user:s3cret@files/x?sig=s3cret"),
        }
    });
    // The kit would take the sign itself for the sandbox.
    let url = server.url("/x?sig=s3cret").replace("http://", "http://user:s3cret\\x40");
    let yaml = download(&url, "unverified: true").replace('\'', "\"");
    let shown = server.url("/x?sig=***");
    let finished = fails(
        &sandbox,
        &yaml,
        1,
        &format!(
            "podkit-seed: cannot download {shown}: it is redirected to ftp://user:***@files/x?sig=***, \
             which is no HTTP URL\n"
        ),
    );
    let checked = sandbox.seed().args(["--log-level", "trace"]).expect_exit(1);
    for text in [&finished.stderr, &finished.stdout, &checked.stderr, &checked.stdout] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn a_token_without_a_name_is_not_shown() {
    let sandbox = Sandbox::new();
    sandbox.run("files: [{path: got, inline: before}]\n");
    let server = Server::start(|number, request| {
        assert_eq!(request.path, "/x?s3cret");
        match number % 2 {
            0 => Answer::status("500 Internal Server Error"),
            _ => Answer::redirect("ftp://files/x?s3cret"),
        }
    });
    let (url, shown) = (server.url("/x?s3cret"), server.url("/x?***"));
    let yaml = format!(
        "{}wait: [{{command: ['true', '{url}']}}]\non_change: {{http: 'POST {url}'}}\n",
        download(&url, "unverified: true")
    );
    sandbox.config(&yaml);
    let fault =
        format!("cannot download {shown}: it is redirected to ftp://files/x?***, which is no HTTP URL\n");
    let run = sandbox.seed().args(["--log-level", "trace"]).expect_exit(1).expect_stderr(&fault);
    let dry = sandbox.seed().arg("--dry-run").expect_exit(1).expect_stderr(&fault);
    let check = sandbox.seed().arg("check").expect_exit(0).expect_stdout(&format!("url: \"{shown}\""));
    sandbox.config(&yaml.replace("http://", "htp://"));
    let bad = sandbox.seed().arg("check").expect_exit(64).expect_stderr("?***");
    for finished in [&run, &dry, &check, &bad] {
        for text in [&finished.stderr, &finished.stdout] {
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    let sandbox = Sandbox::new();
    let server = Server::start(|_, _| Answer::ok("x"));
    let yaml = download(&server.url("/x"), "unverified: true, auth: {bearer_file: '@/none'}");
    fails(
        &sandbox,
        &yaml,
        1,
        &format!("cannot read {:?}: no such file or directory\n", sandbox.path("none")),
    );
    assert_eq!(server.count(), 0);
}
