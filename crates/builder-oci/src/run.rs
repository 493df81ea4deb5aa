//! Runs a program in an image of the cache, in the sandbox: layers are unpacked once and stacked by overlayfs.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use imagespec_core::digest::{Digest, Hasher};
use imagespec_core::platform::Platform;
use oci_spec::image::ImageManifest;

use crate::cache::{Cache, CacheError};
use crate::documents::{Config, Container, OpenError, blob, platform};
use crate::emulation::{self, CannotExecute};
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
    /// Neither the image nor the caller says what to run.
    #[error("the image names no program to run")]
    NoProgram,
    /// A document of the image cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The image's programs do not run here.
    #[error(transparent)]
    CannotExecute(#[from] CannotExecute),
    /// A layer cannot be decompressed.
    #[error("cannot decompress layer `{digest}`")]
    Decompress {
        /// The layer's blob.
        digest: Digest,
        /// What the decoder said.
        source: io::Error,
    },
    /// A layer's content is not what the config says.
    #[error("the content of layer `{layer}` has the digest {found} instead of {expected}")]
    WrongContent {
        /// The layer's blob.
        layer: Digest,
        /// The digest that the config says.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
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

/// How a layer's archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the media type of a layer says, OCI's or Docker's; `None` for one that is no layer, or that holds another
    /// system's files.
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        let name = media_type
            .strip_prefix("application/vnd.oci.image.layer.v1.")
            .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.diff."))?;
        match name {
            "tar" => Some(Self::None),
            "tar+gzip" | "tar.gzip" => Some(Self::Gzip),
            "tar+zstd" | "tar.zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
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
    let mut lowers = Vec::with_capacity(diff_ids.len());
    for (layer, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let media_type = layer.media_type().to_string();
        let compression = Compression::of(&media_type).ok_or(OpenError::LayerType { media_type })?;
        let lower = snapshot(cache, sandbox, blob(layer)?.digest, compression, *diff_id)?;
        // overlayfs refuses the same folder twice. Whatever it brings or hides, the upper one does so again.
        lowers.retain(|other| *other != lower);
        lowers.push(lower);
    }
    let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(cache.temporary_folder());
    let scratch = scratch.map_err(|source| RunError::Folder { path: cache.temporary_folder(), source })?;
    let (upper, work) = (folder(scratch.path(), "upper")?, folder(scratch.path(), "work")?);
    let variables = container.env.unwrap_or_default();
    let variables = variables.iter().filter_map(|entry| entry.split_once('='));
    let run = Run {
        root: Root::Overlay { lowers, upper, work },
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
    // What the program left may belong to ids that only the sandbox can remove.
    sandbox.remove(&scratch.path().join("upper"))?;
    sandbox.remove(&scratch.path().join("work"))?;
    Ok(result?.code)
}

/// The entry point and its arguments, as engines put them together.
fn argv(container: &Container, command: &[String]) -> Result<Vec<String>, RunError> {
    // `run SPEC -- CMD…` names the whole command; nobody who types one wants the entry point before it.
    if !command.is_empty() {
        return Ok(command.to_vec());
    }
    let argv: Vec<_> = container.entrypoint.iter().chain(&container.cmd).flatten().cloned().collect();
    if argv.is_empty() { Err(RunError::NoProgram) } else { Ok(argv) }
}

/// The layer's tree, unpacked once for all images that have it. Its content is compared with `diff_id` before it gets
/// that name, or an image could bring other content under the name of somebody else's layer.
fn snapshot(
    cache: &Cache,
    sandbox: &Sandbox,
    digest: Digest,
    compression: Compression,
    diff_id: Digest,
) -> Result<PathBuf, RunError> {
    let target = cache.snapshot_path(diff_id);
    let _lock = cache.lock_snapshot(diff_id)?;
    if target.is_dir() {
        return Ok(target);
    }
    let blob = cache.open_blob(digest)?.ok_or(RunError::Absent { digest })?;
    let aside = tempfile::Builder::new().prefix("snapshot-").tempdir_in(cache.temporary_folder());
    let aside = aside.map_err(|source| RunError::Folder { path: cache.temporary_folder(), source })?;
    let tree = folder(aside.path(), "tree")?;
    let unreadable = |source| RunError::Decompress { digest, source };
    let content: Box<dyn Read> = match compression {
        Compression::None => Box::new(blob),
        Compression::Gzip => Box::new(MultiGzDecoder::new(blob)),
        // A window of more than 128 MiB, which no encoder makes unless it is told to, is refused.
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(blob).map_err(unreadable)?),
    };
    let mut content = Hashed { content, hasher: Hasher::default() };
    let options = UnpackOptions { whiteouts: Whiteouts::Overlay, devices: Devices::Skip };
    let unpacked = sandbox.unpack(&tree, &mut content, options).map_err(RunError::from).and_then(|()| {
        // The archive may end before its blob does.
        io::copy(&mut content, &mut io::sink()).map_err(unreadable)?;
        let found = content.hasher.finish().0;
        if found == diff_id { Ok(()) } else { Err(RunError::WrongContent { layer: digest, expected: diff_id, found }) }
    });
    if let Err(error) = unpacked {
        // What is in it may belong to ids that only the sandbox can remove.
        sandbox.remove(&tree)?;
        return Err(error);
    }
    fs::rename(&tree, &target).map_err(|source| RunError::Folder { path: target.clone(), source })?;
    Ok(target)
}

/// Hashes what is read.
struct Hashed {
    content: Box<dyn Read>,
    hasher: Hasher,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

fn document<T: serde::de::DeserializeOwned>(cache: &Cache, digest: Digest) -> Result<T, RunError> {
    let bytes = cache.read_blob(digest)?.ok_or(RunError::Absent { digest })?;
    serde_json::from_slice(&bytes).map_err(|error| RunError::Malformed { problem: error.to_string() })
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
