//! Takes an image from outside into the cache, so that it can be run: for one platform, with its layers, everything
//! verified.

use imagespec_core::builder::Session;
use imagespec_core::digest::Digest;
use imagespec_core::event::Outcome;
use imagespec_core::platform::Platform;
use imagespec_distribution::{NoPlatform, choose};
use imagespec_layout::Compression;
use oci_spec::image::ImageManifest;

use crate::cache::Cache;
use crate::documents::{Config, Content, Document, OpenError, Source, blob, platform};
use crate::emulation;
use crate::progress::Progress;

/// Takes the image of `source` into `cache` and returns the digest of its manifest.
///
/// An index must have an image for `wanted`, else for `machine`. An image that stands alone must be for `wanted`, if
/// that was asked for. Layers are taken only once it is known that the image can be run on `machine`, the platform of
/// this program.
///
/// # Errors
/// When there is no such image, it is malformed, or its programs do not run here.
pub fn open(
    source: Source<'_>,
    cache: &Cache,
    wanted: Option<&Platform>,
    machine: &Platform,
    session: &dyn Session,
) -> Result<Digest, OpenError> {
    let (document, manifest) = manifest(source, wanted.unwrap_or(machine))?;
    let (config_bytes, config) = source.config(&manifest)?;
    let found = platform(document.digest, &config)?;
    if let Some(wanted) = wanted.filter(|wanted| wanted.architecture() != found.architecture()) {
        return Err(NoPlatform { wanted: wanted.clone(), available: vec![found.to_string()] }.into());
    }
    emulation::check(&found, machine)?;
    check_layers(&document, &manifest, &config)?;
    take_layers(source, cache, &manifest, session)?;
    cache.store_bytes(&config_bytes)?;
    Ok(cache.store_bytes(&document.bytes)?.digest)
}

/// The manifest of the image for `platform`, or of the only one.
pub(crate) fn manifest(source: Source<'_>, platform: &Platform) -> Result<(Document, ImageManifest), OpenError> {
    let mut document = source.top()?;
    if let Content::Index(index) = &document.content {
        let chosen = choose(index, platform)?.clone();
        document = source.child(&chosen)?;
    }
    match document.content.clone() {
        Content::Image(manifest) => Ok((document, *manifest)),
        // The specification allows an index in an index, and nobody makes one for images.
        Content::Index(_) => {
            Err(OpenError::Malformed { name: document.digest.to_string(), problem: "an index in an index".to_owned() })
        }
    }
}

/// Checks that every layer can be unpacked, before the first one is fetched.
fn check_layers(document: &Document, manifest: &ImageManifest, config: &Config) -> Result<(), OpenError> {
    let (layers, diff_ids) = (manifest.layers().len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        let problem = format!("{layers} layers and {diff_ids} diff_ids");
        return Err(OpenError::Malformed { name: document.digest.to_string(), problem });
    }
    for layer in manifest.layers() {
        let media_type = layer.media_type().to_string();
        if Compression::of(&media_type).is_none() {
            return Err(OpenError::LayerType { media_type });
        }
    }
    Ok(())
}

fn take_layers(
    source: Source<'_>,
    cache: &Cache,
    manifest: &ImageManifest,
    session: &dyn Session,
) -> Result<(), OpenError> {
    let progress = Progress::new(session);
    let count = manifest.layers().len();
    for (index, layer) in manifest.layers().iter().enumerate() {
        if session.is_cancelled() {
            return Err(OpenError::Cancelled);
        }
        let blob = blob(layer)?;
        if cache.has_blob(blob.digest) {
            continue;
        }
        if let Source::Cache { .. } = source {
            return Err(OpenError::Absent { digest: blob.digest });
        }
        let title = format!("fetch layer {} of {count}", index + 1);
        let take = || -> Result<(), OpenError> {
            let mut writer = cache.blob_writer()?;
            source.copy(blob, &mut writer, &|| session.is_cancelled())?;
            writer.commit_as(blob.digest, &blob.digest.to_string())?;
            Ok(())
        };
        progress.step(&title, take, |()| (Outcome::Done, format!("{} bytes", blob.size_bytes)))?;
    }
    Ok(())
}
