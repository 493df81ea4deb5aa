//! A base in a file that `docker save` wrote. Its layers are made anew by our own compressor, so that they are the same
//! blobs however the file was packed.
//!
//! Format: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format": a `manifest.json` names
//! the config and the layers by their paths. Old engines write `ID/layer.tar`, with links between equal layers; since
//! version 25 they write `blobs/sha256/DIGEST`. Whatever else is in the file, an OCI layout for example, is not read.

mod entries;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use imagespec_core::digest::{Digest, Hasher};
use imagespec_core::event::Outcome;
use imagespec_core::platform::Platform;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::entries::{Entries, decompressed, printable};
use super::{BaseError, BaseImage, Cancelled, GZIP_LAYER, ImageLayer, Origin, UNPACKED_SIZE_BYTES_MAX, config_of};
use crate::builder::{Building, Failure};
use crate::cache::{Cache, Key};
use crate::layer::{FORMAT_VERSION, Layer, LayerError};

/// How many images of an archive an error names.
const NAMES_MAX: usize = 10;
const BUFFER_SIZE_BYTES: usize = 256 * 1024;

/// Where the archive is, and what it must be.
struct Source<'a> {
    /// The base as the user wrote it.
    name: String,
    path: &'a Path,
    digest: Digest,
    cancelled: Cancelled<'a>,
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What was taken from an archive, remembered by the archive's digest.
#[derive(Serialize, Deserialize)]
struct Taken {
    config: Digest,
    layers: Vec<Layer>,
}

/// Reads the image in `file`, whose digest is `digest`, and takes its layers into the cache. A file that was read before
/// is not read again.
pub(crate) fn from_docker_archive(
    building: &Building<'_>,
    file: &Path,
    digest: Digest,
    platform: &Platform,
) -> Result<(BaseImage, Outcome), Failure> {
    let progress = &building.progress;
    let cancelled = || progress.is_cancelled();
    let name = format!("docker-archive:{}", file.display());
    take(&building.cache, &Source { name, path: file, digest, cancelled: &cancelled }, platform)
}

/// The config of the image in `file`. A compressed archive is unpacked into a nameless file in `temporary`.
pub(crate) fn config(file: &Path, temporary: &Path) -> Result<Vec<u8>, Failure> {
    let name = format!("docker-archive:{}", file.display());
    let failed = |source| BaseError::Io { path: file.display().to_string(), source };
    let (digest, _) = File::open(file).and_then(|mut file| Digest::of_reader(&mut file)).map_err(failed)?;
    let source = Source { name, path: file, digest, cancelled: &|| false };
    let entries = Entries::open(&source, temporary)?;
    let saved = saved_image(&source, &entries)?;
    entries.document(&source, &saved.config)
}

fn take(cache: &Cache, source: &Source<'_>, platform: &Platform) -> Result<(BaseImage, Outcome), Failure> {
    let key = Key::new("docker-archive", [FORMAT_VERSION.as_bytes(), source.digest.as_bytes()]);
    if let Some((config, taken)) = remembered(cache, key)? {
        let config = config_of(&source.name, &config, platform)?;
        return Ok((
            base_image(config, taken.layers.into_iter().map(|layer| (layer, Outcome::Cached))),
            Outcome::Cached,
        ));
    }
    let entries = Entries::open(source, &cache.temporary_folder())?;
    let saved = saved_image(source, &entries)?;
    let document = entries.document(source, &saved.config)?;
    let config = config_of(&source.name, &document, platform)?;
    let diff_ids = diff_ids(source, &config)?;
    if diff_ids.len() != saved.layers.len() {
        let problem = format!("{} layers and {} diff_ids", saved.layers.len(), diff_ids.len());
        return Err(source.malformed(problem).into());
    }
    let pairs: Vec<_> = saved.layers.iter().zip(diff_ids).collect();
    let layers = pairs
        .par_iter()
        .map(|(entry, diff_id)| take_layer(cache, source, &entries, entry, *diff_id))
        .collect::<Result<Vec<_>, _>>()?;
    let taken = Taken {
        config: cache.store_bytes(&document)?.digest,
        layers: layers.iter().map(|(layer, _)| *layer).collect(),
    };
    cache.remember(key, &taken)?;
    Ok((base_image(config, layers.into_iter()), Outcome::Done))
}

