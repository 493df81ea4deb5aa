//! Writes an OCI image layout (OCI image-spec, "Image Layout"): a folder with blobs and an `index.json`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use imagespec_core::digest::Digest;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{OutputError, check_writable};
use crate::builder::{Building, Failure};
use crate::image::{INDEX, Image, MANIFEST};
use crate::point::{self, Point};

/// Adds the image to the layout in `folder`, which is made if it is absent. The index is written last.
pub(super) fn write(
    building: &Building<'_>,
    folder: &Path,
    images: &[Image],
    index: Option<&[u8]>,
) -> Result<(), Failure> {
    let blobs = folder.join("blobs/sha256");
    {
        fs::create_dir_all(folder).map_err(|source| OutputError::Io { path: folder.to_owned(), source })?;
        let _lock = lock(folder)?;
        existing(folder)?;
        fs::create_dir_all(&blobs).map_err(|source| OutputError::Io { path: blobs.clone(), source })?;
        // First, so that a folder that a failed build leaves behind is known for a layout.
        write_aside(&folder.join("oci-layout"), |file| file.write_all(br#"{"imageLayoutVersion":"1.0.0"}"#))?;
    }
    for image in images {
        for layer in &image.layers {
            building.check_cancelled()?;
            let target = blobs.join(layer.layer.digest.to_hex());
            if !target.exists() {
                let reader = building.cache.open_blob(layer.layer.digest)?;
                let mut reader = reader.ok_or(OutputError::Io {
                    path: building.cache.blob_path(layer.layer.digest),
                    source: io::ErrorKind::NotFound.into(),
                })?;
                write_aside(&target, |file| io::copy(&mut reader, file).map(drop))?;
            }
        }
        write_bytes(&blobs, &image.config)?;
        write_bytes(&blobs, &image.manifest)?;
    }
    if let Some(index) = index {
        write_bytes(&blobs, index)?;
    }
    let tag = building.request.name.tag().unwrap_or("latest");
    let document = index.unwrap_or(&images[0].manifest);
    let _lock = lock(folder)?;
    let mut manifests = existing(folder)?;
    manifests.retain(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] != tag);
    manifests.push(json!({
        "mediaType": if index.is_some() { INDEX } else { MANIFEST },
        "digest": Digest::of(document).to_string(),
        "size": document.len(),
        "annotations": { "org.opencontainers.image.ref.name": tag },
    }));
    let top = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string();
    write_aside(&folder.join("index.json"), |file| file.write_all(top.as_bytes()))
}

/// Finds out whether an image can be added to a layout in `folder`, which may not exist yet.
pub(super) fn check(folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        {
            let _lock = lock(folder)?;
            existing(folder)?;
        }
        return Ok(check_writable(folder, folder)?);
    }
    if folder.exists() {
        let source = io::ErrorKind::NotADirectory.into();
        return Err(OutputError::Io { path: folder.to_owned(), source }.into());
    }
    let nearest = folder.ancestors().skip(1).find(|ancestor| ancestor.exists());
    Ok(check_writable(nearest.unwrap_or(Path::new(".")), folder)?)
}

/// Keeps other builds from changing the index of the layout in `folder` until the file is dropped.
fn lock(folder: &Path) -> Result<File, OutputError> {
    let io_error = |source| OutputError::Io { path: folder.to_owned(), source };
    let file = File::open(folder).map_err(io_error)?;
    match file.lock() {
        // Some network file systems have no locks, and nothing else for us to do.
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(io_error(error)),
        Ok(()) | Err(_) => Ok(file),
    }
}

/// The entries of the layout that is there already.
fn existing(folder: &Path) -> Result<Vec<Value>, OutputError> {
    let not_a_layout = || OutputError::NotALayout { path: folder.to_owned() };
    let io_error = |path: &Path, source| OutputError::Io { path: path.to_owned(), source };
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

/// The folder in which `target` lies.
pub(super) fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_bytes(blobs: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_aside(&blobs.join(Digest::of(bytes).to_hex()), |file| file.write_all(bytes))
}

/// Writes a file aside, syncs it and gives it its name.
pub(super) fn write_aside(target: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let io_error = |source| OutputError::Io { path: target.to_owned(), source };
    let folder = folder_of(target);
    // A temporary file that cannot be made would be named in the error, and nobody knows its name.
    fs::metadata(folder).map_err(io_error)?;
    let mut file = NamedTempFile::new_in(folder).map_err(io_error)?;
    write(&mut file).map_err(io_error)?;
    file.as_file().sync_data().map_err(io_error)?;
    readable(&file).map_err(io_error)?;
    point::reached(Point::OutputWritten);
    file.persist(target).map_err(|error| io_error(error.error))?;
    Ok(())
}

/// Temporary files are private; what was asked for is as readable as other files are.
fn readable(file: &NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))
}
