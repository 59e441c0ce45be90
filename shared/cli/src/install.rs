//! `install DIR`: the running binary copied onto a shared volume, so that another container can execute it.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use podkit_lifecycle::Deadline;

use crate::command::Tool;
use crate::failure::{Exit, Report};

/// What failed while the binary was copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read this binary, {path:?}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path:?}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot rename {from:?} to {to:?}")]
    Rename { from: PathBuf, to: PathBuf, source: io::Error },
    #[error("cannot sync the directory {path:?}")]
    Sync { path: PathBuf, source: io::Error },
    #[error("the copy {path:?} cannot be run")]
    Start { path: PathBuf, source: io::Error },
    #[error("the copy {path:?} does not work: {why}")]
    Broken { path: PathBuf, why: String },
}

impl Report for Error {
    fn exit(&self) -> Exit {
        Exit::Failed
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Write { .. } => {
                Some("the directory must exist and be writable, such as an emptyDir".to_owned())
            }
            Self::Start { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("the volume must not be mounted `noexec`".to_owned())
            }
            _ => None,
        }
    }
}

/// How long the copy may take to say its version: a starved CPU and a cold disk make it slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// Copies `/proc/self/exe` to `DIR/podkit-<tool>`, mode 0755, whole or not at all, and runs it once before it gets its
/// name. Repeats are safe, also while an older copy runs: the name is switched by rename.
pub(crate) fn install(tool: &Tool, dir: &Path) -> Result<PathBuf, Error> {
    let own = PathBuf::from("/proc/self/exe");
    let to = dir.join(format!("podkit-{}", tool.name));
    // Init containers of several pods may install into one volume at once; a process's number is its own only in its pod.
    let own_name = RandomState::new().hash_one(std::process::id());
    let temp = dir.join(format!(".podkit-{}.{own_name:016x}.tmp", tool.name));
    let mut input = File::open(&own).map_err(|source| Error::Read { path: own.clone(), source })?;
    let written = write(&mut input, &temp)
        .map_err(|source| Error::Write { path: temp.clone(), source })
        .and_then(|()| verify(tool, &temp, &to))
        .and_then(|()| {
            fs::rename(&temp, &to).map_err(|source| Error::Rename {
                from: temp.clone(),
                to: to.clone(),
                source,
            })
        });
    if let Err(error) = written {
        // The failure is what counts; a temporary file that cannot be removed was most likely never made.
        let _ = fs::remove_file(&temp);
        return Err(error);
    }
    let sync = File::open(dir).and_then(|dir| dir.sync_all());
    sync.map_err(|source| Error::Sync { path: dir.to_owned(), source })?;
    Ok(to)
}

/// Runs the copy: it must say the version of this binary. Errors call it by the name that it would get.
fn verify(tool: &Tool, copy: &Path, name: &Path) -> Result<(), Error> {
    let broken = |why: String| Error::Broken { path: name.to_owned(), why };
    let failed = |source| Error::Start { path: name.to_owned(), source };
    let mut command = Command::new(copy);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let deadline = Deadline::after(PATIENCE);
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if deadline.expired() => {
                // It may have ended just now; either way nothing is left of it.
                let _ = child.kill();
                let _ = child.wait();
                return Err(broken(format!("it said no version within {PATIENCE:?}")));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    if !status.success() {
        return Err(broken(format!("asked for its version it ended with {status}")));
    }
    let mut said = Vec::new();
    // It has ended, and its one line fits into any pipe.
    let out = child.stdout.take().map(|out| out.take(1 << 10).read_to_end(&mut said));
    out.transpose().map_err(failed)?;
    let want = format!("podkit-{} {}", tool.name, env!("CARGO_PKG_VERSION"));
    let said = String::from_utf8_lossy(&said);
    if said.trim_end() == want { Ok(()) } else { Err(broken(format!("it says {said:?}, not {want:?}"))) }
}

fn write(input: &mut File, temp: &Path) -> io::Result<()> {
    // Never one that is there, so that nothing is written through a link that somebody planted.
    let mut output = File::options().write(true).create_new(true).open(temp)?;
    io::copy(input, &mut output)?;
    output.set_permissions(fs::Permissions::from_mode(0o755))?;
    output.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::TOOL;
    use crate::failure::chain;

    /// What comes of verifying a program with this text.
    fn verified(text: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy");
        // Written by a program of its own: a descriptor that another test's child inherits would keep it busy.
        fs::write(dir.path().join("text"), text).unwrap();
        let made = Command::new("cp").arg(dir.path().join("text")).arg(&copy).status().unwrap();
        assert!(made.success());
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        verify(&TOOL, &copy, Path::new("/x/podkit-test")).map_err(|error| chain(&error))
    }

    #[test]
    fn a_copy_must_say_its_version() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(verified(&format!("#!/bin/sh\necho podkit-test {version}\n")), Ok(()));
        for (text, why) in [
            ("#!/bin/sh\necho podkit-test 0.0.0-other\n", "it says \"podkit-test 0.0.0-other\\n\", not "),
            ("#!/bin/sh\nexit 3\n", "asked for its version it ended with exit status: 3"),
            ("not a program", "cannot be run: "),
        ] {
            let error = verified(text).unwrap_err();
            assert!(error.contains("the copy \"/x/podkit-test\"") && error.contains(why), "{error}");
        }
    }
}
