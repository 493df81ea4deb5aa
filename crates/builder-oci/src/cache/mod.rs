//! The cache on disk: blobs by digest, records by key, locks. Safe under two builds at once and under `kill -9`.
//!
//! ```text
//! ROOT/blobs/sha256/HEX     content, whatever it is: layers, wheels, packages, manifests
//! ROOT/records/KIND/HEX     what was found out for a key: JSON
//! ROOT/snapshots/HEX        layers unpacked for the sandbox, by diff_id
//! ROOT/store/…              images that were built without a registry
//! ROOT/apt/ARCHITECTURE/… packages and lists that the apt of an image fetched, for images on the same layers alone
//! ROOT/conda/…              what conda channels said, each with the time until which it counts
//! ROOT/uv/…                 what the resolver fetched: its own cache, and a Python if this machine has none
//! ROOT/builders/NAME/…      what other builders keep, or several of them share
//! ROOT/locks/…              empty files that are locked while something is made
//! ROOT/locks/cache          locked by all who use the cache, together; by one who removes things, alone
//! ROOT/tmp/…                what is being written; rubbish as soon as nobody uses the cache
//! ```
//!
//! The time of change of a blob, of a record and of what other builders keep says when it was used last, to the minute; that of a snapshot's lock
//! says it for the snapshot, whose own time is seen by the programs that run on it.
//!
//! Everything is written to `tmp`, synced and renamed, so that a name never stands for half a file. What is read is
//! verified against its digest, so that a disk's mistake is found here and not in a cluster.

mod blob;
mod lock;
mod prune;
mod record;
mod verify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use imagespec_core::builder::{CachePolicy, NetworkPolicy};
use imagespec_core::digest::Digest;

pub use blob::{BlobWriter, StoredBlob, VerifiedReader};
pub use lock::{Lock, Patience};
pub use prune::{PruneError, PruneMode, PrunePolicy, Pruned, Removed, clear, disk_usage_bytes, prune};
pub use record::Key;
pub use verify::{Verified, verify};

/// The cache's root folder. While it or a clone of it lives, nothing is removed from it.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    layers: CachePolicy,
    network: NetworkPolicy,
    patience: Arc<Patience>,
    _use: Arc<Lock>,
}

/// Why the cache could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file or folder of the cache could not be read or written.
    #[error("cannot {action} `{path}` in the cache")]
    Io {
        /// What was tried: `write`, `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Content has another digest than its name or its source says.
    #[error("content of `{what}` has digest {found} instead of {expected}")]
    WrongDigest {
        /// What was read or downloaded.
        what: String,
        /// The digest that it must have.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
    /// Somebody uses the cache, so that nothing can be removed from it.
    #[error("the cache in `{root}` is in use by another imagespec process")]
    InUse {
        /// The cache's root folder.
        root: PathBuf,
    },
    /// Somebody wanted to stop while another process was waited for.
    #[error("waiting for another imagespec process was stopped")]
    Cancelled,
    /// Another process holds a lock for too long.
    #[error("another imagespec process has held `{name}` for {waited_seconds} s")]
    Locked {
        /// What is locked.
        name: String,
        /// How long we waited.
        waited_seconds: u64,
    },
}

impl CacheError {
    /// Whether the same may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Locked { .. })
    }
}

/// The folders of a cache.
const FOLDERS: [&str; 10] =
    ["blobs/sha256", "records", "snapshots", "store", "apt", "conda", "uv", BUILDERS, "locks", "tmp"];
/// The folder with a folder for each other builder.
const BUILDERS: &str = "builders";
/// The lock that all users of a cache share.
const USE: &str = "cache";

impl Cache {
    /// Opens the cache in `root` and makes its folders if they are absent. Waits while something is being removed.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        Self::open_patiently(root, Arc::default())
    }

    /// The same for one who may want to stop while something is waited for, now or later.
    ///
    /// # Errors
    /// When a folder cannot be made, or `patience` ends.
    pub fn open_patiently(root: &Path, patience: Arc<Patience>) -> Result<Self, CacheError> {
        make_folders(root)?;
        let lock = Arc::new(Lock::shared(root, USE, &patience)?);
        // One who removes all of it does so before we get the lock.
        make_folders(root)?;
        Ok(Self {
            root: root.to_owned(),
            layers: CachePolicy::Use,
            network: NetworkPolicy::Online,
            patience,
            _use: lock,
        })
    }

    /// Opens the cache in `root` for one who removes things from it, if nobody else uses it.
    fn open_alone(root: &Path) -> Result<Self, CacheError> {
        make_folders(root)?;
        let lock = Lock::alone(root, USE)?.ok_or_else(|| CacheError::InUse { root: root.to_owned() })?;
        let (layers, network) = (CachePolicy::Use, NetworkPolicy::Online);
        Ok(Self { root: root.to_owned(), layers, network, patience: Arc::default(), _use: Arc::new(lock) })
    }

    /// The same cache, in which layers that were made earlier are found or not.
    #[must_use]
    pub fn with_layers(self, layers: CachePolicy) -> Self {
        Self { layers, ..self }
    }

    /// The same cache, into which what it lacks may be fetched or not.
    #[must_use]
    pub fn with_network(self, network: NetworkPolicy) -> Self {
        Self { network, ..self }
    }

    /// Whether nothing may be fetched that is not in the cache.
    pub(crate) fn is_offline(&self) -> bool {
        self.network == NetworkPolicy::Offline
    }

    /// Whether layers that were made earlier are found.
    pub(crate) fn finds_layers(&self) -> bool {
        self.layers == CachePolicy::Use
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder for what is being written.
    pub fn temporary_folder(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The folder for unpacked layers.
    pub fn snapshots_folder(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// The folder for what the resolver keeps.
    pub(crate) fn resolver_folder(&self) -> PathBuf {
        self.root.join("uv")
    }

    /// The folder for what conda channels said.
    pub(crate) fn conda_folder(&self) -> PathBuf {
        self.root.join("conda")
    }

    /// The folder for images.
    pub fn store_folder(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Where the blob of `digest` lies, if it is there.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_hex())
    }

    /// Where the unpacked layer of `diff_id` lies, if it is there.
    pub(crate) fn snapshot_path(&self, diff_id: Digest) -> PathBuf {
        self.snapshots_folder().join(diff_id.to_hex())
    }

    /// Waits until nobody else unpacks the layer of `diff_id`, and notes that it is used now.
    pub(crate) fn lock_snapshot(&self, diff_id: Digest) -> Result<Lock, CacheError> {
        let lock = self.lock(&prune::snapshot_lock(&diff_id.to_hex()))?;
        lock.touch();
        Ok(lock)
    }
}

fn make_folders(root: &Path) -> Result<(), CacheError> {
    for folder in FOLDERS {
        let path = root.join(folder);
        fs::create_dir_all(&path).map_err(|source| CacheError::Io { action: "make", path, source })?;
    }
    Ok(())
}

/// Notes that `file` is used now, unless that was noted within the last minute.
fn note_use(file: &fs::File) {
    let is_noted = |modified: std::time::SystemTime| modified.elapsed().is_ok_and(|age| age.as_secs() < 60);
    if !file.metadata().and_then(|metadata| metadata.modified()).is_ok_and(is_noted) {
        // Of a file of somebody else the time cannot be set; then it is that of when it was made.
        let _ = file.set_modified(std::time::SystemTime::now());
    }
}
