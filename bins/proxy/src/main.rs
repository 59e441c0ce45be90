//! `podkit-proxy`: maps an outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    podkit_cli::report(&podkit_proxy::TOOL, podkit_proxy::run(std::env::args_os()))
}
