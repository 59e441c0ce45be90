//! `podkit-seed render FILE`: what one template becomes with the config's values, on stdout, for people who write it.
//!
//! It is what the file would hold, secrets included. Waits for nothing and touches no target.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::{Renderer, Template};
use crate::config::Config;
use crate::environment;
use crate::error::Error;
use crate::secrets::Secrets;
use crate::source::Sources;
use crate::values;

/// Renders the template.
///
/// # Errors
/// As for a file of the config.
pub(crate) fn render(config: &Config, file: &OsStr) -> Result<String, Error> {
    let path = Path::new(file);
    let (sources, secrets) = (Arc::new(Sources::default()), Arc::new(Secrets::default()));
    let values = values::load(&config.values, &sources)?;
    let env = environment::variables();
    secrets.add_named(&config.secrets, &values, &env)?;
    let renderer = Renderer::new(values, env, config.templates.clone(), &sources, &secrets);
    let text = sources.text(path)?;
    let template = Template { name: format!("{path:?}"), text: &text, is_inline: false };
    renderer.render("stdout", &template).map(|rendered| rendered.text).map_err(|error| error.masked(&secrets))
}
