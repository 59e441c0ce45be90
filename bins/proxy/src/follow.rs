//! Follows the config file: a new config that has no fault is put in force, a bad one is refused and counted.

use std::time::Duration;

use podkit_cli::Reload;
use podkit_lifecycle::Stop;

use crate::config::{Config, Shutdown};
use crate::control::Control;

/// Between looks at the config file.
const LOOK: Duration = Duration::from_secs(1);

/// Returns when the stop begins, with how the config in force wants it.
pub(crate) async fn until_stop(
    control: &mut Control,
    mut config: Config,
    mut reload: Reload<Config>,
    stop: &Stop,
) -> Shutdown {
    while tokio::time::timeout(LOOK, stop.begun()).await.is_err() {
        let refused = match reload.poll() {
            None => continue,
            Some(Err(failure)) => failure.to_string(),
            Some(Ok(new)) => match fixed_key(&config, &new) {
                Some(key) => format!("`{key}` cannot change without a restart"),
                None => match control.apply(&new).await {
                    Ok(()) => {
                        config = new;
                        control.state.metrics.config_changed(true);
                        tracing::info!("the new config is in force");
                        continue;
                    }
                    Err(error) => podkit_cli::chain(&error),
                },
            },
        };
        control.state.metrics.config_changed(false);
        tracing::error!("the new config is refused, the old one stays: {refused}");
    }
    config.shutdown
}

/// The first key that differs and is read at the start only.
fn fixed_key(old: &Config, new: &Config) -> Option<&'static str> {
    match () {
        () if old.admin != new.admin => Some("admin"),
        () if old.workers != new.workers => Some("workers"),
        () => None,
    }
}
