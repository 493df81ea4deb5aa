//! What is said and done in a program that was built without the bundled builders: there is no store to look into and
//! no sandbox to run something in. Those of a plugin are its own affair.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use imagespec_core::builder::Output;
use imagespec_core::diagnostic::Diagnostic;
use imagespec_core::digest::Digest;
use imagespec_core::explanation::HashedPlan;
use imagespec_core::reference::Reference;
use imagespec_core::report::Report;
use imagespec_distribution::Existence;
use tempfile::TempDir;

use crate::arguments::{CacheCommand, Format, Lookup, RunArguments};
use crate::commands::doctor::{Finding, Mark};
use crate::failure::Failure;
use crate::prepare::{self, Prepared, Surroundings};
use crate::session::{Terminal, print_line};

/// An image by its name, with the plan that it carries.
pub(crate) type Carried = (String, Option<HashedPlan>);

/// What can still be compared with.
const COMPARABLE: &str = "compare with a spec, or with what `imagespec plan --format json` printed";

/// Nothing here starts this program again.
pub(crate) fn started_again() -> Option<ExitCode> {
    None
}

/// No builder's images are where this program could look.
pub(crate) fn keeps(_name: &str) -> bool {
    false
}

/// Nobody can say whether a store has the image.
pub(crate) fn in_store(_name: &Reference) -> Result<Option<Existence>, Failure> {
    Ok(None)
}

/// Nothing but the digest is known of an image that exists.
pub(crate) fn report(
    _surroundings: &Surroundings,
    prepared: &Prepared,
    _output: &Output,
    digest: Digest,
    terminal: &Terminal,
) -> Result<Report, Failure> {
    let message = format!("of `{}`, which exists, the report has the digest alone", prepared.name.familiar());
    terminal.warn(&Diagnostic { notes: vec![WITHOUT.to_owned()], ..Diagnostic::warning(message) });
    Ok(Report { digest, images: Vec::new(), name: None, duration_ms: 0 })
}

/// No image, since no store is looked into.
pub(crate) fn last(_prepared: &Prepared) -> Result<Option<Carried>, Failure> {
    print_line(&format!("{WITHOUT}, so no image is compared with, and this is all that counts"));
    Ok(None)
}

/// A failure.
pub(crate) fn in_layout(_surroundings: &Surroundings, text: &str) -> Result<Carried, Failure> {
    Err(absent(&format!("read `{text}`"), COMPARABLE))
}

/// A failure.
pub(crate) fn called(
    _surroundings: &Surroundings,
    _prepared: &Prepared,
    reference: Reference,
) -> Result<Carried, Failure> {
    Err(absent(&format!("read `{}`", reference.familiar()), COMPARABLE))
}

/// A failure.
pub(crate) fn in_archive(text: &str, _file: PathBuf) -> Result<Carried, Failure> {
    Err(absent(&format!("read `{text}`"), COMPARABLE))
}

/// A folder for what is needed during one command.
pub(crate) struct Workspace(TempDir);

impl Workspace {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Makes one, where a builder that is a file may look after what a killed command left.
pub(crate) fn workspace() -> Result<Workspace, Failure> {
    let parent = prepare::cache_folder()?.join("tmp");
    std::fs::create_dir_all(&parent)?;
    Ok(Workspace(tempfile::Builder::new().prefix("base-").tempdir_in(parent)?))
}

/// Nothing here removes things from the cache.
pub(crate) fn hold_cache(_name: &str) -> Result<Option<()>, Failure> {
    Ok(None)
}

/// Where builders are told to keep what they keep.
pub(crate) fn cache_root() -> Result<PathBuf, Failure> {
    prepare::cache_folder()
}

/// What there is to say about a sandbox.
pub(crate) fn sandbox_finding() -> Result<Finding, Failure> {
    let text = "not looked for: it is the affair of a builder, and none is inside this program";
    Ok(Finding::new(Mark::Warn, text))
}

/// What there is to say about engines.
pub(crate) fn engine_findings(_surroundings: &Surroundings, _preferred: &str) -> Result<Vec<Finding>, Failure> {
    let text = "not looked for: it is the affair of a builder, and none is inside this program";
    Ok(vec![Finding::new(Mark::Warn, text)])
}

/// Nothing: no builder is inside that would run one.
pub(crate) fn envd_findings(_surroundings: &Surroundings, _preferred: &str) -> Result<Vec<Finding>, Failure> {
    Ok(Vec::new())
}

/// Nothing: no builder is inside that would build on one.
pub(crate) fn daemon_findings(_surroundings: &Surroundings) -> Result<Vec<Finding>, Failure> {
    Ok(Vec::new())
}

/// A failure.
pub(crate) fn run(_arguments: &RunArguments, _cancelled: &Arc<AtomicBool>) -> Result<u8, Failure> {
    Err(absent("run programs", TAKE_ANOTHER))
}

/// A failure.
pub(crate) fn inspect(_text: &str, _lookup: &Lookup, _format: Format) -> Result<(), Failure> {
    Err(absent("inspect images", TAKE_ANOTHER))
}

/// A failure.
pub(crate) fn cache(_command: &CacheCommand) -> Result<u8, Failure> {
    Err(absent("look after the cache", TAKE_ANOTHER))
}

const WITHOUT: &str = "this program was built without the bundled builders";
const TAKE_ANOTHER: &str = "take an `imagespec` that was built with its default features";

fn absent(what: &str, hint: &str) -> Failure {
    Failure::new(Diagnostic::error(format!("cannot {what}: {WITHOUT}")).hint(hint))
}
