//! Faults of a config, one a row: the place, what is wrong, how to mend it.

mod listener;
mod upstream;
mod whole;

use podkit_testkit::program;

use listener::LISTENER;
use upstream::UPSTREAM;
use whole::WHOLE;

/// A name for the row, its YAML, and stderr without the prefix `podkit-proxy: ` and the file's path.
type Row = (&'static str, &'static str, &'static str);

fn check((name, yaml, fault): Row, whole: impl Fn(&str) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("proxy.yaml");
    std::fs::write(&file, whole(yaml)).unwrap();
    let file = file.to_str().unwrap();
    let finished =
        program(env!("CARGO_BIN_EXE_podkit-proxy")).args(["check", "--config", file]).expect_exit(64);
    let told = finished.stderr.replace(&format!("podkit-proxy: {file}"), "");
    assert_eq!(told.trim_end(), fault, "{name}");
}

#[test]
fn each_fault_of_a_listener_is_told_with_its_place_and_how_to_mend_it() {
    for row in LISTENER {
        check(*row, |keys| {
            format!(
                "listeners: [{{name: web, listen: \"0.0.0.0:8080\", to: app, {keys}}}]\n\
                 upstreams: [{{name: app, address: \"127.0.0.1:8081\"}}]\n"
            )
        });
    }
}

#[test]
fn each_fault_of_an_upstream_is_told_with_its_place_and_how_to_mend_it() {
    for row in UPSTREAM {
        check(*row, |keys| {
            format!(
                "listeners: [{{name: web, listen: \"0.0.0.0:8080\", to: app}}]\n\
                 upstreams: [{{name: app, address: \"127.0.0.1:8081\", {keys}}}]\n"
            )
        });
    }
}

#[test]
fn each_fault_that_shows_in_the_whole_only_is_told_with_its_place_and_how_to_mend_it() {
    for row in WHOLE {
        check(*row, str::to_owned);
    }
}

#[test]
fn a_listener_of_an_upstream_with_a_fault_has_none_itself() {
    let row = (
        "a fault that is the upstream's own",
        "listeners: [{name: web, listen: \":8080\", to: app}]\nupstreams: [{name: app, address: app}]\n",
        ":2: upstreams[0].address: \"app\" is not `host:port`\n\
         hint: write `db:5432`, `[::1]:5432`, `unix:/path` or `srv:_http._tcp.name`",
    );
    check(row, str::to_owned);
}
