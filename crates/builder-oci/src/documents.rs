//! The documents of an image that was not made now: manifest, index and config, wherever they lie. Each is bounded and
//! verified against its digest before it is read. No layer is touched.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_distribution::{Blob, Client, NoPlatform};
use imagespec_layout::{INDEX, MANIFEST};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::cache::{Cache, CacheError};
use crate::emulation::CannotExecute;

/// What registries take at most for a manifest; configs are smaller (distribution-spec, "Pushing Manifests").
const SIZE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where an image lies.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// In the cache, which an image of the store is.
    Cache {
        /// The cache.
        cache: &'a Cache,
        /// Digest of its manifest or index.
        digest: Digest,
    },
    /// In an OCI image layout (OCI image-spec, "Image Layout").
    Layout {
        /// The layout's folder.
        folder: &'a Path,
        /// Digest of its manifest or index.
        digest: Digest,
    },
    /// In a registry.
    Registry {
        /// How to reach it.
        client: &'a Client<'a>,
        /// The image.
        reference: &'a Reference,
    },
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A document or layer is not where it should be.
    #[error("`{digest}` of the image is missing")]
    Absent {
        /// Its digest.
        digest: Digest,
    },
    /// The image contradicts itself or the OCI image-spec, or is none.
    #[error("`{name}` is not a proper image: {problem}")]
    Malformed {
        /// The manifest, config or layer, by its digest.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A layer of a kind that cannot be unpacked here.
    #[error("a layer of the image has the type `{media_type}`, which cannot be unpacked")]
    LayerType {
        /// Its media type.
        media_type: String,
    },
    /// There is no image for the platform.
    #[error(transparent)]
    Platform(#[from] NoPlatform),
    /// The image's programs do not run here.
    #[error(transparent)]
    CannotExecute(#[from] CannotExecute),
    /// A file of a layout cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] imagespec_distribution::Error),
    /// The cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The user asked to stop.
    #[error("opening the image was cancelled")]
    Cancelled,
}

/// A manifest or an index with its digest.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) content: Content,
}

/// What a document says.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Image(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

/// An image config (OCI image-spec, "Image Configuration"), as far as it is read. Docker writes `null` for what it has
/// not, so everything is optional.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    pub(crate) architecture: String,
    pub(crate) os: String,
    pub(crate) variant: Option<String>,
    pub(crate) created: Option<String>,
    pub(crate) config: Option<Container>,
    pub(crate) rootfs: RootFilesystem,
    pub(crate) history: Option<Vec<History>>,
}

