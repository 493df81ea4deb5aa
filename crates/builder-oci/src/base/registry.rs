//! A base in a registry: manifest and config are read at once, layers only when something needs their content.

use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;

use super::{BaseError, BaseImage, Origin, base_layers, config_of, unreadable};
use crate::builder::{Building, Failure};
use crate::documents::{self, Source};

/// Reads manifest and config of `reference` for `platform`.
pub(crate) fn from_registry(
    building: &Building<'_>,
    reference: &Reference,
    platform: &Platform,
) -> Result<BaseImage, Failure> {
    let name = reference.familiar();
    let (pulled, manifest) = building.client.pull_image(reference, platform).map_err(BaseError::from)?;
    let read = |digest| match building.cache.read_blob(digest)? {
        Some(bytes) => Ok(bytes),
        None => {
            let bytes = Source::Registry { client: &building.client, reference }.config_bytes(&manifest)?;
            building.cache.store_bytes(&bytes)?;
            Ok(bytes)
        }
    };
    let bytes = documents::small_blob(manifest.config()).and_then(|blob| read(blob.digest));
    let config = config_of(&name, &bytes.map_err(|error| unreadable(&name, error))?, platform)?;
    let layers = base_layers(&name, &manifest, &config, &Origin::Registry(reference.clone()))?;
    Ok(BaseImage {
        digest: Some(pulled.digest),
        reference: Some(reference.clone()),
        config,
        layers,
        ..BaseImage::default()
    })
}
