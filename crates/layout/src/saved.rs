//! An archive that an engine or BuildKit hands over, as the parts of an OCI image: for outputs that they cannot write by
//! themselves.
//!
//! Engines before 25 write `manifest.json` and layers unpacked; newer ones an OCI image layout beside it, whose layers are
//! unpacked, too, where they do not keep images in containerd. Unpacked layers are compressed here; what is compressed
//! stays byte for byte as it is, and so does the digest of the image. Formats: image-spec of Docker 1.2, "Combined Image
//! JSON + Filesystem Changeset Format", and OCI image-spec, "Image Layout".

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use imagespec_core::digest::{Digest, Hasher};
use imagespec_distribution::Blob;

use crate::image::{Image, Stored};
use crate::media_type::{CONFIG, Compression as LayerCompression, MANIFEST};
use crate::read::{blob_path, open_blob, read_layout};
use serde::Deserialize;
use serde_json::{Value, json};
use tar::{Archive, EntryType};
use tempfile::TempDir;

/// A config or a manifest; real ones have some kilobytes.
const DOCUMENT_SIZE_BYTES_MAX: u64 = 4 << 20;
/// Zeros behind the last entry; programs write some blocks.
const PADDING_SIZE_BYTES_MAX: u64 = 1 << 20;
/// Entries of an archive; an image has at most some hundred layers.
const ENTRIES_MAX: usize = 20_000;

/// The images of an archive, and their blobs in a folder that is gone when it is dropped.
#[derive(Debug)]
pub struct Saved {
    /// One image for each platform.
    pub images: Vec<Image>,
    /// The index over them, if there is one.
    pub index: Option<Vec<u8>>,
    folder: TempDir,
}

/// What is wrong with what an engine handed over.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// This machine cannot keep it.
    #[error("cannot write to `{path}`")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is none of `docker save`.
    #[error("the engine handed over something else than an image: {problem}")]
    Invalid {
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    layers: Vec<String>,
}

/// The entries of an archive, by path.
#[derive(Default)]
struct Entries {
    files: BTreeMap<String, PathBuf>,
    links: BTreeMap<String, String>,
}

impl Saved {
    /// Unpacks the archive `source` beneath `parent`, until it is given up.
    ///
    /// # Errors
    /// When it is no image, or cannot be kept.
    pub fn unpack(source: impl Read, parent: &Path, is_given_up: &AtomicBool) -> Result<Self, SavedError> {
        let failed = |source| SavedError::Io { path: parent.to_owned(), source };
        fs::create_dir_all(parent).map_err(failed)?;
        let folder = TempDir::with_prefix_in("saved-", parent).map_err(failed)?;
        let entries = unpack(source, folder.path())?;
        if let Some(Stored { images, index, .. }) = of_layout(&entries, folder.path(), is_given_up)? {
            return Ok(Self { images, index, folder });
        }
        let image = of_manifest(&entries, folder.path(), is_given_up)?;
        Ok(Self { images: vec![image], index: None, folder })
    }

    /// Digest of what is on top: of the index, else of the one manifest.
    pub fn digest(&self) -> Digest {
        let top = self.index.as_ref().or(self.images.first().map(|image| &image.manifest));
        Digest::of(top.map(Vec::as_slice).unwrap_or_default())
    }

    /// Where the layers lie, as in an OCI image layout.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A reader of the layer `digest`, which fails at the end if the content is another one.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(&self, digest: Digest) -> Result<Box<dyn Read + Send>, SavedError> {
        let mut layers = self.images.iter().flat_map(|image| &image.layers);
        let blob = layers.find(|layer| layer.digest == digest).ok_or_else(|| invalid("it lacks a layer"))?;
        open_blob(self.folder.path(), *blob).map_err(|error| invalid(&error))
    }
}

