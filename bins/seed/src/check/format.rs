//! Whether bytes are of a format: by its parser, strictly, and with the place of what is wrong.

use roxmltree::ParsingOptions;
use toml::de::DeTable;

use super::{Fault, MAX_SIZE, MAX_TREE, dotenv, ini, json, properties, text};
use crate::config::Format;

/// Nodes of an XML file take about a hundred bytes of memory each.
const MAX_XML_NODES: u32 = 1_000_000;

/// The largest file that is looked at.
pub(super) fn max_size(format: Format) -> u64 {
    if format == Format::Toml { MAX_TREE } else { MAX_SIZE }
}

/// Checks a format. [`Format::Nonempty`] is none.
pub(super) fn check(format: Format, bytes: &[u8]) -> Result<(), Fault> {
    match format {
        Format::Yaml => {
            podkit_cli::check_yaml(text(bytes)?).map_err(|bad| Fault::new(bad.line, bad.column, bad.message))
        }
        Format::Json => json::check(text(bytes)?),
        Format::Toml => toml(text(bytes)?),
        Format::Ini => ini::check(text(bytes)?),
        Format::Xml => xml(text(bytes)?),
        Format::Properties => properties::check(bytes),
        Format::Dotenv => dotenv::check(text(bytes)?),
        Format::Nonempty => Ok(()),
    }
}

fn toml(text: &str) -> Result<(), Fault> {
    let bad = match DeTable::parse(text) {
        Ok(_) => return Ok(()),
        Err(bad) => bad,
    };
    // Some messages have a second line with what was expected.
    let why = bad.message().trim().replace('\n', ", ");
    Err(Fault::at(text, bad.span().map_or(text.len(), |span| span.start), why))
}

/// Without a DTD: what it may define is what attacks are made of, and no configuration needs one.
fn xml(text: &str) -> Result<(), Fault> {
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: MAX_XML_NODES, ..ParsingOptions::default() };
    let Err(bad) = roxmltree::Document::parse_with_options(text, options) else { return Ok(()) };
    let why = match &bad {
        roxmltree::Error::DtdDetected => "it has a DTD (`<!DOCTYPE`), and none is read".to_owned(),
        roxmltree::Error::NodesLimitReached => format!("it has more than {MAX_XML_NODES} nodes"),
        bad => bad.to_string(),
    };
    let place = bad.pos();
    match bad {
        roxmltree::Error::DtdDetected | roxmltree::Error::NodesLimitReached => Err(Fault::new(0, 0, why)),
        _ => {
            let (line, column) = (place.row as usize, place.col as usize);
            let why = why.strip_suffix(&format!(" at {place}")).unwrap_or(&why);
            Err(Fault::new(line, column, why))
        }
    }
}
