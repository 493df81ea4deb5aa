//! A base in a registry: manifest and config are read at once, layers only when something needs their content.

use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use oci_spec::image::ImageManifest;

use super::{BaseError, BaseImage, Origin, base_layers, config_of, unreadable};
use crate::builder::{Building, Failure};
use crate::cache::Key;
use crate::documents::{self, Source};

/// Reads manifest and config of `reference` for `platform`: of the manifest that is `pinned`, if one is.
pub(crate) fn from_registry(
    building: &Building<'_>,
    reference: &Reference,
    platform: &Platform,
    pinned: Option<Digest>,
) -> Result<BaseImage, Failure> {
    let name = reference.familiar();
    let (digest, manifest) = manifest(building, reference, platform, pinned)?;
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
    Ok(BaseImage { digest: Some(digest), reference: Some(reference.clone()), config, layers, ..BaseImage::default() })
}

/// The manifest of `reference` for `platform`, and its digest.
fn manifest(
    building: &Building<'_>,
    reference: &Reference,
    platform: &Platform,
    pinned: Option<Digest>,
) -> Result<(Digest, ImageManifest), Failure> {
    let cache = &building.cache;
    let names = [reference.to_string(), platform.to_string()];
    let key = Key::new("base", names.iter().map(String::as_bytes));
    // A digest names the same for ever. What a tag names is asked for, as long as anybody can be asked.
    let known = match pinned {
        Some(digest) => Some(digest),
        None if reference.digest().is_some() || cache.is_offline() => cache.record::<Digest>(key)?,
        None => None,
    };
    if let Some(digest) = known
        && let Some(bytes) = cache.read_blob(digest)?
        && let Ok(manifest) = serde_json::from_slice(&bytes)
    {
        return Ok((digest, manifest));
    }
    if cache.is_offline() {
        return Err(BaseError::Offline { what: format!("base `{}`", reference.familiar()) }.into());
    }
    let wanted = pinned.map_or_else(|| reference.clone(), |digest| reference.with_digest(digest));
    let (pulled, manifest) = building.client.pull_image(&wanted, platform).map_err(BaseError::from)?;
    cache.store_bytes(&pulled.bytes)?;
    if pinned.is_none() {
        cache.remember(key, &pulled.digest)?;
    }
    Ok((pulled.digest, manifest))
}
