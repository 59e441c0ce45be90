//! A signal to a process of the pod: `TERM:app`, or a mapping with more to say.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use podkit_cli::{Invalid, Section, units};
use serde_json::{Value, json};

/// A signal to send when traffic has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignalTo {
    pub(crate) signal: Signal,
    pub(crate) receiver: Receiver,
    /// How long the end of the receiver is waited for: `None` for as long as there is time, zero for not at all.
    pub(crate) wait: Option<Duration>,
}

/// Who gets a signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// All processes of this name, in a shared PID namespace.
    Name(String),
    /// The one whose number is in a file.
    PidFile(PathBuf),
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?}"),
            Self::PidFile(path) => write!(f, "the process in {path:?}"),
        }
    }
}

impl fmt::Display for SignalTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.signal, self.receiver)
    }
}

impl SignalTo {
    fn new(signal: Signal, receiver: Receiver) -> Self {
        Self { signal, receiver, wait: (!asks_for_the_end(signal)).then_some(Duration::ZERO) }
    }

    /// Whether the receiver is waited for.
    pub(crate) fn waits(&self) -> bool {
        self.wait.is_none_or(|wait| !wait.is_zero())
    }

    /// Whether the receiver is to end.
    pub(crate) fn ends(&self) -> bool {
        self.waits() || asks_for_the_end(self.signal)
    }

    pub(super) fn effective(&self) -> Value {
        let mut value = json!({ "signal": self.signal.as_str().trim_start_matches("SIG") });
        match &self.receiver {
            Receiver::Name(name) => value["process"] = json!(name),
            Receiver::PidFile(path) => value["pid_file"] = json!(path),
        }
        if let Some(wait) = self.wait {
            value["wait"] = json!(units::show_duration(wait));
        }
        value
    }
}

/// Others, such as HUP and USR1, make no process end that knows them.
fn asks_for_the_end(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGKILL)
}

/// `--signal`, or `signal:` with texts and mappings.
pub(super) fn read_all(root: &Section<'_>) -> Vec<SignalTo> {
    root.items("signal", parse, read)
}

fn read(section: &Section<'_>) -> Option<SignalTo> {
    let signal = section.required("signal", signal);
    let name = section.value("process", name).map(Receiver::Name);
    let pid_file = section.value("pid_file", units::path).map(Receiver::PidFile);
    let wait = section.value("wait", units::duration);
    let receiver = match (name, pid_file) {
        (Some(receiver), None) | (None, Some(receiver)) => receiver,
        (None, None) if section.has("process") || section.has("pid_file") => return None,
        (receivers, _) => {
            let what = if receivers.is_none() { "names no process" } else { "names a process twice" };
            section.fault_here(Invalid::new(what).hint("give it either `process` or `pid_file`"));
            return None;
        }
    };
    let to = SignalTo::new(signal?, receiver);
    Some(SignalTo { wait: wait.or(to.wait), ..to })
}

/// `TERM:app`
fn parse(text: &str) -> Result<SignalTo, Invalid> {
    let (first, second) = text
        .trim()
        .split_once(':')
        .ok_or_else(|| Invalid::new(format!("{text:?} is not `SIGNAL:PROCESS`")).hint("write `TERM:app`"))?;
    Ok(SignalTo::new(signal(first)?, Receiver::Name(name(second)?)))
}

fn signal(text: &str) -> Result<Signal, Invalid> {
    let text = text.trim();
    format!("SIG{}", text.trim_start_matches("SIG"))
        .parse()
        .map_err(|_| Invalid::new(format!("{text:?} is no signal")).hint("write it as `TERM`"))
}

fn name(text: &str) -> Result<String, Invalid> {
    match text.trim() {
        "" => Err(Invalid::new("the name of the process is empty")),
        name if name.contains('/') => Err(Invalid::new(format!("{name:?} is a path"))
            .hint("give the name of the program, as `ps -o comm` shows it")),
        name => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_a_name_and_a_process() {
        for (text, shown, waits) in [
            ("TERM:app", "SIGTERM to \"app\"", true),
            ("SIGQUIT:my app", "SIGQUIT to \"my app\"", true),
            ("HUP:nginx", "SIGHUP to \"nginx\"", false),
        ] {
            let to = parse(text).unwrap();
            assert_eq!((to.to_string().as_str(), to.wait.is_none()), (shown, waits));
        }
        for bad in ["", "TERM", "TERM:", ":app", "15:app", "NONE:app", "TERM:/bin/app"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
