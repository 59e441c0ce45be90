//! podkit-seed: maps the outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    podkit_cli::report(&podkit_seed::TOOL, podkit_seed::run(std::env::args_os()))
}
