//! A TLS config that follows its files: a new set that is sound takes effect for the handshakes that follow, a broken
//! one is refused, told once, and changes nothing.
//!
//! The files are read once a second and compared by content. They are few and small, and that needs none of the
//! node's inotify watches, which a pod shares with its neighbours; a swap of `..data` looks like any other change.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::certificate::Validity;
use super::files::{Fault, Files, Fingerprint};
use crate::metrics::CertificateMetrics;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// What a TLS config is made from.
pub(super) trait Recipe: fmt::Debug + 'static {
    /// The config; a clone is the same one.
    type Made: Clone;

    /// The files that are needed.
    fn paths(&self) -> impl Iterator<Item = &PathBuf> + Clone;

    /// The config from what the files hold, and how long the certificate that is shown is valid.
    fn make(&self, files: &Files) -> Result<(Self::Made, Option<Validity>), Fault>;
}

/// A config that follows its files.
pub(super) struct Rotating<R: Recipe> {
    recipe: R,
    /// For log lines: `listener "web"`.
    told_by: String,
    metrics: CertificateMetrics,
    current: Mutex<(R::Made, Option<Validity>)>,
    /// What was read last, sound or not; `None` is what could not be read.
    seen: Mutex<Option<Fingerprint>>,
}

impl<R: Recipe> fmt::Debug for Rotating<R> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Rotating").field("recipe", &self.recipe).finish_non_exhaustive()
    }
}

impl<R: Recipe> Rotating<R> {
    /// Reads the files; where that fails there is nothing to fall back on.
    pub(super) fn load(recipe: R, told_by: String, metrics: CertificateMetrics) -> Result<Arc<Self>, Fault> {
        let files = Files::read(recipe.paths())?;
        let (made, validity) = recipe.make(&files)?;
        let seen = Mutex::new(Some(files.fingerprint()));
        let rotating =
            Arc::new(Self { recipe, told_by, metrics, current: Mutex::new((made, validity)), seen });
        rotating.tell(validity);
        Ok(rotating)
    }

    /// The config in force.
    pub(super) fn current(&self) -> R::Made {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// How long the certificate in force is valid.
    pub(super) fn validity(&self) -> Option<Validity> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Looks at the files, for as long as the config is in use.
    pub(super) async fn follow(self: Arc<Self>) {
        let weak = Arc::downgrade(&self);
        if self.recipe.paths().next().is_none() {
            return;
        }
        drop(self);
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(rotating) = weak.upgrade() else { return };
            rotating.look();
        }
    }

    fn look(&self) {
        let files = Files::read(self.recipe.paths());
        let fingerprint = files.as_ref().ok().map(Files::fingerprint);
        let seen = std::mem::replace(
            &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner),
            fingerprint.clone(),
        );
        if seen == fingerprint {
            // Another of this name may have taken its number along when it went.
            return self.validity().into_iter().for_each(|validity| self.metrics.expires(validity.not_after));
        }
        match files.and_then(|files| self.recipe.make(&files)) {
            Ok((made, validity)) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = (made, validity);
                self.metrics.reloads.count("ok");
                tracing::info!("the new certificate files of {} are in force", self.told_by);
                self.tell(validity);
            }
            Err(fault) => {
                self.metrics.reloads.count("refused");
                let why = podkit_cli::chain(&fault);
                tracing::error!(
                    hint = fault.hint(),
                    "the new certificate files of {} are refused, the old ones stay: {why}",
                    self.told_by
                );
            }
        }
    }

    fn tell(&self, validity: Option<Validity>) {
        let Some(validity) = validity else { return };
        self.metrics.expires(validity.not_after);
        if let Some(fault) = validity.fault(SystemTime::now()) {
            tracing::warn!("the certificate of {} {fault}", self.told_by);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::metrics::{Metrics, Role};

    /// Made of a number in a file.
    #[derive(Debug)]
    struct Number(PathBuf);

    impl Recipe for Number {
        type Made = String;

        fn paths(&self) -> impl Iterator<Item = &PathBuf> + Clone {
            std::iter::once(&self.0)
        }

        fn make(&self, files: &Files) -> Result<(String, Option<Validity>), Fault> {
            let name = files.text(&self.0);
            if name.parse::<u32>().is_ok() {
                Ok((name, None))
            } else {
                Err(Fault::NoKey { path: name.into() })
            }
        }
    }

    #[test]
    fn a_sound_change_takes_effect_and_a_broken_one_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        fs::write(&path, "1").unwrap();
        let metrics = Metrics::new();
        let certificate = metrics.certificate_of(Role::Listener, "web");
        let rotating = Rotating::load(Number(path.clone()), "listener \"web\"".into(), certificate).unwrap();
        let reloads = |result: &str| {
            let text = podkit_admin::metrics_text(&metrics.registry);
            let is_it =
                |line: &&str| line.starts_with("podkit") && line.contains("reloads") && line.contains(result);
            let line = text.lines().find(is_it);
            line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
        };
        let look = |content: Option<&str>| {
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            for _ in 0..3 {
                rotating.look();
            }
            (rotating.current(), reloads("\"ok\""), reloads("refused"))
        };
        assert_eq!(look(Some("1")), ("1".into(), 0, 0));
        assert_eq!(look(Some("2")), ("2".into(), 1, 0));
        assert_eq!(look(Some("two")), ("2".into(), 1, 1));
        assert_eq!(look(Some("three")), ("2".into(), 1, 2));
        assert_eq!(look(None), ("2".into(), 1, 3));
        assert_eq!(look(Some("4")), ("4".into(), 2, 3));
    }
}
