//! A base in an OCI image layout on disk (OCI image-spec, "Image Layout"). Every blob is verified as it is read.

use std::path::Path;

use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use imagespec_distribution::Blob;

use super::{BaseImage, Origin, base_layers, config_of, unreadable};
use crate::builder::{Building, Failure};
use crate::documents::{OpenError, Source};
use crate::open;

/// Reads the image of `platform` beneath the manifest or index `root` of the layout in `folder`, and takes its
/// layers into the cache.
pub(crate) fn from_layout(
    building: &Building<'_>,
    folder: &Path,
    root: Digest,
    platform: &Platform,
) -> Result<BaseImage, Failure> {
    let name = format!("oci:{}", folder.display());
    let source = Source::Layout { folder, digest: root };
    let failed = |error: OpenError| unreadable(&name, error);
    let (document, manifest) = open::manifest(source, platform).map_err(failed)?;
    let config = config_of(&name, &source.config_bytes(&manifest).map_err(failed)?, platform)?;
    let layers = base_layers(&name, &manifest, &config, &Origin::Cache)?;
    for layer in &layers {
        building.check_cancelled()?;
        let blob = Blob { digest: layer.layer.digest, size_bytes: layer.layer.size_bytes };
        if building.cache.has_blob(blob.digest) {
            continue;
        }
        let mut writer = building.cache.blob_writer()?;
        source.copy(blob, &mut writer, &|| building.progress.is_cancelled()).map_err(failed)?;
        writer.commit_as(blob.digest, &source.shown(blob.digest))?;
    }
    Ok(BaseImage { digest: Some(document.digest), reference: None, config, layers, ..BaseImage::default() })
}
