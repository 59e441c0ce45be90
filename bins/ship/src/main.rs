//! Maps podkit-ship's outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    podkit_cli::report(&podkit_ship::TOOL, podkit_ship::run(std::env::args_os()))
}