/// Writes each file of the archive under a name of ours, those of a layout under their own.
fn unpack(source: impl Read, folder: &Path) -> Result<Entries, SavedError> {
    let failed = |source| SavedError::Io { path: folder.to_owned(), source };
    fs::create_dir_all(folder.join("blobs/sha256")).map_err(failed)?;
    let mut entries = Entries::default();
    let mut archive = Archive::new(source);
    // Long names and extended headers would be read whole, whatever their length; nothing that counts here has any.
    for (number, entry) in archive.entries().map_err(broken)?.raw(true).enumerate() {
        let mut entry = entry.map_err(broken)?;
        if number >= ENTRIES_MAX {
            return Err(invalid("it has too many entries"));
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        match entry.header().entry_type() {
            EntryType::Regular => {
                let digest = path.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
                let target = match (digest, path.as_str()) {
                    (Some(digest), _) => blob_path(folder, digest),
                    (None, "index.json" | "oci-layout") => folder.join(&path),
                    (None, _) => folder.join(format!("entry-{number}")),
                };
                let mut file = File::create(&target).map_err(failed)?;
                copy(&mut entry, &mut file, folder)?;
                entries.files.insert(path, target);
            }
            // A layer that stands in an image twice is a link in old archives: `../ID/layer.tar`.
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                entries.links.insert(path, String::from_utf8_lossy(&target).into_owned());
            }
            _ => {}
        }
    }
    // What follows the last entry is padding, and whoever writes it should be heard to the end.
    io::copy(&mut archive.into_inner().take(PADDING_SIZE_BYTES_MAX), &mut io::sink()).map_err(broken)?;
    Ok(entries)
}

/// Copies, and tells a source that breaks from a disk that is full.
fn copy(source: &mut impl Read, target: &mut File, folder: &Path) -> Result<(), SavedError> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = source.read(&mut buffer).map_err(broken)?;
        if count == 0 {
            return Ok(());
        }
        let failed = |source| SavedError::Io { path: folder.to_owned(), source };
        target.write_all(&buffer[..count]).map_err(failed)?;
    }
}

/// The images of a layout, if there is one.
fn of_layout(entries: &Entries, folder: &Path, is_given_up: &AtomicBool) -> Result<Option<Stored>, SavedError> {
    if !entries.files.contains_key("index.json") {
        return Ok(None);
    }
    let index: Value =
        serde_json::from_slice(&document(&folder.join("index.json"))?).map_err(|error| invalid(&error))?;
    let [manifest] = index["manifests"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(invalid("its index does not name one image"));
    };
    let digest = manifest["digest"].as_str().and_then(|digest| digest.parse().ok());
    let digest = digest.ok_or_else(|| invalid("its index has no digest"))?;
    let mut stored = read_layout(folder, digest).map_err(|error| invalid(&error))?;
    if stored.other_entries > 0 {
        return Err(invalid("its index names more than images"));
    }
    // An index would name the manifest of before.
    if let (None, [image]) = (&stored.index, stored.images.as_mut_slice()) {
        pack(image, folder, is_given_up)?;
    }
    Ok(Some(stored))
}

