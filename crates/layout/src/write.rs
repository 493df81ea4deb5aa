//! Writes an OCI image layout (OCI image-spec, "Image Layout"): a folder with blobs and an `index.json`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use imagespec_core::digest::Digest;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::image::Image;
use crate::media_type::{INDEX, MANIFEST};
use crate::verify::Exact;

/// What the file `oci-layout` holds.
pub(crate) const LAYOUT_VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The annotation that holds a tag (OCI image-spec, "Annotations").
pub(crate) const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
const COPIED_SIZE_BYTES: usize = 256 * 1024;

/// Opens the layer of a digest. Its reader must fail at the end if the content is not what the digest says, as that of
/// [`crate::open_blob`] does; its length is verified here.
pub type Open<'a, E> = &'a dyn Fn(Digest) -> Result<Box<dyn Read + Send>, E>;

/// Who is asked and told while files are written.
pub struct Observer<'a> {
    /// Whether the user asked to stop.
    pub cancelled: &'a dyn Fn() -> bool,
    /// A file is whole and has no name yet.
    pub written: &'a dyn Fn(),
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file cannot be written.
    #[error("cannot write `{path}`")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder that holds something else.
    #[error("`{path}` is not empty and no OCI image layout")]
    NotALayout {
        /// The folder.
        path: PathBuf,
    },
    /// The user asked to stop.
    #[error("writing the image was cancelled")]
    Cancelled,
}

impl LayoutError {
    /// What the user may do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Io { source, path } => match source.kind() {
                io::ErrorKind::NotFound => {
                    return path.parent().map(|folder| format!("make the folder `{}` first", folder.display()));
                }
                io::ErrorKind::IsADirectory => {
                    return Some(format!("name a file: `{}`", path.join("image.tar").display()));
                }
                io::ErrorKind::NotADirectory => "name a folder: a new or empty one, or one that an earlier build wrote",
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "name a place that you may write to"
                }
                io::ErrorKind::StorageFull => "make room there",
                _ => return None,
            },
            Self::NotALayout { .. } => "name a new or empty folder, or one that an earlier build wrote",
            Self::Cancelled => return None,
        };
        Some(hint.to_owned())
    }
}

/// Adds `images`, and the `index` over them if there is one, to the layout in `folder` under `tag`. The layout is made if
/// it is absent; its `index.json` is written last.
///
/// # Errors
/// When `open` fails, the folder holds something else, or cannot be written to. The layout then names what it named before.
///
/// # Panics
/// When there is neither an image nor an index.
pub fn write_layout<E: From<LayoutError>>(
    folder: &Path,
    tag: &str,
    images: &[Image],
    index: Option<&[u8]>,
    open: Open<'_, E>,
    observer: &Observer<'_>,
) -> Result<(), E> {
    let document = index.or_else(|| images.first().map(|image| image.manifest.as_slice()));
    let document = document.expect("there is an image to write");
    let blobs = folder.join("blobs/sha256");
    prepare(folder, &blobs, observer)?;
    for image in images {
        for layer in &image.layers {
            if (observer.cancelled)() {
                return Err(LayoutError::Cancelled.into());
            }
            let target = blobs.join(layer.digest.to_hex());
            if !target.exists() {
                copy_aside(&target, Exact::new(open(layer.digest)?, layer.size_bytes), observer)?;
            }
        }
        write_blob(&blobs, &image.config, observer)?;
        write_blob(&blobs, &image.manifest, observer)?;
    }
    if let Some(index) = index {
        write_blob(&blobs, index, observer)?;
    }
    let _lock = lock(folder)?;
    let mut manifests = existing(folder)?;
    manifests.retain(|entry| entry["annotations"][REFERENCE_NAME] != tag);
    manifests.push(json!({
        "mediaType": if index.is_some() { INDEX } else { MANIFEST },
        "digest": Digest::of(document).to_string(),
        "size": document.len(),
        "annotations": { REFERENCE_NAME: tag },
    }));
    let top = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string();
    Ok(write_aside(&folder.join("index.json"), observer, |file| file.write_all(top.as_bytes()))?)
}

/// Finds out whether an image can be added to a layout in `folder`, which may not exist yet.
///
/// # Errors
/// When it holds something else, or cannot be written to.
pub fn check_layout(folder: &Path) -> Result<(), LayoutError> {
    if folder.is_dir() {
        {
            let _lock = lock(folder)?;
            existing(folder)?;
        }
        return check_writable(folder, folder);
    }
    if folder.exists() {
        let source = io::ErrorKind::NotADirectory.into();
        return Err(LayoutError::Io { path: folder.to_owned(), source });
    }
    let nearest = folder.ancestors().skip(1).find(|ancestor| ancestor.exists());
    check_writable(nearest.unwrap_or(Path::new(".")), folder)
}

