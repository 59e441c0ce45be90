//! The done marker: a file by which the app's container tells that its last line is written, for Jobs on clusters
//! without native sidecars.
//!
//! Only looks whether it is there; how to end is the main loop's business. Never removes it: a shipper that is
//! started again in the same pod has to end too.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use podkit_lifecycle::Stop;

/// Between looks that no change asked for: the kernel does not tell of all file systems, and the directory may
/// come late.
const LOOK: Duration = Duration::from_secs(1);

/// A file that may appear.
pub(crate) struct DoneMarker {
    path: PathBuf,
    has_complained: Cell<bool>,
}

impl DoneMarker {
    pub(crate) fn new(path: PathBuf) -> Rc<Self> {
        Rc::new(Self { path, has_complained: Cell::new(false) })
    }

    /// The directory in which a change is worth a look, if it is there.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.path.parent().filter(|directory| directory.is_dir())
    }

    /// Begins the stop if the file is there, also if it was before the start.
    pub(crate) fn look(&self, stop: &Stop) {
        match self.path.try_exists() {
            Ok(true) if !stop.has_begun() => {
                tracing::info!("{:?} is there: stopping", self.path);
                stop.begin();
            }
            Ok(_) => {}
            Err(error) if !self.has_complained.replace(true) => {
                let error = podkit_cli::chain(&error);
                tracing::warn!("cannot see whether {:?} is there: {error}; looking on", self.path);
            }
            Err(_) => {}
        }
    }

    /// Looks now and then until the stop has begun.
    pub(crate) async fn keep_looking(self: Rc<Self>, stop: Stop) {
        while !stop.has_begun() {
            self.look(&stop);
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_marker_begins_the_stop_when_it_appears() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("late/done");
        let (marker, stop) = (DoneMarker::new(path.clone()), Stop::default());
        marker.look(&stop);
        assert!(!stop.has_begun() && marker.directory().is_none());
        std::fs::create_dir(dir.path().join("late")).unwrap();
        assert_eq!(marker.directory(), path.parent());
        std::fs::write(&path, "").unwrap();
        tokio::time::timeout(Duration::from_secs(10), Rc::clone(&marker).keep_looking(stop.clone()))
            .await
            .unwrap();
        assert!(stop.has_begun());
    }

    #[test]
    fn a_directory_that_cannot_be_entered_is_no_marker() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let (marker, stop) = (DoneMarker::new(dir.path().join("file/done")), Stop::default());
        marker.look(&stop);
        assert!(!stop.has_begun() && marker.has_complained.get());
    }
}
