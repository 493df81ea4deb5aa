//! Reads an image from an OCI image layout (OCI image-spec, "Image Layout"), whoever wrote it. Documents are bounded and
//! verified before they are read; of layers it is seen to that they are there, and they are verified as they are read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use imagespec_core::digest::Digest;
use imagespec_core::platform::Platform;
use imagespec_distribution::{Blob, NoPlatform, choose};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::image::{Image, Stored};
use crate::media_type::{CONFIGS, Compression, INDEXES, MANIFESTS};
use crate::verify::Verified;

/// What registries take at most for a manifest; configs are smaller (distribution-spec, "Pushing Manifests").
const DOCUMENT_SIZE_BYTES_MAX: u64 = 4 << 20;
/// What the documents of one index have together, those that it names twice counted twice. Real ones have a hundredth.
const DOCUMENTS_SIZE_BYTES_MAX: u64 = 64 << 20;
/// Characters of a problem that are shown.
const PROBLEM_LENGTH_MAX: usize = 300;

/// Why an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file is not there, or cannot be read.
    #[error("cannot read `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is no part of the layout: a link that leads out of it, a folder, a device.
    #[error("`{path}` is no file of the layout")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A document or layer is not what its digest, or who names it, says.
    #[error("`{path}` has {found} instead of {expected}")]
    WrongContent {
        /// The file.
        path: PathBuf,
        /// Digest or size that it must have.
        expected: String,
        /// Digest or size that it has.
        found: String,
    },
    /// The image contradicts itself or the OCI image-spec, or is none.
    #[error("`{digest}` is not a proper image: {problem}")]
    Malformed {
        /// The manifest, index, config or layer.
        digest: Digest,
        /// What is wrong. One line.
        problem: String,
    },
    /// There is no image for the platform.
    #[error(transparent)]
    Platform(#[from] NoPlatform),
}

/// What a manifest or an index says.
enum Document {
    Manifest(Box<ImageManifest>),
    Index(Box<ImageIndex>),
}

/// The members by which a document is told.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

/// What is read of a config (OCI image-spec, "Image Configuration").
#[derive(Deserialize)]
struct Config {
    architecture: String,
    os: String,
    variant: Option<String>,
    rootfs: RootFilesystem,
}

#[derive(Deserialize)]
struct RootFilesystem {
    diff_ids: Vec<Digest>,
}

/// A layout, and how much of it may still be read into memory.
struct Reader<'a> {
    folder: &'a Path,
    left_bytes: u64,
}

/// Reads the manifest or index `digest` of the layout in `folder`, with the documents of every image that it names.
///
/// # Errors
/// When something is missing, is not what its digest says, or is no image.
pub fn read_layout(folder: &Path, digest: Digest) -> Result<Stored, ReadError> {
    let mut reader = Reader::new(folder);
    let (bytes, document) = reader.document(digest, None)?;
    let index = match document {
        Document::Manifest(manifest) => {
            let (image, _) = reader.image(digest, bytes, &manifest)?;
            return Ok(Stored { images: vec![image], index: None, other_entries: 0 });
        }
        Document::Index(index) => index,
    };
    let (entries, others): (Vec<_>, Vec<_>) = index.manifests().iter().partition(|entry| is_for_a_machine(entry));
    let images = entries.into_iter().map(|entry| reader.child(digest, entry).map(|(image, _)| image));
    Ok(Stored { images: images.collect::<Result<_, _>>()?, index: Some(bytes), other_entries: others.len() })
}

/// Reads the image for `platform` beneath the manifest or index `digest` of the layout in `folder`. Images for other
/// platforms need not be there.
///
/// # Errors
/// When there is none, something of it is missing, is not what its digest says, or is no image.
pub fn read_image(folder: &Path, digest: Digest, platform: &Platform) -> Result<Image, ReadError> {
    let mut reader = Reader::new(folder);
    let (bytes, document) = reader.document(digest, None)?;
    let (image, found) = match document {
        Document::Manifest(manifest) => reader.image(digest, bytes, &manifest)?,
        Document::Index(index) => reader.child(digest, choose(&index, platform)?)?,
    };
    if found.architecture() == platform.architecture() {
        return Ok(image);
    }
    Err(NoPlatform { wanted: platform.clone(), available: vec![found.to_string()] }.into())
}

