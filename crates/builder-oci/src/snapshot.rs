//! Layers as trees: each unpacked once, and stacked by overlayfs for what executes.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use imagespec_core::digest::{Digest, Hasher};
use imagespec_layout::Compression;
use tempfile::TempDir;

use crate::cache::{Cache, CacheError};
use crate::compression;
use crate::point::{self, Point};
use crate::sandbox::{Devices, Root, Sandbox, SandboxError, UnpackOptions, Whiteouts};

/// Why layers could not be made into a tree.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A layer is not in the cache.
    #[error("`{digest}` of the image is not on this machine")]
    Absent {
        /// Its digest.
        digest: Digest,
    },
    /// A layer of a kind that nobody unpacks.
    #[error("the image is malformed: a layer of type `{media_type}`")]
    Kind {
        /// Its media type.
        media_type: String,
    },
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

/// A stack of layers to run something on.
pub(crate) struct Stack {
    folder: TempDir,
    lowers: Vec<PathBuf>,
}

impl Stack {
    /// A stack of nothing yet.
    pub(crate) fn new(cache: &Cache) -> Result<Self, SnapshotError> {
        let parent = cache.temporary_folder();
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&parent);
        let stack = Self {
            folder: folder.map_err(|source| SnapshotError::Folder { path: parent, source })?,
            lowers: Vec::new(),
        };
        folder_in(stack.folder.path(), "upper")?;
        folder_in(stack.folder.path(), "work")?;
        Ok(stack)
    }

    /// Puts a layer, whose blob must be in the cache, on top.
    pub(crate) fn push(
        &mut self,
        cache: &Cache,
        sandbox: &Sandbox,
        digest: Digest,
        media_type: &str,
        diff_id: Digest,
    ) -> Result<(), SnapshotError> {
        let compression =
            Compression::of(media_type).ok_or_else(|| SnapshotError::Kind { media_type: media_type.to_owned() })?;
        let lower = snapshot(cache, sandbox, digest, compression, diff_id)?;
        // overlayfs refuses the same folder twice. Whatever it brings or hides, the upper one does so again.
        self.lowers.retain(|other| *other != lower);
        self.lowers.push(lower);
        Ok(())
    }

    /// The tree, in which what a program changes is kept until the stack is removed.
    pub(crate) fn root(&self) -> Root {
        let work = self.folder.path().join("work");
        Root::Overlay { lowers: self.lowers.clone(), upper: self.upper(), work }
    }

    /// What was changed.
    pub(crate) fn upper(&self) -> PathBuf {
        self.folder.path().join("upper")
    }

    /// Removes what was changed. It may belong to ids that only the sandbox can act for.
    pub(crate) fn remove(self, sandbox: &Sandbox) -> Result<(), SnapshotError> {
        sandbox.remove(&self.upper())?;
        Ok(sandbox.remove(&self.folder.path().join("work"))?)
    }
}

/// The layer's tree, unpacked once for all images that have it. Its content is compared with `diff_id` before it gets
/// that name, or an image could bring other content under the name of somebody else's layer.
fn snapshot(
    cache: &Cache,
    sandbox: &Sandbox,
    digest: Digest,
    compression: Compression,
    diff_id: Digest,
) -> Result<PathBuf, SnapshotError> {
    let target = cache.snapshot_path(diff_id);
    let _lock = cache.lock_snapshot(diff_id)?;
    if target.is_dir() {
        return Ok(target);
    }
    let blob = cache.open_blob(digest)?.ok_or(SnapshotError::Absent { digest })?;
    let aside = tempfile::Builder::new().prefix("snapshot-").tempdir_in(cache.temporary_folder());
    let aside = aside.map_err(|source| SnapshotError::Folder { path: cache.temporary_folder(), source })?;
    let tree = folder_in(aside.path(), "tree")?;
    let unreadable = |source| SnapshotError::Decompress { digest, source };
    let content = compression::open(compression, blob).map_err(unreadable)?;
    let mut content = Hashed { content, hasher: Hasher::default() };
    let options = UnpackOptions { whiteouts: Whiteouts::Overlay, devices: Devices::Skip };
    let unpacked = sandbox.unpack(&tree, &mut content, options).map_err(SnapshotError::from).and_then(|()| {
        // The archive may end before its blob does.
        io::copy(&mut content, &mut io::sink()).map_err(unreadable)?;
        let found = content.hasher.finish().0;
        if found == diff_id {
            Ok(())
        } else {
            Err(SnapshotError::WrongContent { layer: digest, expected: diff_id, found })
        }
    });
    if let Err(error) = unpacked {
        // What is in it may belong to ids that only the sandbox can remove. That it cannot would hide why.
        if let Err(remains) = sandbox.remove(&tree) {
            tracing::debug!(%remains, "a tree that was not finished");
        }
        return Err(error);
    }
    point::reached(Point::SnapshotUnpacked);
    fs::rename(&tree, &target).map_err(|source| SnapshotError::Folder { path: target.clone(), source })?;
    point::reached(Point::SnapshotNamed);
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

/// A new folder that anybody may enter, as `/` must be.
fn folder_in(parent: &Path, name: &str) -> Result<PathBuf, SnapshotError> {
    let path = parent.join(name);
    fs::create_dir(&path)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(|source| SnapshotError::Folder { path: path.clone(), source })?;
    Ok(path)
}
