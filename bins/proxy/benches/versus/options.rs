//! What is measured and for how long, as the command line says.

use std::time::Duration;

use crate::peers::{BESIDE, Peer};
use crate::{Result, SCENARIOS};

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    scenarios: Vec<String>,
    without: Vec<String>,
    /// How often each is measured.
    pub(crate) runs: usize,
    /// How long one measurement takes.
    pub(crate) window: Duration,
    /// How long the load runs before it.
    pub(crate) warm_up: Duration,
}

impl Options {
    pub(crate) fn read(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            scenarios: Vec::new(),
            without: Vec::new(),
            runs: 5,
            window: Duration::from_secs(4),
            warm_up: Duration::from_secs(1),
        };
        let mut words = words.iter().filter(|word| **word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} has no value"));
            match *word {
                "--quick" => {
                    options.runs = 1;
                    options.window = Duration::from_secs(1);
                    options.warm_up = Duration::from_millis(300);
                }
                "--runs" => options.runs = value()?.parse()?,
                "--seconds" => options.window = Duration::from_secs_f64(value()?.parse()?),
                "--without" => {
                    let name = *value()?;
                    if Peer::ALL.iter().all(|peer| peer.name() != name) {
                        return Err(format!("--without {name}: no peer has this name").into());
                    }
                    options.without.push(name.to_owned());
                }
                name if SCENARIOS.iter().any(|(known, _)| *known == name) => {
                    options.scenarios.push(name.to_owned());
                }
                _ => {
                    let known: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
                    return Err(format!(
                        "{word:?} is neither a scenario ({}) nor one of --quick, --runs N, --seconds N, --without NAME",
                        known.join(", ")
                    )
                    .into());
                }
            }
        }
        if options.runs == 0 || options.window.is_zero() {
            return Err("nothing to measure".into());
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, scenario: &str) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario)
    }

    /// Those of `peers` that take part.
    pub(crate) fn peers(&self, peers: &[Peer]) -> Vec<Peer> {
        let has_other = std::env::var_os(BESIDE).is_some();
        let wanted = |peer: &Peer| match peer {
            Peer::Beside => has_other,
            peer => !self.without.iter().any(|name| name == peer.name()),
        };
        peers.iter().copied().filter(wanted).collect()
    }
}
