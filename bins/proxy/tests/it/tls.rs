//! TLS on both sides: who is taken, what is told of them, and what happens when certificates change or are broken.

mod origination;
mod rotation;
mod termination;

use std::path::Path;

use tempfile::TempDir;

use crate::support::authority::{Authority, Leaf};

/// A directory with `ca.crt`, `tls.crt` and `tls.key`.
struct Certificates {
    dir: TempDir,
    authority: Authority,
}

impl Certificates {
    fn new() -> Self {
        let authority = Authority::new("authority");
        let dir = tempfile::tempdir().unwrap();
        authority.write(dir.path());
        authority.issue("localhost").write(dir.path(), "tls");
        Self { dir, authority }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The YAML of a listener's TLS, with more of its keys.
    fn yaml(&self, more: &str) -> String {
        let dir = self.path().display();
        format!("tls: {{cert: {dir}/tls.crt, key: {dir}/tls.key, {more}}}")
    }

    /// The YAML of a listener that knows clients by their certificates.
    fn yaml_of_clients(&self, client: &str) -> String {
        self.yaml(&format!("client: {client}, client_ca: {}/ca.crt", self.path().display()))
    }

    fn issue(&self, name: &str) -> Leaf {
        self.authority.issue(name)
    }
}
