//! `install DIR`: the running binary copied onto a shared volume, so that another container can execute it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

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
            _ => None,
        }
    }
}

/// Copies `/proc/self/exe` to `DIR/podkit-<tool>`, mode 0755, whole or not at all. Repeats are safe, also while
/// an older copy runs: the name is switched by rename.
pub(crate) fn install(tool: &Tool, dir: &Path) -> Result<PathBuf, Error> {
    let own = PathBuf::from("/proc/self/exe");
    let to = dir.join(format!("podkit-{}", tool.name));
    let temp = dir.join(format!(".podkit-{}.tmp", tool.name));
    let mut input = File::open(&own).map_err(|source| Error::Read { path: own.clone(), source })?;
    let written = write(&mut input, &temp)
        .map_err(|source| Error::Write { path: temp.clone(), source })
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

fn write(input: &mut File, temp: &Path) -> io::Result<()> {
    // What a killed run left, or somebody planted: it goes, and nothing is written through a link.
    let _ = fs::remove_file(temp);
    let mut output = File::options().write(true).create_new(true).open(temp)?;
    io::copy(input, &mut output)?;
    output.set_permissions(fs::Permissions::from_mode(0o755))?;
    output.sync_all()
}
