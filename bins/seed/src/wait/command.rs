//! `command`: whether a program ends with 0. What it prints last is the reason where it does not.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use podkit_cli::chain;
use podkit_lifecycle::Deadline;

use super::Seen;
use crate::config::Program;
use crate::program::{self, Ended};

pub(super) fn look(program: &Program, by: Deadline, is_over: &AtomicBool) -> Seen {
    let mut command = Command::new(&program.name);
    command.args(&program.args);
    let outcome = program::run(command, Stdio::null(), by, || is_over.load(Ordering::Acquire));
    let (what, said) = match outcome {
        Err(error) => return Seen::unclear(format!("cannot run {:?}: {}", program.name, chain(&error))),
        Ok(Ended::Itself { status, .. }) if status.success() => return Seen::there("it ends with 0"),
        Ok(Ended::Itself { status, said }) => match status.code() {
            Some(code) => return Seen::Gone(with(format!("exit code {code}"), said)),
            None => {
                let signal = status.signal().and_then(|number| Signal::try_from(number).ok());
                (format!("ended by {}", signal.map_or("a signal", Signal::as_str)), said)
            }
        },
        Ok(Ended::Killed { said }) => ("killed: it did not end in time".to_owned(), said),
    };
    // Somebody ended it before it could tell.
    Seen::Unclear(with(what, said))
}

fn with(what: String, said: Option<String>) -> String {
    match said {
        Some(said) => format!("{what}: {said}"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shell(script: &str, timeout: Duration) -> Seen {
        let args = vec!["-c".to_owned(), script.to_owned()];
        look(&Program { name: "sh".to_owned(), args }, Deadline::after(timeout), &AtomicBool::new(false))
    }

    #[test]
    fn the_exit_code_tells_and_the_last_line_says_why() {
        let long = Duration::from_secs(30);
        assert_eq!(shell("exit 0", long), Seen::there("it ends with 0"));
        assert_eq!(shell("exit 3", long), Seen::gone("exit code 3"));
        assert_eq!(shell("echo a; echo 'no db' >&2; echo; exit 2", long), Seen::gone("exit code 2: no db"));
        assert_eq!(shell("kill -9 $$", long), Seen::unclear("ended by SIGKILL"));
        let killed = Seen::unclear("killed: it did not end in time");
        assert_eq!(shell("sleep 600", Duration::from_millis(50)), killed);
        let program = Program { name: "/no/such/program".to_owned(), args: Vec::new() };
        let seen = look(&program, Deadline::after(long), &AtomicBool::new(false));
        assert_eq!(seen, Seen::unclear("cannot run \"/no/such/program\": no such file or directory"));
    }
}
