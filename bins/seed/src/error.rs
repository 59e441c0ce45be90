//! Everything that can end a run early, each naming the operation and the object, with the exit code and the fix.
//!
//! The chain of causes is joined by `podkit_cli`, never here.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use podkit_cli::units::show_duration;
use podkit_cli::{Exit, Report};

use crate::secrets::Secrets;

/// Why a run failed. Whatever it is, the generation that was in force before is still in force.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SIGTERM or SIGINT came before the new generation was in force.
    #[error("stopped by a signal {during}; nothing was changed")]
    Stopped {
        /// What was being done: `while waiting for tcp db:5432`.
        during: String,
    },
    /// The one deadline for waiting, rendering and writing has passed.
    #[error("the deadline of {} passed {during}", show_duration(*deadline))]
    Deadline {
        /// The deadline as configured.
        deadline: Duration,
        /// What was being done, with what is missing and why.
        during: String,
    },
    /// An input could not be read.
    #[error("cannot read {path:?}")]
    Read {
        /// The input.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// An input is there and is of no use.
    #[error("cannot use {path:?}: {why}")]
    Input {
        /// The input.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The volumes of the inputs were swapped again and again while they were read.
    #[error("cannot read the inputs as one: {path:?} was swapped each time they were read")]
    Unsteady {
        /// A directory whose `..data` link moved.
        path: PathBuf,
    },
    /// A template is wrong, or needs what is not there.
    #[error("cannot render {target:?} from {template}: {why}")]
    Render {
        /// The file that was to be made, relative to the target.
        target: String,
        /// The template with the line, where known: `"/t/app.j2" line 3`.
        template: String,
        /// What is wrong.
        why: String,
        /// What may have been meant.
        hint: Option<String>,
    },
    /// A name under `secrets` leads to nothing, and so would hide nothing.
    #[error("cannot hide the secret `{name}`: nothing has that name")]
    Secret {
        /// As written in the config.
        name: String,
        /// The name that may have been meant.
        nearest: Option<String>,
    },
    /// A download failed for good.
    #[error("cannot download {url}: {why}")]
    Fetch {
        /// Where from, without secrets.
        url: String,
        /// What is wrong.
        why: String,
        /// What may mend it.
        hint: Option<&'static str>,
    },
    /// An archive is of no use, or not to be trusted.
    #[error("cannot unpack {archive}: {why}")]
    Archive {
        /// Its path in quotes, or its URL without secrets.
        archive: String,
        /// What is wrong.
        why: String,
    },
    /// A file is not what it must be.
    #[error("{path:?} does not pass the check `{check}`: {why}")]
    Check {
        /// The path, relative to the target.
        path: String,
        /// The check as written.
        check: String,
        /// What is wrong, with the line where known.
        why: String,
    },
    /// The source and the path of an entry do not fit together.
    #[error("cannot place {path:?}: {why}")]
    Place {
        /// The path, relative to the target.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Several files could not be made; all but the first are in the log.
    #[error("{} (and {more} more: see the log)", podkit_cli::chain(first))]
    Several {
        /// The first of the errors.
        first: Box<Error>,
        /// How many there are beside it.
        more: usize,
    },
    /// The target is not there, or is no directory, or may not be used.
    #[error("cannot use the target {path:?}")]
    Target {
        /// The target.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A name that must be ours is taken by something that we did not make.
    #[error("cannot use {path:?}: {what} that podkit-seed did not make is in the way")]
    InTheWay {
        /// The path in the target.
        path: PathBuf,
        /// What is there.
        what: String,
    },
    /// The disk refused a step of the writing.
    #[error("cannot {operation} {path:?}")]
    Write {
        /// What was tried: `write`, `sync`.
        operation: &'static str,
        /// The object.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A large body cannot be kept until all of them are known.
    #[error("cannot keep {what} on the volume of {place:?}")]
    Keep {
        /// What it is: `a copy of "/in/a"`.
        what: String,
        /// A directory on the volume.
        place: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be given to its owner.
    #[error("cannot give {path:?} to {user}:{group}")]
    Owner {
        /// The path, relative to the target.
        path: String,
        /// The user's number.
        user: u32,
        /// The group's number.
        group: u32,
        /// The cause.
        source: io::Error,
    },
    /// The kernel would not give us a thread or a signal handler.
    #[error("cannot {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl Report for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Deadline { .. } => Exit::Deadline,
            _ => Exit::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let known = match self {
            Self::Render { hint, .. } => return hint.clone(),
            Self::Fetch { hint, .. } => (*hint)?,
            Self::Several { first, .. } => return first.hint(),
            Self::Secret { nearest, .. } => return Some(format!("did you mean `{}`?", nearest.as_ref()?)),
            Self::InTheWay { .. } => "remove it, or choose another target or path",
            Self::Target { source, .. } => target_hint(source)?,
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path, and that the volume is mounted into this container"
            }
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "check the file's mode and this container's user (`defaultMode`, `fsGroup`)"
            }
            Self::Write { source, .. } | Self::Keep { source, .. } => target_hint(source)?,
            Self::Owner { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as that user, or with CAP_CHOWN; or leave `owner` out and let the volume's `fsGroup` set the group"
            }
            Self::Unsteady { .. } => "something rewrites the inputs all the time; run again when it is quiet",
            _ => return None,
        };
        Some(known.to_owned())
    }
}

impl Error {
    /// The same without secrets: its words may come from the content of a file.
    pub(crate) fn masked(mut self, secrets: &Secrets) -> Self {
        let mask = |text: &mut String| *text = secrets.mask(text).into_owned();
        match &mut self {
            Self::Render { why, hint, .. } => {
                mask(why);
                hint.iter_mut().for_each(mask);
            }
            Self::Input { why, .. }
            | Self::Fetch { why, .. }
            | Self::Archive { why, .. }
            | Self::Check { why, .. }
            | Self::Place { why, .. } => mask(why),
            _ => {}
        }
        self
    }
}

/// What may mend the volume that is written to.
pub(crate) fn target_hint(cause: &io::Error) -> Option<&'static str> {
    match cause.kind() {
        io::ErrorKind::NotFound => {
            Some("the target's parent directory must exist: mount the shared volume there")
        }
        io::ErrorKind::NotADirectory => Some("the target must be a directory, such as an emptyDir's mount"),
        io::ErrorKind::PermissionDenied => {
            Some("the target must be writable by this container's user (`fsGroup` sets that)")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("mount the target's volume without `readOnly`"),
        io::ErrorKind::StorageFull => Some("free space on the volume, or raise its `sizeLimit`"),
        _ => None,
    }
}
