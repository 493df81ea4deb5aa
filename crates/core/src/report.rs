//! What a build came to. Pure data, written as JSON by `--metadata-file`.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::Outcome;
use crate::platform::Platform;
use crate::reference::Reference;

/// What a build came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Digest of the manifest, or of the index if there is more than one platform; of an image in an engine that keeps no
    /// manifests, its id, which is the digest of its config.
    pub digest: Digest,
    /// One image for each platform.
    pub images: Vec<PlatformImage>,
    /// What the image is called, by a builder that answers with another image than the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Reference>,
    /// Milliseconds that the build took.
    pub duration_ms: u64,
}

impl Report {
    /// Whether the digest is one by which an image can be had, and not the id that an engine has for it.
    pub fn has_manifest(&self) -> bool {
        self.images.iter().all(|image| image.config_digest != self.digest)
    }
}

/// The image of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlatformImage {
    /// What it runs on.
    pub platform: Platform,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Digest of its config, which engines call the image id.
    pub config_digest: Digest,
    /// Digest of the base's manifest, if the base has one.
    pub base_digest: Option<Digest>,
    /// Its layers, lowest first.
    pub layers: Vec<ReportedLayer>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedLayer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Length of the blob in bytes.
    pub size_bytes: u64,
    /// What it holds: `numpy 2.1.0`, `files`, `base`.
    pub title: String,
    /// Whether it was made now.
    pub outcome: Outcome,
}
