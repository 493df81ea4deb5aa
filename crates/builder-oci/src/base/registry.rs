//! A base in a registry: manifest and config are read at once, layers only when something needs their content.

use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_distribution::Blob;

use super::{BaseError, BaseImage, Origin, base_layers, parse_config};
use crate::builder::{Building, Failure};

/// Reads manifest and config of `reference` for `platform`.
pub(crate) fn from_registry(
    building: &Building<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<BaseImage, Failure> {
    let name = reference.familiar();
    let (pulled, manifest) = building.client.pull_image(reference, platform)?;
    let blob = Blob::try_from(manifest.config())
        .map_err(|error| BaseError::Malformed { base: name.clone(), problem: error.to_string() })?;
    let bytes = match building.cache.read_blob(blob.digest)? {
        Some(bytes) => bytes,
        None => {
            let mut bytes = Vec::new();
            building.client.pull_blob(reference, blob, &mut bytes, &mut |_| {})?;
            building.cache.store_bytes(&bytes)?;
            bytes
        }
    };
    let config = parse_config(&name, &bytes)?;
    let layers = base_layers(&name, &manifest, &config, &Origin::Registry(reference.clone()))?;
    Ok(BaseImage { digest: Some(pulled.digest), reference: Some(reference.clone()), config, layers, python: None })
}
