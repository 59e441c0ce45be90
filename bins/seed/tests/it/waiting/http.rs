//! `http`: status, body, what is sent along, certificates, and servers that misbehave.

use std::net::TcpListener;

use podkit_testkit::{Authority, free_port};

use crate::kit::{Sandbox, seed};
use crate::server::{Answer, Server};

#[test]
fn a_server_is_waited_for_until_it_answers_well() {
    let sandbox = Sandbox::new();
    let server = Server::to_wait_for(|number| match number {
        0 => Answer::status("503 Service Unavailable").body("not yet"),
        1 => Answer::raw("what is this?\r\n\r\n"),
        2 => Answer::raw(""),
        _ => Answer::raw("HTTP/1.1 204 No Content\r\n\r\n"),
    });
    let address = server.address;
    sandbox.config(&format!("wait: [{{http: 'http://{address}/healthz', interval: 20ms}}]\nfiles: []\n"));
    let run = sandbox.seed().args(["--log-level", "debug"]).expect_exit(0);
    run.expect_stderr(&format!(
        "\"not there yet\",\"condition\":\"http http://{address}/healthz\",\"error\":\"status 503 and not 2xx\""
    ))
    .expect_stderr("\"error\":\"invalid HTTP version parsed\"")
    .expect_stderr("\"error\":\"connection closed before message completed\"")
    .expect_stderr(&format!("\"is there\",\"condition\":\"http http://{address}/healthz\",\"seconds\":"));
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!((&*requests[0].method, &*requests[0].path), ("GET", "/healthz"));
}

#[test]
fn status_and_body_can_be_others() {
    let sandbox = Sandbox::new();
    let server = Server::to_wait_for(|_| Answer::status("404 Not Found").body("state: ready\n"));
    let wait = |keys: &str| {
        let http = format!("http: {{url: 'http://{}/', {keys}}}", server.address);
        sandbox.config(&format!("deadline: 2s\nwait: [{{{http}}}]\nfiles: []\n"));
        sandbox.seed()
    };
    wait("status: 404").expect_exit(0);
    wait("status: [200, 404]").expect_exit(0);
    wait("status: 4xx, body: '(?m)^state: (ready|done)$'").expect_exit(0);
    wait("status: 4xx, method: HEAD").expect_exit(0);
    wait("status: [200, 5xx]").expect_exit(75).expect_stderr(" (status 404 and not 200 or 5xx)\n");
    wait("status: 404, body: '^ready'")
        .expect_exit(75)
        .expect_stderr(" (status 404, and the body does not match)\n");
}

#[test]
fn headers_and_proof_are_sent_along() {
    let sandbox = Sandbox::new();
    let token = sandbox.write("token", "from-file\n");
    for (keys, url, method, name, value) in [
        (
            &*format!("auth: {{bearer_file: {}}}", token.display()),
            "",
            "GET",
            "authorization",
            "Bearer from-file",
        ),
        ("auth: {user: me, password: it}", "", "GET", "authorization", "Basic bWU6aXQ="),
        ("headers: {X-Probe: one, Host: shop.example}", "", "GET", "host", "shop.example"),
        ("method: POST", "me:it@", "POST", "authorization", "Basic bWU6aXQ="),
    ] {
        let server = Server::to_wait_for(|_| Answer::ok(""));
        let yaml = format!("wait: [{{http: {{url: 'http://{url}{}/', {keys}}}}}]\n", server.address);
        let config = sandbox.write("http.yaml", yaml);
        seed().arg("--config").arg(config).expect_exit(0);
        let requests = server.requests();
        assert_eq!((&*requests[0].method, requests[0].header(name)), (method, Some(value)));
    }
}

#[test]
fn a_redirect_is_an_answer_and_is_not_followed() {
    let sandbox = Sandbox::new();
    let server = Server::to_wait_for(|_| Answer::redirect("/login"));
    let http =
        |keys: &str| format!("wait: [{{http: {{url: 'http://{}/', {keys}}}}}]\nfiles: []\n", server.address);
    sandbox.config(&format!("deadline: 2s\n{}", http("")));
    sandbox
        .seed()
        .expect_exit(75)
        .expect_stderr(" (status 302 and not 2xx: a redirect, which is not followed)\n");
    sandbox.config(&http("status: 302"));
    sandbox.seed().expect_exit(0);
    assert!(server.requests().iter().all(|request| request.path == "/"), "{:?}", server.requests());
}

#[test]
fn a_server_that_never_answers_holds_up_nobody_else() {
    let sandbox = Sandbox::new();
    let silent = Server::to_wait_for(|_| Answer::silence());
    let good = Server::to_wait_for(|_| Answer::ok(""));
    sandbox.config(&format!(
        "wait:\n  - {{http: 'http://{}/', timeout: 100ms}}\n  - {{http: 'http://{}/'}}\n  - tcp: localhost:{}\n\
         deadline: 2s\nfiles: []\n",
        silent.address,
        good.address,
        good.address.port()
    ));
    sandbox
        .seed()
        .expect_exit(75)
        .expect_stderr(&format!("\"is there\",\"condition\":\"http http://{}/\"", good.address))
        .expect_stderr(&format!("\"is there\",\"condition\":\"tcp localhost:{}\"", good.address.port()))
        .expect_stderr(&format!(
            "the deadline of 2s passed while waiting for http http://{}/ (no answer within 100ms)\n",
            silent.address
        ));
    assert!(silent.count() > 1, "a try that is over is followed by another");
}

