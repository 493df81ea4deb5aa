//! What needs the store and the sandbox on this machine, which are the bundled builder's. A program without it has
//! `slim.rs` in its place.

mod cache;
mod daemons;
mod engine;
mod envd;
mod failure;
mod image;
mod inspect;
mod run;

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

// Linked in, so that they are found among the bundled ones.
use imagespec_builder_docker as _;
use imagespec_builder_oci::cache::Cache;
use imagespec_builder_oci::sandbox::{self, Sandbox};
use imagespec_builder_oci::{carried_plan, carried_plan_of_archive};
use imagespec_builder_remote as _;
use imagespec_core::builder::{Output, Restart, Session};
use imagespec_core::digest::Digest;
use imagespec_core::explanation::HashedPlan;
use imagespec_core::reference::Reference;
use imagespec_core::report::Report;
use imagespec_distribution::Existence;
use tempfile::TempDir;

pub(crate) use cache::cache;
pub(crate) use daemons::daemon_findings;
pub(crate) use engine::engine_findings;
pub(crate) use envd::envd_findings;
pub(crate) use inspect::inspect;
pub(crate) use run::run;

use crate::arguments::Lookup;
use crate::commands::doctor::{Finding, Mark};
use crate::failure::Failure;
use crate::kept::Unheard;
use crate::prepare::{self, Prepared, Surroundings};
use crate::session::{Terminal, print_line};

/// An image by its name, with the plan that it carries.
pub(crate) type Carried = (String, Option<HashedPlan>);

/// Does what this program was started again for, if it was. The sandbox must find it without threads.
pub(crate) fn started_again() -> Option<ExitCode> {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if arguments.first().is_none_or(|argument| argument != sandbox::ARGUMENT) {
        return None;
    }
    let restart = Restart::bundled("/proc/self/exe".into());
    Some(ExitCode::from(sandbox::start(&restart, &arguments)))
}

/// Whether the builder called `name` keeps its images in the store on this machine.
///
/// No feature of a builder says so: how the store is laid out is the affair of that builder alone, which is linked in
/// here, and another one with [`Output::Store`] has a store of its own, as an engine is. Nobody but it can look there.
pub(crate) fn keeps(name: &str) -> bool {
    name == imagespec_builder_oci::NAME
}

/// Whether the store on this machine has the image called `name`.
pub(crate) fn in_store(name: &Reference) -> Result<Option<Existence>, Failure> {
    Ok(Some(match image::in_store(name)? {
        Some((_, digest)) => Existence::Yes { digest },
        None => Existence::No,
    }))
}

/// What an image says of itself that is known to exist at `output`.
pub(crate) fn report(
    surroundings: &Surroundings,
    prepared: &Prepared,
    output: &Output,
    digest: Digest,
    terminal: &Terminal,
) -> Result<Report, Failure> {
    let image = image::existing(surroundings, prepared, output, digest)?;
    Ok(image.read(&|| terminal.is_cancelled(), imagespec_builder_oci::inspect)?.report())
}

/// The last image of the spec's name in the store.
pub(crate) fn last(prepared: &Prepared) -> Result<Option<Carried>, Failure> {
    let images = image::tagged(&prepared.name)?;
    let Some(last) = images.first() else {
        let name = prepared.name.familiar();
        let name = prepared.name.tag().and_then(|tag| name.strip_suffix(&format!(":{tag}"))).unwrap_or(&name);
        print_line(&format!("no image called {name} is in the store of this machine, so this is all that counts"));
        return Ok(None);
    };
    // Whoever asks after the build wants to know what it changed.
    if let (true, Some(earlier)) = (last.name == prepared.name.familiar(), images.get(1)) {
        print_line(&format!(
            "{} is built; `--against {}` compares it with the image before it",
            last.name, earlier.name
        ));
    }
    carried(last).map(Some)
}

/// The image in the layout `text`.
pub(crate) fn in_layout(surroundings: &Surroundings, text: &str) -> Result<Carried, Failure> {
    carried(&image::find(surroundings, text, &Lookup::default(), &Unheard)?)
}

/// The image called `reference`, of the store or of its registry.
pub(crate) fn called(
    surroundings: &Surroundings,
    prepared: &Prepared,
    reference: Reference,
) -> Result<Carried, Failure> {
    carried(&image::of_reference(surroundings, reference, prepared.registry_config()?)?)
}

/// The image in the archive `file`, which `text` names.
pub(crate) fn in_archive(text: &str, file: PathBuf) -> Result<Carried, Failure> {
    File::open(&file).map_err(|error| crate::failure::unreadable(text, &error))?;
    Ok((text.to_owned(), carried_plan_of_archive(&file, &env::temp_dir())?))
}

fn carried(found: &image::Found) -> Result<Carried, Failure> {
    Ok((found.name.clone(), found.read(&|| false, carried_plan)?))
}

/// A folder for what is needed during one command. The cache that it lies in keeps it.
#[derive(Debug)]
pub(crate) struct Workspace {
    folder: TempDir,
    _cache: Cache,
}

impl Workspace {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Makes one. While it is used, nobody removes things from the cache; what a killed command left, `prune` finds.
pub(crate) fn workspace() -> Result<Workspace, Failure> {
    let cache = open_cache()?;
    let folder = tempfile::Builder::new().prefix("base-").tempdir_in(cache.root().join("tmp"))?;
    Ok(Workspace { folder, _cache: cache })
}

/// Keeps everybody from removing things from the cache, for as long as it lives, while the builder called `name` works. That of
/// the store on this machine does so itself.
pub(crate) fn hold_cache(name: &str) -> Result<Option<Cache>, Failure> {
    if keeps(name) { Ok(None) } else { open_cache().map(Some) }
}

/// Where the cache is; it is made if it is absent.
pub(crate) fn cache_root() -> Result<PathBuf, Failure> {
    Ok(open_cache()?.root().to_owned())
}

/// Which sandbox works on this machine, or why none does.
pub(crate) fn sandbox_finding() -> Result<Finding, Failure> {
    Ok(match sandbox()?.probe() {
        Ok(mode) => Finding::new(Mark::Ok, mode.to_string()),
        Err(error) => {
            let finding = Finding::new(Mark::Fail, format!("not available: {error}"));
            error.hint().into_iter().fold(finding, Finding::hint)
        }
    })
}

/// The cache, with its folders.
fn open_cache() -> Result<Cache, Failure> {
    Ok(Cache::open(&prepare::cache_folder()?)?)
}

/// Sandboxes that this program holds.
fn sandbox() -> Result<Sandbox, Failure> {
    Ok(Sandbox::new(Restart::bundled(prepare::this_program()?)))
}
