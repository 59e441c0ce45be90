//! What a request costs: podkit-proxy beside HAProxy, nginx, Envoy, and the least that any relay must do.
//!
//! ```text
//!   cargo bench -p podkit-proxy --bench versus                       all scenarios
//!   cargo bench -p podkit-proxy --bench versus -- http tcp           these
//!   cargo bench -p podkit-proxy --bench versus -- http --quick --without envoy
//!
//!   load (a thread of this process) ─► podkit-proxy | haproxy | nginx | envoy | bare relay ─► origin (a child)
//!                                      └─ CPU nanoseconds of all its threads, by the kernel's books of it
//! ```
//!
//! All do the same job with the same number of threads, one after the other, in turn: what else the machine does falls
//! on all alike. A peer that is missing is a failure, not a gap in the table; `--without NAME` leaves it out.

#![expect(clippy::print_stdout, reason = "the tables are what a bench is for")]

mod books;
mod bulk;
mod certs;
mod growth;
mod h2;
mod handshakes;
mod http;
mod line;
mod load;
mod measure;
mod memory;
mod mirror;
mod options;
mod origin;
mod peers;
mod relay;
mod sockets;
mod table;
mod tcp;
mod tls;

use std::process::ExitCode;

use options::Options;

/// What goes wrong ends the bench with one sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A scenario's word on the command line, and what runs it.
type Scenario = (&'static str, fn(&Options) -> Result<()>);

const SCENARIOS: &[Scenario] = &[
    ("http", http::run),
    ("growth", growth::run),
    ("tcp", tcp::run),
    ("bulk", bulk::run),
    ("h2", h2::run),
    ("tls", tls::run),
    ("memory", memory::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        // This binary again, as a child of itself.
        [origin::ROLE, port, answers] => origin::run(port, answers),
        [relay::ROLE, port, origin] => relay::run(port, origin),
        // `cargo test --all-targets` runs benches too, without `--bench`.
        words if !words.contains(&"--bench") => {
            println!("versus: run it with `cargo bench -p podkit-proxy --bench versus`");
            Ok(())
        }
        words => Options::read(words).and_then(|options| versus(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error}");
            ExitCode::FAILURE
        }
    }
}

fn versus(options: &Options) -> Result<()> {
    sockets::raise_limit()?;
    for (name, run) in SCENARIOS {
        if options.wants(name) {
            run(options)?;
        }
    }
    Ok(())
}
