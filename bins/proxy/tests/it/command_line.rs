//! Flags and config files: what is wrong is said in one line, with the right exit code.

use std::net::TcpListener;

use podkit_testkit::{Run, free_port, program};

use crate::support::{Origin, Proxy};

fn proxy(args: &[&str]) -> Run {
    program(env!("CARGO_BIN_EXE_podkit-proxy")).args(args)
}

#[test]
fn bad_flags_are_refused_with_their_reason() {
    for (args, why) in [
        (&[][..], "there is nothing to carry"),
        (
            &["--forward", "https://0.0.0.0:8443=http://127.0.0.1:1"],
            "--tls-cert: is required\nhint: give `--tls-cert`, PODKIT_PROXY_TLS_CERT, or `tls_cert:` in the config file",
        ),
        (
            &["--forward", "http://0.0.0.0:80=http://127.0.0.1:1", "--tls-key", "/tls.key"],
            "--tls-key: is for `--forward 'https://…=…'`, and there is none",
        ),
        (&["--forward", "http://0.0.0.0:80=x:1", "--workers", "65"], "--workers: \"65\" is more than 64"),
        (
            &["--forward", "http://0.0.0.0:9802=http://127.0.0.1:1"],
            "--forward: 0.0.0.0:9802 is taken by the admin port",
        ),
        (&["--forward", "0.0.0.0:80"], "--forward: \"0.0.0.0:80\" is not LISTENER=UPSTREAM"),
        (
            &["--forward", "http://0.0.0.0:80=http://127.0.0.1:1", "--shutdown-deadline", "20"],
            "\"20\" has no unit",
        ),
        (
            &["--forward", "tcp://0.0.0.0:80=x:1", "--shutdown-deadline", "5s", "--shutdown-quiet", "5s"],
            "--shutdown-quiet: 5s is not shorter than the deadline, 5s",
        ),
        (&["--frward", "x"], "--frward"),
        (
            &["--forward", "http://:80=http://x:1", "--forward", "tcp://0.0.0.0:80=x:1"],
            "0.0.0.0:80 is taken by",
        ),
        (&["--forward", "http://0.0.0.0:8080=http://localhost:8080"], "0.0.0.0:8080 is its own upstream"),
    ] {
        for verb in ["run", "check"] {
            proxy(args).arg(verb).expect_exit(64).expect_stderr("podkit-proxy: ").expect_stderr(why);
        }
    }
}

#[test]
fn a_config_file_has_all_its_faults_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("proxy.yaml");
    std::fs::write(
        &file,
        "listeners:\n\
         - name: web\n  listen: 0.0.0.0:8080\n  to: ap\n  protocl: http\n\
         - {name: out, direction: outbound, listen: \"0.0.0.0:5432\", to: app}\n\
         - {name: web2, listen: \"0.0.0.0:8081\", to: app, tls: {cert: /x}}\n\
         - {name: web3, listen: \"0.0.0.0:8081\", to: app, limits: {headers: 1000}}\n\
         upstreams:\n- {name: app, address: \"127.0.0.1\", pool: {idle: 4s}}\n",
    )
    .unwrap();
    let config = ["check", "--config", file.to_str().unwrap()];
    let finished = proxy(&config).expect_exit(64);
    let mut finished = finished;
    for why in [
        "proxy.yaml:5: listeners[0].protocl: unknown key",
        "did you mean `protocol`?",
        "listeners[2].tls",
        "listeners[3].limits.headers",
        "upstreams[0].address: \"127.0.0.1\" is not `host:port`",
        "upstreams[0].pool.idle",
    ] {
        finished = finished.expect_stderr(why);
    }
}

#[test]
fn an_outbound_listener_is_for_the_pod_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("proxy.yaml");
    std::fs::write(
        &file,
        "listeners: [{name: out, direction: outbound, listen: \"0.0.0.0:5432\", to: db}]\n\
         upstreams: [{name: db, address: \"db:5432\"}]\n",
    )
    .unwrap();
    let config = ["check", "--config", file.to_str().unwrap()];
    proxy(&config).expect_exit(64).expect_stderr("an outbound listener must listen on loopback");
}

#[test]
fn check_shows_the_settings_in_force_as_a_config_that_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let shown =
        proxy(&["check", "--forward", "tcp://127.0.0.1:5432=db:5432", "--shutdown-deadline", "1m30s"])
            .expect_exit(0)
            .expect_stdout("direction: outbound")
            .stdout;
    let file = dir.path().join("again.yaml");
    std::fs::write(&file, &shown).unwrap();
    let again = proxy(&["check", "--config", file.to_str().unwrap()]).expect_exit(0).stdout;
    assert_eq!(again, shown);
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let forward = format!("http://{address}=http://127.0.0.1:1");
    let line =
        format!("podkit-proxy: cannot listen on {address} (--forward '{forward}'): address already in use");
    let finished = proxy(&["--forward", &forward, "--admin", "off"]).expect_exit(1).expect_stderr(&line);
    assert_eq!(finished.stderr.matches("address already in use").count(), 1, "{}", finished.stderr);

    let listen = format!("http://127.0.0.1:{}=http://127.0.0.1:1", free_port());
    let admin = address.to_string();
    proxy(&["--forward", &listen, "--admin", &admin]).expect_exit(1).expect_stderr("--admin");
}

#[test]
fn it_runs_without_an_admin_port_and_from_the_environment() {
    let origin = Origin::hello();
    let port = free_port();
    let process = program(env!("CARGO_BIN_EXE_podkit-proxy"))
        .env("PODKIT_PROXY_FORWARD", format!("http://127.0.0.1:{port}=http://{}", origin.address))
        .env("PODKIT_PROXY_ADMIN", "off")
        .env("PODKIT_PROXY_SHUTDOWN_QUIET", "0s")
        .start();
    process.wait_for_stderr("listening on");
    let mut client = crate::support::Client::connect(([127, 0, 0, 1], port).into());
    assert_eq!(client.get("/").text(), "hello");
    process.terminate().expect_exit(0);
}

#[test]
fn status_and_probe_ask_the_running_proxy() {
    let origin = Origin::hello();
    let running = Proxy::http(origin.address);
    let admin = running.admin.to_string();
    proxy(&["status", "--admin", &admin]).expect_exit(0).expect_stdout("running").expect_stdout("http-");
    let table = proxy(&["status", "--admin", &admin]).expect_exit(0);
    table.expect_stdout("upstreams.endpoints").expect_stdout("EWMA_MS").expect_stdout("healthy");
    proxy(&["probe", "ready", "--admin", &admin]).expect_exit(0);
    running.ask("POST", "/drain?lease=60s");
    proxy(&["probe", "ready", "--admin", &admin]).expect_exit(1).expect_stderr("draining");
    proxy(&["probe", "live", "--admin", &admin]).expect_exit(0);
}
