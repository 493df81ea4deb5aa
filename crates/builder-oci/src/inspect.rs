//! What an image is, by its manifests and configs alone. Whoever made it: what it says of itself is only checked for
//! its form.

use std::collections::BTreeMap;

use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::report::{PlatformImage, Report, ReportedLayer};
use oci_spec::image::ImageManifest;
use serde::Serialize;
use serde_json::Value;

use crate::documents::{Config, Content, Document, OpenError, Source, blob};

/// An image, for all platforms that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspected {
    /// Digest of the manifest, or of the index.
    pub digest: Digest,
    /// Media type of the manifest or index.
    pub media_type: String,
    /// One image for each platform, in the order of the index.
    pub images: Vec<InspectedImage>,
    /// Entries of the index that are no images, as attestations are.
    pub other_entries: usize,
}

/// The image of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedImage {
    /// What it runs on, as its config says.
    pub platform: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Digest of its config, which engines call the image id.
    pub config_digest: Digest,
    /// When it was made, as RFC 3339 has it.
    pub created: Option<String>,
    /// Its layers, lowest first.
    pub layers: Vec<InspectedLayer>,
    /// Environment, `NAME=VALUE` each.
    pub env: Vec<String>,
    /// Entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments.
    pub cmd: Option<Vec<String>>,
    /// User, if it is not root.
    pub user: Option<String>,
    /// Working directory.
    pub workdir: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A layer as manifest, config and history say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedLayer {
    /// Digest of the blob.
    pub digest: Digest,
    /// Length of the blob in bytes.
    pub size_bytes: u64,
    /// Media type of the blob.
    pub media_type: String,
    /// What made it, if the history has a line for every layer.
    pub created_by: Option<String>,
}

/// Reads the manifests and configs of `source`.
///
/// # Errors
/// When one cannot be had, or is none.
pub fn inspect(source: Source<'_>) -> Result<Inspected, OpenError> {
    let top = source.top()?;
    let (digest, media_type) = (top.digest, top.media_type.clone());
    let mut inspected = Inspected { digest, media_type, images: Vec::new(), other_entries: 0 };
    match &top.content {
        Content::Image(manifest) => inspected.images.push(image(source, &top, manifest)?),
        Content::Index(index) => {
            for descriptor in index.manifests() {
                let is_attestation =
                    descriptor.platform().as_ref().is_some_and(|platform| platform.os().to_string() == "unknown");
                let child = if is_attestation { None } else { Some(source.child(descriptor)?) };
                match child.as_ref().map(|child| (child, &child.content)) {
                    Some((child, Content::Image(manifest))) => inspected.images.push(image(source, child, manifest)?),
                    _ => inspected.other_entries += 1,
                }
            }
        }
    }
    Ok(inspected)
}

fn image(source: Source<'_>, document: &Document, manifest: &ImageManifest) -> Result<InspectedImage, OpenError> {
    let (_, config) = source.config(manifest)?;
    let layers = layers(manifest, &config)?;
    let (platform, created) = (config.platform(), config.created);
    let container = config.config.unwrap_or_default();
    let text = |value: Option<String>| value.filter(|text| !text.is_empty());
    let labels = container.labels.unwrap_or_default().into_iter().map(|(name, value)| match value {
        Value::String(value) => (name, value),
        other => (name, other.to_string()),
    });
    Ok(InspectedImage {
        platform,
        digest: document.digest,
        config_digest: blob(manifest.config())?.digest,
        created,
        layers,
        env: container.env.unwrap_or_default(),
        entrypoint: container.entrypoint.filter(|words| !words.is_empty()),
        cmd: container.cmd.filter(|words| !words.is_empty()),
        user: text(container.user),
        workdir: text(container.working_dir),
        labels: labels.collect(),
    })
}

fn layers(manifest: &ImageManifest, config: &Config) -> Result<Vec<InspectedLayer>, OpenError> {
    let history = config.history.iter().flatten().filter(|entry| !entry.empty_layer);
    let mut history: Vec<_> = history.map(|entry| entry.created_by.clone()).collect();
    // A line for every layer, or nobody can tell which line means which.
    if history.len() != manifest.layers().len() {
        history = vec![None; manifest.layers().len()];
    }
    let layers = manifest.layers().iter().zip(history).map(|(descriptor, created_by)| {
        let blob = blob(descriptor)?;
        let media_type = descriptor.media_type().to_string();
        Ok(InspectedLayer { digest: blob.digest, size_bytes: blob.size_bytes, media_type, created_by })
    });
    layers.collect()
}

/// Before what a layer holds, in the history of images that are made here.
pub(crate) const HISTORY_PREFIX: &str = "imagespec: ";

impl InspectedImage {
    /// The value of one of the labels that every image made here has: `imagespec.id`.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }
}

impl Inspected {
    /// What a build of this image would have reported, as far as the image says it.
    ///
    /// Images for other systems than Linux are left out. Nothing took time, every layer was there, and a layer of the
    /// base is called `base`.
    pub fn report(&self) -> Report {
        let images = self.images.iter().filter_map(|image| {
            let base_digest = image.label("org.opencontainers.image.base.digest");
            Some(PlatformImage {
                platform: image.platform.parse().ok()?,
                digest: image.digest,
                config_digest: image.config_digest,
                base_digest: base_digest.and_then(|digest| digest.parse().ok()),
                layers: image.layers.iter().map(InspectedLayer::report).collect(),
            })
        });
        Report { digest: self.digest, images: images.collect(), name: None, duration_ms: 0 }
    }
}

impl InspectedLayer {
    fn report(&self) -> ReportedLayer {
        let title = self.created_by.as_deref().and_then(|line| line.strip_prefix(HISTORY_PREFIX));
        ReportedLayer {
            digest: self.digest,
            size_bytes: self.size_bytes,
            title: title.unwrap_or("base").to_owned(),
            outcome: Outcome::Cached,
        }
    }
}
