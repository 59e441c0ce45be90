//! The signals after quiet: to a process of the pod, whose end may be waited for.

use std::io;

use podkit_cli::chain;
use podkit_lifecycle::{Deadline, Process};

use crate::config::{Receiver, SignalTo};

/// The first process of a PID namespace, usually the app itself: the kernel kills all others at its end
/// (pid_namespaces(7)), so that there would be no flush, no report and no exit code.
const FIRST: i32 = 1;

/// Who gets the signal now; at least one.
pub(crate) fn find(to: &SignalTo) -> Result<Vec<Process>, String> {
    let found = look_up(&to.receiver)?;
    if to.ends() && found.iter().any(|process| process.id() == FIRST) {
        return Err("it is process 1, and this drain would end with it: leave it to the kubelet, which sends SIGTERM \
                    after the hook, or set `shareProcessNamespace: true`"
            .to_owned());
    }
    Ok(found)
}

fn look_up(receiver: &Receiver) -> Result<Vec<Process>, String> {
    match receiver {
        Receiver::Name(name) => match Process::named(name) {
            Ok(none) if none.is_empty() => Err(format!(
                "no process {name:?} is here (those of other containers need `shareProcessNamespace`)"
            )),
            Ok(found) => Ok(found),
            Err(error) => Err(format!("cannot read /proc: {}", chain(&error))),
        },
        Receiver::PidFile(path) => match Process::in_pid_file(path) {
            Ok(process) => Ok(vec![process]),
            Err(error) => Err(format!("cannot tell the process by {path:?}: {}", chain(&error))),
        },
    }
}

/// Sends one signal, and waits for the end of its receivers until the deadline, if that is wanted. What came of it, or
/// why it failed.
pub(super) fn send(to: &SignalTo, deadline: Deadline) -> Result<String, String> {
    let all = find(to).map_err(|why| format!("{to} could not be sent: {why}"))?;
    for process in &all {
        match process.signal(to.signal as i32) {
            // It was faster than we.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            sent => sent.map_err(|error| {
                format!("{to} could not be sent to process {}: {}", process.id(), chain(&error))
            })?,
        }
    }
    let named = |processes: &[Process]| {
        let ids: Vec<String> = processes.iter().map(|process| process.id().to_string()).collect();
        format!("process {}", ids.join(", "))
    };
    if !to.waits() {
        return Ok(format!("{to} was sent to {}", named(&all)));
    }
    let still: Vec<Process> = all.iter().copied().filter(|process| !process.wait(deadline)).collect();
    if still.is_empty() {
        Ok(format!("{to} was sent: {} has ended", named(&all)))
    } else {
        Err(format!("{to} was sent, but {} has not ended in time", named(&still)))
    }
}
