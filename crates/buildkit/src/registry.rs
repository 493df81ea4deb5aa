//! Registries, asked by ourselves: for what a base says, for what was pushed, and to push for an engine that cannot.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use imagespec_core::builder::BuildRequest;
use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use imagespec_core::reference::Reference;
use imagespec_distribution::{
    Blob, BlobSource, Client, ClientOptions, CredentialStore, Document, Error, Existence, Pushed,
};
use imagespec_layout::{INDEX, Image, MANIFEST, blob_path};
use serde_json::{Value, json};

/// The largest config that is read; real ones have some kilobytes.
const CONFIG_SIZE_BYTES_MAX: u64 = 4 << 20;

/// The registries of one build.
pub struct Registry<'a> {
    client: Client<'a>,
}

/// One image as its registry has it.
pub struct Found {
    /// The platform that it was asked for, or says.
    pub platform: Platform,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Digest of its config.
    pub config_digest: Digest,
    /// Its layers.
    pub layers: Vec<Blob>,
}

impl<'a> Registry<'a> {
    /// The registries as `request` says that they are reached, until `cancelled`.
    pub fn new(request: &BuildRequest, cancelled: &'a (dyn Fn() -> bool + Sync)) -> Self {
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
    pub fn config(&self, reference: &Reference, platform: &Platform) -> Result<(Digest, Value), Error> {
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
    pub fn images(
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

    /// Gives what lies in the repository of `target` by digest the name `target`: one part as it is, several behind an index of
    /// them all. Returns the digest.
    ///
    /// # Errors
    /// When the registry does not have it, or does not take it.
    pub fn name(&self, parts: &[Part], target: &Reference) -> Result<Digest, Error> {
        let mut pulled = Vec::new();
        for part in parts {
            pulled.push((part, self.client.pull_manifest(&target.with_digest(part.digest))?));
        }
        if let [(_, document)] = pulled.as_slice() {
            return self.client.push_manifest(target, &document.media_type, &document.bytes);
        }
        let mut entries = Vec::new();
        for (part, document) in &pulled {
            match document.document()? {
                Document::Image(_) => entries.push(json!({
                    "mediaType": document.media_type,
                    "digest": document.digest.to_string(),
                    "size": document.bytes.len(),
                    "platform": machine(part.platforms.first().expect("a part is of a platform")),
                })),
                Document::Index(_) => {
                    let index: Value = serde_json::from_slice(&document.bytes).unwrap_or_default();
                    entries.extend(index["manifests"].as_array().cloned().unwrap_or_default());
                }
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
        self.client.push_manifest(target, INDEX, index.as_bytes())
    }

    /// Whether the registry has `reference`, whose digest is known.
    ///
    /// # Errors
    /// When the registry does not say.
    pub fn has(&self, reference: &Reference) -> Result<bool, Error> {
        match self.client.exists(reference) {
            Existence::Yes { .. } => Ok(true),
            Existence::No => Ok(false),
            Existence::Unknown(error) => Err(error),
        }
    }

    /// Pushes images: blobs, then manifests by digest, then what `target` names. Layers lie in one of
    /// `folders` as in an OCI image layout. Tells `progress` how many bytes are done and there are. Returns the digest.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn push(
        &self,
        images: &[Image],
        index: Option<&[u8]>,
        folders: &[&Path],
        target: &Reference,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Digest, Error> {
        let total_bytes = images.iter().flat_map(|image| &image.layers).map(|layer| layer.size_bytes).sum();
        let done_bytes = Cell::new(0);
        for image in images {
            for layer in &image.layers {
                let source = Layer { path: lying(folders, layer.digest) };
                let mut sent = |sent| progress(done_bytes.get() + sent, total_bytes);
                let pushed = self.client.push_blob(target, *layer, None, &source, &mut sent)?;
                tracing::debug!(digest = %layer.digest, sent = matches!(pushed, Pushed::Uploaded), "layer pushed");
                done_bytes.set(done_bytes.get() + layer.size_bytes);
                progress(done_bytes.get(), total_bytes);
            }
            self.client.push_blob(target, Blob::of(&image.config), None, &image.config, &mut |_| {})?;
        }
        let Some(index) = index else {
            let manifest = &images.first().expect("there is an image").manifest;
            return self.client.push_manifest(target, &media_type(manifest, MANIFEST), manifest);
        };
        for Image { manifest, .. } in images {
            let by_digest = target.with_digest(Digest::of(manifest));
            self.client.push_manifest(&by_digest, &media_type(manifest, MANIFEST), manifest)?;
        }
        self.client.push_manifest(target, &media_type(index, INDEX), index)
    }
}

/// A platform as an index says it (OCI image-spec, "Image Index").
pub(crate) fn machine(platform: &Platform) -> Value {
    let mut machine = json!({ "architecture": platform.architecture(), "os": platform.os() });
    if let Some(variant) = platform.variant() {
        machine["variant"] = variant.into();
    }
    machine
}

/// One image, or several behind an index, that a registry has by digest.
#[derive(Debug, Clone)]
pub struct Part {
    /// Digest of its manifest or index.
    pub digest: Digest,
    /// What it was built for; one platform where it is a manifest.
    pub platforms: Vec<Platform>,
}

/// The media type that a document says of itself.
pub fn media_type(document: &[u8], default: &str) -> String {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    document["mediaType"].as_str().unwrap_or(default).to_owned()
}

/// Where the layer lies. What is not there is told when it is opened.
fn lying(folders: &[&Path], digest: Digest) -> PathBuf {
    let mut paths = folders.iter().map(|folder| blob_path(folder, digest));
    paths.find(|path| path.exists()).unwrap_or_else(|| blob_path(Path::new("."), digest))
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