/// Where the blob `digest` of the layout in `folder` lies (OCI image-spec, "Image Layout").
pub fn blob_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.to_hex())
}

/// Opens `blob` of the layout in `folder`. The reader fails at its end if the content is not what it must be.
///
/// # Errors
/// When it is missing or has another size.
pub fn open_blob(folder: &Path, blob: Blob) -> Result<Box<dyn Read + Send>, ReadError> {
    let (_, file) = open(folder, blob.digest, Some(blob.size_bytes))?;
    Ok(Box::new(Verified::new(file.take(blob.size_bytes.saturating_add(1)), blob)))
}

impl<'a> Reader<'a> {
    fn new(folder: &'a Path) -> Self {
        Self { folder, left_bytes: DOCUMENTS_SIZE_BYTES_MAX }
    }

    /// The image that an entry of the index `parent` names, and its platform.
    fn child(&mut self, parent: Digest, entry: &Descriptor) -> Result<(Image, Platform), ReadError> {
        let blob = blob(parent, entry)?;
        match self.document(blob.digest, Some(blob.size_bytes))? {
            (bytes, Document::Manifest(manifest)) => self.image(blob.digest, bytes, &manifest),
            // The specification allows an index in an index, and nobody makes one for images.
            (_, Document::Index(_)) => Err(malformed(blob.digest, "an index in an index")),
        }
    }

    /// The image that `manifest` describes, and its platform.
    fn image(
        &mut self,
        digest: Digest,
        bytes: Vec<u8>,
        manifest: &ImageManifest,
    ) -> Result<(Image, Platform), ReadError> {
        let kind = manifest.config().media_type().to_string();
        if !CONFIGS.contains(&kind.as_str()) {
            return Err(malformed(digest, format!("a config of type {kind:?}")));
        }
        let config_blob = blob(digest, manifest.config())?;
        let config_bytes = self.read(config_blob.digest, Some(config_blob.size_bytes))?;
        let config: Config = parse(config_blob.digest, &config_bytes)?;
        let platform = Platform::new(&config.os, &config.architecture, config.variant.as_deref())
            .map_err(|error| malformed(config_blob.digest, error.to_string()))?;
        let (count, diff_ids) = (manifest.layers().len(), config.rootfs.diff_ids.len());
        if count != diff_ids {
            return Err(malformed(digest, format!("{count} layers and {diff_ids} diff_ids")));
        }
        let layers = manifest.layers().iter().map(|layer| self.layer(digest, layer)).collect::<Result<_, _>>()?;
        Ok((Image { manifest: bytes, config: config_bytes, layers }, platform))
    }

    /// The layer that `descriptor` names, which is there.
    fn layer(&self, manifest: Digest, descriptor: &Descriptor) -> Result<Blob, ReadError> {
        let kind = descriptor.media_type().to_string();
        if Compression::of(&kind).is_none() {
            return Err(malformed(manifest, format!("a layer of type {kind:?}")));
        }
        let blob = blob(manifest, descriptor)?;
        find(self.folder, blob.digest, Some(blob.size_bytes))?;
        Ok(blob)
    }

    /// A manifest or an index, told by what it holds, as its media type elsewhere is not covered by a digest.
    fn document(&mut self, digest: Digest, size_bytes: Option<u64>) -> Result<(Vec<u8>, Document), ReadError> {
        let bytes = self.read(digest, size_bytes)?;
        let kind: Kind = parse(digest, &bytes)?;
        let (document, media_types) = match (kind.layers, kind.manifests) {
            (Some(_), None) => (Document::Manifest(parse(digest, &bytes)?), MANIFESTS),
            (None, Some(_)) => (Document::Index(parse(digest, &bytes)?), INDEXES),
            _ => return Err(malformed(digest, "it is neither a manifest nor an index")),
        };
        match kind.media_type.filter(|found| !media_types.contains(&found.as_str())) {
            Some(found) => Err(malformed(digest, format!("a document of type {found:?}"))),
            None => Ok((bytes, document)),
        }
    }

