//! `--dry-run`: shows what a run would change, and changes nothing: not the target, not the app. Waits for no
//! condition, and takes no lock.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;

use podkit_cli::{Exit, Failure, print};

use crate::before::Before;
use crate::config::Config;
use crate::content::{Content, Spooler, Tree};
use crate::desired::{self, Workshop};
use crate::diff::{self, Shown, Side};
use crate::dir::Dir;
use crate::error::Error;
use crate::inputs::Inputs;
use crate::limits::Limits;
use crate::path::RelPath;
use crate::plan::{Change, Plan};
use crate::secrets::Secrets;
use crate::state::Key;
use crate::target::{self, Target};

/// Prints the diff of all files.
///
/// # Errors
/// Whatever would end a run before it writes.
pub(crate) fn run(config: &Config) -> Result<Exit, Failure> {
    let limits = Limits::begin(config.deadline)?;
    let Some(path) = &config.target else { return Ok(Exit::Done) };
    let (plan, text) = compare(config, path, &limits)?;
    let counts = [Change::Created, Change::Changed, Change::Unchanged, Change::Removed]
        .map(|change| plan.count(change));
    let [created, changed, unchanged, removed] = counts;
    tracing::info!(created, changed, unchanged, removed, "nothing was written: this was a dry run");
    if created + changed + removed == 0 {
        if !plan.moves_names() {
            return Ok(Exit::Done);
        }
        // A link that somebody removed, or the other layout.
        print("All files are the same; names in the target would be made anew\n")?;
        return Ok(Exit::Different);
    }
    // <https://no-color.org>: set and not empty.
    let is_coloured =
        io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    print(if is_coloured { diff::coloured(&text) } else { text })?;
    Ok(Exit::Different)
}

fn compare(config: &Config, path: &Path, limits: &Limits) -> Result<(Plan, String), Error> {
    target::check(path)?;
    let target = Target::look(path)?;
    let before = target.as_ref().map(Before::look).transpose()?.unwrap_or_default();
    let inputs = Inputs::default();
    let workshop = Workshop::new(config, &before, spooler(), limits, &inputs);
    let wanted = desired::build(&workshop)?;
    let plan = match &target {
        Some(target) => target.plan(&wanted, &before, config.layout)?,
        None => Plan::of_first(&wanted),
    };
    let mut text = String::new();
    for (path, (change, _)) in &plan.files {
        if *change != Change::Unchanged {
            limits.check(|| format!("before \"{path}\" was compared"))?;
            text.push_str(&compare_file(path, &before, &wanted, &workshop.secrets)?);
        }
    }
    Ok((plan, text))
}

/// Large bodies go where temporary files go, since nothing goes onto the target's volume.
fn spooler() -> Spooler {
    let place = std::env::temp_dir();
    let dir = Dir::open(&place).and_then(|dir| dir.unnamed_file().map(|_| dir));
    dir.map_or_else(|_| Spooler::default(), |dir| Spooler::onto(Arc::new(dir), &place))
}

fn compare_file(path: &RelPath, before: &Before, wanted: &Tree, secrets: &Secrets) -> Result<String, Error> {
    let unreadable = |source| Error::Read { path: path.as_path().to_owned(), source };
    let old = before.content(path).map_err(unreadable)?;
    let new = wanted.get(path);
    let contents = [old.as_ref(), new];
    let sizes = contents.map(|content| content.map_or(0, |content| content.body.len()));
    let hidden = match new {
        // Nobody knows any more whether it held secrets.
        None => Some("removed"),
        Some(new) if new.is_secret => Some("secret"),
        Some(_) if sizes.iter().any(|size| *size > diff::LARGEST) => Some("large"),
        Some(_) => None,
    };
    if let Some(why) = hidden {
        return Ok(differ(path, contents, [Shown::Not(why); 2]));
    }
    let bytes = |content: Option<&Content>| match content {
        Some(content) => content.body.bytes().map(Cow::into_owned).map_err(unreadable),
        None => Ok(Vec::new()),
    };
    let (old_bytes, new_bytes) = (bytes(contents[0])?, bytes(contents[1])?);
    if old.is_some() && old_bytes == new_bytes {
        return Ok(differ(path, contents, [Shown::Same; 2]));
    }
    let texts = diff::as_text(&old_bytes).zip(diff::as_text(&new_bytes));
    let Some((old_text, new_text)) = texts else { return Ok(differ(path, contents, [Shown::Binary; 2])) };
    if [old_text, new_text].iter().any(|text| secrets.is_in_unmasked(text)) {
        return Ok(differ(path, contents, [Shown::Not("secret"); 2]));
    }
    let held = before.is_state_lost || before.state.secret.contains(&Key(path.clone()));
    let (old_text, new_text) = secrets.mask_versions(old_text, held, new_text);
    Ok(differ(path, contents, [Shown::Text(&old_text), Shown::Text(&new_text)]))
}

fn differ(path: &RelPath, contents: [Option<&Content>; 2], shown: [Shown<'_>; 2]) -> String {
    let side = |index: usize| {
        let side = |content: &Content| Side {
            mode: content.mode,
            owner: content.owner,
            size: content.body.len(),
            shown: shown[index],
        };
        contents[index].map(side)
    };
    diff::file(path, side(0), side(1))
}
