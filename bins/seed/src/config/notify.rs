//! `on_change`: how the app is told of a new generation, with `--watch`.

use std::path::PathBuf;

use podkit_cli::{Invalid, Section, units};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::remote::http_url;

/// How the app is told.
#[derive(Debug, Clone)]
pub(crate) enum Notify {
    Signal { signal: i32, name: String, process: Process },
    Http { method: Method, url: Url },
}

/// Which process gets a signal.
#[derive(Debug, Clone)]
pub(crate) enum Process {
    /// By its name, in a shared PID namespace.
    Name(String),
    /// By the number in a file.
    PidFile(PathBuf),
}

/// One mapping, or a list of them.
pub(super) fn read_all(root: &Section<'_>) -> Vec<Notify> {
    let text =
        |_: &str| Err(Invalid::new("must be a mapping").hint("write `{signal: SIGHUP, process: app}`"));
    root.items("on_change", text, read)
}

fn read(section: &Section<'_>) -> Option<Notify> {
    let http = section.value("http", |text| {
        let (method, url) = text.split_once(' ').unwrap_or(("POST", text));
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Invalid::new(format!("{method:?} is no HTTP method")))?;
        Ok(Notify::Http { method, url: http_url(url.trim())? })
    });
    let signal = section.value("signal", signal);
    let process = section.value("process", units::text).map(Process::Name);
    let pid_file = section.value("pid_file", units::path).map(Process::PidFile);
    match (http, signal, process.or(pid_file)) {
        (Some(http), None, None) => Some(http),
        (None, Some((signal, name)), Some(process)) => Some(Notify::Signal { signal, name, process }),
        _ if section.fault_count() > 0 => None,
        _ => {
            section.fault_here(Invalid::new("names nobody to tell").hint(
                "write `{signal: SIGHUP, process: app}`, `{signal: SIGHUP, pid_file: /run/app.pid}` or `{http: \"POST http://…\"}`",
            ));
            None
        }
    }
}

fn signal(text: &str) -> Result<(i32, String), Invalid> {
    let name = format!("SIG{}", text.trim_start_matches("SIG"));
    let signal: nix::sys::signal::Signal = name
        .parse()
        .map_err(|_| Invalid::new(format!("{text:?} is no signal")).hint("write it as `SIGHUP`"))?;
    Ok((signal as i32, name))
}

impl Notify {
    pub(super) fn effective(&self) -> Value {
        match self {
            Self::Signal { name, process: Process::Name(process), .. } => {
                json!({ "signal": name, "process": process })
            }
            Self::Signal { name, process: Process::PidFile(path), .. } => {
                json!({ "signal": name, "pid_file": path })
            }
            Self::Http { method, url } => {
                json!({ "http": format!("{method} {}", podkit_cli::mask_url(url.as_str())) })
            }
        }
    }
}
