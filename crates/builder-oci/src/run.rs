//! Runs a program in an image of the cache, in the sandbox: layers are unpacked once and stacked by overlayfs.

use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use oci_spec::image::ImageManifest;

use crate::cache::{Cache, CacheError};
use crate::documents::{Config, Container, OpenError, blob, platform};
use crate::emulation::{self, CannotExecute};
use crate::sandbox::{Network, Output, Run, Sandbox, SandboxError, User};
use crate::snapshot::{SnapshotError, Stack};
use imagespec_core::runtime;

/// Why a program could not be run in an image.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A document or layer of the image is not in the cache.
    #[error("`{digest}` of the image is not on this machine")]
    Absent {
        /// Its digest.
        digest: Digest,
    },
    /// A document of the image is not what it should be.
    #[error("the image is malformed: {problem}")]
    Malformed {
        /// What is wrong.
        problem: String,
    },
    /// Neither the image nor the caller says what to run.
    #[error("the image names no program to run")]
    NoProgram,
    /// A document of the image cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The image's programs do not run here.
    #[error(transparent)]
    CannotExecute(#[from] CannotExecute),
    /// A layer cannot be made into a tree.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// Runs `command`, or what the image says if it is empty, in the image whose manifest is `digest`, and returns the
/// program's exit code. What the program writes to the image is thrown away. `machine` is the platform of this program.
///
/// # Errors
/// When the image is not whole, is for another machine, or the sandbox cannot run it.
pub fn run(
    cache: &Cache,
    sandbox: &Sandbox,
    digest: Digest,
    machine: &Platform,
    command: &[String],
    cancelled: &dyn Fn() -> bool,
) -> Result<i32, RunError> {
    let manifest: ImageManifest = document(cache, digest)?;
    let config: Config = document(cache, blob(manifest.config())?.digest)?;
    emulation::check(&platform(digest, &config)?, machine)?;
    let container = config.config.unwrap_or_default();
    let argv = argv(&container, command)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers().len() {
        let problem = format!("{} layers and {} diff_ids", manifest.layers().len(), diff_ids.len());
        return Err(RunError::Malformed { problem });
    }
    let mut stack = Stack::new(cache)?;
    for (layer, diff_id) in manifest.layers().iter().zip(diff_ids) {
        stack.push(cache, sandbox, blob(layer)?.digest, layer.media_type().as_ref(), *diff_id)?;
    }
    let variables = container.env.unwrap_or_default();
    let variables = variables.iter().filter_map(|entry| entry.split_once('='));
    let run = Run {
        root: stack.root(),
        argv,
        env: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        cwd: container.working_dir.filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/".to_owned()).into(),
        user: match container.user.filter(|user| !user.is_empty()) {
            Some(user) => User::Named(user),
            None => User::root(),
        },
        mounts: Vec::new(),
        network: Network::Host,
        hostname: "imagespec".to_owned(),
    };
    let result = sandbox.run(&run, Output::Inherit, cancelled);
    let removed = stack.remove(sandbox);
    // What became of the program is what was asked for; it goes before what became of its leftovers.
    let code = result?.code;
    removed?;
    Ok(code)
}

/// The entry point and its arguments, as engines put them together.
fn argv(container: &Container, command: &[String]) -> Result<Vec<String>, RunError> {
    // `run SPEC -- CMD…` names the whole command; nobody who types one wants the entry point before it, but for what
    // installs packages first.
    if !command.is_empty() {
        let entrypoint = container.entrypoint.iter().flatten();
        return Ok(entrypoint.take_while(|word| *word == runtime::START).chain(command).cloned().collect());
    }
    let argv: Vec<_> = container.entrypoint.iter().chain(&container.cmd).flatten().cloned().collect();
    if argv.is_empty() { Err(RunError::NoProgram) } else { Ok(argv) }
}

fn document<T: serde::de::DeserializeOwned>(cache: &Cache, digest: Digest) -> Result<T, RunError> {
    let bytes = cache.read_blob(digest)?.ok_or(RunError::Absent { digest })?;
    serde_json::from_slice(&bytes).map_err(|error| RunError::Malformed { problem: error.to_string() })
}
