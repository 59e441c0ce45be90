//! What is in a binary, and in its image, in the two forms that tools read:
//!
//! ```text
//!   cargo tree ──► list ──► `.dep-v0` in the binary ──┐
//!   the binary's own bytes ──► parts ─────────────────┤
//!   Cargo.lock, cargo metadata ──► facts ─────────────┴─► spdx ──► podkit-NAME.spdx.json
//! ```
//!
//! The binary's own list decides what its SBOM names, so the two cannot differ. `cargo auditable` and `cargo sbom` would
//! be the tools for it, but both ask `cargo metadata`, which unites the features of all crates of this tree: for
//! podkit-drain they name tokio, which is not in it. The format is that of `cargo auditable`, by its own crates.

mod error;
mod facts;
mod list;
mod parts;
mod spdx;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use error::{Error, chain};

const USAGE: &str = "\
usage: bill-of-materials list ROOT TARGET PACKAGE...   the list for ROOT's binary, from a build of these packages in one go
       bill-of-materials spdx BINARY ROOTFS            the SBOM of an image with these two (SOURCE_DATE_EPOCH, REVISION)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let written = match args[..] {
        ["list", root, target, ref packages @ ..] if packages.contains(&root) => {
            list::from_cargo(root, target, packages)
        }
        ["spdx", binary, rootfs] => spdx::of_image(Path::new(binary), Path::new(rootfs)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    let written = written.and_then(|bytes| io::stdout().write_all(&bytes).map_err(Error::Write));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bill-of-materials: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
