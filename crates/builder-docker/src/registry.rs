//! Registries, asked by ourselves: for what a base says, for what was pushed, and to push for an engine that cannot.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use imagespec_core::builder::BuildRequest;
use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_distribution::{Blob, BlobSource, Client, ClientOptions, CredentialStore, Document, Error, Pushed};
use imagespec_layout::{INDEX, Image, MANIFEST};
use serde_json::Value;

use crate::saved::Saved;

/// The largest config that is read; real ones have some kilobytes.
const CONFIG_SIZE_BYTES_MAX: u64 = 4 << 20;

/// The registries of one build.
pub(crate) struct Registry<'a> {
    client: Client<'a>,
}

/// One image as its registry has it.
pub(crate) struct Found {
    /// The platform that it was asked for, or says.
    pub(crate) platform: Platform,
    /// Digest of its manifest.
    pub(crate) digest: Digest,
    /// Digest of its config.
    pub(crate) config_digest: Digest,
    /// Its layers.
    pub(crate) layers: Vec<Blob>,
}

impl<'a> Registry<'a> {
    pub(crate) fn new(request: &BuildRequest, cancelled: &'a (dyn Fn() -> bool + Sync)) -> Self {
        let options = ClientOptions {
            network: request.network,
            registries: request.registries.clone(),
            credentials: CredentialStore::from_files(request.credential_files.clone()),
            ..ClientOptions::default()
        };
        Self { client: Client::new(options, cancelled) }
    }

    /// Digest of the manifest of `reference` for `platform`, and its config.
    ///
    /// # Errors
    /// When the registry does not have it, or does not say.
    pub(crate) fn config(&self, reference: &Reference, platform: &Platform) -> Result<(Digest, Value), Error> {
        let (pulled, manifest) = self.client.pull_image(reference, platform)?;
        let invalid = |media_type: String| Error::UnsupportedManifest { reference: reference.to_string(), media_type };
        let blob = Blob::try_from(manifest.config()).ok().filter(|blob| blob.size_bytes <= CONFIG_SIZE_BYTES_MAX);
        let blob = blob.ok_or_else(|| invalid(pulled.media_type.clone()))?;
        let mut bytes = Vec::new();
        self.client.pull_blob(reference, blob, &mut bytes, &mut |_| {})?;
        Ok((pulled.digest, serde_json::from_slice(&bytes).unwrap_or_default()))
    }

    /// The images of `reference` for `platforms`, and the digest of what `reference` names.
    ///
    /// # Errors
    /// When the registry does not have them, or does not say.
    pub(crate) fn images(
        &self,
        reference: &Reference,
        platforms: impl IntoIterator<Item = &'a Platform>,
    ) -> Result<(Digest, Vec<Found>), Error> {
        let top = self.client.pull_manifest(reference)?;
        let is_index = matches!(top.document()?, Document::Index(_));
        let mut images = Vec::new();
        for platform in platforms {
            let (pulled, manifest) = match is_index {
                true => self.client.pull_image(&reference.with_digest(top.digest), platform)?,
                false => match top.document()? {
                    Document::Image(image) => (top.clone(), *image),
                    Document::Index(_) => unreachable!("it was no index"),
                },
            };
            let invalid = |_| Error::UnsupportedManifest {
                reference: reference.to_string(),
                media_type: pulled.media_type.clone(),
            };
            let layers: Result<_, _> = manifest.layers().iter().map(Blob::try_from).collect();
            images.push(Found {
                platform: platform.clone(),
                digest: pulled.digest,
                config_digest: Blob::try_from(manifest.config()).map_err(invalid)?.digest,
                layers: layers.map_err(invalid)?,
            });
        }
        Ok((top.digest, images))
    }

    /// Pushes what an engine handed over: blobs, then manifests by digest, then the tag. Returns the digest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub(crate) fn push(&self, saved: &Saved, target: &Reference, progress: &dyn Fn(u64, u64)) -> Result<Digest, Error> {
        let total_bytes = saved.images.iter().flat_map(|image| &image.layers).map(|layer| layer.size_bytes).sum();
        let done_bytes = Cell::new(0);
        for image in &saved.images {
            for layer in &image.layers {
                let source = SavedBlob { saved, digest: layer.digest };
                let mut sent = |sent| progress(done_bytes.get() + sent, total_bytes);
                let pushed = self.client.push_blob(target, *layer, None, &source, &mut sent)?;
                tracing::debug!(digest = %layer.digest, sent = matches!(pushed, Pushed::Uploaded), "layer pushed");
                done_bytes.set(done_bytes.get() + layer.size_bytes);
                progress(done_bytes.get(), total_bytes);
            }
            self.client.push_blob(target, Blob::of(&image.config), None, &image.config, &mut |_| {})?;
        }
        match (&saved.index, saved.images.as_slice()) {
            (None, [Image { manifest, .. }]) => {
                self.client.push_manifest(target, &media_type(manifest, MANIFEST), manifest)
            }
            (index, images) => {
                for Image { manifest, .. } in images {
                    let by_digest = target.with_digest(Digest::of(manifest));
                    self.client.push_manifest(&by_digest, &media_type(manifest, MANIFEST), manifest)?;
                }
                let index = index.as_deref().expect("several images have an index");
                self.client.push_manifest(target, &media_type(index, INDEX), index)
            }
        }
    }
}

/// The media type that a document says of itself.
pub(crate) fn media_type(document: &[u8], default: &str) -> String {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    document["mediaType"].as_str().unwrap_or(default).to_owned()
}

struct SavedBlob<'a> {
    saved: &'a Saved,
    digest: Digest,
}

impl BlobSource for SavedBlob<'_> {
    fn open(&self, offset_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(self.saved.blob_path(self.digest))?;
        file.seek(SeekFrom::Start(offset_bytes))?;
        Ok(Box::new(file))
    }
}