#[test]
fn a_body_without_end_is_read_up_to_a_limit() {
    let sandbox = Sandbox::new();
    let server = Server::to_wait_for(|_| Answer::ok(format!("ready {}", "x".repeat(9000))).endless());
    let http = |body: &str| format!("http: {{url: 'http://{}/', body: '{body}'}}", server.address);
    sandbox.config(&format!("wait: [{{{}}}]\nfiles: []\n", http("^ready ")));
    sandbox.seed().expect_exit(0);
    // Fails at once each time, and never for lack of memory or time.
    sandbox.config(&format!("deadline: 3s\nwait: [{{{}}}]\nfiles: []\n", http("never there")));
    sandbox.seed().expect_exit(75).expect_stderr(" (status 200, and the body does not match)\n");
}

#[test]
fn gone_is_any_server_that_does_not_answer_as_wanted() {
    let sandbox = Sandbox::new();
    let server = Server::to_wait_for(|number| match number {
        0 | 1 => Answer::ok(""),
        _ => Answer::status("503 Service Unavailable"),
    });
    let gone = |address: &str| format!("wait: [{{http: 'http://{address}/', until: gone}}]\nfiles: []\n");
    sandbox.config(&gone(&server.address.to_string()));
    sandbox
        .seed()
        .args(["--log-level", "debug"])
        .expect_exit(0)
        .expect_stderr("\"not gone yet\"")
        .expect_stderr("\"error\":\"answers with status 200\"")
        .expect_stderr("\"is gone\"");
    sandbox.config(&gone(&format!("127.0.0.1:{}", free_port())));
    sandbox.seed().expect_exit(0);
    // Takes connections, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    sandbox
        .config(&format!("wait: [{{http: 'http://{address}/', until: gone, timeout: 100ms}}]\nfiles: []\n"));
    sandbox.seed().expect_exit(0);
}

#[test]
fn a_try_that_the_deadline_cuts_short_does_not_show_that_it_is_gone() {
    let sandbox = Sandbox::new();
    let server = Server::to_wait_for(|_| Answer::silence());
    let address = server.address;
    sandbox.config(&format!(
        "deadline: 300ms\nwait: [{{http: 'http://{address}/', until: gone, timeout: 1m}}]\nfiles: []\n"
    ));
    sandbox.seed().expect_exit(75);
}

#[test]
fn certificates_of_a_private_authority_are_trusted_where_it_is_given() {
    let sandbox = Sandbox::new();
    let authority = Authority::new("shop");
    let server = Server::to_wait_for_tls(authority.server().serve(None), |_| Answer::ok(""));
    let http = |tls: &str| format!("http: {{url: 'https://{}/'{tls}}}", server.address);
    for until in ["there", "gone"] {
        // What cannot be asked is not gone.
        sandbox.config(&format!("deadline: 2s\nwait: [{{{}, until: {until}}}]\nfiles: []\n", http("")));
        sandbox.seed().expect_exit(75).expect_stderr(" (invalid peer certificate: UnknownIssuer)\n");
    }
    assert_eq!(server.count(), 0);
    // The file may come later, as everything else that is waited for.
    sandbox.config(&format!("wait: [{{{}}}]\nfiles: []\n", http(", tls: {ca: '@/ca.pem'}")));
    let run = sandbox.seed().args(["--log-level", "debug"]).start();
    let ca = sandbox.path("ca.pem");
    run.wait_for_stderr(&format!(
        "\"error\":\"cannot read \\\"{}\\\": no such file or directory\"",
        ca.display()
    ));
    sandbox.write("new.pem", authority.pem());
    std::fs::rename(sandbox.path("new.pem"), ca).unwrap();
    run.wait().expect_exit(0);
}

#[test]
fn a_client_certificate_is_shown() {
    let sandbox = Sandbox::new();
    let authority = Authority::new("shop");
    let client = authority.client("seed");
    sandbox.write("ca.pem", authority.pem());
    sandbox.write("cert.pem", client.cert);
    sandbox.write("key.pem", client.key);
    let server = Server::to_wait_for_tls(authority.server().serve(Some(&authority)), |_| Answer::ok(""));
    let wait = |keys: &str| {
        let tls = format!("tls: {{ca: '@/ca.pem'{keys}}}");
        sandbox.config(&format!(
            "deadline: 2s\nwait: [{{http: {{url: 'https://{}/', {tls}}}}}]\nfiles: []\n",
            server.address
        ));
        sandbox.seed()
    };
    wait(", cert: '@/cert.pem', key: '@/key.pem'").expect_exit(0);
    wait("").expect_exit(75).expect_stderr("CertificateRequired");
}
