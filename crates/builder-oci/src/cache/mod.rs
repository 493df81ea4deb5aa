//! The cache on disk: blobs by digest, records by key, locks. Safe under two builds at once and under `kill -9`.
//!
//! ```text
//! ROOT/blobs/sha256/HEX     content, whatever it is: layers, wheels, packages, manifests
//! ROOT/records/KIND/HEX     what was found out for a key: JSON
//! ROOT/snapshots/HEX        layers unpacked for the sandbox, by diff_id
//! ROOT/store/…              images that were built without a registry
//! ROOT/locks/…              empty files that are locked while something is made
//! ROOT/tmp/…                what is being written; whatever is there and unlocked is rubbish
//! ```
//!
//! Everything is written to `tmp`, synced and renamed, so that a name never stands for half a file. What is read is
//! verified against its digest, so that a disk's mistake is found here and not in a cluster.

mod blob;
mod lock;
mod record;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use imagespec_core::builder::CachePolicy;
use imagespec_core::digest::Digest;

pub use blob::{BlobWriter, StoredBlob, VerifiedReader};
pub use lock::Lock;
pub use record::Key;

/// The cache's root folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    layers: CachePolicy,
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
const FOLDERS: [&str; 6] = ["blobs/sha256", "records", "snapshots", "store", "locks", "tmp"];

impl Cache {
    /// Opens the cache in `root` and makes its folders if they are absent.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        for folder in FOLDERS {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(|source| CacheError::Io { action: "make", path, source })?;
        }
        Ok(Self { root: root.to_owned(), layers: CachePolicy::Use })
    }

    /// The same cache, in which layers that were made earlier are found or not.
    #[must_use]
    pub fn with_layers(self, layers: CachePolicy) -> Self {
        Self { layers, ..self }
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

    /// The folder for images.
    pub fn store_folder(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Where the blob of `digest` lies, if it is there.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_hex())
    }
}
