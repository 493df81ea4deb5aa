//! Runs a program in an image of the store, in the sandbox: layers are unpacked once and stacked by overlayfs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use imagespec_core::digest::Digest;
use serde_json::Value;

use crate::cache::{Cache, CacheError};
use crate::sandbox::{Devices, Network, Output, Root, Run, Sandbox, SandboxError, UnpackOptions, User, Whiteouts};

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
    /// Neither the image nor the user says what to run.
    #[error("the image names no program to run")]
    NoProgram,
    /// A folder cannot be made.
    #[error("cannot prepare `{path}`")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl RunError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Sandbox(error) => error.hint(),
            Self::NoProgram => Some("name one after `--`: `imagespec run SPEC -- CMD…`"),
            Self::Absent { .. } => Some("build it again"),
            _ => None,
        }
    }
}

/// Runs `command`, or what the image says if it is empty, in the image whose manifest is `digest`, and returns the
/// program's exit code. What the program writes to the image is thrown away.
///
/// # Errors
/// When the image is not whole, or the sandbox cannot run it.
pub fn run(
    cache: &Cache,
    sandbox: &Sandbox,
    digest: Digest,
    command: &[String],
    cancelled: &dyn Fn() -> bool,
) -> Result<i32, RunError> {
    let manifest = document(cache, digest)?;
    let config = document(cache, named_digest(&manifest["config"]["digest"])?)?;
    let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    let mut lowers = Vec::with_capacity(layers.len());
    for (layer, diff_id) in layers.iter().zip(&diff_ids) {
        lowers.push(snapshot(cache, sandbox, layer, named_digest(diff_id)?)?);
    }
    let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(cache.temporary_folder());
    let scratch = scratch.map_err(|source| RunError::Folder { path: cache.temporary_folder(), source })?;
    let (upper, work) = (folder(scratch.path(), "upper")?, folder(scratch.path(), "work")?);
    let container = &config["config"];
    let run = Run {
        root: Root::Overlay { lowers, upper, work },
        argv: argv(container, command)?,
        env: strings(&container["Env"])
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        cwd: container["WorkingDir"].as_str().filter(|folder| !folder.is_empty()).unwrap_or("/").into(),
        user: match container["User"].as_str().filter(|user| !user.is_empty()) {
            Some(user) => User::Named(user.to_owned()),
            None => User::root(),
        },
        mounts: Vec::new(),
        network: Network::Host,
        hostname: "imagespec".to_owned(),
    };
    let result = sandbox.run(&run, Output::Inherit, cancelled);
    // What the program left may belong to ids that only the sandbox can remove.
    sandbox.remove(&scratch.path().join("upper"))?;
    sandbox.remove(&scratch.path().join("work"))?;
    Ok(result?.code)
}

/// The entry point and its arguments, as engines put them together.
fn argv(container: &Value, command: &[String]) -> Result<Vec<String>, RunError> {
    // `run SPEC -- CMD…` names the whole command; nobody who types one wants the entry point before it.
    if !command.is_empty() {
        return Ok(command.to_vec());
    }
    let argv: Vec<_> = strings(&container["Entrypoint"]).into_iter().chain(strings(&container["Cmd"])).collect();
    if argv.is_empty() {
        return Err(RunError::NoProgram);
    }
    Ok(argv)
}

/// The layer's tree, unpacked once for all images that have it.
fn snapshot(cache: &Cache, sandbox: &Sandbox, layer: &Value, diff_id: Digest) -> Result<PathBuf, RunError> {
    let target = cache.snapshots_folder().join(diff_id.to_hex());
    if target.is_dir() {
        return Ok(target);
    }
    let _lock = cache.lock(&format!("snapshot-{}", diff_id.to_hex()))?;
    if target.is_dir() {
        return Ok(target);
    }
    let digest = named_digest(&layer["digest"])?;
    let blob = cache.open_blob(digest)?.ok_or(RunError::Absent { digest })?;
    let aside = tempfile::Builder::new().prefix("snapshot-").tempdir_in(cache.temporary_folder());
    let aside = aside.map_err(|source| RunError::Folder { path: cache.temporary_folder(), source })?;
    let tree = folder(aside.path(), "tree")?;
    let options = UnpackOptions { whiteouts: Whiteouts::Overlay, devices: Devices::Skip };
    match layer["mediaType"].as_str() {
        Some(kind) if kind.ends_with("gzip") => sandbox.unpack(&tree, &mut MultiGzDecoder::new(blob), options)?,
        Some(kind) if kind.ends_with("tar") => {
            let mut blob = blob;
            sandbox.unpack(&tree, &mut blob, options)?;
        }
        other => return Err(RunError::Malformed { problem: format!("a layer of type {other:?}") }),
    }
    fs::rename(&tree, &target).map_err(|source| RunError::Folder { path: target.clone(), source })?;
    Ok(target)
}

fn document(cache: &Cache, digest: Digest) -> Result<Value, RunError> {
    let bytes = cache.read_blob(digest)?.ok_or(RunError::Absent { digest })?;
    serde_json::from_slice(&bytes).map_err(|error| RunError::Malformed { problem: error.to_string() })
}

fn named_digest(value: &Value) -> Result<Digest, RunError> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|error| RunError::Malformed { problem: format!("{error}") })
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
}

/// A new folder that anybody may enter, as `/` must be.
fn folder(parent: &Path, name: &str) -> Result<PathBuf, RunError> {
    use std::os::unix::fs::PermissionsExt;
    let path = parent.join(name);
    fs::create_dir(&path)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(|source| RunError::Folder { path: path.clone(), source })?;
    Ok(path)
}
