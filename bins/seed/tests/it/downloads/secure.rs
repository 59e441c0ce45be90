//! Downloads by HTTPS: whom we trust, and who trusts us.

use podkit_testkit::Authority;

use super::{download, fails};
use crate::kit::Sandbox;
use crate::server::{Answer, Server};

const TRUSTED: &str = "unverified: true, tls: {ca: '@/ca.crt'}";

/// A server of `authority`, which the sandbox has as `ca.crt`.
fn server(
    sandbox: &Sandbox,
    authority: &Authority,
    answers: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> Server {
    sandbox.write("ca.crt", authority.pem());
    Server::start_tls(authority.server().serve(None), move |_, request| answers(&request.path))
}

#[test]
fn a_private_authority_is_trusted_when_told() {
    let (sandbox, ours) = (Sandbox::new(), Authority::new("ours"));
    let server = server(&sandbox, &ours, |_| Answer::ok("secure"));
    for url in [server.url("/x"), server.url("/x").replace("127.0.0.1", "localhost")] {
        sandbox.run(&download(&url, TRUSTED));
        assert_eq!(sandbox.read("got"), "secure");
    }
}

#[test]
fn another_authority_is_not_trusted_and_the_hint_names_the_key() {
    let (sandbox, ours, other) = (Sandbox::new(), Authority::new("ours"), Authority::new("other"));
    let server = server(&sandbox, &ours, |_| Answer::ok("secure"));
    let url = server.url("/x");
    let text = format!(
        "podkit-seed: cannot download {url}: cannot connect: invalid peer certificate: UnknownIssuer\n\
         hint: if a private authority signed the server's certificate, name its own one in `tls.ca`\n"
    );
    fails(&sandbox, &download(&url, "unverified: true"), 1, &text);
    sandbox.write("ca.crt", other.pem());
    fails(&sandbox, &download(&url, TRUSTED), 1, &text);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let (sandbox, ours) = (Sandbox::new(), Authority::new("ours"));
    sandbox.write("ca.crt", ours.pem());
    let server = Server::start_tls(ours.server_of(&["files.test"]).serve(None), |_, _| Answer::ok("x"));
    fails(
        &sandbox,
        &download(&server.url("/x"), TRUSTED),
        1,
        "\nhint: the server's certificate is for other names",
    );
}

#[test]
fn a_client_certificate_is_shown_to_who_wants_one() {
    let (sandbox, ours) = (Sandbox::new(), Authority::new("ours"));
    let client = ours.client("seed");
    sandbox.write("ca.crt", ours.pem());
    sandbox.write("tls.crt", &client.cert);
    sandbox.write("tls.key", &client.key);
    let server = Server::start_tls(ours.server().serve(Some(&ours)), |_, _| Answer::ok("known"));
    let url = server.url("/x");
    sandbox
        .run(&download(&url, "unverified: true, tls: {ca: '@/ca.crt', cert: '@/tls.crt', key: '@/tls.key'}"));
    assert_eq!(sandbox.read("got"), "known");
    let text = "\nhint: the server wants a certificate that it trusts: name it in `tls.cert` and `tls.key`\n";
    fails(&sandbox, &download(&url, TRUSTED), 1, text);
}

#[test]
fn a_redirect_does_not_lead_out_of_https() {
    let (sandbox, ours) = (Sandbox::new(), Authority::new("ours"));
    let plain = Server::start(|_, _| Answer::ok("in clear"));
    let to = plain.url("/x");
    let server = server(&sandbox, &ours, move |_| Answer::redirect(&to));
    let text = format!("it is redirected to {}, which is not encrypted\n", plain.url("/x"));
    fails(&sandbox, &download(&server.url("/x"), TRUSTED), 1, &text);
    assert_eq!(plain.count(), 0);
}

#[test]
fn a_redirect_to_another_server_by_https_is_followed() {
    let (sandbox, ours) = (Sandbox::new(), Authority::new("ours"));
    let there = server(&sandbox, &ours, |_| Answer::ok("there"));
    let to = there.url("/x");
    let here = server(&sandbox, &ours, move |_| Answer::redirect(&to));
    sandbox.run(&download(&here.url("/x"), TRUSTED));
    assert_eq!(sandbox.read("got"), "there");
}

#[test]
fn a_body_that_breaks_off_inside_tls_is_noticed() {
    let (sandbox, ours) = (Sandbox::new(), Authority::new("ours"));
    sandbox.write("ca.crt", ours.pem());
    let server = Server::start_tls(ours.server().serve(None), |number, _| match number {
        0 => Answer::ok("whole").chunked().closed_after(2),
        _ => Answer::ok("whole").chunked(),
    });
    sandbox.run(&download(&server.url("/x"), TRUSTED)).expect_stderr("; trying again in ");
    assert_eq!(sandbox.read("got"), "whole");
}