    /// The bytes of a document, verified.
    fn read(&mut self, digest: Digest, size_bytes: Option<u64>) -> Result<Vec<u8>, ReadError> {
        let (path, mut file) = open(self.folder, digest, size_bytes)?;
        let size_bytes_max = self.left_bytes.min(DOCUMENT_SIZE_BYTES_MAX);
        let mut bytes = Vec::new();
        let read = file.by_ref().take(size_bytes_max + 1).read_to_end(&mut bytes);
        read.map_err(|source| ReadError::Io { path: path.clone(), source })?;
        let read_bytes = bytes.len() as u64;
        if read_bytes > size_bytes_max {
            let problem = if read_bytes > DOCUMENT_SIZE_BYTES_MAX {
                format!("it is larger than the {DOCUMENT_SIZE_BYTES_MAX} bytes that a document may have")
            } else {
                format!("its documents are larger than the {DOCUMENTS_SIZE_BYTES_MAX} bytes that they may have")
            };
            return Err(malformed(digest, problem));
        }
        self.left_bytes -= read_bytes;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(ReadError::WrongContent { path, expected: digest.to_string(), found: found.to_string() });
        }
        Ok(bytes)
    }
}

/// Whether an entry of an index is an image for a machine. Attestations say `unknown`.
fn is_for_a_machine(entry: &Descriptor) -> bool {
    entry.platform().as_ref().is_none_or(|platform| platform.os().to_string() != "unknown")
}

/// The blob that `descriptor`, which stands in the document `parent`, says.
fn blob(parent: Digest, descriptor: &Descriptor) -> Result<Blob, ReadError> {
    Blob::try_from(descriptor).map_err(|error| malformed(parent, error.to_string()))
}

fn parse<T: DeserializeOwned>(digest: Digest, bytes: &[u8]) -> Result<T, ReadError> {
    // A list of the values of a type's members would do for the parser.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(malformed(digest, "it is no JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(digest, error.to_string()))
}

/// A problem in words that may be the image's own.
fn malformed(digest: Digest, problem: impl Into<String>) -> ReadError {
    let problem = problem.into();
    let problem = problem.chars().filter(|character| !character.is_control()).take(PROBLEM_LENGTH_MAX);
    ReadError::Malformed { digest, problem: problem.collect() }
}

/// Opens the blob of a digest.
fn open(folder: &Path, digest: Digest, size_bytes: Option<u64>) -> Result<(PathBuf, File), ReadError> {
    let path = find(folder, digest, size_bytes)?;
    let file = File::open(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
    Ok((path, file))
}

/// The file of a blob, which lies in the layout, links followed, and has the size that it must have.
fn find(folder: &Path, digest: Digest, size_bytes: Option<u64>) -> Result<PathBuf, ReadError> {
    let named = blob_path(folder, digest);
    let io_error = |source| ReadError::Io { path: named.clone(), source };
    let path = named.canonicalize().map_err(io_error)?;
    let metadata = fs::symlink_metadata(&path).map_err(io_error)?;
    // Before it is opened: a pipe would wait for a writer.
    if !metadata.is_file() || !path.starts_with(folder.canonicalize().map_err(io_error)?) {
        return Err(ReadError::Foreign { path: named });
    }
    match size_bytes.filter(|size_bytes| *size_bytes != metadata.len()) {
        Some(size_bytes) => Err(ReadError::WrongContent {
            path: named,
            expected: format!("{size_bytes} bytes"),
            found: format!("{} bytes", metadata.len()),
        }),
        None => Ok(path),
    }
}

#[cfg(test)]
mod tests;