/// What a program finds when the image is run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Container {
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) user: Option<String>,
    pub(crate) working_dir: Option<String>,
    pub(crate) labels: Option<std::collections::BTreeMap<String, Value>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RootFilesystem {
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct History {
    pub(crate) created_by: Option<String>,
    #[serde(default)]
    pub(crate) empty_layer: bool,
}

impl Config {
    pub(crate) fn platform(&self) -> String {
        match self.variant.as_deref().filter(|variant| !variant.is_empty()) {
            Some(variant) => format!("{}/{}/{variant}", self.os, self.architecture),
            None => format!("{}/{}", self.os, self.architecture),
        }
    }
}

impl<'a> Source<'a> {
    /// The manifest or index that the source names.
    pub(crate) fn top(&self) -> Result<Document, OpenError> {
        match self {
            Self::Cache { digest, .. } | Self::Layout { digest, .. } => self.document(*digest, SIZE_BYTES_MAX),
            Self::Registry { client, reference } => {
                let pulled = client.pull_manifest(reference)?;
                document(pulled.digest, pulled.bytes)
            }
        }
    }

    /// The manifest or index that an index names.
    pub(crate) fn child(&self, descriptor: &Descriptor) -> Result<Document, OpenError> {
        let blob = blob(descriptor)?;
        match self {
            Self::Registry { client, reference } => {
                let pulled = client.pull_manifest(&reference.with_digest(blob.digest))?;
                document(pulled.digest, pulled.bytes)
            }
            _ => self.document(blob.digest, blob.size_bytes),
        }
    }

    /// The config that a manifest names, as bytes and as what it says.
    pub(crate) fn config(&self, manifest: &ImageManifest) -> Result<(Vec<u8>, Config), OpenError> {
        let bytes = self.config_bytes(manifest)?;
        let config = serde_json::from_slice(&bytes).map_err(|error| OpenError::Malformed {
            name: manifest.config().digest().to_string(),
            problem: format!("its config: {error}"),
        })?;
        Ok((bytes, config))
    }

    /// The config that a manifest names.
    pub(crate) fn config_bytes(&self, manifest: &ImageManifest) -> Result<Vec<u8>, OpenError> {
        let blob = small_blob(manifest.config())?;
        match self {
            Self::Registry { client, reference } => {
                let mut bytes = Vec::new();
                client.pull_blob(reference, blob, &mut bytes, &mut |_| {})?;
                Ok(bytes)
            }
            _ => self.read(blob.digest, blob.size_bytes),
        }
    }

    /// What a blob is called in errors: its file, if it has one.
    pub(crate) fn shown(&self, digest: Digest) -> String {
        match self {
            Self::Layout { folder, .. } => blob_path(folder, digest).display().to_string(),
            Self::Cache { .. } | Self::Registry { .. } => digest.to_string(),
        }
    }

    /// Copies a blob into `sink`. What came is verified by the caller.
    pub(crate) fn copy(&self, blob: Blob, sink: &mut dyn Write, cancelled: &dyn Fn() -> bool) -> Result<(), OpenError> {
        match self {
            Self::Cache { .. } => Err(OpenError::Absent { digest: blob.digest }),
            Self::Registry { client, reference } => Ok(client.pull_blob(reference, blob, sink, &mut |_| {})?),
            Self::Layout { folder, .. } => {
                let path = blob_path(folder, blob.digest);
                let io_error = |source| OpenError::Read { path: path.clone(), source };
                let mut file = File::open(&path).map_err(io_error)?.take(blob.size_bytes.saturating_add(1));
                let mut buffer = vec![0; 256 << 10];
                loop {
                    if cancelled() {
                        return Err(OpenError::Cancelled);
                    }
                    let count = file.read(&mut buffer).map_err(io_error)?;
                    if count == 0 {
                        return Ok(());
                    }
                    sink.write_all(&buffer[..count]).map_err(io_error)?;
                }
            }
        }
    }

    fn document(&self, digest: Digest, size_bytes: u64) -> Result<Document, OpenError> {
        document(digest, self.read(digest, size_bytes)?)
    }

    /// A document that lies on this machine, verified.
    fn read(&self, digest: Digest, size_bytes: u64) -> Result<Vec<u8>, OpenError> {
        let blob = bounded(Blob { digest, size_bytes })?;
        match self {
            Self::Layout { folder, .. } => {
                let path = blob_path(folder, digest);
                let mut bytes = Vec::new();
                File::open(&path)
                    .and_then(|file| file.take(SIZE_BYTES_MAX + 1).read_to_end(&mut bytes))
                    .map_err(|source| OpenError::Read { path: path.clone(), source })?;
                bounded(Blob { digest, size_bytes: bytes.len() as u64 })?;
                let found = Digest::of(&bytes);
                if found != digest {
                    let what = path.display().to_string();
                    return Err(CacheError::WrongDigest { what, expected: digest, found }.into());
                }
                Ok(bytes)
            }
            Self::Cache { cache, .. } => cache.read_blob(blob.digest)?.ok_or(OpenError::Absent { digest }),
            Self::Registry { .. } => Err(OpenError::Absent { digest }),
        }
    }
}

/// The blob that `descriptor` says.
pub(crate) fn blob(descriptor: &Descriptor) -> Result<Blob, OpenError> {
    Blob::try_from(descriptor)
        .map_err(|error| OpenError::Malformed { name: descriptor.digest().to_string(), problem: error.to_string() })
}

/// The blob of a document that `descriptor` says, which must not be larger than any real one.
pub(crate) fn small_blob(descriptor: &Descriptor) -> Result<Blob, OpenError> {
    bounded(blob(descriptor)?)
}

fn bounded(blob: Blob) -> Result<Blob, OpenError> {
    if blob.size_bytes <= SIZE_BYTES_MAX {
        return Ok(blob);
    }
    let problem = format!("it is larger than the {SIZE_BYTES_MAX} bytes that a document may have");
    Err(OpenError::Malformed { name: blob.digest.to_string(), problem })
}

/// Tells whether `bytes` are a manifest or an index by what they hold, as its media type is not covered by a digest.
fn document(digest: Digest, bytes: Vec<u8>) -> Result<Document, OpenError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        media_type: Option<String>,
        layers: Option<IgnoredAny>,
        manifests: Option<IgnoredAny>,
    }
    let malformed = |problem: String| OpenError::Malformed { name: digest.to_string(), problem };
    let unreadable = |error: serde_json::Error| malformed(error.to_string());
    let kind: Kind = serde_json::from_slice(&bytes).map_err(unreadable)?;
    let (content, media_type) = match (kind.layers, kind.manifests) {
        (Some(_), None) => (Content::Image(Box::new(serde_json::from_slice(&bytes).map_err(unreadable)?)), MANIFEST),
        (None, Some(_)) => (Content::Index(Box::new(serde_json::from_slice(&bytes).map_err(unreadable)?)), INDEX),
        _ => return Err(malformed("it is neither a manifest nor an index".to_owned())),
    };
    Ok(Document { digest, media_type: kind.media_type.unwrap_or_else(|| media_type.to_owned()), bytes, content })
}

fn blob_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.to_hex())
}

/// The platform that a config says, if images for it can be run at all.
pub(crate) fn platform(name: Digest, config: &Config) -> Result<Platform, OpenError> {
    Platform::new(&config.os, &config.architecture, config.variant.as_deref())
        .map_err(|error| OpenError::Malformed { name: name.to_string(), problem: error.to_string() })
}
