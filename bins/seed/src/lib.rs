//! podkit-seed: puts config in place on a shared volume before the app starts, whole or not at all.
//!
//! ```text
//!   flags, env, YAML ─► config ─► run ─► wait ─► seed ─► report
//!                                 ├─ watch: seed again on each change, and on_change tells the app
//!                                 └─ dry_run: only a diff
//!
//!   seed, one pass:
//!     target ──► before ───► desired ─────────────────────────► plan ────► write
//!     open,      what is     each entry: source, render,        wanted     stage, sync,
//!     lock       in force,   envsubst, env_file, downloads      against    flip or rename,
//!                and state   (fetch, archive); then check       seen       clean up, state
//!                └────────────── nothing is written ───────────────────┘   └─ one rename
//! ```
//!
//! Everything is made, checked and planned before the first byte is written, and what is written is invisible until one
//! rename. So a failure at any step leaves what was there before. No runtime but for what goes over the network (`net`).

mod archive;
mod before;
mod check;
mod config;
mod content;
mod descent;
mod desired;
mod diff;
mod dir;
mod downloads;
mod dry_run;
mod env_file;
mod environment;
mod envsubst;
mod error;
mod fetch;
mod generation;
mod inputs;
mod instance;
mod limits;
mod look;
mod metrics;
mod net;
mod on_change;
mod path;
mod plan;
mod program;
mod render;
mod run;
mod secrets;
mod seed;
mod source;
mod state;
mod target;
mod values;
mod wait;
mod watch;
mod write;

use std::ffi::OsString;

use podkit_cli::{Exit, Failure, Flag, Tool, Verb, Work};

pub use config::Config;
pub use error::Error;

/// The command line.
pub static TOOL: Tool = Tool {
    name: "seed",
    about: "Puts config in place on a shared volume before the app starts, whole or not at all",
    examples: "  podkit-seed --config seed.yaml          Wait, render and copy as the file says, then exit
  podkit-seed check --config seed.yaml    Print every fault of the file, or the settings in force
  podkit-seed --config seed.yaml --target /tmp/out --deadline 5s
                                          The same into another directory, to try it out
  podkit-seed --config seed.yaml --dry-run
                                          Show what would change, as a diff
  podkit-seed --config seed.yaml --watch  Stay, and seed again on each change (a native sidecar)
  podkit-seed render app.yaml.j2 --config seed.yaml
                                          Print what a template becomes with the values of the file
  podkit-seed status                      Show the state of the one that stays
  podkit-seed install /shared/bin         Copy this binary for use in another container

A config file:
  target: /shared/config
  wait:
    - tcp: db:5432
    - file: /secrets/ready
  values: [/values/base.yaml, /values/prod.yaml]
  files:
    - path: app.yaml
      template: /templates/app.yaml.j2
      mode: \"0640\"
    - path: tls/
      copy: /secrets/tls
",
    flags: &[
        Flag::value("target", "DIR", "Where the files go"),
        Flag::value(
            "deadline",
            "DURATION",
            "One budget for waiting, fetching, rendering and writing [default: 2m]",
        ),
        Flag::value(
            "layout",
            "LAYOUT",
            "links (all names change at once) or plain (real files) [default: links]",
        ),
        Flag::value(
            "durable",
            "BOOL",
            "Whether all must be on the disk before it is in force [default: true]",
        ),
        Flag::list("values", "FILE", "YAML or JSON for templates, merged in order"),
        Flag::value("templates", "DIR", "Where templates include others from"),
        Flag::list("secrets", "NAME", "Names such as values.db.password whose values are never shown"),
        Flag::switch("dry-run", "Show what would change and change nothing; exit code 2 if anything would")
            .of("run"),
        Flag::switch("watch", "Stay, and seed again when an input changes"),
        Flag::value("interval", "DURATION", "How often URLs are asked again with --watch [default: 1m]"),
    ],
    verbs: &[
        Verb::Status,
        Verb::Probe,
        Verb::Install,
        Verb::Own { name: "render", about: "Print what a template becomes", argument: Some("FILE") },
    ],
    admin: Some("0.0.0.0:9803"),
    termination_message: true,
};

/// Does what the command line says.
///
/// # Errors
/// A [`Failure`] with the exit code and the lines to print.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Failure> {
    podkit_cli::dispatch_work(&TOOL, args, Config::read, |work| match work {
        Work::Run(loaded) => run::run(loaded),
        Work::Own(_, file, loaded) => podkit_cli::print(render::verb::render(&loaded.config, &file)?),
        Work::Check(_) => unreachable!("there are no flags of `check`"),
    })
}