/// Compresses those layers of `image` that are not.
fn pack(image: &mut Image, folder: &Path, is_given_up: &AtomicBool) -> Result<(), SavedError> {
    let mut manifest: Value = serde_json::from_slice(&image.manifest).map_err(|error| invalid(&error))?;
    let descriptors = manifest["layers"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    let mut is_changed = false;
    for (descriptor, layer) in descriptors.iter_mut().zip(&mut image.layers) {
        let media_type = descriptor["mediaType"].as_str().unwrap_or_default();
        if LayerCompression::of(media_type) != Some(LayerCompression::None) {
            continue;
        }
        let (blob, found) = compress(&blob_path(folder, layer.digest), folder, is_given_up)?;
        if found != layer.digest {
            return Err(invalid("a layer is not the one that its manifest names"));
        }
        *descriptor = descriptor_of(blob);
        (*layer, is_changed) = (blob, true);
    }
    if is_changed {
        image.manifest = serde_json::to_vec(&manifest).expect("a JSON value has only string keys");
    }
    Ok(())
}

fn descriptor_of(layer: Blob) -> Value {
    let media_type = LayerCompression::Gzip.media_type();
    json!({ "mediaType": media_type, "digest": layer.digest.to_string(), "size": layer.size_bytes })
}

/// The image that `manifest.json` names, its layers compressed.
fn of_manifest(entries: &Entries, folder: &Path, is_given_up: &AtomicBool) -> Result<Image, SavedError> {
    let path = entries.files.get("manifest.json").ok_or_else(|| invalid("it has no manifest.json"))?;
    let listed: Vec<Listed> = serde_json::from_slice(&document(path)?).map_err(|error| invalid(&error))?;
    let [listed] = listed.as_slice() else { return Err(invalid("it does not hold one image")) };
    let config = document(entries.find(&listed.config)?)?;
    let parsed: Value = serde_json::from_slice(&config).map_err(|error| invalid(&error))?;
    let diff_ids = parsed["rootfs"]["diff_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
    if diff_ids.len() != listed.layers.len() {
        return Err(invalid("its config has another number of layers"));
    }
    let mut layers = Vec::new();
    for (path, diff_id) in listed.layers.iter().zip(diff_ids) {
        let (blob, found) = compress(entries.find(path)?, folder, is_given_up)?;
        if *diff_id != found.to_string() {
            return Err(invalid("a layer is not the one that its config names"));
        }
        layers.push(blob);
    }
    let descriptors: Vec<_> = layers.iter().copied().map(descriptor_of).collect();
    let digest = Digest::of(&config).to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": digest, "size": config.len() },
        "layers": descriptors,
    });
    let manifest = serde_json::to_vec(&manifest).expect("a JSON value has only string keys");
    Ok(Image { manifest, config, layers })
}

/// Compresses an unpacked layer into a blob; returns that and the digest of its content.
fn compress(path: &Path, folder: &Path, is_given_up: &AtomicBool) -> Result<(Blob, Digest), SavedError> {
    let failed = |source| SavedError::Io { path: folder.to_owned(), source };
    let mut source = File::open(path).map_err(failed)?;
    let mut aside = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut hasher = Hasher::default();
    {
        let mut encoder = GzEncoder::new(BufWriter::new(&mut aside), Compression::default());
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = source.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            if is_given_up.load(Ordering::Relaxed) {
                return Err(invalid("nobody waits for it any more"));
            }
            hasher.update(&buffer[..count]);
            encoder.write_all(&buffer[..count]).map_err(failed)?;
        }
        encoder.finish().and_then(|mut sink| sink.flush()).map_err(failed)?;
    }
    let mut written = File::open(aside.path()).map_err(failed)?;
    let (digest, size_bytes) = Digest::of_reader(&mut written).map_err(failed)?;
    aside.persist(blob_path(folder, digest)).map_err(|error| failed(error.error))?;
    Ok((Blob { digest, size_bytes }, hasher.finish().0))
}

impl Entries {
    /// The file at `path`, through one link.
    fn find(&self, path: &str) -> Result<&Path, SavedError> {
        let linked = self.links.get(path).map(|target| {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            match target.strip_prefix("../") {
                Some(rest) => rest.to_owned(),
                None if self.files.contains_key(target) => target.clone(),
                None => format!("{folder}/{target}"),
            }
        });
        let path = linked.as_deref().unwrap_or(path);
        self.files.get(path).map(PathBuf::as_path).ok_or_else(|| invalid("it names a file that it does not have"))
    }
}

fn document(path: &Path) -> Result<Vec<u8>, SavedError> {
    let failed = |source| SavedError::Io { path: path.to_owned(), source };
    let mut content = Vec::new();
    File::open(path).map_err(failed)?.take(DOCUMENT_SIZE_BYTES_MAX).read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

fn invalid(problem: &(impl std::fmt::Display + ?Sized)) -> SavedError {
    SavedError::Invalid { problem: problem.to_string() }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn broken(error: io::Error) -> SavedError {
    invalid(&error)
}
