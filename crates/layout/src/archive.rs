//! The archive that `docker load` takes: a tar with the blobs, a `manifest.json` and an OCI layout's `index.json`, as
//! `docker save` writes it since version 25. Older engines read `manifest.json` alone.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Cursor, Read};
use std::path::Path;

use imagespec_core::digest::Digest;
use imagespec_core::reference::Reference;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::image::Image;
use crate::media_type::{INDEX, MANIFEST};
use crate::verify::Exact;
use crate::write::{
    LAYOUT_VERSION, LayoutError, Observer, Open, REFERENCE_NAME, check_writable, copy_aside, folder_of,
};

const BLOCK_SIZE_BYTES: u64 = 512;

/// The archive as a stream, which is made while it is read.
pub struct Archive {
    parts: VecDeque<Box<dyn Read + Send>>,
    size_bytes: u64,
    /// Blobs that it has.
    added: BTreeSet<Digest>,
}

/// Finds out whether an archive can be written to `file`.
///
/// # Errors
/// When it is a folder, or lies in none that can be written to.
pub fn check_archive(file: &Path) -> Result<(), LayoutError> {
    if file.is_dir() {
        let source = io::ErrorKind::IsADirectory.into();
        return Err(LayoutError::Io { path: file.to_owned(), source });
    }
    check_writable(folder_of(file), file)
}

/// Writes the archive of `image`, which an engine then calls `name`, to `file`.
///
/// # Errors
/// When `open` fails, or the file cannot be written; what was there is then still there.
pub fn write_archive<E: From<LayoutError>>(
    file: &Path,
    name: &Reference,
    image: &Image,
    open: Open<'_, E>,
    observer: &Observer<'_>,
) -> Result<(), E> {
    let archive = Archive::of(name, image, open)?;
    Ok(copy_aside(file, archive, observer)?)
}

impl Archive {
    /// The archive of `image`, which an engine then calls `name`.
    ///
    /// # Errors
    /// When `open` fails.
    pub fn of<E>(name: &Reference, image: &Image, open: Open<'_, E>) -> Result<Self, E> {
        let layers: Vec<_> = image.layers.iter().map(|layer| blob_name(layer.digest)).collect();
        let config = blob_name(image.config_digest());
        let manifest = json!([{ "Config": config, "RepoTags": [name.familiar()], "Layers": layers }]);
        let mut archive = Self::naming(name, MANIFEST, &image.manifest, Some(&manifest));
        archive.add_images(std::slice::from_ref(image), open)?;
        archive.end();
        Ok(archive)
    }

    /// The archive of `images` beneath an `index`, which an engine then calls `name`. Docker takes it where it keeps images
    /// in containerd; there is no `manifest.json`, which has one image for a name.
    ///
    /// # Errors
    /// When `open` fails.
    pub fn of_index<E>(name: &Reference, index: &[u8], images: &[Image], open: Open<'_, E>) -> Result<Self, E> {
        let mut archive = Self::naming(name, INDEX, index, None);
        archive.add_images(images, open)?;
        archive.end();
        Ok(archive)
    }

    /// What an archive begins with: which document is called `name`, for newer readers and for older ones, and that.
    fn naming(name: &Reference, media_type: &str, document: &[u8], manifest: Option<&Value>) -> Self {
        let digest = Digest::of(document);
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [{
            "mediaType": media_type,
            "digest": digest.to_string(),
            "size": document.len(),
            "annotations": {
                // containerd's and Podman's name of the whole reference; OCI has one for the tag alone.
                "io.containerd.image.name": name.to_string(),
                REFERENCE_NAME: name.tag().unwrap_or("latest"),
            },
        }] });
        let mut archive = Self { parts: VecDeque::new(), size_bytes: 0, added: BTreeSet::new() };
        archive.add_bytes("oci-layout", LAYOUT_VERSION.to_vec());
        archive.add_bytes("index.json", index.to_string().into_bytes());
        if let Some(manifest) = manifest {
            archive.add_bytes("manifest.json", manifest.to_string().into_bytes());
        }
        archive.add_document(document);
        archive
    }

    fn add_images<E>(&mut self, images: &[Image], open: Open<'_, E>) -> Result<(), E> {
        for image in images {
            self.add_document(&image.manifest);
            self.add_document(&image.config);
            for layer in &image.layers {
                // A layer may stand in images twice, but an archive's entry only once.
                if self.added.insert(layer.digest) {
                    let content = Box::new(Exact::new(open(layer.digest)?, layer.size_bytes));
                    self.add(&blob_name(layer.digest), layer.size_bytes, content);
                }
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        self.push(2 * BLOCK_SIZE_BYTES, Box::new(io::repeat(0).take(2 * BLOCK_SIZE_BYTES)));
    }

    /// Length of the whole archive in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn add_document(&mut self, document: &[u8]) {
        let digest = Digest::of(document);
        if self.added.insert(digest) {
            self.add_bytes(&blob_name(digest), document.to_vec());
        }
    }

    fn add_bytes(&mut self, name: &str, bytes: Vec<u8>) {
        self.add(name, bytes.len() as u64, Box::new(Cursor::new(bytes)));
    }

    fn add(&mut self, name: &str, size_bytes: u64, content: Box<dyn Read + Send>) {
        let mut header = Header::new_ustar();
        header.set_path(name).expect("names of blobs and documents fit into a header");
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size_bytes);
        header.set_cksum();
        let padding = (BLOCK_SIZE_BYTES - size_bytes % BLOCK_SIZE_BYTES) % BLOCK_SIZE_BYTES;
        self.push(BLOCK_SIZE_BYTES, Box::new(Cursor::new(header.as_bytes().to_vec())));
        self.push(size_bytes, content);
        self.push(padding, Box::new(io::repeat(0).take(padding)));
    }

    fn push(&mut self, size_bytes: u64, part: Box<dyn Read + Send>) {
        // Sizes that do not fit are those of no blob, and reading one that has not its size fails.
        self.size_bytes = self.size_bytes.saturating_add(size_bytes);
        self.parts.push_back(part);
    }
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.to_hex())
}

impl Read for Archive {
    /// Each part is read until it says that it is at its end, for that is when a blob is verified.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.front_mut() {
            let count = part.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.parts.pop_front();
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests;
