//! `imagespec render`: how the image would be made, in the words of the tool behind a builder, on stdout or as a folder.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imagespec_core::builder::{BuildRequest, Feature, NetworkPolicy};
use imagespec_core::diagnostic::Diagnostic;

use super::build::{request, told};
use super::builders::{self, Wanted};
use crate::arguments::RenderArguments;
use crate::bases::InTurn;
use crate::failure::{Failure, diagnostic_of};
use crate::local;
use crate::options;
use crate::prepare::{Surroundings, shown};
use crate::session::{Terminal, print_data};

/// Prints the text, or writes the folder and prints its path.
pub(crate) fn render(arguments: &RenderArguments, cancelled: &Arc<AtomicBool>) -> Result<(), Failure> {
    let terminal = Terminal::new(arguments.progress, Arc::clone(cancelled));
    let target = arguments.output.as_deref().map(target).transpose()?;
    let surroundings = Surroundings::of(&arguments.spec)?;
    let settings = &arguments.settings;
    let prepared = surroundings.prepare(&arguments.spec, settings.registry.as_deref(), &settings.overrides)?;
    let chosen = surroundings.builder(arguments.builder.as_deref(), &prepared);
    let (builder, warnings) = builders::find(&surroundings, &chosen)?;
    warnings.iter().for_each(|warning| terminal.warn(warning));
    let description = builder.describe();
    let wanted = Wanted { outputs: &[], features: &[(Feature::Render, "render")], ..Wanted::of(&prepared.plan) };
    let base = wanted
        .check(&surroundings, &description)
        .map_err(|unsupported| wanted.unable(&surroundings, &unsupported, &prepared))?;
    let options = options::collect(&description, &surroundings, &prepared, &arguments.builder_options)?;
    let network = if arguments.offline { NetworkPolicy::Offline } else { NetworkPolicy::Online };
    let mut request = BuildRequest { network, ..request(&surroundings, &prepared, options)? };
    let session = InTurn::new(&terminal);
    let _held = local::hold_cache(&description.name)?;
    let _made = builders::provide(base, &surroundings, &prepared, &mut request, &session, &terminal)?;
    let render =
        |folder: Option<&Path>| builder.render(&request, folder, &session).map_err(|error| told(error, &prepared));
    match target {
        None => print_data(render(None)?.trim_end_matches('\n')),
        Some(target) => {
            write(&target, |folder| render(Some(folder)).map(drop))?;
            print_data(&shown(&target))
        }
    }
}

/// Reads `dir=DIR`: a folder that is not there, or empty.
fn target(text: &str) -> Result<PathBuf, Failure> {
    let folder = text.strip_prefix("dir=").filter(|folder| !folder.is_empty());
    let folder =
        folder.ok_or_else(|| Failure::usage(format!("`--output {text}` is not known"), "write `--output dir=DIR`"))?;
    let path = std::path::absolute(folder)?;
    let refuse = |what: &str| {
        let diagnostic = Diagnostic::error(format!("`{folder}` {what}"));
        Err(Failure::new(diagnostic.hint("name a folder that is not there yet: nothing is overwritten")))
    };
    match fs::read_dir(&path).map(|mut entries| entries.next().is_some()) {
        Ok(true) => refuse("is not empty"),
        // Whoever stands in it would be left in a folder without a name.
        Ok(false) if std::env::current_dir().is_ok_and(|current| is_same(&current, &path)) => {
            refuse("is the current folder")
        }
        Ok(false) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => Ok(path),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {
            refuse("is no folder")
        }
        Err(error) => Err(crate::failure::unreadable(folder, &error)),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    fs::canonicalize(one).ok().is_some_and(|one| fs::canonicalize(other).ok() == Some(one))
}

/// Has a folder written aside and gives it the name `target`, so that this is never half of it.
fn write(target: &Path, render: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let mut diagnostic = diagnostic_of(&error);
        let cause = std::mem::replace(&mut diagnostic.message, format!("cannot write `{}`", shown(target)));
        diagnostic.notes.insert(0, cause);
        Failure::new(diagnostic)
    };
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(failed)?;
    let mut folder = tempfile::Builder::new();
    // As any folder of the user's; what the umask takes away is taken away.
    folder.prefix(".imagespec-render-").permissions(Permissions::from_mode(0o777));
    let folder = folder.tempdir_in(parent).map_err(failed)?;
    render(folder.path())?;
    // An empty folder of that name gives way.
    fs::rename(folder.path(), target).map_err(failed)?;
    drop(folder.keep());
    Ok(())
}