/// The config of an archive that was read before, and what was taken from it, if that is all still here.
fn remembered(cache: &Cache, key: Key) -> Result<Option<(Vec<u8>, Taken)>, Failure> {
    if !cache.finds_layers() {
        return Ok(None);
    }
    let Some(taken) = cache.record::<Taken>(key)? else { return Ok(None) };
    if !taken.layers.iter().all(|layer| cache.has_blob(layer.digest)) {
        return Ok(None);
    }
    Ok(cache.read_blob(taken.config)?.map(|config| (config, taken)))
}

fn base_image(config: Map<String, Value>, layers: impl Iterator<Item = (Layer, Outcome)>) -> BaseImage {
    let layers = layers.map(|(layer, outcome)| ImageLayer {
        layer,
        media_type: GZIP_LAYER.to_owned(),
        title: "base".to_owned(),
        outcome,
        origin: Origin::Cache,
    });
    BaseImage { config, layers: layers.collect(), ..BaseImage::default() }
}

/// The one image that the archive holds.
fn saved_image(source: &Source<'_>, entries: &Entries) -> Result<SavedImage, Failure> {
    let document = entries.document(source, "manifest.json")?;
    let mut images: Vec<SavedImage> = serde_json::from_slice(&document)
        .map_err(|error| source.malformed(format!("its manifest.json: {}", printable(error.to_string().as_bytes()))))?;
    match (images.pop(), images.len()) {
        (None, _) => Err(source.malformed("its manifest.json names no image".to_owned()).into()),
        (Some(image), 0) => Ok(image),
        (Some(image), others) => {
            images.push(image);
            let names = images.iter().map(|image| match image.repo_tags.as_deref() {
                Some([tag, ..]) => printable(tag.as_bytes()),
                _ => printable(image.config.as_bytes()),
            });
            let mut names: Vec<_> = names.take(NAMES_MAX).collect();
            if others + 1 > NAMES_MAX {
                names.push("…".to_owned());
            }
            let base = source.name.clone();
            Err(BaseError::ManyImages { base, count: others + 1, names: names.join(", ") }.into())
        }
    }
}

fn diff_ids(source: &Source<'_>, config: &Map<String, Value>) -> Result<Vec<Digest>, BaseError> {
    let listed = config.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).and_then(Value::as_array);
    let parse = |diff_id: &Value| {
        let text = diff_id.as_str().unwrap_or_default();
        text.parse().map_err(|_| source.malformed(format!("its config has diff_id `{}`", printable(text.as_bytes()))))
    };
    listed.into_iter().flatten().map(parse).collect()
}

/// Compresses the layer that lies at `entry`, unless one with its content is in the cache.
fn take_layer(
    cache: &Cache,
    source: &Source<'_>,
    entries: &Entries,
    entry: &str,
    diff_id: Digest,
) -> Result<(Layer, Outcome), Failure> {
    let mut packed = entries.open_file(source, entry)?;
    let key = Key::new("archived-layer", [FORMAT_VERSION.as_bytes(), diff_id.as_bytes()]);
    cache.layer_of_archive::<Failure>(key, |compressor| {
        let failed = |error| source.unreadable(Some(&printable(entry.as_bytes())), error);
        let mut content = decompressed(&mut packed).map_err(failed)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; BUFFER_SIZE_BYTES];
        loop {
            let count = content.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            source.check_size(hasher.size_bytes())?;
            let written = compressor.write_all(&buffer[..count]);
            written.map_err(|error| LayerError::Io { path: entry.to_owned(), source: error })?;
        }
        let (found, _) = hasher.finish();
        if found == diff_id {
            Ok(())
        } else {
            let entry = printable(entry.as_bytes());
            Err(source.malformed(format!("layer `{entry}` has content {found}, and its config says {diff_id}")).into())
        }
    })
}

impl Source<'_> {
    fn malformed(&self, problem: String) -> BaseError {
        BaseError::Malformed { base: self.name.clone(), problem }
    }

    /// What a failure to read the archive, or an `entry` of it, comes to.
    fn unreadable(&self, entry: Option<&str>, source: std::io::Error) -> Failure {
        if (self.cancelled)() {
            return Failure::Cancelled;
        }
        let file = self.path.display();
        BaseError::Io { path: entry.map_or_else(|| file.to_string(), |entry| format!("{file}:{entry}")), source }.into()
    }

    /// Stops what unpacks to more than any image has.
    fn check_size(&self, size_bytes: u64) -> Result<(), BaseError> {
        if size_bytes <= UNPACKED_SIZE_BYTES_MAX {
            return Ok(());
        }
        Err(self.malformed(format!("it unpacks to more than {} GiB", UNPACKED_SIZE_BYTES_MAX >> 30)))
    }
}
