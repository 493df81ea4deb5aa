//! An image as files: its documents and what layers it has. Pure.

use imagespec_core::digest::Digest;
use imagespec_distribution::Blob;

/// The image of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The manifest (OCI image-spec, "Image Manifest").
    pub manifest: Vec<u8>,
    /// The config (OCI image-spec, "Image Configuration").
    pub config: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<Blob>,
}

/// All that a manifest or an index names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// One image for each platform, in the order of the index.
    pub images: Vec<Image>,
    /// The index over them, if there is one.
    pub index: Option<Vec<u8>>,
    /// Entries of the index that are no images for a machine, as attestations are. They were not read, and an index
    /// that has some is not to be written without them.
    pub other_entries: usize,
}

impl Image {
    /// Digest of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Digest of the config, which engines call the image's id.
    pub fn config_digest(&self) -> Digest {
        Digest::of(&self.config)
    }
}
