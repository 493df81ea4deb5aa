//! A base in an OCI image layout on disk (OCI image-spec, "Image Layout"). Every blob is verified as it is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use oci_spec::image::{ImageIndex, ImageManifest};

use super::{BaseError, BaseImage, Origin, base_layers, parse_config};
use crate::builder::{Building, Failure};

/// Manifests and configs are small; what is larger is not one.
const DOCUMENT_SIZE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads the image of `platform` beneath the manifest or index `root` of the layout in `folder`, and takes its
/// layers into the cache.
pub(crate) fn from_layout(
    building: &Building<'_>,
    folder: &Path,
    root: Digest,
    platform: &Platform,
) -> Result<BaseImage, Failure> {
    let name = format!("oci:{}", folder.display());
    let malformed = |problem: String| BaseError::Malformed { base: name.clone(), problem };
    let mut digest = root;
    let mut document = read_document(folder, digest)?;
    if let Ok(index) = serde_json::from_slice::<ImageIndex>(&document) {
        let chosen = imagespec_distribution::choose(&index, platform).map_err(|_| BaseError::Platform {
            base: name.clone(),
            platform: platform.to_string(),
            available: platforms(&index),
        })?;
        digest = chosen.digest().to_string().parse().map_err(|error| malformed(format!("{error}")))?;
        document = read_document(folder, digest)?;
    }
    let manifest: ImageManifest =
        serde_json::from_slice(&document).map_err(|error| malformed(format!("its manifest: {error}")))?;
    let config_digest =
        manifest.config().digest().to_string().parse().map_err(|error| malformed(format!("{error}")))?;
    let config = parse_config(&name, &read_document(folder, config_digest)?)?;
    let text = |key: &str| config.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let found = Platform::new(text("os"), text("architecture"), config.get("variant").and_then(|v| v.as_str()))
        .map_err(|error| malformed(error.to_string()))?;
    if found.architecture() != platform.architecture() {
        let error = BaseError::Platform { base: name, platform: platform.to_string(), available: found.to_string() };
        return Err(error.into());
    }
    let layers = base_layers(&name, &manifest, &config, &Origin::Cache)?;
    for layer in &layers {
        building.check_cancelled()?;
        if building.cache.has_blob(layer.layer.digest) {
            continue;
        }
        let path = blob_path(folder, layer.layer.digest);
        let io_error = |source| BaseError::Io { path: path.display().to_string(), source };
        let mut file = File::open(&path).map_err(io_error)?.take(layer.layer.size_bytes.saturating_add(1));
        let mut writer = building.cache.blob_writer()?;
        io::copy(&mut file, &mut writer).map_err(io_error)?;
        writer.commit_as(layer.layer.digest, &path.display().to_string())?;
    }
    Ok(BaseImage { digest: Some(digest), reference: None, config, layers, python: None })
}

fn platforms(index: &ImageIndex) -> String {
    let listed: Vec<_> = index
        .manifests()
        .iter()
        .filter_map(|descriptor| descriptor.platform().as_ref())
        .map(|platform| format!("{}/{}", platform.os(), platform.architecture()))
        .collect();
    if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
}

fn read_document(folder: &Path, digest: Digest) -> Result<Vec<u8>, Failure> {
    let path = blob_path(folder, digest);
    let io_error = |source| BaseError::Io { path: path.display().to_string(), source };
    let mut bytes = Vec::new();
    File::open(&path).and_then(|file| file.take(DOCUMENT_SIZE_BYTES_MAX).read_to_end(&mut bytes)).map_err(io_error)?;
    let found = Digest::of(&bytes);
    if found != digest {
        let what = path.display().to_string();
        return Err(crate::cache::CacheError::WrongDigest { what, expected: digest, found }.into());
    }
    Ok(bytes)
}

fn blob_path(folder: &Path, digest: Digest) -> std::path::PathBuf {
    folder.join("blobs/sha256").join(digest.to_hex())
}