/// Writes a file aside, syncs it and gives it its name.
///
/// # Errors
/// When it cannot be written, or `write` fails; what was there is then still there.
pub fn write_aside(
    target: &Path,
    observer: &Observer<'_>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), LayoutError> {
    let io_error = |source| LayoutError::Io { path: target.to_owned(), source };
    let folder = folder_of(target);
    // A temporary file that cannot be made would be named in the error, and nobody knows its name.
    fs::metadata(folder).map_err(io_error)?;
    let mut file = NamedTempFile::new_in(folder).map_err(io_error)?;
    write(&mut file).map_err(io_error)?;
    file.as_file().sync_data().map_err(io_error)?;
    readable(&file).map_err(io_error)?;
    (observer.written)();
    file.persist(target).map_err(|error| io_error(error.error))?;
    Ok(())
}

/// Writes what `content` reads aside, until the user asks to stop.
pub(crate) fn copy_aside(target: &Path, mut content: impl Read, observer: &Observer<'_>) -> Result<(), LayoutError> {
    let written = write_aside(target, observer, |file| {
        let mut buffer = vec![0; COPIED_SIZE_BYTES];
        loop {
            if (observer.cancelled)() {
                return Err(io::Error::other("cancelled"));
            }
            match content.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => file.write_all(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    });
    // Whatever stands in the way of a file that nobody wants any more is no news.
    written.map_err(|error| if (observer.cancelled)() { LayoutError::Cancelled } else { error })
}

/// Finds out whether `target` could be made in `folder`, by making a file without a name there.
pub(crate) fn check_writable(folder: &Path, target: &Path) -> Result<(), LayoutError> {
    match tempfile::tempfile_in(folder) {
        Ok(_) => Ok(()),
        // The error would name the folder.
        Err(error) => {
            let source = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            Err(LayoutError::Io { path: target.to_owned(), source })
        }
    }
}

/// The folder in which `target` lies.
pub(crate) fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the folders of a layout, unless something else is there.
fn prepare(folder: &Path, blobs: &Path, observer: &Observer<'_>) -> Result<(), LayoutError> {
    let make = |folder: &Path| {
        fs::create_dir_all(folder).map_err(|source| LayoutError::Io { path: folder.to_owned(), source })
    };
    make(folder)?;
    let _lock = lock(folder)?;
    existing(folder)?;
    make(blobs)?;
    // First, so that a folder that a failed build leaves behind is known for a layout.
    write_aside(&folder.join("oci-layout"), observer, |file| file.write_all(LAYOUT_VERSION))
}

/// Keeps other builds from changing the index of the layout in `folder` until the file is dropped.
fn lock(folder: &Path) -> Result<File, LayoutError> {
    let io_error = |source| LayoutError::Io { path: folder.to_owned(), source };
    let file = File::open(folder).map_err(io_error)?;
    match file.lock() {
        // Some network file systems have no locks, and nothing else for us to do.
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(io_error(error)),
        Ok(()) | Err(_) => Ok(file),
    }
}

/// The entries of the layout that is there already.
fn existing(folder: &Path) -> Result<Vec<Value>, LayoutError> {
    let not_a_layout = || LayoutError::NotALayout { path: folder.to_owned() };
    let io_error = |path: &Path, source| LayoutError::Io { path: path.to_owned(), source };
    if !folder.join("oci-layout").is_file() {
        // Never scatter blobs over a folder that is something else.
        let mut entries = fs::read_dir(folder).map_err(|source| io_error(folder, source))?;
        return if entries.next().is_none() { Ok(Vec::new()) } else { Err(not_a_layout()) };
    }
    let path = folder.join("index.json");
    match fs::read(&path) {
        Ok(bytes) => {
            let top: Value = serde_json::from_slice(&bytes).map_err(|_| not_a_layout())?;
            top["manifests"].as_array().cloned().ok_or_else(not_a_layout)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(io_error(&path, source)),
    }
}

fn write_blob(blobs: &Path, bytes: &[u8], observer: &Observer<'_>) -> Result<(), LayoutError> {
    write_aside(&blobs.join(Digest::of(bytes).to_hex()), observer, |file| file.write_all(bytes))
}

/// Temporary files are private; what was asked for is as readable as other files are.
fn readable(file: &NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests;
