//! Maps the outcome of a drain to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    podkit_cli::report(&podkit_drain::TOOL, podkit_drain::run(std::env::args_os()))
}
