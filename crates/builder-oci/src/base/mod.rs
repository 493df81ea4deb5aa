//! What an image stands on: its layers, its config, and where they can be read from.

mod bootstrapped;
mod docker_archive;
mod layout;
mod registry;

use std::collections::BTreeMap;

use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_distribution::NoPlatform;
use imagespec_layout::Compression;
use serde_json::{Map, Value};

use crate::builder::Failure;
use crate::documents::OpenError;
use crate::layer::Layer;
use crate::python::BasePython;

pub(crate) use bootstrapped::{from_bootstrap, resolve_bootstrap};
pub(crate) use docker_archive::{config as docker_archive_config, from_docker_archive};
pub(crate) use layout::from_layout;
pub(crate) use registry::from_registry;

/// A base, or an image that becomes one: everything but the plan's own additions.
#[derive(Debug, Clone, Default)]
pub(crate) struct BaseImage {
    /// Digest of the manifest, if it has one.
    pub(crate) digest: Option<Digest>,
    /// The reference that the manifest was read by, if it came from a registry.
    pub(crate) reference: Option<Reference>,
    /// The whole image config, as it was found.
    pub(crate) config: Map<String, Value>,
    /// The layers, lowest first.
    pub(crate) layers: Vec<ImageLayer>,
    /// Its Python, if it has one that is known.
    pub(crate) python: Option<BasePython>,
    /// The distributions of Python that conda installed in it, with their versions.
    pub(crate) distributions: BTreeMap<String, String>,
}

/// One layer of an image.
#[derive(Debug, Clone)]
pub(crate) struct ImageLayer {
    /// Digest and length of the blob, and the digest of its content.
    pub(crate) layer: Layer,
    /// Media type of the blob.
    pub(crate) media_type: String,
    /// What it holds, for reports.
    pub(crate) title: String,
    /// Whether it was made now.
    pub(crate) outcome: Outcome,
    /// Where the blob can be had.
    pub(crate) origin: Origin,
}

/// Where a layer's blob can be had.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// In the cache.
    Cache,
    /// In the base's repository; it is pulled only when something needs its content.
    Registry(Reference),
}

/// What a layer, or a compressed archive of an image, may unpack to.
pub(crate) const UNPACKED_SIZE_BYTES_MAX: u64 = 64 << 30;

/// Whether the user asked to stop.
pub(crate) type Cancelled<'a> = &'a (dyn Fn() -> bool + Sync);

/// The media type of the layers that are made here.
pub(crate) const GZIP_LAYER: &str = Compression::Gzip.media_type();

/// A layer that was made here, called `title`.
pub(crate) fn own_layer(layer: Layer, outcome: Outcome, title: &str) -> ImageLayer {
    ImageLayer { layer, media_type: GZIP_LAYER.to_owned(), title: title.to_owned(), outcome, origin: Origin::Cache }
}

/// Joins a manifest's layers with the config's diff_ids.
fn base_layers(
    name: &str,
    manifest: &oci_spec::image::ImageManifest,
    config: &Map<String, Value>,
    origin: &Origin,
) -> Result<Vec<ImageLayer>, BaseError> {
    let malformed = |problem: String| BaseError::Malformed { base: name.to_owned(), problem };
    let empty = Vec::new();
    let diff_ids = config.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids"));
    let diff_ids = diff_ids.and_then(Value::as_array).unwrap_or(&empty);
    if diff_ids.len() != manifest.layers().len() {
        return Err(malformed(format!("{} layers and {} diff_ids", manifest.layers().len(), diff_ids.len())));
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        let found = descriptor.media_type().to_string();
        let compression = Compression::of(&found).ok_or_else(|| malformed(format!("a layer of type `{found}`")))?;
        let digest = descriptor.digest().to_string().parse();
        let digest = digest.map_err(|error| malformed(format!("{error}")))?;
        let diff_id = diff_id.as_str().unwrap_or_default().parse().map_err(|error| malformed(format!("{error}")))?;
        layers.push(ImageLayer {
            layer: Layer { digest, size_bytes: descriptor.size(), diff_id },
            media_type: compression.media_type().to_owned(),
            title: "base".to_owned(),
            outcome: Outcome::Cached,
            origin: origin.clone(),
        });
    }
    Ok(layers)
}

/// The config in `bytes`, which must be of `platform`, whatever an index or nobody said of the base `name`.
fn config_of(name: &str, bytes: &[u8], platform: &Platform) -> Result<Map<String, Value>, BaseError> {
    let malformed =
        |problem: String| BaseError::Malformed { base: name.to_owned(), problem: format!("its config: {problem}") };
    let config: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let found =
        Platform::new(text("os").unwrap_or_default(), text("architecture").unwrap_or_default(), text("variant"))
            .map_err(|error| malformed(error.to_string()))?;
    if found.architecture() == platform.architecture() {
        return Ok(config);
    }
    let (base, platform) = (name.to_owned(), platform.to_string());
    Err(BaseError::Platform { base, platform, available: found.to_string() })
}

/// What it means for the base `name` that one of its documents cannot be read.
fn unreadable(name: &str, error: OpenError) -> Failure {
    let base = name.to_owned();
    match error {
        OpenError::Malformed { problem, .. } => BaseError::Malformed { base, problem }.into(),
        OpenError::Absent { .. } | OpenError::LayerType { .. } | OpenError::CannotExecute(_) => {
            BaseError::Malformed { base, problem: error.to_string() }.into()
        }
        OpenError::Platform(NoPlatform { wanted, available }) => {
            let available = if available.is_empty() { "none".to_owned() } else { available.join(", ") };
            BaseError::Platform { base, platform: wanted.to_string(), available }.into()
        }
        OpenError::Read { path, source } => BaseError::Io { path: path.display().to_string(), source }.into(),
        OpenError::Registry(imagespec_distribution::Error::Offline { .. }) => {
            BaseError::Offline { what: format!("the config of `{base}`") }.into()
        }
        OpenError::Registry(error) => BaseError::Registry(error).into(),
        OpenError::Cache(error) => error.into(),
        OpenError::Cancelled => Failure::Cancelled,
    }
}

/// Why a base cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BaseError {
    /// The base contradicts itself or the OCI image-spec.
    #[error("base `{base}` is not a proper image: {problem}")]
    Malformed {
        /// The base as the user wrote it.
        base: String,
        /// What is wrong.
        problem: String,
    },
    /// The base has no image for the platform.
    #[error("base `{base}` has no image for {platform}; it has {available}")]
    Platform {
        /// The base.
        base: String,
        /// The platform that is built for.
        platform: String,
        /// The platforms that it has.
        available: String,
    },
    /// An archive from which it is not clear which image is meant.
    #[error("base `{base}` holds {count} images: {names}")]
    ManyImages {
        /// The base.
        base: String,
        /// How many images it has.
        count: usize,
        /// What they are called.
        names: String,
    },
    /// It is not in the cache, and nothing may be fetched.
    #[error("{what} is not in the cache, and the build is offline")]
    Offline {
        /// The base or a layer of it.
        what: String,
    },
    /// The registry did not give the base.
    #[error(transparent)]
    Registry(#[from] imagespec_distribution::Error),
    /// A file of the base cannot be read.
    #[error("cannot read `{path}` of the base")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}
