//! Registries, asked by ourselves: what a base says, what envd pushed, and the config and manifest that take its place.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use imagespec_core::builder::BuildRequest;
use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_distribution::{Blob, BlobSource, Client, ClientOptions, CredentialStore, Error, Existence};
use imagespec_layout::{Image, MANIFEST};
use serde_json::Value;

/// The largest config that is read; real ones have some kilobytes.
const CONFIG_SIZE_BYTES_MAX: u64 = 4 << 20;

/// The registries of one build.
pub(crate) struct Registry<'c> {
    client: Client<'c>,
}

impl<'c> Registry<'c> {
    /// The registries as `request` says that they are reached, until `cancelled`.
    pub(crate) fn new(request: &BuildRequest, cancelled: &'c (dyn Fn() -> bool + Sync)) -> Self {
        let options = ClientOptions {
            network: request.network,
            registries: request.registries.clone(),
            credentials: CredentialStore::from_files(request.credential_files.clone()),
            ..ClientOptions::default()
        };
        Self { client: Client::new(options, cancelled) }
    }

    /// The documents of the image of `reference` for `platform`.
    ///
    /// # Errors
    /// When the registry does not have it, or does not say.
    pub(crate) fn image(&self, reference: &Reference, platform: &Platform) -> Result<Image, Error> {
        let (pulled, manifest) = self.client.pull_image(reference, platform)?;
        let invalid =
            |_| Error::UnsupportedManifest { reference: reference.to_string(), media_type: pulled.media_type.clone() };
        let blob = Blob::try_from(manifest.config()).map_err(invalid)?;
        if blob.size_bytes > CONFIG_SIZE_BYTES_MAX {
            let media_type = manifest.config().media_type().to_string();
            return Err(Error::UnsupportedManifest { reference: reference.to_string(), media_type });
        }
        let mut config = Vec::new();
        self.client.pull_blob(reference, blob, &mut config, &mut |_| {})?;
        let layers: Result<_, _> = manifest.layers().iter().map(Blob::try_from).collect();
        let layers = layers.map_err(invalid)?;
        Ok(Image { manifest: pulled.bytes, config, layers })
    }

    /// Whether `reference` is the image of this digest.
    pub(crate) fn has(&self, reference: &Reference, digest: Digest) -> Result<bool, Error> {
        match self.client.exists(reference) {
            Existence::Yes { digest: found } => Ok(found == digest),
            Existence::No => Ok(false),
            Existence::Unknown(error) => Err(error),
        }
    }

    /// Pushes an image: its layers, which lie in `folder` as in an OCI image layout, then its documents. Without a folder
    /// the registry has the layers. Tells `progress` how many bytes are done and there are.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub(crate) fn push(
        &self,
        image: &Image,
        folder: Option<&Path>,
        target: &Reference,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Digest, Error> {
        let total_bytes = image.layers.iter().map(|layer| layer.size_bytes).sum();
        let mut done_bytes = 0;
        for layer in image.layers.iter().filter(|_| folder.is_some()) {
            let source = Layer { path: imagespec_layout::blob_path(folder.expect("it has one"), layer.digest) };
            let mut sent = |sent| progress(done_bytes + sent, total_bytes);
            self.client.push_blob(target, *layer, None, &source, &mut sent)?;
            done_bytes += layer.size_bytes;
            progress(done_bytes, total_bytes);
        }
        self.client.push_blob(target, Blob::of(&image.config), None, &image.config, &mut |_| {})?;
        self.client.push_manifest(target, &media_type(&image.manifest), &image.manifest)
    }
}

/// The media type that a manifest says of itself.
fn media_type(manifest: &[u8]) -> String {
    let document: Value = serde_json::from_slice(manifest).unwrap_or_default();
    document["mediaType"].as_str().unwrap_or(MANIFEST).to_owned()
}

struct Layer {
    path: PathBuf,
}

impl BlobSource for Layer {
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset_bytes))?;
        Ok(Box::new(file))
    }
}
